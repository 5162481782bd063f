"""What is kept from one time to the next: the folder, and decoded picture folders in it."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path

import numpy as np


def cache_folder() -> Path:
    """`$RESNET_LIB_CACHE`, or `~/.cache/resnet_lib`; not created here."""
    return Path(os.environ.get("RESNET_LIB_CACHE") or "~/.cache/resnet_lib").expanduser()


def cache_file(root: Path, pictures: list[tuple[Path, int]], *how: object) -> Path:
    """Where it is kept: the name changes with every name, length or date of a picture."""
    digest = hashlib.sha256(os.fsencode(root.resolve()) + repr(("v1", *how)).encode())
    for path, label in pictures:
        status = path.stat()
        digest.update(b"\0" + os.fsencode(path))
        digest.update(repr((label, status.st_size, status.st_mtime_ns)).encode())
    return cache_folder() / f"folder-{digest.hexdigest()[:24]}.npz"


def read_cache(file: Path, count: int) -> tuple[np.ndarray, int] | None:
    """The kept pictures, and how many had more than one frame; None if there is nothing usable."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            x, several = stored["x"], int(stored["several"])
    except Exception:  # missing, cut short, foreign: made anew
        return None
    return (x, several) if x.dtype == np.uint8 and x.shape[:2] == (count, 3) else None


def write_cache(file: Path, x: np.ndarray, several: int) -> None:
    """Keep them; a disk that refuses is only a warning."""
    beside = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as stream:
            np.savez(stream, x=x, several=several)
        os.replace(beside, file)  # a reader sees the old file or the new one, never half of one
    except OSError as error:
        warnings.warn(f"decoded pictures not kept for next time: {error}", stacklevel=3)
        if beside.exists():
            beside.unlink()
