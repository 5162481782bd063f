"""What is to be done in a training run: a recipe, and the learning rate it gives at each step."""

import math
from dataclasses import dataclass

from .data import AUGMENTATIONS

SCHEDULES = ("one-cycle", "cosine", "step", "constant")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run, apart from net, data and hardware.

    `warmup` is the share of all steps in which the learning rate rises from 0 to `lr`;
    `augment` may hold "crop" and "flip"; `valid` is the share of the training pictures that
    is kept aside to choose the best epoch.

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

    def __post_init__(self):
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
        }
        for name, (fine, wanted) in rules.items():
            if not fine:
                raise ValueError(f"{name}={getattr(self, name)!r}: must be {wanted}")


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Learning rate before step `step` of `steps` (counted from 0).

    After the warm-up, with t running from 0 to 1 over the rest: "one-cycle" falls along a
    straight line to 0, "cosine" along (1 + cos(pi t)) / 2, "step" is divided by 10 at half and
    at three quarters of all steps (He 2015, section 4.2), "constant" stays.
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
        return recipe.lr * 0.1 ** ((step >= 0.5 * steps) + (step >= 0.75 * steps))
    return recipe.lr
