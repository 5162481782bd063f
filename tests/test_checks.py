"""The engine behind the exercises: wrong work gets the right word, right work passes, and nothing
a reader hands in makes it raise."""

import copy
import math
from collections import OrderedDict
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resnet_lib import checks
from resnet_lib.blocks import BasicBlock, Bottleneck
from resnet_lib.checks import GRADES, Finding, Report


def projection(inplanes, planes, stride):
    return nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))


class Block(nn.Module):
    """A reader's block, right as it stands; the tests replace what is to be wrong."""

    def __init__(self, inplanes=8, planes=8, stride=1, downsample=None, bias=False):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, padding=1, bias=bias)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def branch(self, x):
        return self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))

    def shortcut(self, x):
        return x if self.downsample is None else self.downsample(x)

    def forward(self, x):
        return self.relu(self.branch(x) + self.shortcut(x))


def with_forward(forward):
    return type("Changed", (Block,), {"forward": forward})


def block_report(build, reference=None, shape=(8, 6, 6)) -> Report:
    return checks.module("block", build, reference or BasicBlock(8, 8), shape)


def stopped(s, x):
    with torch.no_grad():
        return s.relu(s.branch(x) + x)


def first_bn_called_in_vain(s, x):
    s.bn1(s.conv1(x))
    return s.relu(s.branch(x) + x)


def batch_statistics_always(s, x):
    out = s.conv2(s.relu(s.bn1(s.conv1(x))))
    bn = s.bn2
    out = F.batch_norm(out, bn.running_mean, bn.running_var, bn.weight, bn.bias, True, 0.1)
    return s.relu(out + x)


def late_shortcut(s, x):
    x = s.relu(s.bn1(s.conv1(x)))
    return s.relu(s.bn2(s.conv2(x)) + x)


def only_in_training(s, x):
    if not s.training:
        raise ValueError("only for training")
    return s.relu(s.branch(x) + x)


# name: (forward, words that must stand in the report, words that must not)
WRONG_FORWARD = {
    "no ReLU at the end": (
        lambda s, x: s.branch(x) + x,
        ["train mode", "negative values", "ReLU after the addition is missing"],
    ),
    "no ReLU inside": (
        lambda s, x: s.relu(s.bn2(s.conv2(s.bn1(s.conv1(x)))) + x),
        ["conv2 gets negative values", "ReLU is missing before it"],
    ),
    "ReLU before the addition": (
        lambda s, x: s.relu(s.branch(x)) + x,
        ["ReLU comes before the addition", "belongs after it"],
    ),
    "no shortcut": (lambda s, x: s.relu(s.branch(x)), ["shortcut is never added"]),
    "BN behind the addition": (
        lambda s, x: s.relu(s.bn2(s.conv2(s.relu(s.bn1(s.conv1(x)))) + x)),
        ["last BN stands behind the addition"],
    ),
    "mean": (
        lambda s, x: s.relu((s.branch(x) + x) / 2),
        ["paths are averaged", "should be summed"],
    ),
    "detached shortcut": (
        lambda s, x: s.relu(s.branch(x) + x.detach()),
        ["backward", "gradient of the input differs", "detached"],
    ),
    "no_grad": (stopped, ["output carries no gradient", "no_grad"]),
    "layer called twice": (
        lambda s, x: s.relu(s.bn2(s.conv2(s.relu(s.bn1(s.conv1(s.conv1(x)))))) + x),
        ["conv1 runs 2 times in your forward, not 1"],
    ),
    "BN called in vain": (
        first_bn_called_in_vain,
        ["bn1.running_mean", "running statistics differ", "called once, and only once"],
    ),
    "a layer never called": (
        lambda s, x: s.relu(s.conv2(s.relu(s.bn1(s.conv1(x)))) + x),
        ["bn2 never runs in your forward"],
    ),
    "eval mode always": (
        lambda s, x: s.eval() and s.relu(s.branch(x) + x),
        ["train mode", "bn1 gets the right input", "right mode (train or eval)"],
    ),
    "batch statistics always": (batch_statistics_always, ["output in eval mode", "bn2"]),
    "raises in eval mode": (only_in_training, ["ValueError: only for training"]),
    "no return": (lambda s, x: None, ["gives a NoneType", "end with `return`"]),
    "a pair": (lambda s, x: (x, x), ["gives a tuple"]),
    "changes its input": (lambda s, x: s.relu(x.add_(s.branch(x))), ["in-place operation"]),
    "not a number": (lambda s, x: s.relu(s.branch(x) + x) * float("nan"), ["train mode"]),
    "ReLU before and after the addition": (
        lambda s, x: s.relu(s.relu(s.branch(x)) + x),
        ["a ReLU stands before the addition as well"],
    ),
    "the shortcut starts too late": (late_shortcut, ["the shortcut starts behind", "input"]),
    "subtracted": (lambda s, x: s.relu(s.branch(x) - x), ["shortcut is subtracted"]),
    "multiplied": (lambda s, x: s.relu(s.branch(x) * x), ["paths are multiplied"]),
    "added twice": (lambda s, x: s.relu(s.branch(x) + x + x), ["shortcut is added twice"]),
    "the branch is lost": (lambda s, x: s.branch(x) * 0 + s.relu(x), ["only the shortcut comes"]),
    "ReLU before BN": (
        lambda s, x: s.relu(s.bn2(s.conv2(s.bn1(s.relu(s.conv1(x))))) + x),
        ["bn1 gets no negative values, and should"],
    ),
    "ReLU on the shortcut": (
        lambda s, x: s.relu(s.branch(x) + s.relu(x)),
        ["a ReLU stands on the shortcut"],
    ),
    "x is overwritten": (
        lambda s, x: s.relu((x := s.branch(x)) + x),
        ["the branch is added to itself"],
    ),
    "a weaker branch": (
        lambda s, x: s.relu(0.5 * s.branch(x) + x),
        ["0.5 times the branch +1 times the shortcut"],
    ),
    "an attribute that is not there": (lambda s, x: s.bn3(x), ["AttributeError", "bn3"]),
    "a layer in place of a tensor": (
        lambda s, x: s.conv2(nn.ReLU(s.bn1(s.conv1(x)))),
        ["conv2 gets a layer instead of a tensor: nn.ReLU()(x), not nn.ReLU(x)"],
    ),
    "None is called": (lambda s, x: s.downsample(x), ["downsample is None where"]),
    "F not imported": (
        eval("lambda s, x: F.relu(x)", {}),
        ["NameError", "`import torch.nn.functional as F`"],
    ),
    "another name": (eval("lambda s, x: G.relu(x)", {}), ["NameError: name 'G' is not defined"]),
    "dropout": (
        lambda s, x: s.relu(F.dropout(s.branch(x), 0.5, s.training) + x),
        ["two calls on the same pictures differ"],
    ),
    "a layer made in forward": (
        lambda s, x: s.relu(nn.BatchNorm2d(8)(s.branch(x)) + x),
        ["a BatchNorm2d runs that is no part", "make it in __init__"],
    ),
    "self forgotten": (lambda s, x: conv1(x), ["NameError", "self.conv1"]),  # noqa: F821
    "x forgotten": (lambda s: s, ["TypeError", "`def forward(self, x):`"]),
    "pooled too early": (
        lambda s, x: s.relu(s.branch(x.mean((2, 3))) + x),
        ["RuntimeError"],
    ),
    "constant": (lambda s, x: torch.zeros_like(x), ["never runs in your forward"]),
    "raises": (lambda s, x: s.nothing(x), ["AttributeError", "nothing", "shape (2, 8, 6, 6)"]),
}


@pytest.mark.parametrize("name", WRONG_FORWARD)
def test_a_wrong_forward_gets_the_right_word(name):
    forward, words = WRONG_FORWARD[name]
    report = block_report(with_forward(forward))
    text = repr(report)
    assert not report.ok and text.startswith("block: not yet\n  broken: ")
    assert [word for word in words if word not in text] == [], text


class Wider(Block):
    def __init__(self):
        super().__init__(8, 16, 2, projection(8, 16, 2))
        self.extra = nn.Linear(3, 3)


class NoBatchNorm(Block):
    def __init__(self):
        super().__init__(8, 16, 2, projection(8, 16, 2))
        self.bn1 = nn.Identity()


class SecondReadsInput(Block):
    def __init__(self):
        super().__init__(8, 16, 2, projection(8, 16, 2))
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1, bias=False)

    def forward(self, x):
        out = self.bn1(self.conv1(x))[:, :8]
        return self.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class InAList(Block):
    def __init__(self):
        super().__init__(8, 16, 2, projection(8, 16, 2))
        self.layers = [self.conv1, nn.Conv2d(16, 16, 1)]


class NoSuper(Block):
    def __init__(self):
        self.conv1 = nn.Conv2d(8, 16, 3)


class OtherNames(nn.Module):
    def __init__(self, stride=2):
        super().__init__()
        self.c1 = nn.Conv2d(8, 16, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 16, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(16)
        self.downsample = projection(8, 16, stride)

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.norm(self.c1(x)))))
        return F.relu(out + self.downsample(x))


class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.ones(16, 8, 3, 3))

    def forward(self, x):
        return F.conv2d(x, self.kernel, stride=2, padding=1)


class Changed(Block):
    """A right forward, and one layer with other settings."""

    def __init__(self, **layers):
        super().__init__(8, 16, 2, projection(8, 16, 2))
        for name, layer in layers.items():
            setattr(self, name, layer)


def broken_init():
    raise TypeError("unexpected keyword 'strid'")


WRONG_BUILD = {
    "no projection": (
        lambda: Block(8, 16, 2),
        ["RuntimeError", "must match the size", "follow the branch in channels and in stride"],
    ),
    "stride missing on the shortcut": (
        lambda: Block(8, 16, 2, projection(8, 16, 1)),
        ["must match the size", "differ in shape: downsample.0: stride is 1, not 2"],
    ),
    "too few channels": (
        lambda: Block(8, 12, 2, projection(8, 12, 2)),
        [
            "output shape: (2, 12, 3, 3)",
            "expected: (2, 16, 3, 3)",
            "conv1: out_channels is 12, not 16",
        ],
    ),
    "no stride": (
        lambda: Block(8, 16, 1, projection(8, 16, 1)),
        ["(2, 16, 6, 6)", "conv1: stride is 1, not 2"],
    ),
    "no BN on the shortcut": (
        lambda: Block(8, 16, 2, nn.Sequential(nn.Conv2d(8, 16, 1, 2, bias=False))),
        ["downsample is a Sequential(Conv2d), not a Sequential(Conv2d, BatchNorm2d)"],
    ),
    "no BN": (NoBatchNorm, ["bn1 is an Identity, not a BatchNorm2d"]),
    "a layer too many": (Wider, ["extra.weight: a weight too many"]),
    "inplanes instead of planes": (
        SecondReadsInput,
        ["conv2.weight: shape (16, 8, 3, 3)", "shape (16, 16, 3, 3)", "input channels differs"],
    ),
    "a plain list": (InAList, ["broken: layers: layers in a plain list", "nn.ModuleList"]),
    "no super().__init__()": (NoSuper, ["while building it", "begin with super().__init__()"]),
    "other names": (
        OtherNames,
        ["is called c1", "the name conv1", "is called norm", "torchvision"],
    ),
    "conv2 takes too many channels": (
        lambda: Changed(conv2=nn.Conv2d(8, 16, 3, 1, 1, bias=False)),
        ["conv2 is made for 8 channels and gets 16", "the layer before"],
    ),
    "BN for too few channels": (
        lambda: Changed(bn1=nn.BatchNorm2d(8)),
        ["bn1 is made for 8 channels and gets 16"],
    ),
    "another kernel": (
        lambda: Changed(conv1=nn.Conv2d(8, 16, 1, 2, bias=False)),
        ["conv1.weight: shape (16, 8, 1, 1)", "the kernel is 1x1, not 3x3"],
    ),
    "another momentum": (
        lambda: Changed(bn1=nn.BatchNorm2d(16, momentum=0.9)),
        ["bn1.running_mean: running statistics differ", "momentum is 0.9, not 0.1"],
    ),
    "another norm": (
        lambda: Changed(bn1=nn.InstanceNorm2d(16)),
        ["bn1 is an InstanceNorm2d, not a BatchNorm2d"],
    ),
    "no affine": (
        lambda: Changed(bn1=nn.BatchNorm2d(16, affine=False)),
        ["bn1.weight: is missing"],
    ),
    "BN before the projection": (
        lambda: Block(8, 16, 2, nn.Sequential(nn.BatchNorm2d(8), nn.Conv2d(8, 16, 1, 2))),
        ["downsample is a Sequential(BatchNorm2d, Conv2d), not a Sequential(Conv2d, BatchNorm2d)"],
    ),
    "the projection alone": (
        lambda: Block(8, 16, 2, nn.Conv2d(8, 16, 1, 2, bias=False)),
        ["downsample is a Conv2d, not a Sequential(Conv2d, BatchNorm2d)"],
    ),
    "a parameter for a layer": (
        lambda: Changed(conv1=Bare()),
        ["conv1.kernel: a weight too many", "conv1.weight: is missing"],
    ),
    "a lazy layer": (lambda: Changed(bn1=nn.LazyBatchNorm2d()), ["write the numbers of channels"]),
    "brackets for a star": (
        lambda: nn.Sequential([nn.ReLU()]),
        ["is not a Module subclass", "nn.Sequential(*layers)"],
    ),
    "another eps": (
        lambda: Changed(bn2=nn.BatchNorm2d(16, eps=0.5)),
        ["output in train mode", "bn2: eps is 0.5, not 1e-05"],
    ),
    "a dilation": (
        lambda: Changed(conv2=nn.Conv2d(16, 16, 3, 1, 2, 2, bias=False)),
        ["conv2: padding is 2, not 1; dilation is 2, not 1"],
    ),
    "no padding": (
        lambda: Changed(conv1=nn.Conv2d(8, 16, 3, 2, bias=False)),
        ["the two sides of the addition differ in shape: conv1: padding is 0, not 1"],
    ),
    "error in __init__": (broken_init, ["while building it", "unexpected keyword 'strid'"]),
    "a list": (lambda: [Block(8, 16, 2)], ["got a list", "nn.Sequential(*blocks)"]),
    "a class": (lambda: Block, ["got a type"]),
}


@pytest.mark.parametrize("name", WRONG_BUILD)
def test_a_block_built_wrong_gets_the_right_word(name):
    build, words = WRONG_BUILD[name]
    report = block_report(build, BasicBlock(8, 16, 2, projection(8, 16, 2)))
    text = repr(report)
    assert not report.ok and "not yet\n  broken: " in text
    assert [word for word in words if word not in text] == [], text


def test_a_needless_projection():
    text = repr(block_report(lambda: Block(8, 8, 1, projection(8, 8, 1))))
    assert "broken: downsample.0.weight" in text
    assert "a projection is needed only where the shape changes" in text


def test_a_needless_bias_is_wasteful_and_passes():
    report = block_report(lambda: Block(bias=True))
    assert report.ok and repr(report).startswith("block: correct\n")
    assert [(f.grade, f.where) for f in report.findings] == [
        ("wasteful", "conv1.bias"),
        ("wasteful", "conv2.bias"),
    ]


# --- stages and nets: the block that is wrong is named


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no ReLU at the end", "in block 1: the output has negative values"),
        ("ReLU before the addition", "in block 1: the ReLU comes before the addition"),
        ("no shortcut", "in block 1: the shortcut is never added"),
        ("mean", "in block 1: the two paths are averaged"),
        ("no ReLU inside", "1.conv2 gets negative values"),
        ("layer called twice", "1.conv1 runs 2 times"),
    ],
)
def test_the_wrong_block_of_a_stage_is_named(name, words):
    def stage():
        return nn.Sequential(Block(), with_forward(WRONG_FORWARD[name][0])(), Block())

    reference = nn.Sequential(*[BasicBlock(8, 8) for _ in range(3)])
    assert words in repr(checks.module("stage", stage, reference, (8, 6, 6)))


def make_stage(inplanes, planes, blocks, stride):
    first = BasicBlock(inplanes, planes, stride, projection(inplanes, planes, stride))
    return nn.Sequential(first, *[BasicBlock(planes, planes) for _ in range(blocks - 1)])


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: make_stage(8, 16, 2, 2), ["2.conv1.weight: is missing"]),
        (lambda: make_stage(8, 16, 4, 2), ["3.conv1.weight: a weight too many"]),
        (
            lambda: nn.Sequential(
                *[
                    Block(8 if k == 0 else 16, 16, 2, projection(8 if k == 0 else 16, 16, 2))
                    for k in range(3)
                ]
            ),
            ["1.conv1: stride is 2, not 1; only the first block of a stage strides"],
        ),
        (
            lambda: nn.ModuleList([Block()]),
            ["forward: there is no such method", "use nn.Sequential"],
        ),
        (lambda: print(), ["gives nothing back", "is a `return` missing?"]),
    ],
    ids=["too short", "too long", "every block strides", "a list of modules", "None"],
)
def test_wrong_stages(build, words):
    text = repr(checks.module("stage", build, make_stage(8, 16, 3, 2), (8, 8, 8)))
    assert [word for word in words if word not in text] == [], text


class Net(nn.Module):
    def __init__(self, relu_in_stem=True, classes=5):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(BasicBlock(8, 8), BasicBlock(8, 8))
        self.fc = nn.Linear(8, classes)
        self.relu_in_stem = relu_in_stem

    def forward(self, x):
        x = self.bn1(self.conv1(x))
        x = self.layer1(F.relu(x) if self.relu_in_stem else x)
        return self.fc(x.mean((2, 3)))


def test_a_whole_net():
    def report(**options):
        return checks.module("net", lambda: Net(**options), Net(), (3, 8, 8))

    assert report().ok
    text = repr(report(relu_in_stem=False))
    assert "layer1.0.conv1 gets negative values: a ReLU is missing before it" in text
    text = repr(report(classes=7))
    assert "(2, 7)" in text and "(2, 5)" in text and "fc: out_features is 7, not 5" in text


# --- right, though written in another way


class Functional(Block):
    def forward(self, x):
        out = F.relu(self.bn1(F.conv2d(x, self.conv1.weight, stride=1, padding=1)))
        return F.relu(torch.add(self.shortcut(x), self.bn2(self.conv2(out))))


class ShortcutLast(Block):
    def forward(self, x):
        out = self.branch(x)
        out += self.shortcut(x)
        return out.clamp(min=0)


class InPlace(Block):
    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU(inplace=True)


class OwnRelu(Block):
    def forward(self, x):
        out = self.branch(x) + x
        return torch.where(out > 0, out, torch.zeros_like(out))


class Named(nn.Module):
    """The branch as a loop over pairs, under the names that are asked for."""

    def __init__(self):
        super().__init__()
        for k in (1, 2):
            setattr(self, f"conv{k}", nn.Conv2d(8, 8, 3, padding=1, bias=False))
            setattr(self, f"bn{k}", nn.BatchNorm2d(8))

    def forward(self, x):
        out = x
        for k in (1, 2):
            out = nn.Sequential(getattr(self, f"conv{k}"), getattr(self, f"bn{k}"))(out)
            out = F.relu(out if k == 1 else out + x)
        return out


@pytest.mark.parametrize(
    "build", [Block, Functional, ShortcutLast, InPlace, OwnRelu, Named], ids=lambda c: c.__name__
)
def test_right_in_another_way(build):
    report = block_report(build)
    assert report.ok and repr(report) == "block: correct", report


def test_right_with_a_projection_and_as_a_bottleneck():
    reference = BasicBlock(8, 16, 2, projection(8, 16, 2))
    assert block_report(lambda: Block(8, 16, 2, projection(8, 16, 2)), reference).ok
    wide = Bottleneck(8, 4, 2, projection(8, 16, 2))
    assert block_report(lambda: Bottleneck(8, 4, 2, projection(8, 16, 2)), wide).ok
    other = block_report(lambda: Bottleneck(8, 4, 2, projection(8, 16, 2), stride_in="1x1"), wide)
    assert not other.ok  # same shapes and weights, the stride sits elsewhere


@pytest.mark.parametrize("shape", [(8, 5, 7), (8, 1, 1), (8, 33, 2)], ids=str)
def test_odd_shapes(shape):
    assert block_report(Block, shape=shape).ok
    assert not block_report(with_forward(lambda s, x: s.relu(s.branch(x))), shape=shape).ok


# --- never raises, never changes


def test_the_reference_is_never_changed():
    for build in [Block, *(with_forward(f) for f, _ in WRONG_FORWARD.values())]:
        reference = BasicBlock(8, 8).eval()
        before = copy.deepcopy(reference.state_dict())
        block_report(build, reference)
        after = reference.state_dict()
        assert all(torch.equal(before[k], after[k]) for k in before)
        assert not reference.training and not reference.bn1.training
        assert all(p.grad is None for p in reference.parameters())


def test_the_same_verdict_every_time_and_no_use_of_the_global_generator():
    first = repr(block_report(with_forward(WRONG_FORWARD["mean"][0])))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    block = with_forward(WRONG_FORWARD["mean"][0])()
    reference = BasicBlock(8, 8)
    torch.set_rng_state(before)
    assert repr(block_report(lambda: block, reference)) == first
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_filled_in():
    report = block_report(lambda: ...)
    assert not report.answered and not report.ok and repr(report) == "block: not answered yet"


def test_a_stub_that_raises_not_implemented():
    def stub(*_):
        raise NotImplementedError

    assert repr(block_report(stub)) == "block: not answered yet"
    assert repr(block_report(with_forward(stub))) == "block: not answered yet"
    assert repr(checks.function("f", stub, abs, [(1,)])) == "f: not answered yet"


# --- numbers and functions


def numbers(answers, **hints) -> str:
    return repr(checks.numbers("n", answers, {"side": 7, "share": 0.6}, hints))


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"side": 7, "share": 0.6}, ["n: correct"]),
        ({"side": 7.0, "share": 0.6059}, ["n: correct"]),  # 1 % off is near enough for a float
        ({"side": np.int64(7), "share": np.float32(0.6)}, ["n: correct"]),
        ({"side": 8, "share": 0.6}, ["not yet", "broken: side: 8 is not right"]),
        ({"side": 7, "share": 0.607}, ["share: 0.607 is not right"]),
        ({"side": 7, "share": float("nan")}, ["share: nan is not right"]),
        ({"side": float("inf"), "share": 0.6}, ["side: inf is not right"]),
        ({"side": 7, "share": ...}, ["share: not answered yet"]),
        ({"side": 7}, ["share: not answered yet"]),
        ({"side": "7", "share": 0.6}, ["side: '7' is not a number", "leave out the quotes"]),
        ({"side": (294, 912), "share": 0.6}, ["a comma makes a tuple: write 294_912"]),
        ({"side": np.array(7), "share": torch.tensor([0.6])}, ["n: correct"]),
        ({"side": 7, "share": 0.62}, ["nearly: give one more digit"]),
        ({"sides": 7}, ["side: not answered yet", "an answer called 'sides'"]),
        ({"side": True, "share": 0.6}, ["side: True is not a number"]),
        ({"side": [7], "share": [0] * 999}, ["[7] is not a number", "... is not a number"]),
        ({"side": ..., "share": ...}, ["n: not answered yet"]),
        ({}, ["n: not answered yet"]),
        (None, ["n: not answered yet"]),
        (..., ["n: not answered yet"]),
        ([7, 0.6], ["not a dict of named numbers"]),
    ],
    ids=str,
)
def test_numbers(answers, words):
    text = numbers(answers)
    assert [word for word in words if word not in text] == [], text
    assert len(text) < 400


class Classifier(nn.Module):
    def __init__(self, features=8, flat=True):
        super().__init__()
        self.conv, self.fc, self.flat = nn.Conv2d(3, 8, 3), nn.Linear(features, 5), flat

    def forward(self, x):
        x = self.conv(x)
        return self.fc(x.mean((2, 3)) if self.flat else x)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"features": 16}, "fc is made for 16 features and gets 8"),
        ({"flat": False}, "fc gets shape (2, 8, 4, 4): pool and flatten"),
    ],
    ids=str,
)
def test_a_linear_layer_that_does_not_fit(options, words):
    text = repr(checks.module("net", lambda: Classifier(**options), Classifier(), (3, 6, 6)))
    assert words in text, text


@pytest.mark.parametrize(
    ("end", "words"),
    [([nn.ReLU()], "is a ReLU missing at the end?"), ([nn.Tanh()], "look at the order")],
    ids=str,
)
def test_the_end_outside_a_block(end, words):
    def layers(*more):
        return nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), *more)

    text = repr(checks.module("layers", layers, layers(*end), (8, 6, 6)))
    assert words in text, text


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: nn.Sequential(OtherNames(stride=1)), "where is the stride?"),
        (lambda: nn.Sequential(OtherNames(), nn.Conv2d(16, 12, 1)), "how many channels leave"),
    ],
    ids=["stride", "channels"],
)
def test_a_wrong_shape_where_no_name_is_known(build, words):
    text = repr(block_report(build, BasicBlock(8, 16, 2, projection(8, 16, 2))))
    assert "output shape" in text and words in text, text


def test_a_missing_projection_is_explained():
    class Cut(Block):
        def shortcut(self, x):
            return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))

    text = repr(block_report(lambda: Cut(8, 16, 2), BasicBlock(8, 16, 2, projection(8, 16, 2))))
    assert "downsample.0.weight: is missing" in text
    assert "the shape changes here, so the shortcut needs" in text


def test_scale_and_shift_of_bn_that_are_not_used():
    """With a new BN, scale 1 and shift 0, it would not be seen."""

    def plain_bn(bn, x):
        return F.batch_norm(x, bn.running_mean, bn.running_var, None, None, bn.training, 0.1)

    def forward(s, x):
        return s.relu(plain_bn(s.bn2, s.conv2(s.relu(s.bn1(s.conv1(x))))) + x)

    text = repr(block_report(with_forward(forward)))
    assert "output in train mode: differs from the reference" in text


def test_a_layer_that_init_does_not_make():
    class Forgets(Block):
        def __init__(self):
            super().__init__()
            del self.conv2

    text = repr(block_report(Forgets))
    assert "AttributeError" in text and "write `self.conv2 = ...` in __init__" in text


def test_which_gradient_is_missing():
    def forward(s, x):
        out = s.relu(s.bn1(s.conv1(x)))
        return s.relu(s.bn2(F.conv2d(out, s.conv2.weight.detach(), padding=1)) + x)

    assert "conv2.weight: it gets no gradient" in repr(block_report(with_forward(forward)))

    def louder(s, x):
        weight = 2 * s.conv2.weight - s.conv2.weight.detach()
        out = s.relu(s.bn1(s.conv1(x)))
        return s.relu(s.bn2(F.conv2d(out, weight, padding=1)) + x)

    assert "conv2.weight: its gradient differs" in repr(block_report(with_forward(louder)))


def test_an_in_place_step_that_backward_needs():
    def forward(s, x):
        out = s.bn1(s.conv1(x))
        kept = out.exp()
        out = s.relu(out + 0 * kept)
        kept.mul_(2)
        return s.relu(s.bn2(s.conv2(out)) + x)

    text = repr(block_report(with_forward(forward)))
    assert "modified by an inplace operation" in text and "`out = out + x`" in text
    assert "out + x" not in repr(block_report(with_forward(WRONG_FORWARD["mean"][0])))


def test_one_block_in_two_places():
    block = Block()
    reference = nn.Sequential(BasicBlock(8, 8), BasicBlock(8, 8))
    text = repr(checks.module("s", lambda: nn.Sequential(*[block] * 2), reference, (8, 6, 6)))
    assert "0 and 1 are one object" in text, text
    shared = projection(8, 8, 1)
    reference = nn.Sequential(*[BasicBlock(8, 8, 1, projection(8, 8, 1)) for _ in range(2)])
    blocks = [Block(downsample=shared), Block(downsample=shared)]
    text = repr(checks.module("s", lambda: nn.Sequential(*blocks), reference, (8, 6, 6)))
    assert "0.downsample and 1.downsample are one object" in text, text


def test_one_layer_under_two_names_is_a_known_variant():
    class Twice(Block):
        def __init__(self):
            super().__init__()
            self.steps = nn.Sequential(self.conv1, self.bn1)

    report = block_report(Twice)
    assert report.ok and [f.grade for f in report.findings] == ["known variant"], report


def test_the_parts_of_a_sequential_may_have_other_names():
    def layers(second=nn.BatchNorm2d, **names):
        parts = [nn.Conv2d(8, 4, 1), second(4), nn.ReLU()]
        return nn.Sequential(OrderedDict(zip(names, parts, strict=True)) if names else parts[0])

    def right():
        return nn.Sequential(nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4), nn.ReLU())

    build = partial(layers, conv=0, bn=0, act=0)
    assert checks.module("s", build, right(), (8, 6, 6)).ok
    build = partial(layers, nn.InstanceNorm2d, conv=0, bn=0, act=0)
    text = repr(checks.module("s", build, right(), (8, 6, 6)))
    assert "1 is an InstanceNorm2d, not a BatchNorm2d" in text, text


def test_a_part_too_many_without_weights():
    def layers(*more):
        return nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), *more)

    text = repr(checks.module("s", lambda: layers(nn.ReLU()), layers(), (8, 6, 6)))
    assert "2 (ReLU) is a part too many" in text, text
    text = repr(
        checks.module(
            "s", lambda: layers(nn.MaxPool2d(2)), layers(nn.AvgPool2d(2, ceil_mode=True)), (8, 6, 6)
        )
    )
    assert "2: is a MaxPool2d, not an AvgPool2d" in text, text


def test_a_module_instead_of_a_function_that_builds_it():
    text = repr(checks.module("block", Block(), BasicBlock(8, 8), (8, 6, 6)))
    assert "not the finished module" in text


def test_a_function_may_answer_in_another_precision():
    half_of = torch.ones(3) / 3
    report = checks.function("f", lambda x: x.double() / 3, lambda x: x / 3, [(torch.ones(3),)])
    assert report.ok, report
    assert checks.function("f", lambda: np.float32(1 / 3), lambda: 1 / 3, [()]).ok
    text = repr(checks.function("f", lambda: 3 * half_of, lambda: half_of, [()]))
    assert "3 times what it should be" in text
    text = repr(checks.function("f", lambda: torch.ones(2, 2), lambda: torch.ones(2), [()]))
    assert "shape (2, 2), not (2,)" in text and "matrix product" in text
    text = repr(
        checks.function("f", lambda: torch.ones(2, 2), lambda: torch.ones(2, 2, 1, 1), [()])
    )
    assert "shape (2, 2), not (2, 2, 1, 1)" in text and "matrix product" not in text
    text = repr(checks.function("f", lambda x: 1, lambda x: 2, [(torch.ones(9, 9),)]))
    assert "with arguments (a tensor of shape (9, 9))" in text


@pytest.mark.parametrize(
    ("got", "right", "same"),
    [
        ("a", "a", True),
        ("a", "b", False),
        (True, True, True),
        (1, True, False),
        (True, 1, False),
        ((1, 2), [1, 2], True),
        ((1, 2), (1, 2, 3), False),
        ((1, 2), (1, 3), False),
        (((1,), 2), ((1,), 2), True),
        ("12", (1, 2), False),
        (None, None, True),
        (torch.ones(2), torch.ones(2), True),
        ([1.0, 1.0], torch.ones(2), False),
        (torch.ones(0), torch.ones(0), True),
        (np.ones(2), 1, False),
    ],
    ids=str,
)
def test_what_counts_as_the_same_answer(got, right, same):
    report = checks.function("f", lambda: got, lambda: right, [()])
    assert report.ok is same, report


def test_two_numbers_that_look_alike_are_told_apart():
    text = repr(checks.function("f", lambda: 1000000.4, lambda: 1000000, [()]))
    assert "they differ by 4.0e-01" in text
    assert "differ" not in repr(checks.function("f", lambda: 3.0, lambda: 4.0, [()]))
    several = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 3.0])
    text = repr(checks.function("f", lambda: several[0], lambda: several[1], [()]))
    assert "times what it should be" not in text


def test_nearly_is_for_floats_only():
    report = checks.numbers("n", {"side": 1001}, {"side": 1000})
    assert "one more digit" not in repr(report)
    assert "one more digit" not in repr(checks.numbers("n", {"share": 0.9}, {"share": 0.6}))
    assert "write 1 or 0" in repr(checks.numbers("n", {"side": True}, {"side": 7}))
    assert "write 1" not in repr(checks.numbers("n", {"side": [7]}, {"side": 7}))


def test_no_hook_stays_behind():
    module = nn.modules.module
    for build in [Block, *(with_forward(f) for f, _ in WRONG_FORWARD.values())]:
        block_report(build)
    assert not module._global_forward_hooks and not module._global_forward_pre_hooks


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"side": 7, "share": 60.0}, "100 times too large: percent or a share?"),
        ({"side": 7, "share": 0.006}, "100 times too small: percent or a share?"),
        ({"side": 7000, "share": 0.6}, "1,000 times too large: thousands?"),
        ({"side": -7, "share": 0.6}, "the wrong sign"),
    ],
    ids=str,
)
def test_wrong_units(answers, words):
    assert words in numbers(answers)
    assert "start from 224" in numbers(answers | {"side": 8}, side={"": "start from 224"})


def test_a_known_mistake_in_a_function():
    hints = {"do not round up": lambda n: -(-n // 2), "halve, do not double": lambda n: 2 * n}

    def said(answer):
        return repr(checks.function("f", answer, half, [(4,), (9,), (10,)], hints))

    assert "hint: do not round up" in said(lambda n: (n + 1) // 2)
    assert "hint: halve, do not double" in said(lambda n: n + n)
    assert "hint" not in said(lambda n: n // 2 + 1) and said(half) == "f: correct"
    assert "hint" not in said(lambda n: 2 * n if n < 10 else 1 // 0)


def test_the_hint_for_a_typical_wrong_number():
    answers = {"side": 14, "share": 0.6}
    hint = {14: "one halving is missing", "": "start from 224"}
    assert "hint: one halving is missing" in numbers(answers, side=hint)
    assert "hint: start from 224" in numbers({"side": 15, "share": 0.6}, side=hint)
    assert "hint" not in numbers({"side": 15, "share": 0.6})
    assert "hint: of the rest" in numbers({"side": 7, "share": 0.4002}, share={0.4: "of the rest"})
    assert checks.numbers("n", {"yes": True, "no": np.bool_(False)}, {"yes": 1, "no": 0}).ok
    assert not checks.numbers("n", {"yes": False}, {"yes": 1}).ok


def test_an_answer_that_is_computed():
    assert checks.numbers("n", {"a": lambda: 7}, {"a": 7}).ok
    text = repr(checks.numbers("n", {"a": lambda: 1 // 0}, {"a": 7}))
    assert "broken: a: raises ZeroDivisionError" in text
    assert not checks.numbers("n", {"a": lambda: ...}, {"a": 7}).answered

    def checked():
        assert not math.pi, "return the block"

    assert "broken: a: return the block" in repr(checks.numbers("n", {"a": checked}, {"a": 7}))


def half(n):
    return n // 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda n: n >> 1, ["f: correct"]),
        (lambda n: n / 2, ["with arguments (9): returns 4.5", "expected: 4"]),
        (lambda n: ..., ["f: not answered yet"]),
        (lambda n: None, ["not yet", "gives nothing back", "`return`"]),
        (lambda n: n // 2 if n < 9 else None, ["returns None", "expected: 4", "`return`"]),
        (lambda n: 1 // 0, ["ZeroDivisionError"]),
        (lambda: 1, ["TypeError"]),
        (lambda n: torch.ones(2), ["returns tensor([1., 1.])"]),
        (lambda n: np.ones(2), ["returns array([1., 1.])"]),
        (lambda n: "x" * 10_000, ["returns 'xxx", "..."]),
        (5, ["not callable"]),
        (None, ["f: not answered yet"]),
        (..., ["f: not answered yet"]),
    ],
)
def test_functions(answer, words):
    text = repr(checks.function("f", answer, half, [(4,), (9,), (10,)]))
    assert [word for word in words if word not in text] == [], text
    assert len(text) < 400


def test_a_function_that_changes_its_arguments_does_not_change_the_reference():
    def last(items):
        return items.pop()

    case = ([1, 2, 3],)
    assert checks.function("f", last, lambda items: items[-1], [case]).ok
    assert case == ([1, 2, 3],)


def test_grades_and_what_they_decide():
    for grade in GRADES:
        report = Report("r", findings=[Finding(grade, "what", "where", "expected", "hint")])
        assert report.ok is (grade != "broken")
        text = repr(report)
        assert f"{grade}: where: what" in text and "expected: expected" in text
        assert "hint: hint" in text


@pytest.mark.parametrize("way", ["frozen", "detached"])
def test_weights_that_cannot_learn_are_named(way):
    class Stuck(BasicBlock):
        def forward(self, x):
            weight = self.conv2.weight.detach()
            out = self.relu(self.bn1(self.conv1(x)))
            return self.relu(self.bn2(F.conv2d(out, weight, padding=1)) + x)

    def build():
        return Stuck(8, 8) if way == "detached" else BasicBlock(8, 8).requires_grad_(False)

    report = checks.module("block", build, BasicBlock(8, 8), (8, 8, 8))
    assert not report.ok
    assert "cannot learn" in repr(report) or "no gradient" in repr(report)


def test_the_readers_own_net_keeps_its_weights():
    net = BasicBlock(8, 8)
    before = copy.deepcopy(net.state_dict())
    checks.module("block", lambda: net, BasicBlock(8, 8), (8, 8, 8))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


class Agreeable:
    def __eq__(self, other):
        return True

    __hash__ = None


class Sly(int):
    def __sub__(self, other):
        return 0

    __rsub__ = __sub__


def test_an_object_that_equals_everything_is_no_answer():
    assert not checks.function("f", lambda a: Agreeable(), lambda a: 3, [(1,)]).ok
    assert not checks.function("f", lambda a: Sly(4), lambda a: 3, [(1,)]).ok
    assert not checks.numbers("n", {"a": Sly(4)}, {"a": 3}).ok
    assert checks.function("f", lambda a: np.int64(3), lambda a: 3, [(1,)]).ok
    assert checks.function("f", lambda a: torch.tensor(3), lambda a: 3, [(1,)]).ok
    assert checks.function("f", lambda a: 0.1 + 0.2, lambda a: 0.3, [(1,)]).ok
    assert checks.function("f", lambda a: [1, 2], lambda a: (1, 2), [(1,)]).ok
