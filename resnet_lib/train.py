"""Training in one readable file: one loop and an evaluation. `recipe` says what is to be done.

`fit` sees the training and the validation part only. The test set is for `evaluate`, once, at
the end: the code gives it no chance to choose anything.
"""

import json
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import checkpoint, records
from .data import Data, Loader, Split, split_validation
from .recipe import PRECISIONS, SCHEDULES, Recipe, learning_rate

__all__ = [
    "PRECISIONS",
    "SCHEDULES",
    "Evaluation",
    "Recipe",
    "Result",
    "TrainingError",
    "autocast",
    "evaluate",
    "fit",
    "fit_and_test",
    "learning_rate",
]


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step, why, and what to try."""


@dataclass
class Result:
    """What `fit` returns: one row per epoch, and two sets of weights that are truly apart.

    Row keys: epoch, lr, train_loss, train_accuracy (running means over the augmented batches),
    valid_loss, valid_accuracy, seconds. Losses in nats, accuracies in percent.
    """

    history: list[dict] = field(default_factory=list)
    best_epoch: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    last: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """Mean loss (nats) and accuracy (percent) over `total` pictures, and each one's prediction."""

    loss: float
    accuracy: float
    total: int
    predicted: Tensor
    probability: Tensor


def fit(
    net: nn.Module,
    train: Split,
    valid: Split,
    recipe: Recipe,
    *,
    mean,
    std,
    device: str | torch.device = "cpu",
    out: str | Path | None = None,
    meta: dict | None = None,
    on_epoch: Callable[[Result], None] | None = None,
    quiet: bool = False,
) -> Result:
    """Train `net` on `train` by `recipe`; choose the best epoch on `valid`.

    Args:
        mean, std: per channel, from the training pictures, in units of 0..1.
        out: a folder. After each epoch `last.pt`, `history.json` and, if it was the best so
            far, `best.pt` are written there.
        meta: plain values stored in the checkpoints (see `records.describe`).
        on_epoch: called with the result so far after each epoch, for live plots.

    The net ends with the last epoch's weights; load `result.best` to use the best one.

    Raises:
        TrainingError: if the loss or a weight is no longer finite, or the memory is too small.
            The net then has the weights of the last whole epoch.
        ValueError: if a label does not fit the net's number of classes.
    """
    device = torch.device(device)
    format_ = torch.channels_last if recipe.channels_last else torch.contiguous_format
    net.to(device=device, memory_format=format_)
    how = {"augment": recipe.augment, "seed": recipe.seed, "channels_last": recipe.channels_last}
    loader = Loader(
        train, recipe.batch_size, mean=mean, std=std, shuffle=True, device=device, **how
    )
    optimizer = torch.optim.SGD(
        net.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov and recipe.momentum > 0,
    )
    steps = recipe.epochs * len(loader)
    result, step = Result(), 0
    with _last_finite_kept(net, result):
        for epoch in range(1, recipe.epochs + 1):
            began = time.perf_counter()
            net.train()
            loss_sum = torch.zeros((), device=device)
            right = torch.zeros((), device=device)
            seen = 0
            for x, y in _bar(
                loader.epoch(epoch), len(loader), f"epoch {epoch}/{recipe.epochs}", quiet
            ):
                lr = learning_rate(recipe, step, steps)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                with _memory_explained(len(y)):
                    with autocast(device, recipe.precision):
                        logits = net(x)
                        if step == 0:
                            _labels_fit(train.y, logits)
                        loss = F.cross_entropy(logits, y)
                    if step % 50 == 0 or device.type == "cpu":  # on a GPU, asking makes it wait
                        _must_be_finite(loss, epoch, step, lr, out)
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
                # Sums stay on the device; each picture counts once, also in a short last batch.
                loss_sum += loss.detach() * len(y)
                right += (logits.detach().argmax(1) == y).sum()
                seen += len(y)
                step += 1
            _must_be_finite(loss_sum, epoch, step, lr, out)
            checked = evaluate(net, valid, mean=mean, std=std, **_measured_as(recipe))
            state = checkpoint.snapshot(net)
            # A last step too far spoils the weights after a loss that was still finite.
            size = sum(v.double().abs().sum() for v in state.values())
            _must_be_finite(size + checked.loss, epoch, step, lr, out)
            row = {
                "epoch": epoch,
                "lr": lr,
                "train_loss": loss_sum.item() / seen,
                "train_accuracy": 100 * right.item() / seen,
                "valid_loss": checked.loss,
                "valid_accuracy": checked.accuracy,
                "seconds": time.perf_counter() - began,
            }
            result.history.append(row)
            result.last = state
            best = max(result.history, key=lambda r: r["valid_accuracy"])["epoch"]
            if best == epoch:
                result.best_epoch, result.best = epoch, checkpoint.snapshot(net)
            if out is not None:
                about = {**(meta or {}), "recipe": asdict(recipe), **row}
                checkpoint.save(Path(out) / "last.pt", result.last, about)
                if best == epoch:
                    checkpoint.save(Path(out) / "best.pt", result.best, about)
                checkpoint.write_atomic(
                    Path(out) / "history.json", json.dumps(result.history, indent=1).encode()
                )
            if not quiet:
                print(records.epoch_line(row, recipe.epochs), flush=True)
            if on_epoch is not None:
                on_epoch(result)
    return result


def fit_and_test(
    net: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    model: str,
    options: dict | None = None,
    device: str | torch.device = "cpu",
    out: str | Path | None = None,
    on_epoch: Callable[[Result], None] | None = None,
    quiet: bool = False,
) -> tuple[Result, dict]:
    """One whole experiment: split, `fit`, and the test set touched once. Returns (result, record).

    The record holds the configuration, every epoch, the test result of the best and of the last
    weights, and where it was measured. With `out`, it is written to `record.json` there.
    """
    began = time.perf_counter()
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    train, valid = split_validation(data.train, recipe.valid, recipe.seed)
    meta = records.describe(data, model, options or {})
    where = {"device": device, "out": out, "meta": meta, "on_epoch": on_epoch, "quiet": quiet}
    result = fit(net, train, valid, recipe, mean=data.mean, std=data.std, **where)
    test = {"pictures": len(data.test), "best_epoch": result.best_epoch}
    for which, state in (("best", result.best), ("last", result.last)):
        net.load_state_dict(state)
        found = evaluate(net, data.test, mean=data.mean, std=data.std, **_measured_as(recipe))
        test[which] = {"loss": found.loss, "accuracy": found.accuracy}
    record = {
        **meta,
        "train_pictures": len(train),
        "valid_pictures": len(valid),
        "recipe": asdict(recipe),
        "history": result.history,
        "test": test,
        "seconds": time.perf_counter() - began,
        "peak_memory": records.peak_memory(device),
        "provenance": records.provenance(device),
    }
    net.load_state_dict(result.best)
    if out is not None:
        text = json.dumps(record, indent=1)
        checkpoint.write_atomic(Path(out) / "record.json", text.encode())
    return result, record


@torch.no_grad()
def evaluate(
    net: nn.Module, split: Split, *, mean, std, batch_size: int = 500, precision: str = "fp32"
) -> Evaluation:
    """Loss and accuracy of `net` on all of `split`, in eval mode, without augmentation.

    Every picture counts once, whatever the batch size. The net's mode is put back afterwards.

    Raises:
        ValueError: if a label does not fit the net's number of classes.
    """
    device = next(net.parameters()).device
    was_training = net.training
    net.eval()
    loss, predicted, probability = 0.0, [], []
    loader = Loader(split, batch_size, mean=mean, std=std, device=device)
    try:
        for x, y in loader.epoch(0):
            with _memory_explained(len(y)), autocast(device, precision):
                logits = net(x)
            logits = logits.float()
            if not predicted:  # all labels at once, before the first loss
                _labels_fit(split.y, logits)
            loss += F.cross_entropy(logits, y, reduction="sum").item()
            p, c = logits.softmax(1).max(1)
            predicted.append(c.cpu())
            probability.append(p.cpu())
    finally:
        net.train(was_training)
    classes = torch.cat(predicted)
    right = (classes == split.y.cpu()).double().mean().item()
    return Evaluation(loss / len(split), 100 * right, len(split), classes, torch.cat(probability))


def autocast(device: torch.device, precision: str):
    """Mixed precision for "bf16"; for "fp32" a context that does nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def _measured_as(recipe: Recipe) -> dict:
    """How `evaluate` measures during a run: no more memory than a training step takes."""
    return {"precision": recipe.precision, "batch_size": min(500, recipe.batch_size)}


@contextmanager
def _memory_explained(batch_size: int):
    try:
        yield
    except torch.OutOfMemoryError:
        raise TrainingError(
            f"the GPU's memory is too small for batch_size={batch_size}; try {batch_size // 2} "
            "with the learning rate made smaller by the same factor, or a smaller net or picture"
        ) from None


def _labels_fit(y: Tensor, logits: Tensor) -> None:
    low, high, classes = int(y.min()), int(y.max()), logits.shape[1]
    if low < 0 or high >= classes:
        raise ValueError(
            f"label {low if low < 0 else high} does not fit a net with {classes} classes; "
            "build it with num_classes=len(data.classes)"
        )


@contextmanager
def _last_finite_kept(net: nn.Module, result: Result):
    """Where training has to stop, the net gets the weights of the last whole epoch back."""
    try:
        yield
    except TrainingError:
        if result.history:
            net.load_state_dict(result.last)
        raise


def _must_be_finite(value: Tensor, epoch: int, step: int, lr: float, out) -> None:
    if torch.isfinite(value):
        return
    kept = f" The net has the weights of epoch {epoch - 1} again." if epoch > 1 else ""
    if out is not None and epoch > 1:  # an older file there is from another run
        kept += f" The last finite checkpoint is kept in {out}."
    raise TrainingError(
        f"the loss or a weight became {value.item()} at step {step} (epoch {epoch}, learning "
        f"rate {lr:.4g}). Most often the learning rate is too high: try a tenth of it, a longer "
        f"warm-up, or fp32 instead of bf16.{kept}"
    )


def _bar(batches, total: int, title: str, quiet: bool):
    """A progress bar where somebody watches: a terminal. In a log, one line an epoch is enough."""
    if quiet or not sys.stderr.isatty():
        return batches
    from tqdm import tqdm

    return tqdm(batches, title, total, leave=False, ncols=80)
