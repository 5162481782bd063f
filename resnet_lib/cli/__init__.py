"""The command line: train, evaluate, predict, summary, runs."""

import argparse
import os
import sys
from contextlib import suppress

import torch

from .. import data as data_module
from .. import train
from ..runs import commands as runs
from . import training, using

EXAMPLES = """\
examples:
  python -m resnet_lib train --data digits --augment none --epochs 5 --out runs/out/digits
  python -m resnet_lib train --data my_pictures/ --size 64 --model resnet18 --out runs/out/mine
  python -m resnet_lib train --data digits --augment none --epochs 5 --out runs/out/digits --resume
  python -m resnet_lib evaluate runs/out/mine/best.pt --data my_pictures/
  python -m resnet_lib predict cat.jpg                      (the book's own small net)
  python -m resnet_lib predict cat.jpg --weights runs/out/mine/best.pt --figure cat.png
  python -m resnet_lib summary resnet50 --input 3 224 224
  python -m resnet_lib runs                                 (the book's recorded experiments)
"""
PIP_NAMES = {"sklearn": "scikit-learn", "PIL": "pillow"}  # where they differ from the module's


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 2 bad input (explained in one message).

    1: `runs` found a record that is not good, or a run failed.
    """
    arguments = build_parser().parse_args(argv)
    try:
        status = arguments.run(arguments)
        sys.stdout.flush()  # here, so that a reader who has left is noticed here
    except BrokenPipeError:  # | head
        with suppress(OSError):  # what is still in the buffer must not fail again at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a shell reports SIGPIPE
    except Exception as error:
        if not (text := explain(error)):
            raise
        print(f"resnet_lib {arguments.command}: {text}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; what was saved stays as it is", file=sys.stderr)
        return 130
    return status or 0


def explain(error: Exception) -> str:
    """What to tell the reader; "" for an error that can only be a mistake in this package."""
    if isinstance(error, (ValueError, OSError, train.TrainingError, data_module.DownloadError)):
        return str(error)
    first = (str(error).splitlines() or [""])[0]
    if isinstance(error, ImportError):
        name = (error.name or "").split(".")[0]
        if name in ("", __package__.split(".")[0]):
            return ""
        return f"{first}; install it with pip install {PIP_NAMES.get(name, name)}"
    # The processor's memory is reported by torch as a bare RuntimeError.
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in first:
        return f"not enough memory{first and f' ({first[:200]})'}; try smaller pictures or batches"
    return ""


def build_parser() -> argparse.ArgumentParser:
    """The parser with all commands."""
    parser = argparse.ArgumentParser(
        "python -m resnet_lib",
        description="Train, test, use and inspect residual networks.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    training.add(commands)
    using.add(commands)
    runs.add(commands)
    return parser
