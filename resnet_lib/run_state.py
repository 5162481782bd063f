"""Where a training run stands: written after each epoch, found again, and gone on from."""

import json
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from . import checkpoint
from .checkpoint import CheckpointError
from .recipe import Recipe, differences

LAST, BEST, HISTORY, RECORD = "last.pt", "best.pt", "history.json", "record.json"
FREE = ("recipe", "made", "data_source")  # compared apart; only told; the fingerprint decides


@dataclass
class Result:
    """What `fit` returns: one row per epoch, and two sets of weights that are truly apart.

    Row keys: epoch, lr, train_loss, train_accuracy (running means over the augmented batches;
    the loss as it is minimised, with label smoothing), valid_loss, valid_accuracy, seconds.
    Losses in nats, accuracies in percent. With an `ema`, validation and both sets are those of
    the averaged weights. `resumed` lists the epochs after which the run was taken up again.
    """

    history: list[dict] = field(default_factory=list)
    best_epoch: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    last: dict[str, Tensor] = field(default_factory=dict)
    resumed: list[int] = field(default_factory=list)


def keep(
    result: Result,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    about: dict,
    out: Path,
    copy_to: Path | None = None,
) -> None:
    """Write `last.pt` (with all that is needed to go on), `best.pt` and `history.json`.

    With an `ema`, `result.last` is the average, and the weights of `net` are kept beside it.
    A copy that fails (the Drive is full, or gone) is warned of, and training goes on.

    Raises:
        OSError: if `out` cannot be written; the files of the epoch before are whole.
    """
    training = {
        "history": result.history,
        "best_epoch": result.best_epoch,
        "best": result.best,
        "resumed": result.resumed,
        "net": checkpoint.snapshot(net) if about["recipe"]["ema"] else None,
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
    }
    checkpoint.save(out / LAST, result.last, {**about, **result.history[-1]}, training)
    checkpoint.write_atomic(out / HISTORY, json.dumps(result.history, indent=1).encode())
    if result.best_epoch == len(result.history):
        write_best(result, about, out)
    if copy_to is not None:  # always all of them: an earlier copy may have failed
        _copy([LAST, HISTORY, BEST], out, copy_to, checkpoint.previous_of(copy_to / LAST))


def write_best(result: Result, about: dict, out: Path) -> None:
    """Write `best.pt`, with the numbers of its epoch."""
    checkpoint.save(out / BEST, result.best, {**about, **result.history[result.best_epoch - 1]})


def repair(
    result: Result, found: Path, about: dict, out: Path, copy_to: Path | None = None
) -> None:
    """Make all files of both folders what they were after the epoch of the file `found`.

    A crash may have come between two of them, and one may be broken. A broken `last.pt` must not
    stay: the next `keep` would put it in the place of a whole `last.previous.pt`.
    """
    for folder in filter(None, (out, copy_to)):
        with suppress(OSError):  # a Drive may not allow it
            for left in folder.glob(".*.part"):  # of processes that were killed
                left.unlink(missing_ok=True)
    if found != out / LAST:
        checkpoint.write_atomic(out / LAST, found.read_bytes())
    checkpoint.write_atomic(out / HISTORY, json.dumps(result.history, indent=1).encode())
    write_best(result, about, out)
    if copy_to is not None:
        _copy([LAST, HISTORY, BEST], out, copy_to)


def write_record(record: dict, out: str | Path, copy_to: str | Path | None = None) -> None:
    """Write `record.json` into the folder of the run, and into the second one."""
    out = Path(out).expanduser()
    checkpoint.write_atomic(out / RECORD, json.dumps(record, indent=1).encode())
    if copy_to is not None:
        _copy([RECORD], out, Path(copy_to).expanduser())


def _copy(names: list[str], out: Path, copy_to: Path, previous: Path | None = None) -> None:
    """`previous` is where the copy of `last.pt` that is there now is kept."""
    try:
        for name in names:
            before = previous if name == LAST else None
            checkpoint.write_atomic(copy_to / name, (out / name).read_bytes(), before)
    except OSError as error:
        warnings.warn(
            f"the copy to {copy_to} failed ({error}); training goes on, and {out} has the files",
            stacklevel=2,
        )


def find(folders: list[Path]) -> tuple | None:
    """(path, weights, meta, training) of the run that stands in `folders`; None if none does.

    The furthest one counts. `last.previous.pt` is used where `last.pt` cannot be read; that is
    warned of.

    Raises:
        CheckpointError: if there are files, but none can be read.
    """
    found, broken = [], []
    for folder in folders:
        paths = [folder / LAST, checkpoint.previous_of(folder / LAST)]
        for path in paths if any(p.is_file() for p in paths) else ():
            try:
                found.append((path, *checkpoint.load_training(path)))
                break
            except CheckpointError as error:
                broken.append(str(error))
    if not found and broken:
        raise CheckpointError("no run can go on from here:\n" + "\n".join(broken))
    furthest = max(found, key=lambda f: len(f[3]["history"]), default=None)
    for problem in broken:
        warnings.warn(f"{problem}. Going on from {furthest[0]}", stacklevel=2)
    return furthest


def restore(
    result: Result,
    found: tuple,
    about: dict,
    recipe: Recipe,
    net: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
) -> None:
    """Put everything back as it was after the last whole epoch of the run that was `found`.

    Raises:
        CheckpointError: if the configuration is another one: the message names each difference.
    """
    path, state, meta, training = found
    about = json.loads(json.dumps(about))  # tuples become lists, as in the file
    lines = differences(meta.get("recipe", {}), recipe)
    for name in (set(about) | {"init_from"}) - set(FREE):
        if meta.get(name) != about.get(name):
            lines.append(f"{name}: {_short(meta.get(name))} there, {_short(about.get(name))} now")
    if lines:
        raise CheckpointError(
            f"{path}: that run has another configuration, so it cannot go on as this one:\n  "
            + "\n  ".join(sorted(lines))
            + "\nRepeat the old configuration, or begin a new run in another folder. To start "
            f"anew from these weights: --init-from {path}"
        )
    was, now = meta.get("made", {}), about.get("made", {})
    changed = [f"{k}: {was.get(k)} before, {now[k]} now" for k in now if was.get(k) != now[k]]
    if changed:
        text = f"the run goes on, but not bit for bit as it would have: {'; '.join(changed)}"
        warnings.warn(text, stacklevel=3)
    result.history = training["history"]
    result.best_epoch, result.best = training["best_epoch"], training["best"]
    result.resumed = training["resumed"]
    if len(result.history) < recipe.epochs:
        result.resumed.append(len(result.history))
    result.last = state
    checkpoint.load_weights(average, state, str(path))
    if training["net"] is not None:
        checkpoint.load_weights(net, training["net"], str(path))
    optimizer.load_state_dict(training["optimizer"])
    scaler.load_state_dict(training["scaler"])


def _short(value) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
