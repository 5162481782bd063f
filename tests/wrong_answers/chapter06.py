"""Wrong answers to the exercises of chapter 06, and the words that each must be told."""

BLOCK = """
class MyBottleneck(nn.Module):
    def __init__(self, inplanes, planes, stride=1, downsample=None):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 1{first}, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, {second}, 1, bias={bias})
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, {wide}, 1, bias=False)
        self.bn3 = nn.BatchNorm2d({wide})
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = {middle}
        out = self.bn3(self.conv3(out))
        shortcut = {shortcut}
        return {end}
"""
FOLLOWS = "x if self.downsample is None else self.downsample(x)"


def block(
    first="",
    second="stride",
    bias="False",
    wide="4 * planes",
    middle="self.relu(self.bn2(self.conv2(out)))",
    shortcut=FOLLOWS,
    end="self.relu(out + shortcut)",
):
    return BLOCK.format(**locals())


NET = """
def net_weights(layers, num_classes):
    total, inplanes = {stem}, 64
    for blocks, planes in zip(layers, (64, 128, 256, 512), strict=True):
        wide = 4 * planes
        total += blocks * bottleneck(planes)
        {first}
        {projection}
        inplanes = wide
    return total + {head}
"""


def net(
    stem="7 * 7 * 3 * 64 + bn(64)",
    first="total += (inplanes - wide) * planes",
    projection="total += inplanes * wide + bn(wide)",
    head="inplanes * num_classes + num_classes",
):
    return NET.format(**locals())


WHICH = """
def which_net(rows):
    shapes = [shape.split("x") for _, shape, _ in rows]
    seen = {seen}
    return "{small}" if seen[-1] == "28" else "{large}", 1 if shapes[3][-1] == "{padded}" else 0
"""
FIRST = "next(shape for shape in shapes if shape[0] == '128')"


def which(seen=FIRST, small="v1", large="v1.5", padded="56"):
    return WHICH.format(**locals())


NAME = """
def our_name(keras):
    simple = {{"conv1_conv": "conv1", "conv1_bn": "bn1", "predictions": "fc"}}
    {special}
    stage, block, number, kind = keras.split("_")
    start = f"layer{{int(stage[4:]) - {minus}}}.{{int(block[5:]) - {less}}}."
    if number == {zero}:
        return start + ("downsample.0" if kind == "{first}" else "downsample.1")
    return f"{{start}}{{kind}}{{number}}"
"""
SIMPLE = "if keras in simple: return simple[keras]"


def name(special=SIMPLE, minus="1", less="1", zero="'0'", first="conv"):
    return NAME.format(**locals())


VOTE = "def vote(logits):\n    return {}"

# (exercise, answer, words that the check must say)
WRONG = [
    # v1 instead of v1.5: every shape is right
    (1, block(first=", stride", second="1"), ["MyBottleneck(32, 16, 2): not yet", "conv1"]),
    (1, block(bias="True"), ["conv2.bias", "use bias=False"]),  # wasteful, not broken
    (1, block(wide="planes"), ["addition differ in shape"]),
    (1, block(middle="self.bn2(self.conv2(out))"), ["conv3 gets negative values", "ReLU"]),
    (1, block(shortcut="x"), ["MyBottleneck(32, 16, 2): not yet", "differ in shape"]),
    (1, block(end="out + shortcut"), ["the ReLU after the addition is missing"]),
    (1, block(end="self.relu(out) + shortcut"), ["the ReLU comes before the addition"]),
    (2, net(first="pass"), ["conv1 of a first block reads the stage before it"]),
    (2, net(projection="pass"), ["the four projections are missing"]),
    (
        2,
        net(projection="if planes > 64: total += inplanes * wide + bn(wide)"),
        ["the projection of layer1 is missing: 64 channels in"],
    ),
    (2, net(projection="total += inplanes * wide"), ["each projection has a BN too"]),
    (2, net(stem="7 * 7 * 3 * 64"), ["the BN of the stem is missing"]),
    (2, net(head="inplanes * num_classes"), ["one bias for each class is missing"]),
    (2, net(head="512 * num_classes + num_classes"), ["the head gets 4 * 512 features"]),
    (3, which(small="v1.5", large="v1"), ["28 in the first 1x1 of layer2 is v1"]),
    (3, which(padded="55"), ["55 is no padding"]),
    # the 3x3 behind it: two convolutions and two other layers further
    (3, which(seen="[s for s in shapes if s[0] == '128'][3]"), ["see the 1x1 above"]),
    (3, which(seen="rows[36][1].split('x')"), ["not yet", "(1, 1, 1, 1)"]),
    (3, "def which_net(rows):\n    return 'v1'", ["returns 'v1'", "('v1.5', 1)"]),
    (4, name(minus="0"), ["conv2 is layer1: one less"]),
    (4, name(less="0"), ["block1 is our block 0"]),
    (4, name(zero="'9'"), ["number 0 is the shortcut: downsample"]),
    (4, name(first="bn"), ["downsample.0 is the convolution"]),
    (4, name(special=""), ["not yet", "ValueError"]),
    (5, VOTE.format("int(logits.mean(0).argmax())"), ["first the softmax"]),
    (5, VOTE.format("int(logits.argmax(1).mode()[0])"), ["a sure crop must weigh more"]),
    (5, VOTE.format("int(logits.softmax(0).mean(0).argmax())"), ["0: that is the crops"]),
    (5, VOTE.format("int(logits.softmax(0).mean(1).argmax())"), ["the mean is over the classes"]),
    (5, VOTE.format("logits.softmax(1).mean(0)"), ["returns tensor"]),
]
