"""The arithmetic of sizes against torch's own layers, on random cases and on famous ones."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from resnet_lib import ResNet
from resnet_lib.blocks import BasicBlock, Bottleneck, PreActBasicBlock, PreActBottleneck, conv3x3
from resnet_lib.shapes import Step, conv_out, net_shapes, pool_out, stage_out

quick = settings(max_examples=150, deadline=None, database=None)
BLOCKS = [BasicBlock, Bottleneck, PreActBasicBlock, PreActBottleneck]


def side(layer) -> int | None:
    """The height that torch's layer gives, or None where torch refuses."""
    try:
        out = layer()
    except RuntimeError:
        return None
    assert out.shape[2] == out.shape[3]
    return out.shape[2]


def ours(function, *args) -> int | None:
    try:
        return function(*args)
    except ValueError:
        return None


def square(size: int) -> torch.Tensor:
    return torch.zeros(1, 1, size, size)


def torch_conv(size, kernel, stride, padding, dilation) -> int | None:
    weight = torch.zeros(1, 1, kernel, kernel)
    return side(lambda: F.conv2d(square(size), weight, None, stride, padding, dilation))


def torch_pool(kind, size, kernel, stride, padding, ceil_mode) -> int | None:
    pool = F.max_pool2d if kind == "max" else F.avg_pool2d
    return side(lambda: pool(square(size), kernel, stride, padding, ceil_mode=ceil_mode))


# ---------------------------------------------------------------- single layers


@quick
@given(
    size=st.integers(1, 40),
    kernel=st.integers(1, 9),
    stride=st.integers(1, 9),
    padding=st.integers(0, 6),
    dilation=st.integers(1, 4),
)
def test_conv_out(size, kernel, stride, padding, dilation):
    """The same number, and an error exactly where torch has one."""
    args = (size, kernel, stride, padding, dilation)
    assert ours(conv_out, *args) == torch_conv(*args)


@quick
@given(
    kind=st.sampled_from(["max", "avg"]),
    size=st.integers(1, 40),
    kernel=st.integers(1, 9),
    stride=st.none() | st.integers(1, 12),
    padding=st.integers(0, 5),
    ceil_mode=st.booleans(),
)
def test_pool_out(kind, size, kernel, stride, padding, ceil_mode):
    args = (size, kernel, stride, padding, ceil_mode)
    assert ours(pool_out, *args) == torch_pool(kind, *args)


@quick
@given(
    kind=st.sampled_from(["max", "avg"]),
    size=st.integers(1, 4),
    kernel=st.integers(1, 6),
    stride=st.integers(1, 9),
    padding=st.integers(0, 3),
)
def test_pool_out_with_ceil_mode_at_the_edge(kind, size, kernel, stride, padding):
    """Pictures smaller than the window or the stride, where a last window hangs over."""
    args = (size, kernel, stride, padding, True)
    assert ours(pool_out, *args) == torch_pool(kind, *args)


@settings(max_examples=60, deadline=None, database=None)
@given(numbers=st.tuples(*[st.integers(-1, 3)] * 5))
def test_numbers_that_make_no_sense(numbers):
    """Zero and negative sizes, kernels, strides, paddings, dilations: refused as torch refuses."""
    size, kernel, stride, padding, dilation = numbers
    expected = None
    if size >= 0 and kernel >= 0:  # torch.zeros itself has no negative size
        expected = torch_conv(size, kernel, stride, padding, dilation)
    assert ours(conv_out, *numbers) == expected
    expected = torch_pool("max", size, kernel, stride, padding, False) if size >= 0 else None
    assert ours(pool_out, size, kernel, stride, padding) == expected


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((0, 3), "size must be at least 1, got 0"),
        ((5, 3, 0), "stride must be at least 1, got 0"),
        ((5, 0), "kernel must be at least 1, got 0"),
        ((5, 3, 1, -1), "padding must not be negative, got -1"),
    ],
)
def test_the_message_names_the_number(args, message):
    for function in (conv_out, pool_out):
        with pytest.raises(ValueError, match=message):
            function(*args)


def test_the_message_says_what_does_not_fit():
    with pytest.raises(ValueError, match="reaching over 5 pixels does not fit into 2 pixels"):
        conv_out(2, 3, padding=1, dilation=2)
    with pytest.raises(ValueError, match="a window of 3 does not fit into 2 pixels"):
        pool_out(2, 3)
    with pytest.raises(ValueError, match="padding 2 is more than half of the kernel 3"):
        pool_out(9, 3, padding=2)
    with pytest.raises(ValueError, match="a window of 5 does not fit"):
        pool_out(1, 5, 1, ceil_mode=True)


@given(size=st.integers(1, 500), stride=st.integers(1, 5))
@quick
def test_stage_out_is_the_ceiling(size, stride):
    assert stage_out(size, stride) == -(-size // stride)
    if size < 60:
        layer = conv3x3(1, 1, stride)
        assert stage_out(size, stride) == side(lambda: layer(square(size)))


@given(size=st.integers(1, 60), stride=st.integers(1, 3))
@quick
def test_all_ways_of_a_block_agree(size, stride):
    """3x3 padded, 1x1, taking every stride-th position, and the pool of ResNet-D."""
    wanted = stage_out(size, stride)
    assert conv_out(size, 1, stride) == wanted
    assert pool_out(size, stride, stride, ceil_mode=True) == wanted
    assert len(range(size)[::stride]) == wanted


def test_55_or_56():
    """The table that circulates with 55x55 was made by a pool without padding."""
    x = torch.zeros(1, 1, 224, 224)
    conv1 = nn.Conv2d(1, 1, 7, 2, 3)
    assert conv_out(224, 7, 2, 3) == conv1(x).shape[2] == 112
    for padding, wanted in ((0, 55), (1, 56)):
        assert pool_out(112, 3, 2, padding) == wanted
        assert nn.MaxPool2d(3, 2, padding)(conv1(x)).shape[2] == wanted
    assert pool_out(112, 3, 2, ceil_mode=True) == 56
    assert pool_out(112, 2) == pool_out(112, 2, None) == 56


# ---------------------------------------------------------------- whole nets


def walk_of(net: ResNet, height: int, width: int) -> list[Step]:
    """The same walk, recorded by hooks on a real net."""
    steps = [Step("input", net.in_channels, height, width)]
    names = ["conv1", *net.stage_names, "avgpool"]
    if isinstance(net.maxpool, nn.MaxPool2d):
        names.insert(1, "maxpool")
    for name in names:
        getattr(net, name).register_forward_hook(
            lambda _m, _i, out, name=name: steps.append(Step(name, *out.shape[1:]))
        )
    with torch.no_grad():
        net.eval()(torch.zeros(1, net.in_channels, height, width))
    return steps


@settings(max_examples=60, deadline=None, database=None)
@given(
    block=st.sampled_from(BLOCKS),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    widths=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    stem=st.sampled_from(["imagenet", "cifar"]),
    shortcut=st.sampled_from(["B", "C", "pooled", "none"]),
    in_channels=st.integers(1, 4),
)
def test_net_shapes(block, height, width, widths, stem, shortcut, in_channels):
    net = ResNet(
        block,
        [1] * len(widths),
        num_classes=2,
        widths=widths,
        stem=stem,
        shortcut=shortcut,
        in_channels=in_channels,
    )
    walk = net_shapes(
        height,
        width,
        widths=widths,
        expansion=block.expansion,
        stem=stem,
        in_channels=in_channels,
    )
    assert walk == walk_of(net, height, width)


@pytest.mark.parametrize("layers", [[1, 1, 1], [3, 1, 2]])
@pytest.mark.parametrize("shortcut", ["A", "A-end"])
@pytest.mark.parametrize("size", [(1, 1), (2, 33), (31, 32)])
def test_the_number_of_blocks_does_not_matter(layers, shortcut, size):
    net = ResNet(
        BasicBlock, layers, widths=(2, 3, 5), stem="cifar", shortcut=shortcut, num_classes=2
    )
    assert net_shapes(*size, widths=(2, 3, 5), stem="cifar") == walk_of(net, *size)


def test_the_walk_of_resnet50():
    walk = net_shapes(224, 224, expansion=4)
    assert [(s.name, s.channels, s.height) for s in walk] == [
        ("input", 3, 224),
        ("conv1", 64, 112),
        ("maxpool", 64, 56),
        ("layer1", 256, 56),
        ("layer2", 512, 28),
        ("layer3", 1024, 14),
        ("layer4", 2048, 7),
        ("avgpool", 2048, 1),
    ]


def test_net_shapes_errors():
    with pytest.raises(ValueError, match="stem='mnist': choose 'imagenet' or 'cifar'"):
        net_shapes(32, 32, stem="mnist")
    for size in ((0, 32), (32, 0), (-1, 4)):
        for stem in ("imagenet", "cifar"):
            with pytest.raises(ValueError, match="size must be at least 1"):
                net_shapes(*size, stem=stem)
