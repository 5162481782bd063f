"""What several commands share: devices, nets and options as words of the command line."""

import argparse
import json
import re

import torch

from .. import create

DATA_HELP = (
    "digits, shapes10 (both need no download), cifar10, cifar100, or an image folder with "
    "train/<class>/*.jpg and test/<class>/*.jpg, or only <class>/*.jpg (then a fifth of each "
    "class becomes the test set)"
)
FLAGS, WORDS = ("zero_init_residual", "include_top"), ("stem", "shortcut", "stride_in")


def command(commands, name: str, run, help_: str, text: str) -> argparse.ArgumentParser:
    """A sub-parser whose help shows the defaults, and which calls `run(arguments)`."""
    formatter = argparse.ArgumentDefaultsHelpFormatter
    sub = commands.add_parser(name, help=help_, description=text, formatter_class=formatter)
    sub.set_defaults(run=run)
    return sub


def pick_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one. Raises ValueError for a GPU that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = re.fullmatch(r"cpu|cuda(?::(0|[1-9][0-9]{0,8}))?", name)
    if not found:
        raise ValueError(f"--device {name}: use auto, cpu, cuda or cuda:1")
    if name == "cpu":
        return torch.device(name)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise ValueError(f"--device {name}: torch sees no GPU here; use --device cpu")
    if int(found[1] or 0) >= count:
        raise ValueError(f"--device {name}: torch sees {count} GPU(s) here, counted from cuda:0")
    return torch.device(name)


def build(model: str, options: dict) -> torch.nn.Module:
    """The net; a ValueError names the options where they make no sense."""
    try:
        return create(model, **options)
    except (TypeError, RuntimeError, ArithmeticError) as error:
        raise ValueError(f"{model} cannot be built with {options}: {error}") from None


def parse_options(pairs: list[str]) -> dict:
    """["shortcut=B", "num_classes=4"] -> {"shortcut": "B", "num_classes": 4}.

    Raises:
        ValueError: for a pair without "=", an unknown option, or a value of the wrong kind.
    """
    allowed = ("num_classes", "in_channels", "groups", "width_per_group", "widths", *WORDS, *FLAGS)
    options = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name not in allowed:
            raise ValueError(f"--option {pair}: write NAME=VALUE with one of {', '.join(allowed)}")
        try:
            value = json.loads({"True": "true", "False": "false"}.get(text, text))
        except ValueError:
            value = text
        for names, kind, wanted in ((FLAGS, bool, "true or false"), (WORDS, str, "a word")):
            if name in names and not isinstance(value, kind):
                raise ValueError(f"--option {pair}: {name} must be {wanted}")
        options[name] = value
    return options
