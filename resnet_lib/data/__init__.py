"""Data: picture sets, in memory or streamed from their files, and the batches made from them."""

from __future__ import annotations

import os
from pathlib import Path

from .cache import cache_folder
from .cifar import cifar10, cifar100
from .core import Data, Split, digits, fewer, resize, split_validation
from .download import DownloadError
from .drawing import shapes10
from .folders import FolderError, image_folder, scan
from .loader import AUGMENTATIONS, Loader, normalise
from .pictures import PictureError, fit_picture, open_picture

__all__ = [
    "AUGMENTATIONS",
    "Data",
    "DownloadError",
    "FolderError",
    "Loader",
    "PictureError",
    "Split",
    "cache_folder",
    "cifar10",
    "cifar100",
    "digits",
    "fewer",
    "fit_picture",
    "image_folder",
    "load",
    "normalise",
    "open_picture",
    "resize",
    "scan",
    "shapes10",
    "split_validation",
]


def load(
    name: str | os.PathLike,
    *,
    size: int | None = None,
    root: str | os.PathLike | None = None,
    seed: int = 0,
    stream: bool = False,
) -> Data:
    """A set by name: "digits", "shapes10", "cifar10", "cifar100", or a picture folder's path.

    `size` in pixels (default: the set's own), `root` the folder for downloads (CIFAR only),
    `seed` for the drawing of shapes10 and for a split that is made here. A picture folder may be
    packed, and may be larger than the memory with `stream=True`: see `image_folder`. Raises
    ValueError for a name that is neither, or for `stream` with a set that is no folder; otherwise
    what the function for that set raises.
    """
    makers = {
        "digits": lambda: digits(seed),
        "shapes10": lambda: shapes10(size=32 if size is None else size, seed=seed),
        "cifar10": lambda: cifar10(root),
        "cifar100": lambda: cifar100(root),
    }
    if name in makers:
        if stream:
            raise ValueError(f"stream=True is for picture folders; {name} fits into memory")
        data = makers[name]()
        return resize(data, size) if size is not None else data
    path = Path(name).expanduser()
    if path.exists() or len(path.parts) > 1:
        return image_folder(path, size=size, seed=seed, stream=stream)
    raise ValueError(
        f"unknown data {str(name)!r}: wanted one of {', '.join(makers)}, or the path of a folder "
        "with one sub-folder per class, or of an archive of one"
    )
