"""Files with weights: written so that a crash never leaves half a file, read without pickled code.

Two formats: `.pt` (torch, for checkpoints of a training run) and `.safetensors` (for weights
that are published). Both hold a state dict and `meta`, a dict of plain values that says how to
build the net again and what it was trained on.
"""

import hashlib
import io
import json
import os
from pathlib import Path

import torch
from torch import Tensor, nn

PREFIXES = ("module.", "_orig_mod.")  # left behind by DataParallel and by torch.compile


class CheckpointError(ValueError):
    """A weights file that cannot be read, or that does not fit the net."""


def write_atomic(path: str | Path, data: bytes, previous: str | Path | None = None) -> None:
    """Write `data` beside `path`, flush it to the disk, then rename: old file or new, never half.

    With `previous`, the file that was there is kept under that name. A crash between the two
    renames leaves only that one, whole.

    Raises:
        OSError: if the disk is full or the folder cannot be written; the old file is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            os.replace(path, previous)
        try:
            os.replace(beside, path)
        except OSError:
            if previous is not None and not path.exists():  # moved away above: put it back
                os.replace(previous, path)
            raise
    finally:
        beside.unlink(missing_ok=True)


def snapshot(net: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights and buffers on the CPU. (`state_dict()` alone is a live view.)"""
    return {k: v.detach().to("cpu", copy=True) for k, v in net.state_dict().items()}


def previous_of(path: str | Path) -> Path:
    """Where `save(..., training=...)` keeps the file before: last.pt -> last.previous.pt."""
    path = Path(path)
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def save(
    path: str | Path, state: dict[str, Tensor], meta: dict, training: dict | None = None
) -> None:
    """Save `state` and `meta` under `path` (`.pt` or `.safetensors`), atomically.

    `training` (`.pt` only) is what a run needs to go on: nested dicts and lists of tensors and
    plain values. Such a file is worth hours, so the one before it is kept (`previous_of`).

    Raises:
        CheckpointError: if `meta` holds something that is not plain JSON data (a NumPy number,
            a path), or `training` something that a safe reader would refuse.
    """
    try:
        text = json.dumps(meta)
    except TypeError as error:
        raise CheckpointError(f"{path}: meta must be plain values only: {error}") from None
    state = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    if Path(path).suffix == ".safetensors":
        if training is not None:
            raise CheckpointError(f"{path}: training can be kept in a .pt file only")
        from safetensors.torch import save as to_bytes

        data = to_bytes(state, metadata={"resnet_lib": text, "sha256": _sum(state, text)})
    else:
        buffer = io.BytesIO()
        content = {"state": state, "meta": json.loads(text), "sha256": _sum(state, text)}
        if training is not None:
            content |= {"training": training, "training_sha256": _sum_of_all(training)}
        torch.save(content, buffer)
        data = buffer.getvalue()
    write_atomic(path, data, None if training is None else previous_of(path))


def load(path: str | Path) -> tuple[dict[str, Tensor], dict]:
    """Read (state dict, meta) from a file of `save`, or a bare state dict written by others.

    Prefixes that wrappers leave in the keys are stripped. `meta` is empty for a foreign file.

    Raises:
        CheckpointError: if the file is missing, cut short, or holds anything but weights and
            plain values. Never "fix" that with `weights_only=False`: it would run code from
            the file.
        ImportError: for `.safetensors` without that library: the file is not to blame.
    """
    return _read(Path(path))[:2]


def load_training(path: str | Path) -> tuple[dict[str, Tensor], dict, dict]:
    """(state dict, meta, training) from a file that `save` wrote with `training`.

    Raises:
        CheckpointError: as `load`, and for a file that holds weights alone.
    """
    state, meta, about = _read(Path(path))
    if "training" not in about:
        raise CheckpointError(
            f"{path}: holds weights alone, so no run can go on from it. To start a new run with "
            "these weights use --init-from (init_from=)"
        )
    return state, meta, about["training"]


def _read(path: Path) -> tuple[dict[str, Tensor], dict, dict]:
    """(state dict, meta, all that a file of ours holds), checked."""
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such weights file")
    if path.suffix == ".safetensors":
        from safetensors import safe_open
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                meta = json.loads(about.get("resnet_lib", "{}"))
                state = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
            ours = isinstance(content, dict) and {"state", "meta"} <= content.keys()
            state, meta = (content["state"], content["meta"]) if ours else (content, {})
            about = content if ours else {}
        sound = "sha256" not in about or about["sha256"] == _sum(state, json.dumps(meta))
        if "training" in about:
            sound = sound and about["training_sha256"] == _sum_of_all(about["training"])
        if not sound:
            raise ValueError("the checksum is wrong: the file was changed or damaged")
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{path}: not a readable weights file ({first[:160]}). It may be cut short, or not "
            "be a weights file at all: copy it again, or use the previous one"
        ) from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]  # the most common wrapping in other people's files
    plain = isinstance(state, dict) and isinstance(meta, dict)
    if not plain or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise CheckpointError(f"{path}: holds no state dict (names with tensors)")
    return strip_prefixes(state), meta, about


def fingerprint(state: dict[str, Tensor]) -> str:
    """First 16 hex digits of a SHA-256 over names, shapes and values."""
    return _sum(state, "")[:16]


def _sum(state: dict[str, Tensor], meta: str) -> str:
    """A checksum over everything: neither format notices a flipped bit by itself."""
    digest = hashlib.sha256(meta.encode())
    for name in sorted(state):
        value = state[name].contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _sum_of_all(value) -> str:
    """A checksum over nested dicts, lists, tensors and plain values; a CheckpointError for more."""
    if isinstance(value, Tensor):
        return _sum({"": value.detach().cpu()}, "tensor")
    if isinstance(value, dict):
        if odd := [k for k in value if type(k) not in (str, int)]:
            raise CheckpointError(f"plain keys only, not a {type(odd[0]).__name__}: {odd[0]!r}")
        parts = [(repr(k), _sum_of_all(v)) for k, v in value.items()]
    elif isinstance(value, (list, tuple)):
        parts = [_sum_of_all(v) for v in value]
    elif value is None or type(value) in (bool, int, float, str):
        parts = value
    else:
        raise CheckpointError(f"plain values only, not a {type(value).__name__}: {value!r}")
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def strip_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove `module.` and `_orig_mod.` in front of all keys, however often they are stacked."""
    while state and any(all(k.startswith(p) for k in state) for p in PREFIXES):
        state = {k.split(".", 1)[1]: v for k, v in state.items()}
    return state


def load_weights(net: nn.Module, state: dict[str, Tensor], source: str = "the state dict") -> None:
    """Copy `state` into `net`; every key and shape must fit, else nothing is changed.

    Raises:
        CheckpointError: one message that names all missing and unexpected keys and all shapes
            that differ.
    """
    state, own = strip_prefixes(state), net.state_dict()
    problems = []
    for title, names in (
        ("missing in the file", [k for k in own if k not in state]),
        ("unknown to the net", [k for k in state if k not in own]),
        (
            "of another shape",
            [
                f"{k} (file {tuple(state[k].shape)}, net {tuple(own[k].shape)})"
                for k in own
                if k in state and state[k].shape != own[k].shape
            ],
        ),
    ):
        if names:
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            problems.append(f"{len(names)} {title}: {', '.join(names[:8])}{more}")
    if problems:
        raise CheckpointError(
            f"{source} does not fit this {type(net).__name__}. " + "; ".join(problems)
        )
    net.load_state_dict(state)
