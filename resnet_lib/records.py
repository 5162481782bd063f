"""Records of training runs: what was run, on what, by which code, and every epoch's numbers."""

import glob
import hashlib
import json
import os
import platform
import subprocess
import sys
from functools import cache
from importlib.resources import files
from pathlib import Path
from statistics import mean

import torch


def describe(data, model: str, options: dict) -> dict:
    """What a checkpoint says, in plain values, so that others can build the net and use it.

    `data` is a `data.Data`.
    """
    return {
        "model": model,
        "options": options,
        "classes": list(data.classes),
        "shape": list(data.shape),
        "mean": [round(float(m), 6) for m in data.mean],
        "std": [round(float(s), 6) for s in data.std],
        "data": data.name,
        "data_source": data.source,
        "data_fingerprint": data.fingerprint,
    }


def epoch_line(row: dict, epochs: int) -> str:
    """One epoch in one line, for logs: learning rate, loss and accuracy of both parts, time."""
    return (
        f"epoch {row['epoch']:>2}/{epochs}  lr {row['lr']:.4f}  "
        f"train {row['train_loss']:.3f} {row['train_accuracy']:5.1f} %  "
        f"valid {row['valid_loss']:.3f} {row['valid_accuracy']:5.1f} %  {row['seconds']:.1f} s"
    )


@cache
def source_hash() -> str:
    """First 16 hex digits of a SHA-256 over all Python files of the package."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def provenance(device: str | torch.device = "cpu") -> dict:
    """Where and by what code a number was measured: versions, device, threads, source hash."""
    found = {"resnet_lib": source_hash(), "python": platform.python_version(), **made_on(device)}
    commit = _commit()
    return found | ({"commit": commit} if commit else {})


def made_on(device: str | torch.device = "cpu") -> dict:
    """What has to be the same for the same bits: torch's version, device, number of threads."""
    return {
        "torch": torch.__version__,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
    }


def device_name(device: str | torch.device = "cpu") -> str:
    """The GPU's name, or the processor's name and how many threads torch uses."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass  # not Linux: platform's word has to do
    return f"CPU: {name}"


def peak_memory(device: str | torch.device = "cpu") -> int:
    """Largest memory use so far, in bytes: of the GPU, or of this process on a CPU (0: unknown)."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _commit() -> str:
    """The checkout's commit, or "" outside a git checkout of this project."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return ""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        run = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""


def asset(name: str) -> Path:
    """Path of a file in the package's `assets` folder.

    Raises:
        FileNotFoundError: if there is no such asset; the message lists those there are.
    """
    folder = files("resnet_lib") / "assets"
    path = Path(str(folder / name))
    if not path.is_file():
        there = sorted(p.name for p in Path(str(folder)).iterdir() if p.is_file())
        raise FileNotFoundError(f"there is no asset {name!r}; there are: {', '.join(there)}")
    return path


def read(path: str | Path) -> dict:
    """Read a record: a path, or the bare name of one that comes with the package.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the file is not a record.
    """
    path = Path(path)
    if not path.is_file():
        path = asset(f"{path.name.removesuffix('.json')}.json")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        record["history"], record["provenance"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a record of a run ({error!r})") from None
    return record


def runs_folder() -> Path:
    """Where the package keeps the records of the runs in `runs/manifest.toml`."""
    return Path(str(files("resnet_lib") / "assets")) / "runs"


def find(name: str, folder: str | Path | None = None) -> list[dict]:
    """The published records of an experiment, one for each seed, in the order of the seeds.

    Empty while it is pending. `folder` is where else to look.

    Raises:
        ValueError: if one of the files is not a record.
    """
    folder = runs_folder() if folder is None else Path(folder)
    found = [read(path) for path in folder.glob(f"{glob.escape(name)}-s*.json")]
    # A longer name may begin like this one: "fix-s" and "fix".
    found = [record for record in found if record.get("experiment") == name]
    return sorted(found, key=lambda record: record["recipe"]["seed"])


def test_accuracy(record: dict) -> float:
    """Of the last weights, in percent: nothing was chosen to get it."""
    return record["test"]["last"]["accuracy"]


def spread(values: list[float], form: str = ".2f") -> str:
    """Mean, smallest and largest: `91.20 [90.95, 91.40]`."""
    low, middle, high = (format(f(values), form) for f in (min, mean, max))
    return f"{middle} [{low}, {high}]"
