"""What an experiment and a run of it are, as frozen dataclasses."""

import json
import re
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache

import torch
from torch import nn

from ..models import FACTORIES, ResNet, create
from ..recipe import Recipe

# Classes and shape of the pictures, known without reading them.
PICTURES = {
    "cifar10": (10, (3, 32, 32)),
    "cifar100": (100, (3, 32, 32)),
    "shapes10": (10, (3, 32, 32)),
    "digits": (10, (1, 8, 8)),
}
STARTS = ("", "bn-bias-1", "bn-bias-2", "dirac")
NAME = re.compile(r"[A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*")


@dataclass(frozen=True)
class Experiment:
    """What is run, whatever the seed, and why.

    `train_pictures` and `size` reduce the data, `mean` and `std` replace its statistics; None
    leaves them as they are. `start`: see `apply_start`. `tier`: 0 can be recorded on a CPU, 1 is
    required, 2 and 3 are for whoever has the time. `keep_weights` keeps the best epoch's.
    `expect_null`: of a study's change from which no effect is expected.
    """

    name: str
    tier: int
    model: str
    shows: str
    data: str = "cifar10"
    train_pictures: int | None = None
    size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    start: str = ""
    options: dict = field(default_factory=dict)
    recipe: Recipe = field(default_factory=Recipe)
    seeds: tuple[int, ...] = (0,)
    chapters: tuple[str, ...] = ()
    keep_weights: bool = False
    study: str = ""
    expect_null: bool = False

    def __post_init__(self):
        wanted = {
            "name": (NAME.fullmatch(self.name), "letters and digits joined by - or ."),
            "tier": (type(self.tier) is int and 0 <= self.tier <= 3, "0, 1, 2 or 3"),
            "model": (self.model in FACTORIES, "a model; see python -m resnet_lib summary --list"),
            "shows": (_is(str, self.shows) and self.shows, "a sentence: what it should show"),
            "data": (self.data in PICTURES, f"one of {', '.join(PICTURES)}"),
            "train_pictures": (_count(self.train_pictures), "a number of pictures"),
            "size": (_count(self.size), "a number of pixels"),
            "mean": (_numbers(self.mean, self.data), "a number for each channel"),
            "std": (_numbers(self.std, self.data), "a number for each channel"),
            "start": (self.start in STARTS, f"one of {', '.join(STARTS[1:])}"),
            "options": (_is(dict, self.options), "a table of options of ResNet"),
            "seeds": (_list(self.seeds, int) and self.seeds, "a list of whole numbers"),
            "chapters": (_list(self.chapters, str), "a list of chapter numbers, in quotes"),
            "keep_weights": (_is(bool, self.keep_weights), "true or false"),
        }
        for key, (fine, words) in wanted.items():
            if not fine:
                raise ValueError(f"{key} = {getattr(self, key)!r}: must be {words}")
        try:
            _can_be_built(self.model, json.dumps(self.all_options))
        except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
            raise ValueError(f"options = {self.options!r}: {error}") from None

    @property
    def all_options(self) -> dict:
        """The options the net is built with: those of the data, then those of the entry."""
        classes, shape = PICTURES[self.data]
        return {"num_classes": classes, "in_channels": shape[0]} | self.options

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the pictures the net sees."""
        channels, height, width = PICTURES[self.data][1]
        return (channels, self.size or height, self.size or width)

    def build(self, seed: int) -> nn.Module:
        """The net with its weights as they are before the first step."""
        torch.manual_seed(seed)
        net = create(self.model, **self.all_options)
        apply_start(net, self.start)
        return net

    def picked(self) -> dict:
        """What was picked from the data, and the start: what no other part of a record says."""
        names = ("data", "train_pictures", "size", "mean", "std", "start")
        return plain({name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class Run:
    """One experiment with one seed; its name is `<experiment>-s<seed>`."""

    experiment: Experiment
    seed: int

    @property
    def name(self) -> str:
        return f"{self.experiment.name}-s{self.seed}"

    @property
    def recipe(self) -> Recipe:
        return replace(self.experiment.recipe, seed=self.seed)

    def configuration(self) -> dict:
        """All that decides the numbers, as plain values by field: {"recipe.lr": 0.1, ...}."""
        e = self.experiment
        return flat(e.picked(), e.model, e.all_options, asdict(self.recipe))


def flat(picked: dict, model: str, options: dict, recipe: dict) -> dict:
    """A configuration with one level of names. Recipe fields not given count as the default."""
    found = {"model": model, **picked}
    found |= {f"options.{key}": value for key, value in options.items()}
    found |= {f"recipe.{key}": value for key, value in (asdict(Recipe()) | recipe).items()}
    return plain(found)


def plain(values: dict) -> dict:
    """The same with tuples as lists, as they come back from a JSON file."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def apply_start(net: nn.Module, start: str) -> None:
    """Change the weights of a new net; "" leaves them as they are.

    "bn-bias-1", "bn-bias-2": the shift of every batch normalisation that a ReLU follows inside a
    branch is 1 or 2, so that most values pass the ReLU unchanged (in a plain net that is every one
    in a block).
    "dirac": every convolution with as many inputs as outputs starts as the identity.
    """
    for module in net.modules():
        if start == "dirac" and isinstance(module, nn.Conv2d):
            if module.in_channels == module.out_channels and module.groups == 1:
                nn.init.dirac_(module.weight)
        elif start.startswith("bn-bias") and hasattr(module, "residual"):
            norms = [getattr(module, n) for n in ("bn1", "bn2", "bn3") if hasattr(module, n)]
            # Behind the last one of the original block comes the addition, not a ReLU.
            last = None if module.preactivation or not module.residual else norms[-1]
            for norm in norms:
                if norm is not last and isinstance(norm, nn.BatchNorm2d):
                    nn.init.constant_(norm.bias, float(start[-1]))


@lru_cache
def _can_be_built(model: str, options: str) -> None:
    """Build it without memory for the weights. Raises what the factory raises."""
    with torch.device("meta"):
        net = create(model, **json.loads(options))
    if not isinstance(net, ResNet) or not net.include_top:
        raise ValueError("a net without a head cannot be trained")


def _is(kind: type, value) -> bool:
    return isinstance(value, kind)


def _list(value, kind: type) -> bool:
    """A list, by now a tuple, of different values of one kind."""
    fine = isinstance(value, tuple) and all(type(v) is kind for v in value)
    return fine and len(set(value)) == len(value)


def _count(value) -> bool:
    return value is None or (type(value) is int and value > 0)


def _numbers(value, data: str) -> bool:
    channels = PICTURES[data][1][0] if data in PICTURES else 0
    fine = isinstance(value, tuple) and all(type(v) is float and v > 0 for v in value)
    return value is None or (fine and len(value) == channels)
