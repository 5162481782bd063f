"""Batches on the CPU or on a GPU, from a set that lies there whole or from picture files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .core import Split, mix
from .stream import Files, cores, read_batches

AUGMENTATIONS = ("crop", "flip")


def normalise(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """float32 `(x / 255 - mean) / std` of uint8 pictures (N, C, H, W), same shape and layout.

    `mean` and `std` hold one number per channel on the scale 0..1. Raises TypeError for another
    dtype, ValueError for another shape or another number of channels.
    """
    if x.dtype != torch.uint8:
        raise TypeError(f"pictures have dtype {x.dtype}; wanted torch.uint8 with values 0..255")
    if x.dim() != 4 or x.shape[1] != len(mean):
        hint = " (channels last? permute(0, 3, 1, 2))" if x.shape[-1] == len(mean) else ""
        wanted = f"(N, {len(mean)}, H, W), as there are {len(mean)} means"
        raise ValueError(f"pictures have shape {tuple(x.shape)}; wanted {wanted}{hint}")
    if len(mean) != len(std) or min(std) <= 0:
        raise ValueError(f"mean {mean} and std {std}: wanted equal lengths, and every std above 0")
    scale, shift = _line(mean, std, x.device)
    return x.float().mul_(scale).sub_(shift)


def _line(mean: Sequence[float], std: Sequence[float], device) -> tuple[Tensor, Tensor]:
    """Factor and offset of each channel, (C, 1, 1), computed in double precision."""
    mean, std = (torch.tensor(v, dtype=torch.float64).view(-1, 1, 1) for v in (mean, std))
    scale, shift = (v.to(device, torch.float32) for v in (1 / (255 * std), mean / std))
    return scale, shift


class Loader:
    """Yields `(x, y)`: float32 (B, C, H, W), normalised, and int64 (B,), both on `device`.

    The whole set lies on `device` as uint8 and is cropped, flipped and normalised a batch at a
    time: no worker processes, no copies to the GPU inside an epoch. Only the pictures of a streamed
    set are decoded by `workers` processes (0: in this one; default: one per core, at most 8) when
    their batch comes; its batches are the same to the last bit, whatever the number of workers.

    - `augment`: any of "crop" (add `pad` black pixels on every side, as torchvision's
      `RandomCrop(padding=4)` does on a picture, so black *before* normalising, then cut back to
      the old size at a random place) and "flip" (left-right, with probability one half).
    - Order, crops and flips come from `(seed, epoch)` alone. They are drawn on the CPU for all
      samples at once and looked up by sample, so what happens to a sample depends neither on the
      batch size nor on its place in a batch, the device, or earlier epochs: a resumed run
      continues exactly.
    - `drop_last` leaves out a last, smaller batch. With `shuffle=True` (training), a last batch of
      a single sample is always left out: where the map is 1 x 1, BatchNorm has one value per
      channel, its variance is undefined, and torch raises an error in mid-epoch.

    Raises ValueError for an empty split, a batch size below 1, an unknown augmentation, a negative
    `pad` or number of workers, a mean or std that does not fit, or settings that leave no batch at
    all. A picture file that can no longer be read raises PictureError in mid-epoch.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        augment: Sequence[str] = (),
        shuffle: bool = False,
        seed: int = 0,
        device: str | torch.device = "cpu",
        drop_last: bool = False,
        channels_last: bool = False,
        pad: int = 4,
        workers: int | None = None,
    ):
        augment = (augment,) if isinstance(augment, str) else tuple(augment)
        if unknown := set(augment) - set(AUGMENTATIONS):
            raise ValueError(f"unknown augmentation {unknown}; known: {AUGMENTATIONS}")
        if len(split) == 0:
            raise ValueError("the split is empty: no batch to make")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; wanted at least 1")
        if pad < 0:
            raise ValueError(f"pad is {pad}; wanted 0 or more pixels")
        if workers is not None and workers < 0:
            raise ValueError(f"workers is {workers}; wanted 0 or more processes")
        nothing = torch.empty((0, *split.x.shape[1:]), dtype=torch.uint8)
        normalise(nothing, mean, std)  # raises for numbers that do not fit
        self.x = split.x if isinstance(split.x, Files) else split.x.to(device)
        self.y = split.y.to(device)
        self.workers = min(8, cores()) if workers is None else workers
        # On the device from the start: copied there in each step, they would make a GPU wait.
        self._scale, self._shift = _line(mean, std, self.y.device)
        self.batch_size, self.augment, self.shuffle = batch_size, augment, shuffle
        self.seed, self.pad, self.channels_last = seed, pad, channels_last
        self.device = self.y.device
        rest = len(split) % batch_size
        lonely = shuffle and rest == 1 and batch_size > 1
        self._used = len(split) - (rest if drop_last or lonely else 0)
        if self._used == 0:
            found = f"{len(split)} sample(s) in batches of {batch_size}"
            raise ValueError(f"{found} leave no whole batch: choose a smaller batch_size")

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-self._used // self.batch_size)

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch number `epoch`, always the same for the same number."""
        count = len(self.y)

        def generator(purpose: str) -> torch.Generator:
            return torch.Generator().manual_seed(mix(self.seed, epoch, purpose))

        if self.shuffle:
            order = torch.randperm(count, generator=generator("order"))
        else:
            order = torch.arange(count)
        offset = torch.randint(0, 2 * self.pad + 1, (count, 2), generator=generator("crop"))
        flip = torch.randint(0, 2, (count, 1), generator=generator("flip")).bool()
        offset, flip = offset.to(self.device), flip.to(self.device)
        used = order[: self._used]
        batches = used.to(self.device).split(self.batch_size)
        if isinstance(self.x, Files):
            places = used.split(self.batch_size)
            pixels = read_batches(self.x, places, self.workers, self.device)
        else:
            pixels = (self.x[index] for index in batches)
        for index, x in zip(batches, pixels, strict=True):
            if self.augment:
                x = self._cut(x, offset[index], flip[index])
            x = x.float().mul_(self._scale).sub_(self._shift)
            layout = torch.channels_last if self.channels_last else torch.contiguous_format
            yield x.contiguous(memory_format=layout), self.y[index]

    def _cut(self, x: Tensor, offset: Tensor, flip: Tensor) -> Tensor:
        """Crop and flip a uint8 batch by one look-up of every pixel; no loop over samples."""
        height, width = x.shape[2:]
        rows = torch.arange(height, device=x.device).expand(len(x), -1)
        columns = torch.arange(width, device=x.device).expand(len(x), -1)
        if "flip" in self.augment:
            columns = torch.where(flip, columns.flip(1), columns)
        if "crop" in self.augment:
            x = torch.nn.functional.pad(x, [self.pad] * 4)
            rows, columns = rows + offset[:, :1], columns + offset[:, 1:]
        sample = torch.arange(len(x), device=x.device)[:, None, None]
        # Index tensors on both sides of a slice: the result comes out as (B, H, W, C), which seen
        # as (B, C, H, W) is the channels_last layout, without a copy.
        return x[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
