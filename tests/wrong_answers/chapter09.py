"""Wrong answers to the exercises of chapter 09, and the words that each must be told."""

BLOCK = """
class MyPreAct(nn.Module):
    def __init__(self, inplanes, planes, stride=1, downsample=None):
        super().__init__()
        self.bn1 = nn.BatchNorm2d({norm})
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias={bias})
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, x):
        pre = self.relu(self.bn1(x))
        out = self.conv2(self.relu(self.bn2(self.conv1(pre))))
        {end}
"""
END = "return out + (x if self.downsample is None else self.downsample(pre))"


def block(norm="inplanes", bias="False", end=END) -> str:
    return BLOCK.format(norm=norm, bias=bias, end=end)


def whose(a=3, b=1, c=4, d=2) -> str:
    return f"whose = {{'A': {a}, 'B': {b}, 'C': {c}, 'D': {d}}}"


AGREES = "def agrees_for_cifar(side):\n    return {}"
LOWERED = "def lowered_by(biases):\n    return {}"
FORM = "def my_block(x, norm, attend, think):\n{}"

# (exercise, answer, words that the check must say)
WRONG = [
    # BN of the channels that go out, not of those that come in.
    (1, block(norm="planes"), ["MyPreAct(8, 8, 1): correct", "MyPreAct(8, 16, 2): not yet"]),
    # The v1 habit: a ReLU behind the addition.
    (
        1,
        block(end=END.replace("return ", "return self.relu(") + ")"),
        ["MyPreAct(8, 8, 1): not yet", "differs from the reference"],
    ),
    # Article E's form: the projection starts from the raw input.
    (
        1,
        block(end=END.replace("(pre)", "(x)")),
        ["MyPreAct(8, 8, 1): correct", "MyPreAct(8, 16, 2): not yet", "differs from the reference"],
    ),
    # The shortcut always starts behind BN and ReLU: the main line is not clean.
    (
        1,
        block(end="return out + (pre if self.downsample is None else self.downsample(pre))"),
        ["MyPreAct(8, 8, 1): not yet", "differs from the reference"],
    ),
    (1, block(bias="True"), ["wasteful", "conv1.bias"]),
    (1, block(end="out + x"), ["not yet", "return"]),
    (2, whose(a=2), ["A: 2 is not right", "who projects the raw x?"]),
    (2, whose(a=1), ["A: 1 is not right", "in v1 the projection has a BN"]),
    (2, whose(b=2), ["B: 2 is not right", "nothing stands behind the addition"]),
    (2, whose(c=1), ["C: 1 is not right", "stride at the end of a stage"]),
    (2, whose(d=3), ["D: 3 is not right", "article E projects before BN and ReLU"]),
    (2, whose(d=4), ["D: 4 is not right", "ResNet50V2 projection has a bias"]),
    (3, AGREES.format("side % 2 == 1"), ["the first stage only"]),
    (3, AGREES.format("side % 32 == 1"), ["here are two"]),
    (3, AGREES.format("side % 2 == 0"), ["an even side needs one pixel"]),
    (3, AGREES.format("side % 4 == 0"), ["which one is right?"]),
    (4, LOWERED.format("biases"), ["not for one block"]),
    (4, LOWERED.format("[sum(biases)] * len(biases)"), ["the biases before it only"]),
    (
        4,
        LOWERED.format("[sum(biases[:i]) for i in range(len(biases))]"),
        ["is not in the list"],
    ),
    (
        4,
        LOWERED.format("[-sum(biases[: i + 1]) for i in range(len(biases))]"),
        ["gives a positive number"],
    ),
    (
        5,
        FORM.format("    x = norm(x + attend(x))\n    return norm(x + think(x))"),
        ["this is post-norm"],
    ),
    (
        5,
        FORM.format("    x = norm(x) + attend(norm(x))\n    return norm(x) + think(norm(x))"),
        ["the shortcut takes x itself"],
    ),
    (
        5,
        FORM.format("    return x + attend(norm(x)) + think(norm(x))"),
        ["think reads the sum"],
    ),
    (
        5,
        FORM.format("    x = x + attend(norm(x))\n    return x + think(x)"),
        ["the second branch has no norm"],
    ),
    (5, FORM.format("    x = x + attend(norm(x))\n    x = x + think(norm(x))"), ["return"]),
]
