"""The doctor of the bug clinic: every bug gets its word, place and grade, good nets no blame."""

import copy
import random
import re
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import nn

from resnet_lib import FACTORIES, doctor
from resnet_lib.checks import GRADES, Finding

SHAPE = (3, 64, 64)
PLANES = (8, 16, 32, 64)


class Basic(nn.Module):
    """A reader's basic block, right as it stands; the tests break one thing each."""

    expansion = 1

    def __init__(self, inplanes, planes, stride=1, down=None, bias=False):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, padding=1, bias=bias)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(planes)
        self.down = down

    def branch(self, x):
        return self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))

    def shortcut(self, x):
        return x if self.down is None else self.down(x)

    def forward(self, x):
        return self.relu(self.branch(x) + self.shortcut(x))


class Neck(Basic):
    """A reader's bottleneck."""

    expansion = 4

    def __init__(self, inplanes, planes, stride=1, down=None, bias=False):
        nn.Module.__init__(self)
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=bias)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.relu = nn.ReLU(inplace=True)
        self.down = down

    def branch(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        return self.bn3(self.conv3(self.relu(self.bn2(self.conv2(out)))))


class Unlike(nn.Module):
    """The same basic block in other words: Sequentials, F.relu, no `down` to hand in."""

    expansion = 1

    def __init__(self, c_in, c_out, s=1, down=None, bias=False):
        super().__init__()
        self.left = nn.Sequential(
            nn.Conv2d(c_in, c_out, 3, s, 1, bias=bias),
            nn.BatchNorm2d(c_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(c_out, c_out, 3, 1, 1, bias=bias),
            nn.BatchNorm2d(c_out),
        )
        self.skip = nn.Sequential() if down is None else down

    def branch(self, x):
        return self.left(x)

    def shortcut(self, x):
        return self.skip(x)

    def forward(self, x):
        y = self.branch(x)
        y += self.shortcut(x)
        return F.relu(y)


BLOCKS = (Basic, Neck, Unlike)


class Net(nn.Module):
    """A reader's ResNet."""

    counts, strides, classes, expand = (2, 2, 2, 2), (1, 2, 2, 2), 10, True

    def __init__(self, block=Basic):
        super().__init__()
        self.inplanes = PLANES[0]
        self.conv1 = nn.Conv2d(3, PLANES[0], 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(PLANES[0])
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        for k in range(4):
            setattr(self, f"layer{k + 1}", self.stage(block, k))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(PLANES[3] * block.expansion, self.classes)

    def needs(self, k, stride, out):
        return stride != 1 or self.inplanes != out

    def down(self, stride, out):
        conv = nn.Conv2d(self.inplanes, out, 1, stride, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(out))

    def stage(self, block, k):
        blocks = []
        for b in range(self.counts[k]):
            stride, out = (self.strides[k] if b == 0 else 1), PLANES[k] * block.expansion
            down = self.down(stride, out) if self.needs(k, stride, out) else None
            blocks.append(block(self.inplanes, PLANES[k], stride, down))
            self.inplanes = out
        return nn.Sequential(*blocks)

    def stem(self, x):
        return self.maxpool(self.relu(self.bn1(self.conv1(x))))

    def body(self, x):
        return self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))

    def forward(self, x):
        return self.fc(torch.flatten(self.avgpool(self.body(x)), 1))


def accusations(report):
    return [f for f in report.findings if f.grade != "known variant"]


def changed(base, **members):
    return type(f"Readers{base.__name__}", (base,), members)


def edit(base, what):
    """`base` with something done to the finished object."""

    class Edited(base):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            what(self)

    return Edited


def net(block=Basic, **members):
    return partial(changed(Net, **members), block)


def block(base, **members):
    """A net of blocks in which `members` are replaced."""
    return partial(Net, changed(base, **members))


def edited(what, base=Net):
    return edit(base, what)


def seen(build, shape=SHAPE) -> list[Finding]:
    return doctor(build, shape).findings


def says(build, grade, words, where, shape=SHAPE):
    """Some finding of this grade has the words in it and stands at this place."""
    findings = seen(build, shape)
    fitting = [f for f in findings if f.grade == grade and re.search(words, str(f))]
    assert fitting, f"nothing {grade} about {words!r} in {findings}"
    assert any(re.match(where, f.where) for f in fitting), f"not at {where!r}: {fitting}"


# --- bugs that stop it


def second_conv(self, inplanes, planes, stride=1, down=None):
    Basic.__init__(self, inplanes, planes, stride, down)
    self.conv2 = nn.Conv2d(inplanes, planes, 3, padding=1, bias=False)


def second_conv_neck(self, inplanes, planes, stride=1, down=None):
    Neck.__init__(self, inplanes, planes, stride, down)
    self.conv2 = nn.Conv2d(inplanes, planes, 3, stride, padding=1, bias=False)


def second_conv_unlike(self, c_in, c_out, s=1, down=None):
    Unlike.__init__(self, c_in, c_out, s, down)
    self.left[3] = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)


def nothing_back(self, block, k):
    return Net.stage(self, block, k) if k != 1 else None


def no_expansion(self, block, k):
    blocks = []
    for b in range(2):
        stride, out = (self.strides[k] if b == 0 else 1), PLANES[k] * block.expansion
        down = self.down(stride, out) if self.needs(k, stride, out) else None
        blocks.append(block(self.inplanes, PLANES[k], stride, down))
        self.inplanes = PLANES[k]
    return nn.Sequential(*blocks)


class Bare(nn.Module):
    """A block class that does not say its expansion."""

    def __init__(self, inplanes, planes, stride=1, down=None):
        super().__init__()


class Misspelt(Bare):
    expention = 4


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x):
            return self.conv(x)


def unpadded(base, conv):
    """A 3x3 convolution without padding: torch's default."""

    def init(self, *args):
        base.__init__(self, *args)
        getattr(self, conv).padding = (0, 0)

    return block(base, __init__=init)


class Foward(nn.Module):
    def foward(self, x):
        return x


def swallowed(base):
    def init(self, inplanes, planes, stride=1, down=None, **kwargs):
        base.__init__(self, inplanes, planes, 1, down)

    return init


class Pad(nn.Module):
    """Option A."""

    def __init__(self, more, stride=2):
        super().__init__()
        self.more, self.stride = more, stride

    def forward(self, x):
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))


def pads(channels, stride=2):
    return lambda self, _stride, out: Pad(channels(self.inplanes, out), stride)


def fixed_features(self, features=16 * 64):
    self.avgpool, self.fc = nn.Identity(), nn.Linear(features, 10)


def features_of_this_size(self):
    self.avgpool, self.fc = nn.AvgPool2d(1), nn.Linear(4 * 64, 10)


STOPPED = {
    "input of second conv": (
        block(Basic, __init__=second_conv),
        "conv1 gives",
        r"layer2\.0\.conv2",
    ),
    "input of second conv, neck": (
        block(Neck, __init__=second_conv_neck),
        "the 8 channels that layer1.1.conv1 gives",
        r"layer1\.1\.conv2",
    ),
    "input of second conv, unlike": (
        block(Unlike, __init__=second_conv_unlike),
        "left.0 gives, not the block's input",
        r"layer2\.0\.left\.3",
    ),
    "stage is None": (net(stage=nothing_back), "layer2 is None.*\n.*return", "forward"),
    "stage is None, neck": (net(Neck, stage=nothing_back), "layer2 is None", "forward"),
    "stage of None": (
        net(stage=lambda s, b, k: nn.Sequential(*nothing_back(s, b, k))),
        "gives nothing back",
        "<lambda>",
    ),
    "no expansion": (net(Neck, stage=no_expansion), "expansion", r"layer1\.1\.conv1"),
    "no expansion in class": (partial(Net, Bare), "needs `expansion = 1`", "stage, line"),
    "expansion misspelt": (partial(Net, Misspelt), "there is expention", "stage, line"),
    "nested forward": (Nested, "no forward method\n.*nested in __init__", "forward"),
    "misspelt forward": (Foward, "there is foward", "forward"),
    "misspelt layer": (
        block(Basic, branch=lambda s, x: s.bn2(s.conv2(s.relu(s.bm1(s.conv1(x)))))),
        "misspelt. there is bn1",
        r"layer1\.0",
    ),
    "misspelt torch": (lambda: nn.Relu(), "there is ReLU", "<lambda>, line"),
    "keyword": (lambda: Net(blok=Basic), "argument 'blok'\n.*keyword differs", "<lambda>, line"),
    "keyword of torch": (lambda: nn.Conv2d(3, 8, kernel=3), "'kernel'", "<lambda>"),
    "no argument": (Neck, "missing 2 .*\n.*build=lambda", "while building"),
    "padding=True": (
        edited(lambda n: setattr(n, "conv1", nn.Conv2d(3, 8, 7, 2, padding=True))),
        "padding=True",
        "conv1",
    ),
    "padding=True in the pool": (
        edited(lambda n: setattr(n, "maxpool", nn.MaxPool2d(3, 2, padding=True))),
        "padding=True",
        "maxpool",
    ),
    "8192": (
        edited(fixed_features),
        "fixed number of features works at one picture size",
        "fc",
    ),
    "pooling forgotten": (
        edited(lambda n: setattr(n, "avgpool", nn.Identity())),
        "pooling is forgotten .* 64 x 2 x 2",
        "fc",
    ),
    "flatten forgotten": (
        net(forward=lambda s, x: s.fc(s.avgpool(s.body(x)))),
        "flatten",
        "fc",
    ),
    "A, channels": (
        net(down=pads(lambda a, b: b // 4)),
        "option A has to fill up to 16",
        "layer2.0",
    ),
    "A, size": (net(down=pads(lambda a, b: b - a, 1)), "every stride-th pixel", r"layer2\.0"),
    "A, neck": (net(Neck, down=pads(lambda a, b: b // 8, 1)), "fill up to 32", r"layer1\.0"),
    "no projection": (net(needs=lambda s, *a: False), "needs a projection", r"layer2\.0"),
    "a weight of another size": (
        edited(
            lambda n: setattr(n, "start", nn.Parameter(torch.zeros(5, 5))),
            changed(Net, stem=lambda s, x: Net.stem(s, x + s.start)),
        ),
        "must match the size",
        "forward",
    ),
    "no projection, stem unpadded": (
        edited(lambda n: setattr(n.conv1, "padding", (0, 0)), net(needs=lambda s, *a: False).func),
        "needs a projection",
        r"layer2\.0",
    ),
    "projection without stride": (
        net(down=lambda s, stride, out: Net.down(s, 1, out)),
        "the projection .* has to follow the branch in its stride",
        r"layer2\.0",
    ),
    "no padding": (
        unpadded(Basic, "conv1"),
        r"conv1 is 3x3: padding=1 keeps the size, padding=0 does not",
        r"layer1\.0",
    ),
    "no padding, second": (unpadded(Basic, "conv2"), "0.conv2 is 3x3: padding=1", r"layer1\.0"),
    "no padding, neck": (unpadded(Neck, "conv2"), "0.conv2 is 3x3: padding=1", r"layer1\.0"),
    "shortcut is None": (
        block(Basic, shortcut=lambda s, x: s.down(x)),
        "down is None\n.*test that first",
        r"layer1\.0",
    ),
    "features of bn": (
        edited(lambda n: setattr(n, "bn1", nn.BatchNorm2d(64))),
        "as many channels as conv1 gives: 8",
        "bn1",
    ),
    "inplanes of the stage before": (
        edited(lambda n: setattr(n, "layer3", Basic(24, 32, 2, nn.Conv2d(24, 32, 1, 2)))),
        "is inplanes brought up to date",
        r"layer3\.conv1",
    ),
    "features of no layer": (
        edited(lambda n: fixed_features(n, 100)),
        "put nn.AdaptiveAvgPool2d.1. before it, and 64 features",
        "fc",
    ),
    "stride swallowed in the branch": (
        net(changed(Basic, __init__=swallowed(Basic))),
        r"\*\*kwargs",
        r"layer2\.0",
    ),
    "block without return": (block(Basic, forward=lambda s, x: None), "layer4 end with", "avgpool"),
    "net without return": (net(forward=lambda s, x: None), "end with `return`", "forward"),
    "no self": (
        net(forward=lambda s, x: conv1(x)),  # noqa: F821
        "self.conv1",
        "forward",
    ),
    "list of layers": (
        edited(lambda n: setattr(n, "layer1", nn.ModuleList([n.layer1]))),
        "use nn.Sequential",
        "layer1",
    ),
    "too small": (
        edited(lambda n: setattr(n, "avgpool", nn.AvgPool2d(7))),
        "the map is too small: .*\n.*a ResNet strides",
        "avgpool",
    ),
}


@pytest.mark.parametrize("name", STOPPED)
def test_bugs_that_stop_it(name):
    build, words, where = STOPPED[name]
    says(build, "broken", words, where)


def test_the_last_layer_of_a_bottleneck_net_without_expansion():
    def build():
        wrong = Net(Neck)
        wrong.fc = nn.Linear(PLANES[3], 10)
        return wrong

    says(build, "broken", "gets 256\n.*expansion", "fc")


def test_the_channels_of_the_picture():
    says(Net, "broken", "the picture has 1 channels", "conv1", (1, 64, 64))


# --- bugs that run


def only_where_projected(self, x):
    out, skip = self.branch(x), self.shortcut(x)
    return F.relu(out + skip if out.shape != x.shape else out)


def overwritten(self, x):
    x = self.relu(self.bn1(self.conv1(x)))
    out = self.bn2(self.conv2(x))
    return self.relu(out + x)


def to_itself(self, x):
    x = self.branch(x)
    return F.relu(x + x)


JOINS = {
    "added to itself": ("broken", "added to itself", to_itself),
    "subtracted": ("broken", "subtracted", lambda s, x: F.relu(s.branch(x) - s.shortcut(x))),
    "multiplied": ("broken", "multiplied", lambda s, x: F.relu(s.branch(x) * s.shortcut(x))),
    "relu before": (
        "broken",
        "ReLU comes before the addition",
        lambda s, x: F.relu(s.branch(x)) + s.shortcut(x),
    ),
    "no last relu": (
        "broken",
        "ReLU after the addition is missing",
        lambda s, x: s.branch(x) + s.shortcut(x),
    ),
    "relu on the shortcut": (
        "broken",
        "stands on the shortcut",
        lambda s, x: F.relu(s.branch(x) + F.relu(s.shortcut(x))),
    ),
    "not in all": ("broken", "shortcut is never added here", only_where_projected),
    "averaged": (
        "broken",
        "sum is averaged or scaled",
        lambda s, x: F.relu((s.branch(x) + s.shortcut(x)) / 2),
    ),
    "averaged by mean": (
        "broken",
        "sum is averaged or scaled",
        lambda s, x: F.relu(torch.stack([s.branch(x), s.shortcut(x)]).mean(0)),
    ),
    "half a shortcut": (
        "broken",
        "constant factor stands on the shortcut",
        lambda s, x: F.relu(s.branch(x) + 0.5 * s.shortcut(x)),
    ),
    "detached branch": (
        "broken",
        "detach.. cuts the gradient",
        lambda s, x: F.relu(s.branch(x).detach() + s.shortcut(x)),
    ),
    "detached shortcut": (
        "broken",
        "detach.. cuts the gradient",
        lambda s, x: F.relu(s.branch(x) + s.shortcut(x).detach()),
    ),
}


@pytest.mark.parametrize("base", BLOCKS)
@pytest.mark.parametrize("name", JOINS)
def test_the_sum(name, base):
    grade, words, forward = JOINS[name]
    where = r"layer1\.1" if name == "not in all" and base is Neck else r"layer1\.0"
    says(block(base, forward=forward), grade, words, where)


def test_an_average_has_its_relu():
    """The factor between the sum and its ReLU does not hide the ReLU."""
    (found,) = seen(block(Basic, forward=JOINS["averaged"][2]))
    assert "averaged" in found.what and found.where == "layer1.0 and 7 more"


@pytest.mark.parametrize("base", BLOCKS)
def test_a_shortcut_that_is_computed_and_not_added(base):
    def forward(self, x):
        self.shortcut(x)
        return F.relu(self.branch(x))

    name, where = ("skip" if base is Unlike else "down"), ("1" if base is Neck else "2")
    says(block(base, forward=forward), "broken", "never added", rf"layer{where}\.0\.{name}\.0")


@pytest.mark.parametrize("base", BLOCKS)
def test_bias_in_front_of_bn(base):
    def init(self, *args):
        base.__init__(self, *args, bias=True)

    first = "left.0" if base is Unlike else "conv1"
    says(block(base, __init__=init), "wasteful", "bias in front of BN", rf"layer1\.0\.{first}")


@pytest.mark.parametrize("base", BLOCKS)
def test_strides_2_3_4_5(base):
    for shape in ((3, 224, 224), (3, 32, 32)):
        build = net(base, strides=(2, 3, 4, 5))
        says(build, "broken", "stride 3; the stages stride 2, 3, 4, 5", r"layer2\.0", shape)
        says(build, "broken", "the first stage strides too", r"layer1\.0", shape)


@pytest.mark.parametrize("base", BLOCKS)
def test_stride_swallowed_everywhere(base):
    wrong = changed(base, __init__=swallowed(base))
    build = net(wrong, down=lambda s, stride, out: Net.down(s, 1, out))
    says(build, "broken", "no downsampling: the map stays 16x16\n.*\n.*kwargs", r"layer2\.0")


def first_only(self, k, stride, out):
    """Article A: a projection on the first block of every stage."""
    first, self.stage_seen = getattr(self, "stage_seen", -1) != k, k
    return first


@pytest.mark.parametrize("base", (Basic, Unlike))
def test_needless_projection(base):
    says(net(base, needs=first_only), "wasteful", "needless projection", r"layer1\.0$")


def in_a_list(self):
    self.parts = [self.layer1]
    del self.layer1


def without_gradient(self, x):
    with torch.no_grad():
        x = self.stem(x)
    return self.layer4(self.layer3(self.layer2(self.layer1(x))))


def twice(self, block, k):
    first, second = Net.stage(self, block, k)
    return nn.Sequential(first, *[second] * 2)


def no_statistics(self):
    self.layer2[0].bn1 = nn.BatchNorm2d(16, track_running_stats=False)


def late_stride(self, block, k):
    stage = Net.stage(self, block, k)
    if k == 1:
        stage.append(block(self.inplanes, PLANES[k], 2, self.down(2, self.inplanes)))
        stage.append(block(self.inplanes, PLANES[k]))
    return stage


def wide_padding(self):
    self.layer1[0].conv1 = nn.Conv2d(8, 8, 3, padding=2, bias=False)
    self.layer1[0].conv2 = nn.Conv2d(8, 8, 3, padding=0, bias=False)


def all_zero(self):
    for weight in self.parameters():
        nn.init.zeros_(weight)


def head(*layers):
    return edited(lambda n: setattr(n, "fc", nn.Sequential(*layers)))


def whole_stem(self):
    self.conv1.stride = (1, 1)


def v2_without_end():
    wrong = FACTORIES["preact_resnet18"]()
    wrong.norm = wrong.relu = nn.Identity()
    return wrong


def large_projection(self, stride, out):
    conv = nn.Conv2d(self.inplanes, out, 3, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out))


def last_strides(self, block, k):
    """As in Keras' ResNet50V2."""
    blocks, out = [], PLANES[k] * block.expansion
    for b in range(2):
        stride = 2 if b == 1 and k < 3 else 1
        down = self.down(stride, out) if self.needs(k, stride, out) else None
        blocks.append(block(self.inplanes, PLANES[k], stride, down))
        self.inplanes = out
    return nn.Sequential(*blocks)


def softmax_by_hand(self, x):
    e = Net.forward(self, x).exp()
    return e / e.sum(1, keepdim=True)


RUNNING = {
    "softmax": (
        "broken",
        "softmax at the end",
        "forward",
        net(forward=lambda s, x: F.softmax(Net.forward(s, x), 1)),
    ),
    "softmax layer": (
        "broken",
        "softmax at the end.*\n.*\n.*cross-entropy",
        "fc.1",
        edited(lambda n: setattr(n, "fc", nn.Sequential(n.fc, nn.Softmax(1)))),
    ),
    "softmax by hand": ("broken", "softmax at the end", "forward", net(forward=softmax_by_hand)),
    "relu at the end": (
        "broken",
        "relu behind the scores",
        "forward",
        net(Neck, forward=lambda s, x: F.relu(Net.forward(s, x))),
    ),
    "one size": (
        "broken",
        "256 = 64 x 2 x 2 features: .* one picture size",
        "fc",
        edited(features_of_this_size),
    ),
    "overwritten": (
        "broken",
        "shortcut starts behind",
        r"layer1\.0\.conv1",
        block(Basic, forward=overwritten),
    ),
    "no relu between": (
        "broken",
        "no ReLU between",
        r"between layer1\.0\.left\.0 and layer1\.0\.left\.3",
        partial(Net, edit(Unlike, lambda b: b.left.__setitem__(2, nn.Identity()))),
    ),
    "no relu in the neck": (
        "broken",
        "no ReLU between",
        r"between layer1\.0\.conv1 and layer1\.0\.conv2",
        partial(Net, edit(Neck, lambda b: setattr(b, "relu", nn.Identity()))),
    ),
    "no bn": (
        "broken",
        "BN is missing",
        r"layer1\.0\.conv2",
        partial(Net, edit(Basic, lambda b: setattr(b, "bn2", nn.Identity()))),
    ),
    "no bn, neck": (
        "broken",
        "BN is missing",
        r"layer1\.0\.conv1",
        partial(Net, edit(Neck, lambda b: setattr(b, "bn1", nn.Identity()))),
    ),
    "stem without relu": (
        "broken",
        "ReLU is missing behind the stem",
        "conv1",
        net(stem=lambda s, x: s.maxpool(s.bn1(s.conv1(x)))),
    ),
    "stem without bn": (
        "broken",
        "BN is missing behind the stem",
        "conv1",
        edited(lambda n: setattr(n, "bn1", nn.Identity())),
    ),
    "padding": (
        "broken",
        "padding 2 around a 3x3",
        r"layer1\.0\.conv1",
        edited(wide_padding),
    ),
    "plain list": (
        "broken",
        "plain list",
        "parts",
        type(
            "Listed",
            (edit(Net, in_a_list),),
            {"body": lambda s, x: s.layer4(s.layer3(s.layer2(s.parts[0](s.stem(x)))))},
        ),
    ),
    "made in forward": (
        "broken",
        "Conv2d runs that is no part.*\n.*make it in __init__",
        r"layer1\.0",
        block(Basic, branch=lambda s, x: Basic.branch(s, nn.Conv2d(x.shape[1], x.shape[1], 1)(x))),
    ),
    "one object": ("broken", "runs 2 times", r"layer1\.1", net(stage=twice)),
    "one bn": (
        "broken",
        "runs 2 times",
        r"layer1\.0\.bn1",
        block(Basic, branch=lambda s, x: s.bn1(s.conv2(s.relu(s.bn1(s.conv1(x)))))),
    ),
    "idle": (
        "wasteful",
        "never runs",
        "extra",
        edited(lambda n: setattr(n, "extra", nn.Linear(3, 3))),
    ),
    "no_grad": ("broken", "no gradient reaches", "conv1", net(body=without_gradient)),
    "detached": (
        "broken",
        "carries no gradient",
        "backward",
        net(forward=lambda s, x: Net.forward(s, x).detach()),
    ),
    "in place": (
        "broken",
        "write `out = out",
        "backward",
        block(Basic, forward=lambda s, x: F.relu(s.branch(x).sigmoid().add_(1) + s.shortcut(x))),
    ),
    "no running statistics": (
        "broken",
        "depends on the other pictures",
        r"layer2\.0\.bn1",
        edited(no_statistics),
    ),
    "active dropout": (
        "broken",
        "random in eval mode",
        r"layer2\.1",
        block(Unlike, branch=lambda s, x: F.dropout(s.left(x)) if x.shape[1] == 16 else s.left(x)),
    ),
    "eval in forward": (
        "broken",
        "running statistics although",
        "bn1",
        net(forward=lambda s, x: Net.forward(s.eval(), x)),
    ),
    "constant": (
        "broken",
        "the same for two different pictures",
        "",
        net(forward=lambda s, x: Net.forward(s, x * 0)),
    ),
    "other input": (
        "broken",
        "does not depend on the picture",
        "forward",
        net(
            forward=lambda s, x: Net.forward(
                s, torch.ones(2, 3, 64, 64, device=x.device, dtype=x.dtype)
            )
        ),
    ),
    "not finite": (
        "broken",
        "infinite values or NaN",
        "forward",
        net(forward=lambda s, x: Net.forward(s, x).sub(1e3).sqrt()),
    ),
    "late stride": (
        "broken",
        "later block of the stage strides",
        r"layer2\.2",
        net(stage=late_stride),
    ),
    "pictures mixed": (
        "broken",
        r"shape \(1, 10\) for a batch of 2",
        "fc",
        net(forward=lambda s, x: s.fc(s.avgpool(s.body(x)).view(1, -1)[:, :64])),
    ),
    "all zero": (
        "broken",
        "the same for two different pictures\n.*\n.*zero.*nothing can learn",
        "conv1",
        edited(all_zero),
    ),
    "squeezed": (
        "broken",
        r"one picture gives the shape .10,.*\n.*\n.*squeeze",
        "forward",
        net(forward=lambda s, x: s.fc(s.avgpool(s.body(x)).squeeze())),
    ),
    "tuple in eval mode": (
        "broken",
        "gives no tensor",
        "eval mode",
        net(forward=lambda s, x: Net.forward(s, x) if s.training else (x, x)),
    ),
    "stops in eval mode": (
        "broken",
        "raises TypeError: conv2d",
        "eval mode",
        net(forward=lambda s, x: Net.forward(s, x if s.training else None)),
    ),
    "two linear layers": (
        "wasteful",
        "no activation between two linear",
        "fc.0 and fc.1",
        head(nn.Linear(64, 32), nn.Linear(32, 10)),
    ),
    "two linear layers, dropout": (
        "wasteful",
        "no activation between two linear",
        "fc.0 and fc.2",
        head(nn.Linear(64, 32), nn.Dropout(), nn.Linear(32, 10)),
    ),
    "v2 without an end": (
        "broken",
        "no BN and ReLU behind the last block",
        r"layer4\.1",
        v2_without_end,
    ),
    "stem without stride": (
        "known variant",
        "the stem's convolution does not stride: the last maps are 4x4",
        "conv1",
        edited(whole_stem),
    ),
    "large projection": (
        "known variant",
        "3x3 convolution: 9 times the weights",
        r"layer2\.0",
        net(down=large_projection),
    ),
    "last block strides": (
        "known variant",
        "last block of a stage strides",
        r"layer1\.1",
        net(Neck, stage=last_strides),
    ),
    "relu before bn": (
        "known variant",
        "ReLU stands before BN",
        r"behind layer1\.0\.conv1",
        block(Basic, branch=lambda s, x: s.bn2(s.conv2(s.bn1(s.relu(s.conv1(x)))))),
    ),
    "unpadded pool": (
        "known variant",
        "max-pooling without padding: the map is 15x15",
        "maxpool",
        edited(lambda n: setattr(n, "maxpool", nn.MaxPool2d(3, 2))),
    ),
    "frozen": (
        "known variant",
        "frozen: 12 of 62",
        "layer1",
        edited(lambda n: n.layer1.requires_grad_(False)),
    ),
    "naked projection": (
        "known variant",
        "projection on the shortcut has no BN",
        r"layer2\.0",
        net(down=lambda s, stride, out: nn.Conv2d(s.inplanes, out, 1, stride, bias=False)),
    ),
    "log-softmax": (
        "known variant",
        "NLLLoss",
        "forward",
        net(forward=lambda s, x: F.log_softmax(Net.forward(s, x), 1)),
    ),
    "other counts": (
        "known variant",
        "as ResNet-34, but 5 blocks instead of 6 in stage 3",
        r"layer3\.0",
        net(counts=(3, 4, 5, 3)),
    ),
    "other counts, neck": (
        "known variant",
        "as ResNet-50, but 5 blocks instead of 4 in stage 2",
        r"layer2\.0",
        net(Neck, counts=(3, 5, 6, 3)),
    ),
    "no bn anywhere": (
        "known variant",
        "no batch normalisation",
        "the whole net",
        partial(FACTORIES["resnet18"], norm_layer=nn.Identity),
    ),
    "fixed window": (
        "known variant",
        "window of fixed size",
        "fc",
        edited(lambda n: setattr(n, "avgpool", nn.AvgPool2d(2, 1))),
    ),
}


@pytest.mark.parametrize("name", RUNNING)
def test_bugs_that_run(name):
    grade, words, where, build = RUNNING[name]
    says(build, grade, words, where)
    if grade == "known variant":
        assert not accusations(doctor(build, SHAPE))


class Exp(nn.Module):
    def forward(self, x):
        return x.exp() / x.exp().sum(1, keepdim=True)


def test_a_deep_net_in_eval_mode_stays_finite():
    """Fresh running statistics let the values grow block by block, until exp() overflows."""

    def build():
        deep = FACTORIES["preact_resnet101"](num_classes=10)
        deep.fc.weight.data *= 20
        deep.fc = nn.Sequential(deep.fc, Exp())
        return deep

    says(build, "broken", "softmax at the end", "forward")


def test_pooling_that_is_forgotten_and_not_missed():
    """Article A: the map is 1x1 at 32 pixels, so nothing seems to be missing."""
    build = edited(lambda n: setattr(n, "avgpool", nn.Identity()))
    says(build, "broken", "pooling is forgotten .* 64 = 64 x 1 x 1", "fc", (3, 32, 32))


def test_max_pooling_of_article_c():
    build = edited(lambda n: setattr(n, "maxpool", nn.MaxPool2d(3, 2)))
    says(build, "known variant", "55x55", "maxpool", (3, 224, 224))
    assert not accusations(doctor(build, (3, 224, 224)))


def test_a_stem_without_stride_costs_most_on_large_pictures():
    says(edited(whole_stem), "wasteful", "the last maps are 8x8", "conv1", (3, 128, 128))
    assert not any("stem" in f.what for f in seen(edited(whole_stem), (3, 48, 48)))


# --- what is right


class Max(nn.Module):
    """A ReLU in other words."""

    def __init__(self, words):
        super().__init__()
        self.words = words

    def forward(self, x):
        return self.words(x)


RELUS = {
    "max": lambda x: torch.max(x, torch.zeros_like(x)),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "maximum of one zero": lambda x: torch.maximum(x, torch.tensor(0.0)),
    "clamp_min": lambda x: torch.clamp_min(x, 0),
    "clip": lambda x: x.clip(min=0),
    "where": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "mask": lambda x: x * (x > 0),
}


@pytest.mark.parametrize("words", RELUS)
def test_a_relu_in_other_words(words):

    def other(part):
        part.relu = Max(RELUS[words])

    assert not seen(partial(edit(Net, other), edit(Basic, other)))


@pytest.mark.parametrize("base", BLOCKS)
@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 64, 64), (3, 75, 61), (3, 224, 224)])
def test_readers_nets_that_are_right(base, shape):
    assert not accusations(doctor(partial(Net, base), shape))


class Assigned(nn.Module):
    """Option A, written with an assignment."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        x = x[:, :, ::2, ::2]
        out = torch.zeros(len(x), self.channels, *x.shape[2:], device=x.device, dtype=x.dtype)
        out[:, : x.shape[1]] = x
        return out


class Doubled(nn.Module):
    """Option A of older code: the new channels are the old ones times 0."""

    def forward(self, x):
        x = F.avg_pool2d(x, 2)
        return torch.cat((x, x.mul(0)), 1)


OPTION_A = (
    pads(lambda a, b: b - a),
    lambda self, stride, out: Assigned(out),
    lambda self, stride, out: Doubled(),
)


@pytest.mark.parametrize("shortcut", OPTION_A)
def test_option_a_in_other_words(shortcut):
    report = doctor(net(down=shortcut), SHAPE)
    assert not accusations(report), report
    (found,) = report.findings
    assert "option A" in found.what and found.where == "layer2.0 and 2 more"


class Gated(Basic):
    """Squeeze-and-excitation with linear layers; in eval mode BN keeps its statistics."""

    def __init__(self, inplanes, planes, stride=1, down=None):
        super().__init__(inplanes, planes, stride, down)
        self.gate = nn.Sequential(nn.Linear(planes, 4), nn.ReLU(), nn.Linear(4, planes))

    def branch(self, x):
        out = Basic.branch(self, x)
        return out * self.gate(out.mean((2, 3))).sigmoid()[:, :, None, None]


def kept_size(self):
    self.conv2 = nn.Conv2d(*self.conv2.weight.shape[1::-1], 3, padding="same", bias=False)


def saving(self, x, reentrant):
    """Activation checkpointing."""
    for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
        x = torch.utils.checkpoint.checkpoint(stage, x, use_reentrant=reentrant)
    return x


def stacked(self, x):
    return F.relu(torch.stack([self.branch(x), self.shortcut(x)], 1).sum(1))


def noisy(self, x):
    return F.relu(F.dropout(self.branch(x) + self.shortcut(x), 0.1, self.training))


def attends(self, x):
    """A product of two linear layers' outputs is no linear layer."""
    x = self.body(x).flatten(2)
    query = self.fc(x.mT)
    return ((query @ x[:, :10]).softmax(-1) @ query).mean(1)


UNUSUAL = {
    "attention": net(forward=attends),
    "padding in words": partial(Net, edit(Basic, kept_size)),
    "checkpointing": net(body=lambda s, x: saving(s, s.stem(x), False)),
    "checkpointing, reentrant": net(body=lambda s, x: saving(s, s.stem(x), True)),
    "stack and sum": block(Basic, forward=stacked),
    "dropout behind the sum": block(Basic, forward=noisy),
    "small branch": block(Basic, forward=lambda s, x: F.relu(0.2 * s.branch(x) + s.shortcut(x))),
    "head starts at zero": edited(lambda n: nn.init.zeros_(n.fc.weight)),
    "relu in the head": head(nn.Linear(64, 32), nn.Dropout(), nn.ReLU(), nn.Linear(32, 10)),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_the_unusual_is_not_accused(name):
    report = doctor(UNUSUAL[name], SHAPE)
    assert not report.findings, report


class Resting(nn.BatchNorm2d):
    """BN that stays in eval mode."""

    def train(self, mode=True):
        return super().train(False)


def test_frozen_bn_is_a_variant():
    ops = pytest.importorskip("torchvision.ops")
    for layer in (ops.FrozenBatchNorm2d, Resting):
        (found,) = seen(partial(FACTORIES["resnet18"], norm_layer=layer))
        assert (found.grade, found.where) == ("known variant", "bn1 and 19 more")
        assert "running statistics" in found.what and "fine-tuning" in found.hint


def step(c_in, c_out, *more):
    conv = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU(), *more)


class ResNet9(nn.Module):
    """The fast net of many CIFAR notebooks: only plain convolutions change the shape."""

    def __init__(self):
        super().__init__()
        self.one = nn.Sequential(step(3, 8), step(8, 16, nn.MaxPool2d(2)))
        self.two = nn.Sequential(step(16, 16), step(16, 16))
        self.three = nn.Sequential(step(16, 32, nn.MaxPool2d(2)), step(32, 64, nn.MaxPool2d(2)))
        self.four = nn.Sequential(step(64, 64), step(64, 64))
        self.end = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(64, 10))

    def forward(self, x):
        x = self.one(x)
        x = self.three(self.two(x) + x)
        return self.end(self.four(x) + x)


def test_resnet_9_is_a_variant():
    report = doctor(ResNet9, (3, 32, 32))
    assert not accusations(report), report
    assert "as in ResNet-9" in str(report) and "outside of the residual blocks" in str(report)
    assert "2 stages of [1, 1] blocks" in str(report)


def test_a_relu_before_the_addition_is_a_variant_in_resnet_9_only():
    """There the blocks never change the shape, and convolutions between them do."""

    def late(self):
        self.late = nn.Conv2d(64, 64, 1)

    def one_stage(self):
        self.layer2 = self.layer3 = self.layer4 = nn.Identity()
        self.fc = nn.Linear(PLANES[0], 10)

    wrong = changed(Basic, forward=JOINS["relu before"][2])
    longer = changed(Net, body=lambda s, x: s.late(Net.body(s, x)))
    for build in (edited(late, longer), edited(one_stage)):
        says(partial(build, wrong), "broken", "ReLU comes before the addition", r"layer1\.0")


def test_scripted_and_traced_nets_are_not_looked_into():
    def traced():
        return torch.jit.trace(Net().eval(), torch.zeros(2, *SHAPE))

    def part():
        net = Net()
        net.layer2 = torch.jit.script(step(8, 16))
        return net

    for build, where in ((traced, "the whole net"), (part, "layer2")):
        (found,) = seen(build)
        assert (found.grade, found.where) == ("known variant", where)
        assert "cannot look inside" in found.what


@pytest.mark.long  # torch.compile alone takes seconds to load
def test_compiled_nets_are_looked_into():
    wrong = block(Basic, forward=JOINS["no last relu"][2])
    assert not seen(lambda: torch.compile(Net()))
    assert not seen(edited(lambda n: setattr(n, "layer1", torch.compile(n.layer1))))
    assert seen(lambda: torch.compile(wrong())) == seen(wrong)


def test_a_wrapped_part_is_looked_into():
    """As torch.compile wraps it, but without its seconds."""

    class Wrapped(nn.Module):
        def __init__(self, net):
            super().__init__()
            self._orig_mod = net

    wrong = block(Basic, forward=JOINS["no last relu"][2])
    part = edit(wrong.func, lambda n: setattr(n, "layer1", Wrapped(n.layer1)))
    assert seen(partial(part, *wrong.args)) == seen(wrong) == seen(lambda: Wrapped(wrong()))


def test_dilation_is_a_variant():
    models = pytest.importorskip("torchvision.models")
    build = partial(models.resnet50, replace_stride_with_dilation=[False, True, True])
    (found,) = seen(build)
    assert found.grade == "known variant" and "dilated" in found.what


def test_gates_and_lazy_norms_are_not_accused():
    assert not accusations(doctor(partial(Net, Gated), SHAPE))
    lazy = edit(Net, lambda n: setattr(n, "bn1", nn.LazyBatchNorm2d()))
    assert not accusations(doctor(lazy, SHAPE))
    binary = edit(Net, lambda n: setattr(n, "fc", nn.Sequential(nn.Linear(64, 1), nn.Sigmoid())))
    assert not accusations(doctor(binary, SHAPE))


def bn_behind_the_sum(self, x):
    out = self.conv2(self.relu(self.bn1(self.conv1(x))))
    return self.relu(self.bn2(out + self.shortcut(x)))


def test_bn_behind_the_sum_and_pictures_flattened_together():
    says(block(Basic, forward=bn_behind_the_sum), "broken", "BN stands behind", r"layer1\.0")
    flat = net(forward=lambda s, x: s.fc(torch.flatten(s.avgpool(s.body(x)), 0)))
    says(flat, "broken", "flatten", "fc")


def test_nothing_at_all_to_say_about_the_standard_nets():
    for name in ("resnet18", "resnet34", "resnet50"):
        assert not seen(FACTORIES[name], (3, 224, 224)), name


def cifar(name):
    return bool(re.search(r"(20|32|44|56|110|164|1202)$", name))


def slow_if_deep(names):
    """The deepest nets run with `make test-long`."""
    deep = re.compile("101|110|152|164")
    return [pytest.param(n, marks=pytest.mark.long if deep.search(n) else ()) for n in names]


@pytest.mark.parametrize("name", slow_if_deep(n for n in FACTORIES if "1202" not in n))
def test_no_factory_is_accused(name):
    shape = (3, 32, 32) if cifar(name) else (3, 64, 64)
    report = doctor(FACTORIES[name], shape)
    assert not accusations(report), report


OPTIONS = [
    ("resnet18", {"shortcut": "A"}, "option A"),
    ("resnet34", {"shortcut": "A-end"}, "option A"),
    ("resnet18", {"shortcut": "B"}, ""),
    ("resnet18", {"shortcut": "C"}, "option C"),
    ("resnet50", {"shortcut": "C"}, "option C"),
    ("resnet50", {"shortcut": "pooled"}, "ResNet-D"),
    ("resnet50", {"shortcut": "none"}, "plain net"),
    ("resnet18", {"stem": "cifar"}, "small stem"),
    ("resnet50", {"stride_in": "1x1"}, "v1"),
    ("resnet50", {"groups": 32, "width_per_group": 4}, "ResNeXt: convolutions in 32 groups"),
    ("resnet50", {"width_per_group": 128}, "wide: 128 inner channels of 256"),
    ("resnet50", {"zero_init_residual": True}, ""),
    ("resnet18", {"num_classes": 4}, ""),
    ("resnet18", {"num_classes": 1}, ""),
    ("resnet18", {"in_channels": 1}, ""),
    ("resnet18", {"include_top": False}, ""),
    ("resnet18", {"norm_layer": partial(nn.GroupNorm, 8)}, ""),
    ("preact_resnet18", {"include_top": False}, "pre-activation"),
    ("preact_resnet18", {"shortcut": "C"}, "pre-activation"),
    ("preact_resnet50", {"zero_init_residual": True}, "pre-activation"),
    ("preact_resnet50", {"stride_in": "1x1"}, "v1"),
    ("resnet20", {"shortcut": "B"}, "small stem"),
    ("resnet20", {"shortcut": "A-end"}, "option A"),
    ("resnet56", {"shortcut": "C"}, "option C"),
]


@pytest.mark.parametrize(("name", "options", "variant"), OPTIONS)
def test_no_option_is_accused(name, options, variant):
    size = 32 if cifar(name) else 97
    shape = (options.get("in_channels", 3), size, size)
    report = doctor(partial(FACTORIES[name], **options), shape)
    assert not accusations(report), report
    assert variant in str(report)


VISION = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
VISION += ["resnext50_32x4d", "wide_resnet50_2"]


@pytest.mark.parametrize("name", slow_if_deep(VISION))
def test_torchvision_is_not_accused(name):
    models = pytest.importorskip("torchvision.models")
    report = doctor(getattr(models, name), (3, 224, 224))
    assert not accusations(report), report


TIMM = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet50d"]
TIMM += ["seresnet50", "resnetv2_50"]


@pytest.mark.parametrize("name", slow_if_deep([*TIMM, "res2net50_26w_4s"]))
def test_timm_is_not_accused(name):
    timm = pytest.importorskip("timm", reason="timm is not installed: nothing to compare with")
    report = doctor(partial(timm.create_model, name), (3, 224, 224))
    assert not accusations(report), report
    if name == "resnet50d":
        assert "ResNet-D" in str(report) and "deep stem" in str(report)


def test_known_order_of_grades():
    def build():
        net = Net(changed(Basic, forward=lambda s, x: s.branch(x) + s.shortcut(x)))
        net.extra, net.maxpool = nn.Linear(3, 3), nn.MaxPool2d(3, 2)
        return net

    grades = [f.grade for f in seen(build)]
    assert grades == sorted(grades, key=GRADES.index) and set(grades) == set(GRADES)


def test_report_reads_well():
    report = doctor(net(strides=(1, 1, 2, 2)), SHAPE)
    finding = report.findings[0]
    assert (finding.grade, finding.where) == ("broken", "layer2.0")
    assert "stride 1 in the first stage, 2 in the others" in finding.expected and finding.hint
    assert not report.ok and "not yet" in repr(report)
    assert doctor(Net, SHAPE).ok


# --- hostile builds


class Endless(nn.Module):
    def __getattr__(self, name):
        return getattr(self, name + "_")


class Mirror:
    def __getattr__(self, name):
        return self

    def __call__(self, *args, **kwargs):
        return self


class Unprintable(Exception):
    def __str__(self):
        raise ValueError("no words")


class Exits(nn.Module):
    def forward(self, x):
        sys.exit(3)


def raises(error):
    def build():
        raise error

    return build


HOSTILE = {
    "raises": raises(ValueError("no")),
    "not implemented": raises(NotImplementedError()),
    "unprintable": raises(Unprintable()),
    "exit": lambda: sys.exit(2),
    "exit in forward": Exits,
    "int": lambda: 3,
    "none": lambda: None,
    "list": lambda: [nn.ReLU()],
    "text": lambda: "resnet50",
    "a class": lambda: Net,
    "a module": Net(),
    "not callable": 7,
    "endless": Endless,
    "mirror": Mirror,
    "huge": lambda: nn.Linear(10**7, 10**7),
    "deep": lambda: (lambda f: f(f))(lambda f: f(f)),
    "empty": nn.Module,
    "no layers": nn.Sequential,
    "identity": nn.Identity,
    "tuple": net(forward=lambda s, x: (Net.forward(s, x),)),
    "scalar": net(forward=lambda s, x: Net.forward(s, x).sum()),
    "its own input": net(forward=lambda s, x: x),
    "number": net(forward=lambda s, x: 1.0),
    "needs more": net(forward=lambda s, x, y: x),
    "item": net(forward=lambda s, x: Net.forward(s, x) * float(x.mean() > 0)),
    "numpy": net(forward=lambda s, x: torch.from_numpy(x.numpy())),
    "no copy": edit(Net, lambda n: setattr(n, "kept", (i for i in [1]))),
    "lazy and wrong": lambda: nn.Sequential(
        nn.LazyConv2d(4, 3), nn.LazyLinear(3), nn.Conv2d(1, 1, 1)
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_it_never_raises(name):
    report = doctor(HOSTILE[name], SHAPE)
    assert isinstance(repr(report), str)
    assert all(f.grade in GRADES for f in report.findings)
    if name not in ("item", "identity", "no layers"):
        assert not report.ok, report


@pytest.mark.parametrize("shape", [(3, 64), (3, 0, 0), "abc", None, (3, 64.0, 64), 5])
def test_input_shapes_that_are_none(shape):
    assert not doctor(Net, shape).ok


def test_an_answer_not_given_is_no_bug():
    report = doctor(lambda: ..., SHAPE)
    assert not report.answered and not report.findings


def test_lazy_layers_and_other_precisions_are_fine():
    lazy = edit(Net, lambda n: setattr(n, "conv1", nn.LazyConv2d(8, 7, 2, 3, bias=False)))
    assert not accusations(doctor(lazy, SHAPE))
    assert not accusations(doctor(lambda: Net().double(), SHAPE))
    assert not accusations(doctor(lambda: Net().bfloat16(), SHAPE))


def test_values_in_forward_are_no_obstacle():
    """Where the meta device cannot follow, the pass is made with numbers."""
    report = doctor(HOSTILE["item"], SHAPE)
    assert not [f for f in report.findings if "raises" in f.what], report


# --- what must stay as it was


def test_net_and_random_numbers_stay_as_they_were():
    kept = Net()
    kept.train()
    before = copy.deepcopy(kept.state_dict())
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    wanted = torch.rand(3).tolist(), random.random(), np.random.rand()
    torch.manual_seed(5), random.seed(5), np.random.seed(5)

    def build():
        torch.set_default_dtype(torch.float64), torch.set_grad_enabled(False)
        torch.rand(3), random.random(), np.random.rand()
        torch.set_default_dtype(torch.float32)
        return kept

    doctor(build, SHAPE)
    assert (torch.rand(3).tolist(), random.random(), np.random.rand()) == wanted
    assert torch.is_grad_enabled() and torch.get_default_dtype() is torch.float32
    assert kept.training and all(p.grad is None for p in kept.parameters())
    assert all(torch.equal(before[k], v) for k, v in kept.state_dict().items())
    assert all(p.device.type == "cpu" for p in kept.parameters())


def test_no_hook_is_left_behind():
    from torch.nn.modules import module

    before = len(module._global_forward_hooks), len(module._global_forward_pre_hooks)
    doctor(Net, SHAPE)
    doctor(Exits, SHAPE)
    after = len(module._global_forward_hooks), len(module._global_forward_pre_hooks)
    assert before == after == (0, 0)


def test_the_same_words_every_time():
    build = block(Basic, forward=lambda s, x: F.dropout(s.branch(x)) + s.shortcut(x))
    torch.manual_seed(1)
    first = repr(doctor(build, SHAPE))
    torch.manual_seed(2)
    assert repr(doctor(build, SHAPE)) == first


def test_random_weights_are_the_same_every_time():
    def build():
        raise ValueError(f"{torch.rand(1).item()} {random.random()} {np.random.rand()}")

    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    first = repr(doctor(build, SHAPE))
    torch.manual_seed(2), random.seed(2), np.random.seed(2)
    assert repr(doctor(build, SHAPE)) == first


def test_a_lazy_net_that_is_kept_stays_lazy():
    kept = edit(Net, lambda n: setattr(n, "conv1", nn.LazyConv2d(8, 7, 2, 3, bias=False)))()
    assert not accusations(doctor(lambda: kept, SHAPE))
    assert isinstance(kept.conv1, nn.LazyConv2d)


def test_the_largest_net_in_a_few_seconds():
    start = time.process_time()
    assert not seen(FACTORIES["resnet152"], (3, 224, 224))
    assert time.process_time() - start < 20  # 5 to 7 when measured, once torch has loaded


def test_torch_alone_is_enough():
    code = (
        "import sys, resnet_lib\n"
        "assert not resnet_lib.doctor(resnet_lib.resnet20, (3, 32, 32)).findings[2:]\n"
        "assert not [m for m in ('torchvision', 'timm') if m in sys.modules]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
