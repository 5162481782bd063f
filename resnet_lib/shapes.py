"""Arithmetic of spatial sizes, in plain integers: what a layer does to height and width.

Formulas: Dumoulin & Visin 2016, *A guide to convolution arithmetic* (arXiv:1603.07285).
Nothing here needs torch, so every line can be checked with a pencil.
"""

from collections.abc import Sequence
from dataclasses import dataclass


def _refuse_nonsense(padding: int, **at_least_one: int) -> None:
    for name, value in at_least_one.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if padding < 0:
        raise ValueError(f"padding must not be negative, got {padding}")


def conv_out(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """Pixels along one side after a convolution: floor((size + 2p - d(k-1) - 1) / s) + 1.

    Raises:
        ValueError: if the kernel does not fit into the padded input, or for a number that makes
            no sense, such as stride 0.
    """
    _refuse_nonsense(padding, size=size, kernel=kernel, stride=stride, dilation=dilation)
    reach = dilation * (kernel - 1) + 1
    if size + 2 * padding < reach:
        raise ValueError(
            f"a kernel reaching over {reach} pixels does not fit into {size} pixels "
            f"with padding {padding}"
        )
    return (size + 2 * padding - reach) // stride + 1


def pool_out(
    size: int, kernel: int, stride: int | None = None, padding: int = 0, ceil_mode: bool = False
) -> int:
    """Pixels along one side after a pooling layer (stride defaults to the kernel, as in torch).

    With `ceil_mode` a last window that hangs over the right edge counts, unless it would start
    in the padding there. Example: 112 pixels, kernel 3, stride 2 give 55; with padding 1, 56.

    Raises:
        ValueError: if the window does not fit, if the padding is more than half the kernel, or
            for a number that makes no sense, such as stride 0.
    """
    stride = kernel if stride is None else stride
    _refuse_nonsense(padding, size=size, kernel=kernel, stride=stride)
    if 2 * padding > kernel:
        raise ValueError(f"padding {padding} is more than half of the kernel {kernel}")
    if size + 2 * padding < kernel and not ceil_mode:
        raise ValueError(f"a window of {kernel} does not fit into {size} pixels + padding")
    room = size + 2 * padding - kernel
    out = (-(-room // stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (out - 1) * stride >= size + padding:
        out -= 1
    if out < 1:
        raise ValueError(f"a window of {kernel} does not fit into {size} pixels + padding")
    return out


def stage_out(size: int, stride: int) -> int:
    """Pixels along one side after a stage: only its first block strides, 3x3 with padding 1."""
    return conv_out(size, 3, stride, padding=1)


@dataclass(frozen=True)
class Step:
    """One line of a shape walk: the part's name and its output (channels, height, width)."""

    name: str
    channels: int
    height: int
    width: int


def net_shapes(
    height: int,
    width: int,
    *,
    widths: Sequence[int] = (64, 128, 256, 512),
    expansion: int = 1,
    stem: str = "imagenet",
    in_channels: int = 3,
) -> list[Step]:
    """The walk of one picture through a ResNet, from the input to the pooled features.

    The number of blocks does not appear: within a stage nothing changes shape after the first.

    Raises:
        ValueError: if the picture has no pixels or `stem` is unknown.
    """
    if stem not in ("imagenet", "cifar"):
        raise ValueError(f"stem={stem!r}: choose 'imagenet' or 'cifar'")
    walk = [Step("input", in_channels, height, width)]

    def step(name: str, channels: int, side) -> None:
        last = walk[-1]
        walk.append(Step(name, channels, side(last.height), side(last.width)))

    if stem == "imagenet":
        step("conv1", widths[0], lambda s: conv_out(s, 7, 2, 3))
        step("maxpool", widths[0], lambda s: pool_out(s, 3, 2, 1))
    else:
        step("conv1", widths[0], lambda s: conv_out(s, 3, 1, 1))
    for i, planes in enumerate(widths):
        step(f"layer{i + 1}", planes * expansion, lambda s, i=i: stage_out(s, 2 if i else 1))
    walk.append(Step("avgpool", walk[-1].channels, 1, 1))
    return walk
