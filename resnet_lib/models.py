"""One `ResNet` class and the factories `resnet18` ... `preact_resnet164`.

State-dict keys, constructor words and layer names are torchvision's: a torchvision checkpoint
loads with `strict=True`, and the same seed gives the same initial weights. The nets are:

* ImageNet nets of He et al. 2015 (arXiv:1512.03385, table 1), ResNeXt-50 (arXiv:1611.05431) and
  Wide ResNet-50 (arXiv:1605.07146) as torchvision builds them;
* CIFAR nets of He et al. 2015, section 4.2: depth 6n + 2, widths 16, 32, 64;
* `plain...`: the same nets without shortcuts; `preact_...`: pre-activation (arXiv:1603.05027).

Every factory takes the options of `ResNet` by name, for example `resnet50(stride_in="1x1")`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

from .blocks import (
    BasicBlock,
    Bottleneck,
    NormLayer,
    PreActBasicBlock,
    PreActBottleneck,
    make_shortcut,
    needs_bias,
    zero_last,
)


def check_input(x: Tensor, channels: int) -> Tensor:
    """Return x unchanged if it is a float batch (N, channels, H, W); explain what is wrong if not.

    Raises:
        ValueError: for a missing batch dimension, wrong channels, NHWC order, or integer pixels.
    """
    wanted = f"the net wants a float tensor of shape (batch, {channels}, height, width)"
    shape = tuple(x.shape)
    if len(shape) != 4:
        hint = "; add the batch dimension with x.unsqueeze(0)" if len(shape) == 3 else ""
        raise ValueError(f"{wanted}, got shape {shape}{hint}")
    if shape[1] != channels:
        nhwc = shape[3] == channels
        hint = "; channels come last here: use x.permute(0, 3, 1, 2)" if nhwc else ""
        raise ValueError(f"{wanted}, got shape {shape}{hint}")
    if not x.dtype.is_floating_point:
        raise ValueError(f"{wanted}, got {x.dtype}; use x.float() / 255, then normalise")
    return x


fx.wrap("check_input")  # a tracer keeps the check as one step instead of looking inside


class ResNet(nn.Module):
    """A residual net, or its plain twin: stem, stages `layer1`, `layer2`, ..., pooling, `fc`.

    Args:
        block: `BasicBlock`, `Bottleneck`, `PreActBasicBlock` or `PreActBottleneck`.
        layers: number of blocks in each stage, for example [3, 4, 6, 3].
        num_classes: outputs of `fc`.
        zero_init_residual: start every branch at 0 (see `blocks.zero_last`); not with shortcut A.
        groups, width_per_group: ResNeXt and Wide ResNet, bottlenecks only.
        norm_layer: channels -> module, default `nn.BatchNorm2d`; `nn.Identity` for none.
        widths: `planes` of each stage; the stem has widths[0] channels.
        stem: "imagenet" (7x7 stride 2, then 3x3 max-pool stride 2) or "cifar" (3x3 stride 1).
        in_channels: channels of the input picture.
        shortcut: "A", "A-end", "B", "C", "pooled", or "none" for the plain twin
            (see `blocks.make_shortcut`).
        stride_in: "3x3" or "1x1" (see `blocks.Bottleneck`).
        include_top: with False the net returns the last feature map (N, C, h, w).

    Shape: (N, in_channels, H, W) float -> (N, num_classes).

    Raises:
        ValueError: for an unknown option value or options that contradict each other, and in
            `forward` for an input of the wrong shape or type.
    """

    def __init__(
        self,
        block: type[nn.Module],
        layers: Sequence[int],
        num_classes: int = 1000,
        zero_init_residual: bool = False,
        groups: int = 1,
        width_per_group: int = 64,
        norm_layer: NormLayer | None = None,
        *,
        widths: Sequence[int] = (64, 128, 256, 512),
        stem: str = "imagenet",
        in_channels: int = 3,
        shortcut: str = "B",
        stride_in: str = "3x3",
        include_top: bool = True,
    ):
        super().__init__()
        if len(layers) != len(widths) or min(layers, default=0) < 1:
            raise ValueError(
                f"layers={list(layers)} and widths={list(widths)}: give one of each per stage, "
                "and at least one block per stage"
            )
        if stem not in ("imagenet", "cifar"):
            raise ValueError(f"stem={stem!r}: choose 'imagenet' (7x7/2 + pool) or 'cifar' (3x3)")
        if zero_init_residual and shortcut.startswith("A"):
            raise ValueError(
                "zero_init_residual with shortcut A would leave the padded channels at 0 for ever: "
                "ReLU passes no gradient at 0. Use shortcut='B'"
            )
        norm_layer = norm_layer or nn.BatchNorm2d
        self.in_channels = in_channels
        self.include_top = include_top
        bias = needs_bias(norm_layer)
        if stem == "imagenet":
            self.conv1 = nn.Conv2d(in_channels, widths[0], 7, stride=2, padding=3, bias=bias)
        else:
            self.conv1 = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=bias)
        self.bn1 = norm_layer(widths[0])
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if stem == "imagenet" else nn.Identity()

        inplanes = widths[0]
        self.stage_names = [f"layer{i + 1}" for i in range(len(layers))]
        for i, (name, planes) in enumerate(zip(self.stage_names, widths, strict=True)):
            stage = []
            for b in range(layers[i]):
                stride = 2 if i > 0 and b == 0 else 1
                outplanes = planes * block.expansion
                downsample = make_shortcut(
                    shortcut, inplanes, outplanes, stride, norm_layer, not block.preactivation
                )
                extra = {"activated": i == 0 and b == 0} if block.preactivation else {}
                layer = (inplanes, planes, stride, downsample, groups, width_per_group)
                residual = shortcut != "none"
                stage.append(block(*layer, norm_layer, stride_in, residual, **extra))
                inplanes = outplanes
            setattr(self, name, nn.Sequential(*stage))

        # The pre-activation net has no ReLU after its last addition, so one BN-ReLU closes it.
        self.norm = norm_layer(inplanes) if block.preactivation else None
        self.num_features = inplanes
        self.avgpool = nn.AdaptiveAvgPool2d(1) if include_top else None
        self.fc = nn.Linear(inplanes, num_classes) if include_top else None

        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
                if m.bias is not None:
                    nn.init.zeros_(m.bias)
        if zero_init_residual:
            for m in self.modules():
                if isinstance(m, block):
                    zero_last(m)

    def forward(self, x: Tensor) -> Tensor:
        x = check_input(x, self.in_channels)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.maxpool(x)
        for name in self.stage_names:
            x = getattr(self, name)(x)
        if self.norm is not None:
            x = self.relu(self.norm(x))
        if not self.include_top:
            return x
        return self.fc(torch.flatten(self.avgpool(x), 1))


def resnet18(**options) -> ResNet:
    """ResNet-18: basic blocks [2, 2, 2, 2]."""
    return ResNet(BasicBlock, [2, 2, 2, 2], **options)


def resnet34(**options) -> ResNet:
    """ResNet-34: basic blocks [3, 4, 6, 3]."""
    return ResNet(BasicBlock, [3, 4, 6, 3], **options)


def resnet50(**options) -> ResNet:
    """ResNet-50: bottlenecks [3, 4, 6, 3]. `stride_in="1x1"` gives the paper's v1."""
    return ResNet(Bottleneck, [3, 4, 6, 3], **options)


def resnet101(**options) -> ResNet:
    """ResNet-101: bottlenecks [3, 4, 23, 3]."""
    return ResNet(Bottleneck, [3, 4, 23, 3], **options)


def resnet152(**options) -> ResNet:
    """ResNet-152: bottlenecks [3, 8, 36, 3]."""
    return ResNet(Bottleneck, [3, 8, 36, 3], **options)


def resnext50_32x4d(**options) -> ResNet:
    """ResNeXt-50: ResNet-50 with 32 groups of width 4."""
    return ResNet(Bottleneck, [3, 4, 6, 3], **{"groups": 32, "width_per_group": 4} | options)


def wide_resnet50_2(**options) -> ResNet:
    """Wide ResNet-50-2: ResNet-50 with inner 3x3 convolutions twice as wide."""
    return ResNet(Bottleneck, [3, 4, 6, 3], **{"width_per_group": 128} | options)


def plain18(**options) -> ResNet:
    """ResNet-18 without shortcuts."""
    return resnet18(**{"shortcut": "none"} | options)


def plain34(**options) -> ResNet:
    """ResNet-34 without shortcuts."""
    return resnet34(**{"shortcut": "none"} | options)


def preact_resnet18(**options) -> ResNet:
    """Pre-activation ResNet-18."""
    return ResNet(PreActBasicBlock, [2, 2, 2, 2], **options)


def preact_resnet34(**options) -> ResNet:
    """Pre-activation ResNet-34."""
    return ResNet(PreActBasicBlock, [3, 4, 6, 3], **options)


def preact_resnet50(**options) -> ResNet:
    """Pre-activation ResNet-50."""
    return ResNet(PreActBottleneck, [3, 4, 6, 3], **options)


def preact_resnet101(**options) -> ResNet:
    """Pre-activation ResNet-101."""
    return ResNet(PreActBottleneck, [3, 4, 23, 3], **options)


def preact_resnet152(**options) -> ResNet:
    """Pre-activation ResNet-152."""
    return ResNet(PreActBottleneck, [3, 8, 36, 3], **options)


def _cifar(block: type[nn.Module], depth: int, **options) -> ResNet:
    """Depth counts weighted layers: stem + 3 stages of n blocks + fc, shortcuts not counted."""
    convs = 3 if block.expansion == 4 else 2
    n = (depth - 2) // (3 * convs)
    cifar = {"num_classes": 10, "widths": (16, 32, 64), "stem": "cifar", "shortcut": "A"}
    return ResNet(block, [n] * 3, **cifar | options)


def resnet20(**options) -> ResNet:
    """CIFAR ResNet-20, n = 3."""
    return _cifar(BasicBlock, 20, **options)


def resnet32(**options) -> ResNet:
    """CIFAR ResNet-32, n = 5."""
    return _cifar(BasicBlock, 32, **options)


def resnet44(**options) -> ResNet:
    """CIFAR ResNet-44, n = 7."""
    return _cifar(BasicBlock, 44, **options)


def resnet56(**options) -> ResNet:
    """CIFAR ResNet-56, n = 9."""
    return _cifar(BasicBlock, 56, **options)


def resnet110(**options) -> ResNet:
    """CIFAR ResNet-110, n = 18."""
    return _cifar(BasicBlock, 110, **options)


def resnet1202(**options) -> ResNet:
    """CIFAR ResNet-1202, n = 200."""
    return _cifar(BasicBlock, 1202, **options)


def resnet164(**options) -> ResNet:
    """CIFAR ResNet-164 of bottlenecks, n = 18, with projections (He 2016)."""
    return _cifar(Bottleneck, 164, **{"shortcut": "B"} | options)


def plain20(**options) -> ResNet:
    """CIFAR ResNet-20 without shortcuts."""
    return resnet20(**{"shortcut": "none"} | options)


def plain32(**options) -> ResNet:
    """CIFAR ResNet-32 without shortcuts."""
    return resnet32(**{"shortcut": "none"} | options)


def plain44(**options) -> ResNet:
    """CIFAR ResNet-44 without shortcuts."""
    return resnet44(**{"shortcut": "none"} | options)


def plain56(**options) -> ResNet:
    """CIFAR ResNet-56 without shortcuts."""
    return resnet56(**{"shortcut": "none"} | options)


def plain110(**options) -> ResNet:
    """CIFAR ResNet-110 without shortcuts."""
    return resnet110(**{"shortcut": "none"} | options)


def preact_resnet20(**options) -> ResNet:
    """CIFAR pre-activation ResNet-20."""
    return _cifar(PreActBasicBlock, 20, **options)


def preact_resnet32(**options) -> ResNet:
    """CIFAR pre-activation ResNet-32."""
    return _cifar(PreActBasicBlock, 32, **options)


def preact_resnet44(**options) -> ResNet:
    """CIFAR pre-activation ResNet-44."""
    return _cifar(PreActBasicBlock, 44, **options)


def preact_resnet56(**options) -> ResNet:
    """CIFAR pre-activation ResNet-56."""
    return _cifar(PreActBasicBlock, 56, **options)


def preact_resnet110(**options) -> ResNet:
    """CIFAR pre-activation ResNet-110."""
    return _cifar(PreActBasicBlock, 110, **options)


def preact_resnet164(**options) -> ResNet:
    """CIFAR pre-activation ResNet-164 of bottlenecks, with projections (He 2016)."""
    return _cifar(PreActBottleneck, 164, **{"shortcut": "B"} | options)


FACTORIES = {
    name: function
    for name, function in list(globals().items())
    if name.startswith(("resnet", "resnext", "wide_", "plain", "preact_"))
}


def create(name: str, **options) -> ResNet:
    """Build the net called `name`, for example create("resnet20", num_classes=4).

    Raises:
        ValueError: if there is no such factory; the message lists those there are.
    """
    if name not in FACTORIES:
        raise ValueError(f"there is no model {name!r}; choose one of: {', '.join(FACTORIES)}")
    return FACTORIES[name](**options)
