"""Training in one readable file: one loop and an evaluation. `recipe` says what is to be done.

`fit` sees the training and the validation part only. The test set is for `evaluate`, once, at
the end: the code gives it no chance to choose anything.
"""

import copy
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import checkpoint, progress, records, run_state
from .data import Data, Loader, Split, split_validation
from .data.core import mix
from .recipe import PRECISIONS, SCHEDULES, Recipe, learning_rate, make_optimizer
from .run_state import Result

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
    copy_to: str | Path | None = None,
    resume: bool = False,
    meta: dict | None = None,
    on_epoch: Callable[[Result], None] | None = None,
    quiet: bool = False,
) -> Result:
    """Train `net` on `train` by `recipe`; choose the best epoch on `valid`.

    Args:
        mean, std: per channel, from the training pictures, in units of 0..1.
        out: a folder. After each epoch `last.pt` (the one before is kept as
            `last.previous.pt`), `history.json` and, if it was the best so far, `best.pt` are
            written there.
        copy_to: a second folder for copies of these files, for example on a mounted Drive.
        resume: go on with the run that stands in `out` or `copy_to`; begin anew if none does. On a
            CPU with the same number of threads the result is bit for bit that of a run that was
            never stopped.
        meta: plain values stored in the checkpoints (see `records.describe`).
        on_epoch: called with the result so far after each epoch, for live plots.

    The net ends with the last epoch's weights (their average, with an `ema`); load `result.best`
    to use the best one. The state of torch's random numbers is set at the start of each epoch.

    Raises:
        TrainingError: if the loss or a weight is no longer finite, or the memory is too small.
            The net then has the weights of the last whole epoch.
        CheckpointError: if the run to go on with has another configuration, or is not readable.
        ValueError: if a label does not fit the net's number of classes.
    """
    device = torch.device(device)
    out, copy_to = (None if f is None else Path(f).expanduser() for f in (out, copy_to))
    if out is None and (copy_to or resume):
        raise ValueError("copy_to and resume need out=, the folder of the run")
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    net.to(device=device, memory_format=layout)
    scale = {"mean": mean, "std": std}
    how = {"augment": recipe.augment, "seed": recipe.seed, "channels_last": recipe.channels_last}
    loader = Loader(train, recipe.batch_size, shuffle=True, device=device, **scale, **how)
    optimizer = make_optimizer(net, recipe)
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "fp16")
    average = copy.deepcopy(net) if recipe.ema else net  # what is measured and kept
    forward = torch.compile(net) if recipe.compile else net
    about = {**(meta or {}), "recipe": asdict(recipe), "pictures": [len(train), len(valid)]}
    about["made"] = records.made_on(device)
    result = Result()
    if resume and (found := run_state.find([out, *([copy_to] if copy_to else [])])):
        run_state.restore(result, found, about, recipe, net, average, optimizer, scaler)
        run_state.repair(result, found[0], about, out, copy_to)
    steps, step = recipe.epochs * len(loader), len(result.history) * len(loader)
    with _last_finite_kept(net, result):
        for epoch in range(len(result.history) + 1, recipe.epochs + 1):
            began = time.perf_counter()
            torch.manual_seed(mix(recipe.seed, epoch, "net"))  # so that dropout resumes exactly
            net.train()
            loss_sum, right, seen = (*torch.zeros(2, device=device), 0)
            for x, y in progress.bar(loader, epoch, recipe.epochs, quiet):
                lr = learning_rate(recipe, step, steps)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                with _failure_explained(len(y), recipe.accumulate):
                    labels = None if seen else train.y  # asked once: the answer makes a GPU wait
                    loss, hits = _gradients(forward, x, y, optimizer, scaler, recipe, labels)
                    if step % 50 == 0 or device.type == "cpu":  # on a GPU, asking makes it wait
                        _must_be_finite(loss, epoch, step, lr, out)
                    scaler.step(optimizer)
                    scaler.update()
                if recipe.ema:
                    _follow(average, net, min(recipe.ema, (1 + step) / (10 + step)))
                # Sums stay on the device; each picture counts once, also in a short last batch.
                loss_sum, right, seen = loss_sum + loss * len(y), right + hits, seen + len(y)
                step += 1
            _must_be_finite(loss_sum, epoch, step, lr, out)
            checked = evaluate(average, valid, **scale, **_measured_as(recipe))
            state = checkpoint.snapshot(average)
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
            if max(result.history, key=lambda r: r["valid_accuracy"])["epoch"] == epoch:
                result.best_epoch, result.best = epoch, {k: v.clone() for k, v in state.items()}
            if out is not None:
                run_state.keep(result, net, optimizer, scaler, about, out, copy_to)
            if not quiet:
                print(records.epoch_line(row, recipe.epochs), flush=True)
            if on_epoch is not None:
                on_epoch(result)
    net.load_state_dict(result.last)
    return result


def _gradients(forward, x, y, optimizer, scaler, recipe: Recipe, labels: Tensor | None):
    """Gradients of the mean loss of one batch; that loss, and how many answers were right.

    `labels`, if given, are all labels of the run, to be checked before the first loss.
    """
    optimizer.zero_grad(set_to_none=True)
    mean, right = 0.0, 0
    parts = max(1, min(recipe.accumulate, len(y) // 2))  # BN needs two pictures at least
    for x_part, y_part in zip(x.tensor_split(parts), y.tensor_split(parts), strict=True):
        with autocast(x.device, recipe.precision):
            logits = forward(x_part)
            if labels is not None:
                _classes_fit(labels, logits.shape[1])
            loss = F.cross_entropy(logits, y_part, label_smoothing=recipe.label_smoothing)
        loss = loss * (len(y_part) / len(y))
        scaler.scale(loss).backward()
        mean = mean + loss.detach()
        right = right + (logits.detach().argmax(1) == y_part).sum()
    return mean, right


@torch.no_grad()
def _follow(average: nn.Module, net: nn.Module, decay: float) -> None:
    """One step of the moving average, over weights and BN statistics alike."""
    for old, new in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - decay)
        else:
            old.copy_(new)


def fit_and_test(
    net: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    model: str,
    options: dict | None = None,
    device: str | torch.device = "cpu",
    out: str | Path | None = None,
    copy_to: str | Path | None = None,
    resume: bool = False,
    init_from: str | Path | None = None,
    on_epoch: Callable[[Result], None] | None = None,
    quiet: bool = False,
) -> tuple[Result, dict]:
    """One whole experiment: split, `fit`, and the test set touched once. Returns (result, record).

    `init_from` is a weights file to start from: a *warm start*, with a new optimiser, schedule
    and epoch count. `resume` goes on with *the same* run, taken up where it was stopped.

    The record holds the configuration, every epoch, the test result of the best and of the last
    weights, and where it was measured. With `out`, it is written to `record.json` there.

    Raises:
        CheckpointError: if the file to start from does not fit the net; otherwise as `fit`.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.init()  # the next call does not do that by itself for "cuda:0"
        torch.cuda.reset_peak_memory_stats(device)
    train, valid = split_validation(data.train, recipe.valid, recipe.seed)
    meta = records.describe(data, model, options or {})
    if init_from is not None:
        state, _ = checkpoint.load(init_from)
        checkpoint.load_weights(net, state, str(init_from))
        meta["init_from"] = checkpoint.fingerprint(state)
    files = {"out": out, "copy_to": copy_to, "resume": resume}
    where = {"device": device, "meta": meta, "on_epoch": on_epoch, "quiet": quiet}
    scale = {"mean": data.mean, "std": data.std}
    result = fit(net, train, valid, recipe, **scale, **files, **where)
    began = time.perf_counter()
    test = {"pictures": len(data.test), "best_epoch": result.best_epoch}
    for which, state in (("best", result.best), ("last", result.last)):
        net.load_state_dict(state)
        found = evaluate(net, data.test, **scale, **_measured_as(recipe))
        test[which] = {"loss": found.loss, "accuracy": found.accuracy}
    record = {
        **meta,
        "train_pictures": len(train),
        "valid_pictures": len(valid),
        "recipe": asdict(recipe),
        "history": result.history,
        "resumed": result.resumed,
        "test": test,
        "seconds": sum(r["seconds"] for r in result.history) + time.perf_counter() - began,
        "peak_memory": records.peak_memory(device),
        "provenance": records.provenance(device),
    }
    net.load_state_dict(result.best)
    if out is not None:
        run_state.write_record(record, out, copy_to)
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
            with _failure_explained(len(y)), autocast(device, precision):
                logits = net(x)
            logits = logits.float()
            if not predicted:  # all labels at once, before the first loss
                _classes_fit(split.y, logits.shape[1])
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
    """Mixed precision for "bf16" and "fp16"; for "fp32" a context that does nothing."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


def _measured_as(recipe: Recipe) -> dict:
    """How `evaluate` measures during a run: no more memory than a training step takes."""
    part = -(-recipe.batch_size // recipe.accumulate)
    return {"precision": recipe.precision, "batch_size": min(500, part)}


@contextmanager
def _failure_explained(batch_size: int, parts: int = 1):
    try:
        yield
    except torch.OutOfMemoryError:
        raise TrainingError(
            f"the GPU's memory is too small for batch_size={batch_size}; try {batch_size // 2} and "
            f"lr lowered as much, accumulate={2 * parts} (same batch in parts), or a smaller net"
        ) from None
    except Exception as error:
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            text = " ".join(str(error).split())[:300]
            raise TrainingError(f"torch.compile failed; leave compile out: {text}") from None
        raise


def _classes_fit(y: Tensor, classes: int) -> None:
    low, high = int(y.min()), int(y.max())
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
        f"warm-up, or fp32 instead of 16 bits.{kept}"
    )
