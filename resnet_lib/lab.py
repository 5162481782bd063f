"""Where a notebook runs and how large its experiments are there."""

import json
import os
from dataclasses import dataclass
from importlib.resources import files

import torch

SIZES = ("quick", "lesson", "full")


@dataclass(frozen=True)
class Here:
    """What `start` found: the torch device, its name, and the size of the experiments."""

    device: torch.device
    name: str
    size: str

    def pick(self, quick, lesson, full):
        """The value for this size. One code path; only the numbers change."""
        return {"quick": quick, "lesson": lesson, "full": full}[self.size]


def start(chapter: str) -> Here:
    """Say on what the page runs, which data it uses, and how long it takes; return a `Here`.

    The size is "lesson" on a GPU and "quick" on a CPU; the environment variable
    RESNET_LIB_SIZE (quick, lesson or full) decides otherwise.

    Raises:
        ValueError: if RESNET_LIB_SIZE holds anything else.
    """
    gpu = torch.cuda.is_available()
    size = os.environ.get("RESNET_LIB_SIZE", "lesson" if gpu else "quick")
    if size not in SIZES:
        raise ValueError(f"RESNET_LIB_SIZE={size!r}: choose one of {', '.join(SIZES)}")
    device = torch.device("cuda" if gpu else "cpu")
    threads = torch.get_num_threads()
    name = torch.cuda.get_device_name() if gpu else f"CPU, {threads} threads"
    about = json.loads((files("resnet_lib") / "assets/chapters.json").read_text())[chapter]
    print(f"Runs on: {name}   torch {torch.__version__}   size: {size}")
    print(f"Data:    {about['data']}")
    print(f"Time:    {_time(about, size)}")
    if not gpu and size != "quick":
        print("No GPU is switched on, so this size will take long. In Colab: Runtime > Change")
        print("runtime type > T4 GPU, before you run on. Or set RESNET_LIB_SIZE=quick.")
    elif not gpu and "COLAB_RELEASE_TAG" in os.environ:
        print("No GPU is switched on. This page does not need one at this size; for the larger")
        print("one choose Runtime > Change runtime type > T4 GPU now, then run this cell again.")
    return Here(device, name, size)


def _time(about: dict, size: str) -> str:
    measured = about.get("seconds", {}).get(size)
    if measured is None:
        return f"not yet measured at size {size}"
    return f"about {measured['value']:.0f} s when measured on {measured['on']}"
