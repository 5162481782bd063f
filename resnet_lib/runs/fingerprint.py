"""Three steps of training on the CPU, as six numbers: they change when the code computes something
else, not when a comment changes. So a record made on a GPU counts for as long as they stay."""

import hashlib
import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from .. import train
from ..checkpoint import write_atomic
from ..data import Split, normalise
from .experiments import Experiment, Run

PICTURES = 16  # in the one batch of each of three epochs, and as many for validation
# Rounding must not be seen, a change must. Measured over ten experiments: one or two threads, AVX2,
# AVX-512 or neither move a loss by 2e-7 of its value at most; a learning rate 5 % higher, another
# schedule, or sparing the norms from decay by 1e-5 (Adam) to 5e-2. Single precision would not do:
# between one thread and two it moved plain-56 by 1e-2. Nor would steps of full length where the
# gradient explodes (plain-56: 1.8e3, plain-110: 9e6), nor decay too weak to be seen in three steps.
TOLERANCE = 2e-6
DECAY_FACTOR = 100
CHAOTIC = 1e5  # a gradient longer than that: rounding decides all after the first step
# The files of the package that decide the numbers; what they import is among them (tested).
DECIDING = (
    *("blocks.py", "models.py", "recipe.py", "train.py", "run_state.py", "checkpoint.py"),
    *("records.py", "progress.py", "data", "runs/experiments.py", "runs/fingerprint.py"),
)


def fingerprint(experiment: Experiment) -> list[float]:
    """Training and validation losses of three one-step epochs on noise, through `train.fit`.

    On the CPU in double precision with seed 0, whatever the recipe says; needs no data set.
    """
    classes, shape = experiment.all_options["num_classes"], experiment.shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (2 * PICTURES, *shape), generator=generator, dtype=torch.uint8)
    y = torch.arange(2 * PICTURES) % classes
    seen, kept = Split(x[:PICTURES], y[:PICTURES]), Split(x[PICTURES:], y[PICTURES:])
    scale = {"mean": (0.5,) * shape[0], "std": (0.25,) * shape[0]}
    before = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        torch.set_default_dtype(torch.float64)
        try:
            net = experiment.build(0)
            net.register_forward_pre_hook(lambda _, given: (given[0].double(),))
            steepness = _gradient_norm(net, normalise(seen.x, **scale), seen.y)
            recipe = _careful(experiment.recipe, steepness)
            found = train.fit(net, seen, kept, recipe, **scale, quiet=True)
        finally:
            torch.set_default_dtype(before)
    rows = found.history[:1] if steepness > CHAOTIC else found.history
    return [row[f"{part}_loss"] for part in ("train", "valid") for row in rows]


def _gradient_norm(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    parts = torch.autograd.grad(F.cross_entropy(net(x), y), list(net.parameters()))
    return torch.stack([part.norm() for part in parts]).norm().item()


def _careful(recipe, steepness: float):
    """The recipe in three steps, shorter ones where the first gradient is long."""
    return replace(
        recipe,
        epochs=3,
        batch_size=PICTURES,
        accumulate=min(recipe.accumulate, PICTURES // 2),
        lr=recipe.lr / max(1.0, steepness),
        weight_decay=recipe.weight_decay * DECAY_FACTOR,
        seed=0,
        precision="fp32",
        channels_last=False,
        compile=False,
    )


def changed(experiment: Experiment, recorded: list[float], store: Path) -> str:
    """What no longer fits between a recorded fingerprint and today's; "" if all does."""
    now = cached(experiment, store)
    pairs = list(zip(recorded, now, strict=False))
    if len(recorded) == len(now) and all(math.isclose(*p, rel_tol=TOLERANCE) for p in pairs):
        return ""
    old, new = (" ".join(f"{loss:.7g}" for loss in losses) for losses in (recorded, now))
    return f"the code computes something else: three-step losses {old} recorded, {new} now"


def cached(experiment: Experiment, store: Path) -> list[float]:
    """The fingerprint, from the file `store` if this code has computed it before."""
    about = [Run(experiment, 0).configuration(), source_hash(), torch.__version__]
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    if key not in (known := _stored(store)):
        found = fingerprint(experiment)
        # Others may have written meanwhile; what is lost here is only computed again.
        known = {k: v for k, v in _stored(store).items() if v["code"] == source_hash()}
        known[key] = {"code": source_hash(), "losses": found}
        try:
            write_atomic(store, json.dumps(known).encode())
        except OSError:
            return found  # a checkout that may only be read
    return known[key]["losses"]


def _stored(store: Path) -> dict:
    try:
        return json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


@cache
def source_hash() -> str:
    """Over the files that decide what a training run computes."""
    digest, root = hashlib.sha256(), Path(__file__).parents[1]
    for name in DECIDING:
        path = root / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
