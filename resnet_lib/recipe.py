"""What is to be done in a training run: a recipe, the learning rate it gives at each step, and
the optimiser it asks for."""

import math
from dataclasses import asdict, dataclass, fields

import torch
from torch import nn

from .data import AUGMENTATIONS

SCHEDULES = ("one-cycle", "cosine", "step", "constant")
PRECISIONS = ("fp32", "bf16", "fp16")
OPTIMIZERS = ("sgd", "adam", "adamw")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run, apart from net, data and hardware.

    - `batch_size`: pictures in one optimiser step. `accumulate` computes it in that many parts,
      one after the other, to save memory; batch statistics are then those of each part.
    - `optimizer`: "sgd" (with `momentum`, `nesterov`), or "adam" and "adamw" with betas
      (`momentum`, 0.999). Weight decay is part of the gradient in "sgd" and "adam", apart from
      it in "adamw" (Loshchilov and Hutter 2019). `decay_norm_bias=False` spares all
      one-dimensional weights: biases, and scale and shift of batch normalisation.
    - `schedule`: see `learning_rate`. `warmup` is the share of all steps in which the rate rises
      from 0 to `lr`; `milestones` are the shares after which "step" divides by 10.
    - `augment` may hold "crop" and "flip".
    - `label_smoothing` in the training loss (Szegedy 2016, section 7).
    - `ema`: decay of a moving average of the weights; it is the average that is measured and kept.
      0: none.
    - `valid`: share of the training pictures that is kept aside to choose the best epoch.
    - `precision`: "bf16", or "fp16" with a gradient scaler, multiply in 16 bits where that is safe
      and keep the weights in 32. `channels_last` is a memory format, `compile` calls
      `torch.compile` on the training step.

    Raises:
        ValueError: for a value that makes no sense, naming the field.
    """

    epochs: int = 10
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    schedule: str = "one-cycle"
    warmup: float = 0.15
    augment: tuple[str, ...] = ("crop", "flip")
    valid: float = 0.1
    precision: str = "fp32"
    channels_last: bool = False
    seed: int = 0
    # Later additions; the defaults are what recipes without them meant.
    optimizer: str = "sgd"
    decay_norm_bias: bool = True
    milestones: tuple[float, ...] = (0.5, 0.75)
    label_smoothing: float = 0.0
    accumulate: int = 1
    ema: float = 0.0
    compile: bool = False

    def __post_init__(self):
        shares = isinstance(self.milestones, tuple) and all(
            isinstance(m, (int, float)) and 0 < m < 1 for m in self.milestones
        )
        rules = {
            "epochs": (self.epochs >= 1, "at least 1"),
            "batch_size": (self.batch_size >= 2, "at least 2, for batch statistics"),
            "lr": (self.lr > 0, "above 0"),
            "momentum": (0 <= self.momentum < 1, "from 0 to below 1"),
            "weight_decay": (self.weight_decay >= 0, "0 or more"),
            "schedule": (self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
            "warmup": (0 <= self.warmup < 1, "a share from 0 to below 1"),
            "augment": (
                isinstance(self.augment, tuple) and set(self.augment) <= set(AUGMENTATIONS),
                f"a tuple of any of {', '.join(AUGMENTATIONS)}",
            ),
            "valid": (0 < self.valid < 1, "a share between 0 and 1"),
            "precision": (self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
            "seed": (0 <= self.seed < 2**63, "from 0 to 2**63 - 1"),
            "optimizer": (self.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}"),
            "milestones": (
                shares and list(self.milestones) == sorted(self.milestones),
                "a tuple of rising shares between 0 and 1",
            ),
            "label_smoothing": (0 <= self.label_smoothing < 1, "from 0 to below 1"),
            "accumulate": (
                1 <= self.accumulate <= self.batch_size // 2,
                "at least 1, and leave parts of at least 2 pictures",
            ),
            "ema": (0 <= self.ema < 1, "from 0 (none) to below 1"),
        }
        for name, (fine, wanted) in rules.items():
            if not fine:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be {wanted}")


def from_plain(values: dict) -> Recipe:
    """A recipe from plain values, as records and checkpoints hold it (lists for tuples).

    Raises:
        TypeError: for a name that is no field.
        ValueError: as `Recipe`.
    """
    return Recipe(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def differences(old: dict, new: Recipe) -> list[str]:
    """How a recipe stored as plain values differs from `new`, a line for each field.

    A field that the stored one does not have counts as its default: it was written before the
    field existed.
    """
    lines = []
    for field in fields(Recipe):
        was, now = old.get(field.name, field.default), getattr(new, field.name)
        was = tuple(was) if isinstance(was, list) else was
        if was != now:
            lines.append(f"{field.name}: {was!r} there, {now!r} now")
    lines += [f"{name}: unknown here" for name in old if name not in asdict(new)]
    return lines


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Learning rate before step `step` of `steps` (counted from 0).

    After the warm-up, with t running from 0 to 1 over the rest: "one-cycle" falls along a
    straight line to 0, "cosine" along (1 + cos(pi t)) / 2, "step" is divided by 10 at each of the
    `milestones`, shares of all steps (He 2015, section 4.2: at half and at three quarters),
    "constant" stays.
    """
    warm = recipe.warmup * steps
    if step < warm:
        return recipe.lr * (step + 1) / (warm + 1)
    t = (step - warm) / max(1.0, steps - warm)
    if recipe.schedule == "one-cycle":
        return recipe.lr * (1 - t)
    if recipe.schedule == "cosine":
        return recipe.lr * (1 + math.cos(math.pi * t)) / 2
    if recipe.schedule == "step":
        return recipe.lr * 0.1 ** sum(step >= m * steps for m in recipe.milestones)
    return recipe.lr


def make_optimizer(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimiser over all weights of `net`: one group that decays, and one that may not."""
    weights = [p for p in net.parameters() if p.requires_grad]
    spared = [] if recipe.decay_norm_bias else [p for p in weights if p.dim() < 2]
    decayed = weights if recipe.decay_norm_bias else [p for p in weights if p.dim() >= 2]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}]
    groups += [{"params": spared, "weight_decay": 0.0}] if spared else []
    if recipe.optimizer == "sgd":
        nesterov = recipe.nesterov and recipe.momentum > 0
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return kind(groups, lr=recipe.lr, betas=(float(recipe.momentum), 0.999))
