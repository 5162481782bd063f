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


WALK = (
    "walk_220 = {{'maxpool, padded': {}, 'maxpool, not padded': {}, 'layer2, padded': {}, "
    "'layer2, not padded': {}, 'layer3, not padded': {}}}"
)
NAME = """
def our_name(keras):
    simple = {{"conv1_conv": "conv1", "conv1_bn": "bn1", "predictions": "fc"}}
    {special}
    stage, block, number, kind = keras.split("_")
    start = f"layer{{int(stage[4:]) - {minus}}}.{{int(block[5:]) - 1}}."
    if number == {zero}:
        return start + ("downsample.0" if kind == "conv" else "downsample.1")
    return f"{{start}}{{kind}}{{number}}"
"""
SIMPLE = "if keras in simple: return simple[keras]"


def name(special=SIMPLE, minus="1", zero="'0'"):
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
    (2, net(first="pass"), ["with arguments ([1, 1, 1, 1], 10)", "expected"]),
    (2, net(projection="pass"), ["not yet", "with arguments ([1, 1, 1, 1], 10)"]),
    (2, net(projection="total += inplanes * wide if planes > 64 else 0"), ["not yet"]),
    (2, net(stem="7 * 7 * 3 * 64"), ["not yet", "expected"]),
    (2, net(head="512 * num_classes + num_classes"), ["not yet", "expected"]),
    (3, WALK.format(55, 55, 28, 28, 14), ["maxpool, not padded: 55 is not right", "whole number"]),
    (3, WALK.format(110, 54, 28, 27, 14), ["maxpool, padded: 110", "stride 2"]),
    (3, WALK.format(55, 54, 27, 27, 13), ["a half rounds up", "27 is odd"]),
    (3, WALK.format(55, 54, 28, 27, "..."), ["layer3, not padded: not answered yet"]),
    (4, name(minus="2"), ["not yet", "layer4.2.bn3"]),
    (4, name(zero="'9'"), ["not yet", "downsample.1"]),
    (4, name(special=""), ["not yet", "ValueError"]),
    (5, VOTE.format("int(logits.mean(0).argmax())"), ["returns 0", "expected: 1"]),
    (5, VOTE.format("int(logits.argmax(1).mode()[0])"), ["not yet"]),
    (5, VOTE.format("int(logits.softmax(0).mean(1).argmax())"), ["not yet"]),
    (5, VOTE.format("logits.softmax(1).mean(0)"), ["returns tensor"]),
]
