"""Where a notebook runs and how large its experiments are there."""

import json
import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch

from . import guesses

SIZES = ("quick", "lesson", "full")


@dataclass(frozen=True)
class Here:
    """What `start` found: torch device, its name, size of the experiments, fastest precision,
    and whose page it is."""

    device: torch.device
    name: str
    size: str
    precision: str
    chapter: str = ""

    def pick(self, quick, lesson, full):
        """The value for this size. One code path; only the numbers change."""
        return {"quick": quick, "lesson": lesson, "full": full}[self.size]

    def keep(self, guess: dict) -> None:
        """Keep the answered predictions of this page in a small file (see `guesses.keep`)."""
        guesses.keep(self.chapter, guess)


def start(chapter: str) -> Here:
    """Say on what the page runs, which data it uses, and how long it takes; return a `Here`.

    The size is "lesson" on a GPU and "quick" on a CPU; the environment variable
    RESNET_LIB_SIZE (quick, lesson or full; empty is as not set) decides otherwise.

    Raises:
        ValueError: if RESNET_LIB_SIZE holds anything else.
    """
    gpu = torch.cuda.is_available()
    size = os.environ.get("RESNET_LIB_SIZE") or ("lesson" if gpu else "quick")
    if size not in SIZES:
        raise ValueError(f"RESNET_LIB_SIZE={size!r}: choose one of {', '.join(SIZES)}")
    device = torch.device("cuda" if gpu else "cpu")
    threads = torch.get_num_threads()
    name = torch.cuda.get_device_name() if gpu else f"CPU, {threads} thread{'s' * (threads > 1)}"
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
    return Here(device, name, size, fast_precision(device), chapter)


def fast_precision(device: torch.device) -> str:
    """The precision that the hardware itself multiplies fast in: "bf16", "fp16" or "fp32".

    A T4 claims bfloat16 and emulates it slowly; its tensor cores (as those of every GPU from
    compute capability 7.0 on) take fp16. A processor without AMX or AVX512-BF16 emulates too.
    """
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16"
        return "fp16" if torch.cuda.get_device_capability(device) >= (7, 0) else "fp32"
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "fp32"  # not Linux: no safe way to ask
    return "bf16" if "amx_bf16" in flags or "avx512_bf16" in flags else "fp32"


def _time(about: dict, size: str) -> str:
    measured = about.get("seconds", {}).get(size)
    if measured is None:
        return f"not yet measured at size {size}"
    return f"about {measured['value']:.0f} s when measured on {measured['on']}"
