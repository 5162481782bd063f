"""Pictures that stay on the disk until a batch needs them, for folders larger than the memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from . import pictures
from .pictures import PictureError


def cores() -> int:
    """CPU cores that this process may use."""
    may = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return len(may(0)) if may else os.cpu_count() or 1


@dataclass(frozen=True, eq=False, repr=False)
class Files:
    """Picture files in the place of a uint8 tensor (N, 3, size, size), decoded when asked for.

    A slice, an integer or a boolean tensor as index gives a smaller `Files`; one whole number
    gives that picture, uint8 (3, size, size), and raises PictureError if it cannot be read.

    `names` are paths below `root` and `lengths` the bytes of each file when it was listed. Two
    arrays, not a million objects: each worker process gets a copy of them.
    """

    root: Path
    names: np.ndarray
    lengths: np.ndarray
    size: int
    dtype: ClassVar[torch.dtype] = torch.uint8

    @classmethod
    def listed(cls, root: Path, paths: Sequence[Path], size: int) -> Files:
        """The files at `paths`, all below `root`. Raises OSError if one is gone."""
        names = np.array([os.fsencode(path.relative_to(root).as_posix()) for path in paths])
        lengths = np.array([path.stat().st_size for path in paths], dtype="<i8")
        return cls(root.absolute(), names, lengths, size)

    @property
    def shape(self) -> torch.Size:
        """(N, 3, size, size), as of the tensor it stands for."""
        return torch.Size((len(self), 3, self.size, self.size))

    def dim(self) -> int:
        """4, as of the tensor it stands for."""
        return 4

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index) -> Files | Tensor:
        index = index.cpu().numpy() if isinstance(index, Tensor) else index
        names = self.names[index]
        if np.ndim(names):
            return replace(self, names=names, lengths=self.lengths[index])
        path = self.root / os.fsdecode(names)
        return torch.from_numpy(pictures.read_fitted(path, self.size)[0])

    def split(self, count: int) -> Iterator[Tensor]:
        """The pixels, uint8 (count, 3, size, size) at a time, decoded in threads one by one."""
        for start in range(0, len(self), count):
            places = range(start, min(start + count, len(self)))
            with pictures.no_bomb_warning(), ThreadPoolExecutor(cores()) as pool:
                yield torch.stack(list(pool.map(self.__getitem__, places)))

    def identity(self) -> bytes:
        """What a fingerprint is made of: the paths below `root` and the lengths, not the pixels."""
        return b"\0".join(self.names.tolist()) + self.lengths.tobytes()


@dataclass
class _Batches:
    """What a worker process runs: a list of places to one uint8 tensor, or to the reason not."""

    files: Files

    def __getitem__(self, places: list[int]) -> Tensor | PictureError:
        try:
            with pictures.no_bomb_warning():
                return torch.stack([self.files[place] for place in places])
        except PictureError as error:
            # Raised here, it would arrive as a RuntimeError that holds the worker's traceback.
            return error


def read_batches(
    files: Files, batches: Sequence[Tensor], workers: int, device: torch.device
) -> Iterator[Tensor]:
    """Each batch of places as uint8 pictures on `device`, in order, decoded by `workers` processes.

    With `workers=0` this process decodes. Raises PictureError for a picture that can no longer be
    read, RuntimeError if a worker process died.
    """
    loader = DataLoader(
        _Batches(files),
        batch_size=None,
        sampler=[batch.tolist() for batch in batches],
        num_workers=min(workers, len(batches)),
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # else each epoch draws from the generator of the nets
    )
    source = iter(loader)
    try:
        for _ in batches:
            x = next(source)
            if isinstance(x, PictureError):
                raise x
            yield x.to(device, non_blocking=True)
    except RuntimeError as error:
        if workers == 0 or "worker" not in str(error):
            raise
        raise RuntimeError(
            f"a process that decodes pictures died ({str(error).splitlines()[0]}). Most often "
            "the memory, or the shared memory of a container, is too small: give a smaller size, "
            "a smaller batch_size, fewer workers, or workers=0."
        ) from None
    finally:
        # Left to the garbage collection, they would live as long as the traceback of an error, be
        # inherited by the next workers, and then take ten seconds to end.
        if workers > 0 and hasattr(source, "_shutdown_workers"):
            source._shutdown_workers()
