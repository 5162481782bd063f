"""Wrong answers to the exercises of chapter 03, and the words that each must be told."""

BASIC = """
class MyBasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inplanes, planes, stride=1, downsample=None):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, {first}, 1, bias={bias})
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d({second}, planes, 3, {stride2}, 1, bias={bias})
        self.bn2 = nn.BatchNorm2d(planes)
        {extra}
        self.downsample = downsample

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        out = {middle}
        {end}
"""
MIDDLE = "self.relu(self.bn1(self.conv1(x)))"


def basic(
    first="stride",
    stride2=1,
    second="planes",
    bias=False,
    extra="",
    middle=MIDDLE,
    end="return self.relu(self.bn2(self.conv2(out)) + shortcut)",
):
    return BASIC.format(**locals())


DEEP = """
class MyBottleneck(nn.Module):
    expansion = {expansion}

    def __init__(self, inplanes, planes, stride=1, downsample=None):
        super().__init__()
        out = planes * {times}
        self.conv1 = nn.Conv2d(inplanes, planes, 1, {first}, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, {stride2}, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out, 1, {padding}bias=False)
        self.bn3 = nn.BatchNorm2d({width})
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, x):
        shortcut = {shortcut}
        out = self.relu(self.bn1(self.conv1(x)))
        out = {middle}
        {end}
"""


def deep(
    expansion=4,
    times="self.expansion",
    first=1,
    stride2="stride",
    padding="",
    width="out",
    shortcut="x if self.downsample is None else self.downsample(x)",
    middle="self.relu(self.bn2(self.conv2(out)))",
    end="return self.relu(self.bn3(self.conv3(out)) + shortcut)",
):
    return DEEP.format(**locals())


COUNT = "counted = {{'bottleneck weights': {}, 'bottleneck MACs': {}, 'basic weights': {}}}"
RIGHT = (1_117_184, 218_365_952, 18_878_464)
FOLD = "folded = {{'weight': {}, 'bias': {}, 'running mean without bias': {}}}"
TRANSLATED = "def translated():\n    return {}"
REPAIRED = "class Repaired(BasicBlock):\n    def forward(self, x):\n        {}"
BRANCH = "self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))"


def repaired(*lines):
    return REPAIRED.format("\n        ".join(lines).replace("BRANCH", BRANCH))


# (exercise, answer, words that the check must say)
WRONG = [
    (
        1,
        basic(end="return self.relu(self.bn2(self.conv2(out))) + shortcut"),
        ["MyBasicBlock(8, 8, 1): not yet", "ReLU comes before the addition"],
    ),
    (
        1,
        basic(end="return self.bn2(self.conv2(out)) + shortcut"),
        ["not yet", "ReLU after the addition is missing"],
    ),
    (1, basic(end="return self.relu(self.bn2(self.conv2(out)))"), ["shortcut is never added"]),
    (1, basic(end="self.relu(self.bn2(self.conv2(out)) + shortcut)"), ["end with `return`"]),
    (1, basic(middle="self.bn1(self.conv1(x))"), ["a ReLU is missing before it"]),
    (
        1,
        basic(second="inplanes"),
        ["MyBasicBlock(8, 8, 1): correct", "MyBasicBlock(8, 16, 2): not yet", "to have 8 channels"],
    ),
    (
        1,
        basic(first=1),
        ["MyBasicBlock(8, 16, 2): not yet", "sides of the addition differ in shape"],
    ),
    (
        1,
        basic(bias=True),
        ["MyBasicBlock(8, 8, 1): correct", "wasteful: conv1.bias", "use bias=False"],
    ),
    (
        1,
        basic(first=1, stride2="stride"),
        ["MyBasicBlock(8, 8, 1): correct", "MyBasicBlock(8, 16, 2): not yet", "conv1"],
    ),
    (1, basic(extra="self.bn3 = nn.BatchNorm2d(planes)"), ["bn3.weight: a weight too many"]),
    (
        2,
        deep(first="stride", stride2=1),
        ["MyBottleneck(32, 8, 1): correct", "MyBottleneck(32, 16, 2): not yet", "conv1"],
    ),
    (
        2,
        deep(expansion=1),
        ["MyBottleneck(32, 8, 1): not yet", "sides of the addition differ in shape"],
    ),
    (2, deep(expansion="..."), ["while building it", "TypeError"]),
    (
        2,
        deep(expansion="...", times="4"),
        ["MyBottleneck(32, 16, 2): correct", "the class: not answered yet"],
    ),
    (
        2,
        deep(expansion=1, times="4"),
        ["MyBottleneck(32, 16, 2): correct", "the class: not yet", "the basic block's"],
    ),
    (2, deep(width="planes"), ["MyBottleneck(32, 8, 1): not yet", "RuntimeError"]),
    (
        2,
        deep(end="return self.relu(self.bn3(self.conv3(out))) + shortcut"),
        ["ReLU comes before the addition; it belongs after it"],
    ),
    (
        2,
        deep(end="return self.relu(self.relu(self.bn3(self.conv3(out))) + shortcut)"),
        ["MyBottleneck(32, 8, 1): not yet", "a ReLU stands before the addition as well"],
    ),
    (
        2,
        deep(middle="self.bn2(self.conv2(out))"),
        ["conv3 gets negative values: a ReLU is missing before it"],
    ),
    (
        2,
        deep(shortcut="x"),
        ["MyBottleneck(32, 8, 1): correct", "MyBottleneck(16, 8, 1): not yet", "two sides"],
    ),
    (2, deep(padding="padding=1, "), ["not yet", "two sides of the addition differ in shape"]),
    (3, COUNT.format(1_114_112, *RIGHT[1:]), ["three BN layers are missing"]),
    (3, COUNT.format(855_040, *RIGHT[1:]), ["two 1x1 convolutions"]),
    (3, COUNT.format(RIGHT[0], 15_597_568, RIGHT[2]), ["the map has 14 x 14"]),
    (3, COUNT.format(RIGHT[0], 218_968_064, RIGHT[2]), ["BN is not counted in MACs"]),
    (3, COUNT.format(*RIGHT[:2], 18_874_368), ["two BN layers are missing"]),
    (3, COUNT.format(*RIGHT[:2], "..."), ["basic weights: not answered yet"]),
    (4, FOLD.format(1.5, -1.25, 1.5), ["weight: 1.5 is not right", "not the variance"]),
    (4, FOLD.format(3, -2, 1.5), ["bias: -2 is not right", "bias of the convolution is missing"]),
    (4, FOLD.format(3.0, 1 + 1.5 * (0 - 2) + 0.5, 1.5), ["bias: -1.5", "it is scaled too"]),
    (4, FOLD.format(3, 1 + (0.5 - 2), 1.5), ["bias: -0.5", "the factor gamma / standard"]),
    (4, FOLD.format(3, -0.125, 1.5), ["bias: -0.125", "not the variance"]),
    (4, FOLD.format(3, -1.25, 2.5), ["without the bias the values are lower"]),
    (4, FOLD.format(3, -1.25, 2), ["BN subtracts too much"]),
    (
        5,
        TRANSLATED.format('Bottleneck(32, 16, 2, make_shortcut("B", 32, 64, 2))'),
        ["not yet", "conv1: stride is 1, not 2"],
    ),
    (
        5,
        TRANSLATED.format('Bottleneck(32, 16, 2, stride_in="1x1")'),
        ["addition differ in shape"],
    ),
    (
        5,
        TRANSLATED.format('Bottleneck(32, 64, 2, make_shortcut("B", 32, 256, 2), stride_in="1x1")'),
        ["output shape: (2, 256, 6, 6)", "conv1: out_channels is 64, not 16"],
    ),
    (
        5,
        TRANSLATED.format('Bottleneck(32, 16, 1, make_shortcut("B", 32, 64, 1))'),
        ["output shape", "conv1: stride is 1, not 2"],
    ),
    (
        6,
        repaired("x += BRANCH", "return x.relu_()"),
        ["raises RuntimeError", "in-place operation"],
    ),
    (
        6,
        repaired("x = x.clone()", "x += BRANCH", "return self.relu(x)"),
        ["modified by an inplace operation"],
    ),
    (
        6,
        repaired("x.data += BRANCH.data", "return self.relu(x)"),
        ["backward: the gradient of the input differs"],
    ),
    (
        6,
        repaired("return self.relu(BRANCH + x)"),
        ["repaired: correct", "in place: not yet", "right, but new memory"],
    ),
    (
        6,
        repaired("out = BRANCH", "out += x", "return self.relu(out)"),
        ["repaired: correct", "in place: not yet", "are `+` and ReLU both in place?"],
    ),
    (
        6,
        repaired("return (BRANCH + x).relu_()"),
        ["repaired: correct", "in place: not yet", "are `+` and ReLU both in place?"],
    ),
    (
        6,
        repaired("out = BRANCH.relu_()", "out += x", "return out"),
        ["ReLU comes before the addition"],
    ),
]
