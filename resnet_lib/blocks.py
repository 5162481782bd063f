"""The pieces a residual network is made of: convolutions, shortcuts, and four blocks.

Names are torchvision's (`conv1 bn1 relu conv2 bn2 downsample`), so weights can be exchanged.
Two departures from torchvision, both on purpose:

* ReLU never works in place, so a forward hook sees the value that the layer really produced.
* A block can have no shortcut at all (`residual=False`). That is the *plain twin* of
  He et al. 2015 (arXiv:1512.03385, section 3.3): same layers, only the addition is missing.

Shapes: every block maps (N, inplanes, H, W) to (N, planes * expansion, H', W') with
H' = ceil(H / stride), likewise W'.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHORTCUTS = ("A", "A-end", "B", "C", "pooled", "none")
NormLayer = Callable[[int], nn.Module]


def conv3x3(inplanes: int, planes: int, stride: int = 1, groups: int = 1, bias: bool = False):
    """3x3 convolution, padding 1: keeps H and W at stride 1, gives ceil(H / 2) at stride 2."""
    return nn.Conv2d(inplanes, planes, 3, stride, padding=1, groups=groups, bias=bias)


def conv1x1(inplanes: int, planes: int, stride: int = 1, bias: bool = False):
    """1x1 convolution: mixes channels, looks at one position only."""
    return nn.Conv2d(inplanes, planes, 1, stride, bias=bias)


def needs_bias(norm_layer: NormLayer) -> bool:
    """A convolution needs a bias only if no normalisation follows: BN subtracts any constant."""
    return norm_layer is nn.Identity


class PadShortcut(nn.Module):
    """Option A (He 2015, section 3.3): take every `stride`-th position, fill new channels with 0.

    It has no parameters. Public code has two forms that do not understand each other's weights:
    `end=False` puts half of the zeros in front and half behind, `end=True` puts all behind.

    Raises:
        ValueError: if there are fewer channels at the output than at the input.
    """

    def __init__(self, inplanes: int, outplanes: int, stride: int = 1, end: bool = False):
        super().__init__()
        extra = outplanes - inplanes
        if extra < 0:
            raise ValueError(
                f"shortcut A can only add channels, but {inplanes} should become {outplanes}; "
                "use shortcut='B'"
            )
        self.stride = stride
        self.front = 0 if end else extra // 2
        self.back = extra - self.front

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, self.front, self.back))

    def extra_repr(self) -> str:
        return f"stride={self.stride}, zero channels: {self.front} in front, {self.back} behind"


def make_shortcut(
    kind: str,
    inplanes: int,
    outplanes: int,
    stride: int,
    norm_layer: NormLayer = nn.BatchNorm2d,
    normalise: bool = True,
) -> nn.Module | None:
    """The module on the shortcut (torchvision's `downsample`); None means the identity.

    Args:
        kind: one of `SHORTCUTS`. "A" and "A-end": zero padding; "B": 1x1 convolution only where
            the shape changes; "C": 1x1 convolution everywhere; "pooled": as B, but the stride is
            taken by an average pool, so no position is thrown away (ResNet-D, arXiv:1812.01187);
            "none": there is no shortcut (the block must be built with `residual=False`).
        normalise: put a normalisation behind the 1x1 convolution. True in the original block,
            False in the pre-activation block.

    Raises:
        ValueError: if `kind` is not one of `SHORTCUTS`.
    """
    if kind not in SHORTCUTS:
        raise ValueError(f"shortcut={kind!r} is not known; choose one of {', '.join(SHORTCUTS)}")
    same_shape = stride == 1 and inplanes == outplanes
    if kind == "none" or (same_shape and kind != "C"):
        return None
    if kind.startswith("A"):
        return PadShortcut(inplanes, outplanes, stride, end=kind == "A-end")
    bias = normalise and needs_bias(norm_layer)
    norm = [norm_layer(outplanes)] if normalise else []
    if kind == "pooled":
        # ceil_mode and leaving out the padding make odd sizes come out as ceil(H / stride) too.
        pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
        pool = pool if stride > 1 else nn.Identity()
        return nn.Sequential(pool, conv1x1(inplanes, outplanes, bias=bias), *norm)
    return nn.Sequential(conv1x1(inplanes, outplanes, stride, bias=bias), *norm)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: the block of ResNet-18 and 34 (He 2015, figure 5 left).

    out = relu( bn2(conv2( relu(bn1(conv1(x))) ))  +  shortcut(x) )
    """

    expansion = 1
    preactivation = False

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        groups: int = 1,
        base_width: int = 64,
        norm_layer: NormLayer = nn.BatchNorm2d,
        stride_in: str = "3x3",
        residual: bool = True,
    ):
        super().__init__()
        _basic_only(groups, base_width, stride_in)
        bias = needs_bias(norm_layer)
        self.conv1 = conv3x3(inplanes, planes, stride, bias=bias)
        self.bn1 = norm_layer(planes)
        self.relu = nn.ReLU()
        self.conv2 = conv3x3(planes, planes, bias=bias)
        self.bn2 = norm_layer(planes)
        self.downsample = downsample
        self.stride = stride
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.residual:
            out = out + (x if self.downsample is None else self.downsample(x))
        return self.relu(out)


class Bottleneck(nn.Module):
    """1x1 down, 3x3, 1x1 up, and a shortcut: the block of ResNet-50, 101, 152 (He 2015, figure 5).

    `stride_in` says which convolution carries the stride: "3x3" is what torchvision does
    ("v1.5"), "1x1" is the paper's choice ("v1"), where three of four positions are never read.
    `groups` and `base_width` give ResNeXt and Wide ResNet as in torchvision.
    """

    expansion = 4
    preactivation = False

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        groups: int = 1,
        base_width: int = 64,
        norm_layer: NormLayer = nn.BatchNorm2d,
        stride_in: str = "3x3",
        residual: bool = True,
    ):
        super().__init__()
        bias = needs_bias(norm_layer)
        width, first, second = _bottleneck_plan(planes, groups, base_width, stride, stride_in)
        self.conv1 = conv1x1(inplanes, width, first, bias=bias)
        self.bn1 = norm_layer(width)
        self.conv2 = conv3x3(width, width, second, groups, bias=bias)
        self.bn2 = norm_layer(width)
        self.conv3 = conv1x1(width, planes * self.expansion, bias=bias)
        self.bn3 = norm_layer(planes * self.expansion)
        self.relu = nn.ReLU()
        self.downsample = downsample
        self.stride = stride
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.residual:
            out = out + (x if self.downsample is None else self.downsample(x))
        return self.relu(out)


class PreActBasicBlock(nn.Module):
    """BN and ReLU before each convolution, nothing after the addition (He 2016, arXiv:1603.05027).

    out = conv2( relu(bn2( conv1( relu(bn1(x)) ) )) )  +  shortcut

    Where the shape changes, the shortcut starts from the activated input relu(bn1(x)), as in the
    authors' code; elsewhere it carries x itself, untouched. `activated=True` is for the first
    block behind the stem, whose input has been through BN and ReLU already.
    """

    expansion = 1
    preactivation = True

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        groups: int = 1,
        base_width: int = 64,
        norm_layer: NormLayer = nn.BatchNorm2d,
        stride_in: str = "3x3",
        residual: bool = True,
        activated: bool = False,
    ):
        super().__init__()
        _basic_only(groups, base_width, stride_in)
        bias = needs_bias(norm_layer)
        self.bn1 = nn.Identity() if activated else norm_layer(inplanes)
        self.conv1 = conv3x3(inplanes, planes, stride, bias=bias)
        self.bn2 = norm_layer(planes)
        self.conv2 = conv3x3(planes, planes, bias=bias)
        self.relu = nn.ReLU()
        self.downsample = downsample
        self.stride = stride
        self.residual = residual
        self.shared = stride != 1 or inplanes != planes * self.expansion

    def forward(self, x: Tensor) -> Tensor:
        # relu(relu(x)) = relu(x), so an already activated input needs no special case here.
        pre = self.relu(self.bn1(x))
        out = self.conv1(pre)
        out = self.conv2(self.relu(self.bn2(out)))
        if self.residual:
            start = pre if self.shared else x
            out = out + (start if self.downsample is None else self.downsample(start))
        return out


class PreActBottleneck(nn.Module):
    """The bottleneck in pre-activation order (He 2016). See `PreActBasicBlock` and `Bottleneck`."""

    expansion = 4
    preactivation = True

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        groups: int = 1,
        base_width: int = 64,
        norm_layer: NormLayer = nn.BatchNorm2d,
        stride_in: str = "3x3",
        residual: bool = True,
        activated: bool = False,
    ):
        super().__init__()
        bias = needs_bias(norm_layer)
        width, first, second = _bottleneck_plan(planes, groups, base_width, stride, stride_in)
        self.bn1 = nn.Identity() if activated else norm_layer(inplanes)
        self.conv1 = conv1x1(inplanes, width, first, bias=bias)
        self.bn2 = norm_layer(width)
        self.conv2 = conv3x3(width, width, second, groups, bias=bias)
        self.bn3 = norm_layer(width)
        self.conv3 = conv1x1(width, planes * self.expansion, bias=bias)
        self.relu = nn.ReLU()
        self.downsample = downsample
        self.stride = stride
        self.residual = residual
        self.shared = stride != 1 or inplanes != planes * self.expansion

    def forward(self, x: Tensor) -> Tensor:
        pre = self.relu(self.bn1(x))
        out = self.conv1(pre)
        out = self.conv2(self.relu(self.bn2(out)))
        out = self.conv3(self.relu(self.bn3(out)))
        if self.residual:
            start = pre if self.shared else x
            out = out + (start if self.downsample is None else self.downsample(start))
        return out


def _basic_only(groups: int, base_width: int, stride_in: str) -> None:
    if groups != 1 or base_width != 64:
        raise ValueError("a basic block has no groups and no width_per_group: use a bottleneck net")
    if stride_in != "3x3":
        raise ValueError("a basic block has no 1x1 convolution: stride_in must be '3x3'")


def _bottleneck_plan(planes: int, groups: int, base_width: int, stride: int, stride_in: str):
    """(inner width, stride of the first 1x1, stride of the 3x3)."""
    if stride_in not in ("1x1", "3x3"):
        raise ValueError(f"stride_in={stride_in!r}: choose '3x3' (torchvision) or '1x1' (paper)")
    width = int(planes * base_width / 64) * groups
    return (width, stride, 1) if stride_in == "1x1" else (width, 1, stride)


def zero_last(block: nn.Module) -> None:
    """Make the block's branch output exactly 0, so that a residual block starts as its shortcut.

    In the original order this sets the last BN's gamma to 0 (Goyal 2017, arXiv:1706.02677). In
    the pre-activation order a gamma of 0 in front of a ReLU would never receive a gradient, and
    the branch ends in a convolution: there that convolution's weight is set to 0 instead. A bias
    (BN's beta), 0 in a new net, is set to 0 too.

    Raises:
        ValueError: if the block has no shortcut (its output, and all gradients, would be 0), or
            no normalisation whose gamma could be set.
    """
    if not block.residual:
        raise ValueError("zero_init_residual needs a shortcut: a plain net would output zeros")
    number = 3 if hasattr(block, "conv3") else 2
    last = getattr(block, f"conv{number}" if block.preactivation else f"bn{number}")
    if getattr(last, "weight", None) is None:
        raise ValueError("zero_init_residual needs a norm_layer with a weight in each block")
    with torch.no_grad():
        last.weight.zero_()
        if getattr(last, "bias", None) is not None:
            last.bias.zero_()
