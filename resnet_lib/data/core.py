"""A picture set: uint8 pictures, int64 labels, class names, and where they come from."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from .stream import Files

MAX_BYTES = 2 * 1024**3  # of a set's pixels
SAMPLE = 4096  # pictures from which mean and std of a streamed set are taken


def mix(*parts: object) -> int:
    """A 63-bit seed from any printable parts: `mix(seed, epoch, "flip")`.

    A hash, because `seed + epoch` would give seed 0 in epoch 1 the same randomness as seed 1 in
    epoch 0, and would tie the flips to the crops.
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Pictures `x`, uint8 (N, C, H, W), values 0..255, and labels `y`, int64 (N,).

    In a streamed set `x` is a `Files`, which has the shape of that tensor and decodes when asked.
    Raises TypeError for another dtype or for something that is no tensor, ValueError for another
    shape or for unequal lengths.
    """

    x: Tensor | Files
    y: Tensor

    def __post_init__(self):
        for name, dtype, shape in (("x", torch.uint8, "(N, C, H, W)"), ("y", torch.int64, "(N,)")):
            value = getattr(self, name)
            found = getattr(value, "dtype", type(value).__name__)
            if not isinstance(value, Tensor | Files) or found != dtype:
                raise TypeError(f"{name} is of {found}; wanted a tensor of {dtype}")
            if value.dim() != len(shape.split()):
                raise ValueError(f"{name} has shape {tuple(value.shape)}; wanted {shape}")
        if len(self.x) != len(self.y):
            raise ValueError(f"{len(self.x)} pictures but {len(self.y)} labels")

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        return f"Split({len(self)} pictures of {tuple(self.x.shape[1:])})"

    def subset(self, index) -> Split:
        """The samples at `index` (a slice, or an integer or boolean tensor)."""
        return Split(self.x[index], self.y[index])


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """A set with its training and test part.

    `name` is the short label on every plot and record, `source` one sentence on where the
    pictures come from. `statistics`, if given, is (mean, std), each with one number per channel on
    the scale 0..1, and is used instead of what the training pixels say.

    Raises ValueError for fewer than two classes, a class named twice, a label outside
    `range(len(classes))`, an empty part, parts whose pictures differ in shape, or statistics of
    another number of channels or with a std that is not above 0.
    """

    name: str
    classes: list[str]
    train: Split
    test: Split
    source: str
    statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def __post_init__(self):
        count = len(self.classes)
        if count < 2:
            raise ValueError(f"{self.name}: {count} class(es); a classifier needs at least two")
        if len(set(self.classes)) < count:
            raise ValueError(f"{self.name}: a class name stands twice in {self.classes}")
        for part in ("train", "test"):
            y = getattr(self, part).y
            if len(y) == 0:
                raise ValueError(f"{self.name}: the {part} part is empty")
            low, high = int(y.min()), int(y.max())
            if low < 0 or high >= count:
                found = f"{self.name}: {part} labels run from {low} to {high}"
                raise ValueError(f"{found}, but {count} classes allow 0 to {count - 1}")
        shapes = self.shape, tuple(self.test.x.shape[1:])
        if shapes[0] != shapes[1]:
            raise ValueError(f"{self.name}: train pictures are {shapes[0]}, test {shapes[1]}")
        if self.statistics is not None:
            mean, std = self.statistics
            finite = all(math.isfinite(value) for value in (*mean, *std))
            if not len(mean) == len(std) == self.shape[0] or not finite or min(std) <= 0:
                wanted = f"wanted {self.shape[0]} number(s) each, finite, and every std above 0"
                raise ValueError(f"{self.name}: mean {mean} and std {std}; {wanted}")

    def __repr__(self) -> str:
        parts = f"{len(self.train)} train + {len(self.test)} test"
        return f"Data({self.name!r}, {len(self.classes)} classes, {parts}, {self.shape})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every picture."""
        return tuple(self.train.x.shape[1:])

    @cached_property
    def _moments(self) -> list[tuple[float, float]]:
        x = self.train.x
        if isinstance(x, Files) and len(x) > SAMPLE:
            generator = torch.Generator().manual_seed(mix("statistics"))
            x = x[torch.randperm(len(x), generator=generator)[:SAMPLE]]
        # Whole-number sums are exact, so mean and std are the same on every machine.
        levels = torch.arange(256, dtype=torch.int64)
        counts = torch.zeros(self.shape[0], 256, dtype=torch.int64)
        for chunk in x.split(512):  # bounds the contiguous copy
            for channel, count in enumerate(counts):
                count += torch.bincount(chunk[:, channel].reshape(-1), minlength=256).cpu()
        result = []
        for count in counts:
            total = int(count.sum())
            first, second = int((count * levels).sum()), int((count * levels**2).sum())
            variance = (total * second - first * first) / total**2
            result.append((first / total / 255, math.sqrt(variance) / 255))
        return result

    @property
    def mean(self) -> tuple[float, ...]:
        """Per-channel mean of the training pixels on the scale 0..1, or what `statistics` says.

        Of a streamed set with more than 4,096 training pictures: of 4,096 of them, always the same.
        """
        return tuple(self.statistics[0]) if self.statistics else tuple(m for m, _ in self._moments)

    @property
    def std(self) -> tuple[float, ...]:
        """Per-channel standard deviation of the training pixels, on the scale and as of `mean`.

        A channel without any variation gets 1.0, so that dividing by it is harmless.
        """
        if self.statistics:
            return tuple(self.statistics[1])
        return tuple(s or 1.0 for _, s in self._moments)

    @cached_property
    def fingerprint(self) -> str:
        """First 16 hex digits of a SHA-256 over class names, shapes and all values.

        Of a streamed set, the paths and lengths of the picture files stand for their pixels.
        """
        digest = hashlib.sha256(repr(list(self.classes)).encode())
        for tensor in (self.train.x, self.train.y, self.test.x, self.test.y):
            digest.update(repr((tuple(tensor.shape), str(tensor.dtype))).encode())
            if isinstance(tensor, Files):
                digest.update(tensor.identity())
            else:
                digest.update(tensor.contiguous().cpu().numpy().data)
        return digest.hexdigest()[:16]


def stratified(y: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Indices (kept, held out), each ascending; every class in proportion and on both sides.

    `ceil(fraction * N)` samples are held out, as scikit-learn counts. Raises ValueError for a
    fraction outside 0..1 or a class with a single sample.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the fraction held out is {fraction}; wanted a number between 0 and 1")
    values, counts = torch.unique(y, return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        if count < 2:
            raise ValueError(f"class {value} has one sample; a stratified split needs two")
    exact = counts.double() * fraction
    take = exact.floor().long().clamp(min=1).minimum(counts - 1)
    missing = math.ceil(round(fraction * len(y), 6)) - int(take.sum())
    # The samples left over by rounding go to the classes that rounding hurt most.
    for place in torch.argsort(exact - take, descending=True, stable=True).tolist():
        if missing > 0 and take[place] < counts[place] - 1:
            take[place] += 1
            missing -= 1
    held = []
    for value, count in zip(values.tolist(), take.tolist(), strict=True):
        members = torch.nonzero(y == value).flatten()
        generator = torch.Generator().manual_seed(mix(seed, "stratified", value))
        held.append(members[torch.randperm(len(members), generator=generator)[:count]])
    held = torch.cat(held).sort().values
    kept = torch.ones(len(y), dtype=torch.bool)
    kept[held] = False
    return torch.nonzero(kept).flatten(), held


def split_validation(split: Split, fraction: float = 0.1, seed: int = 0) -> tuple[Split, Split]:
    """(train, valid): a stratified part of `split` held out, the same for the same seed.

    Raises ValueError for an empty split, a fraction outside 0..1, or a class with one sample.
    """
    if len(split) == 0:
        raise ValueError("the split is empty: nothing to hold out")
    kept, held = stratified(split.y.cpu(), fraction, seed)
    return split.subset(kept), split.subset(held)


def fewer(data: Data, train: int, seed: int = 0) -> Data:
    """The same set with only `train` training pictures, each class in proportion; same test part.

    The same pictures for the same seed; `name` and `source` say how many. Raises ValueError for
    more pictures than there are, or for fewer than two of a class.
    """
    y = data.train.y.cpu()
    if train > len(y):
        raise ValueError(f"{data.name}: {train:,} training pictures wanted, there are {len(y):,}")
    if train == len(y):
        return data
    values, counts = torch.unique(y, return_counts=True)
    take, rest = counts * train // len(y), counts * train % len(y)
    # The pictures left over by rounding go to the classes that rounding hurt most.
    take[torch.argsort(rest, descending=True, stable=True)[: train - int(take.sum())]] += 1
    if (least := int(take.min())) < 2:
        rare = data.classes[values[take.argmin()]]
        found = f"{data.name}: {train:,} training pictures leave {least} of class {rare}"
        raise ValueError(f"{found}; wanted at least two of each class")
    kept = []
    for value, count in zip(values.tolist(), take.tolist(), strict=True):
        members = torch.nonzero(y == value).flatten()
        generator = torch.Generator().manual_seed(mix(seed, "fewer", value))
        kept.append(members[torch.randperm(len(members), generator=generator)[:count]])
    name = f"{data.name}, {train:,} training pictures"
    source = f"{data.source.rstrip('.')}; {train:,} of its {len(y):,} training pictures."
    part = data.train.subset(torch.cat(kept).sort().values)
    return replace(data, name=name, train=part, source=source)


def largest_size(count: int, channels: int) -> int:
    """The largest side at which `count` square pictures take at most `MAX_BYTES`."""
    return math.isqrt(MAX_BYTES // (channels * count))


def must_fit_memory(name: str, count: int, channels: int, size: int) -> None:
    """Raises ValueError if `count` pictures of `size` x `size` pixels take more than 2 GiB."""
    if size > (fits := largest_size(count, channels)):
        advice = f"give a size of at most {fits}" if fits else "ask for fewer pictures"
        raise ValueError(f"{name}: pictures of {size} px would take more than 2 GiB; {advice}")


def resize(data: Data, size: int) -> Data:
    """The same set at `size` x `size` pixels (bilinear, antialiased); unchanged if it fits.

    A streamed set is read at that size from its files. Raises ValueError for a size below 1, or
    one at which a set that is not streamed takes more than 2 GiB.
    """
    if size < 1:
        raise ValueError(f"size is {size}; wanted at least 1 pixel")
    if data.shape[1:] == (size, size):
        return data
    if isinstance(data.train.x, Files):
        train, test = (Split(replace(p.x, size=size), p.y) for p in (data.train, data.test))
        source = f"{data.source.rstrip('.')}; read at {size} px instead."
        return replace(data, train=train, test=test, source=source)
    must_fit_memory(data.name, len(data.train) + len(data.test), data.shape[0], size)
    chunk = min(4096, max(1, 2**26 // (data.shape[0] * size * size)))  # in float32: 256 MiB

    def part(split: Split) -> Split:
        small = []
        for x in split.x.split(chunk):
            x = torch.nn.functional.interpolate(
                x.float(), size=(size, size), mode="bilinear", antialias=True
            )
            small.append(x.round_().clamp_(0, 255).byte())
        return Split(torch.cat(small), split.y)

    source = f"{data.source.rstrip('.')}; resized from {data.shape[1]} to {size} px."
    return replace(data, train=part(data.train), test=part(data.test), source=source)


def digits(seed: int = 0) -> Data:
    """1,797 real scans of handwritten digits, uint8 (N, 1, 8, 8): 1,347 to train, 450 to test.

    Source: scikit-learn's `load_digits`, the test part of UCI "Optical Recognition of Handwritten
    Digits" (Alpaydin and Kaynak, 1998). Needs scikit-learn, no network. `seed` picks the split.
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    grey = torch.from_numpy(raw.images).mul(255 / 16).round().to(torch.uint8)  # 0..16 to 0..255
    whole = Split(grey[:, None], torch.from_numpy(raw.target).long())
    kept, held = stratified(whole.y, 0.25, seed)
    return Data(
        name="digits",
        classes=[str(k) for k in range(10)],
        train=whole.subset(kept),
        test=whole.subset(held),
        source="scikit-learn load_digits: 8x8 scans of handwritten digits (UCI, 1998).",
    )
