"""Wrong answers to the exercises of chapter 05, and the words that each must be told."""

STAGE = """
def my_stage(inplanes, planes, blocks, stride):
    {projection}
    layers = [BasicBlock(inplanes, planes, {first}, downsample)]
    layers += [BasicBlock(planes, planes{other}) for _ in range(blocks - 1)]
    {end}
"""
NEEDED = (
    "downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, {stride}, bias=False), "
    "nn.BatchNorm2d(planes)) if {when} else None"
)
EITHER = "stride != 1 or inplanes != planes"


def stage(
    when=EITHER, shortcut="stride", first="stride", other="", end="return nn.Sequential(*layers)"
):
    projection = NEEDED.format(stride=shortcut, when=when)
    return STAGE.format(projection=projection, first=first, other=other, end=end)


def early(last: str) -> str:
    return (
        "class EarlyReLU(Block):\n    def forward(self, x):\n"
        "        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))\n"
        f"        return {last}\n"
    )


WALK = (
    "walk_160 = {{'conv1': {}, 'maxpool': {}, 'layer1': {}, 'layer2': 20, 'layer3': 10, "
    "'layer4': 5}}"
)
WEIGHTS = "def stage_weights(inplanes, planes, blocks, stride):\n    return {}"

COUNTED = WEIGHTS.format(
    "9 * planes * (inplanes + (2 * blocks - 1) * planes) + 4 * planes * blocks "
    "+ planes * (inplanes + 2) * ({})"
)

# (exercise, answer, words that the check must say)
WRONG = [
    (1, WALK.format(80, 40, 20), ["layer1: 20 is not right", "the first stage has stride 1"]),
    (1, WALK.format(80, 80, 40), ["maxpool: 80 is not right"]),
    (1, WALK.format(80, 40, "..."), ["layer1: not answered yet"]),
    (1, WALK.format("'80'", 40, 40), ["conv1: '80' is not a number"]),
    (
        2,
        stage(when="stride != 1"),
        ["my_stage(8, 16, 2, 1): not yet", "addition differ in shape"],
    ),
    (2, stage(when="True"), ["my_stage(8, 8, 2, 1): not yet", "needed only where the shape"]),
    (
        2,
        stage(shortcut="1"),
        ["my_stage(8, 16, 3, 2): not yet", "0.downsample.0: stride is 1, not 2"],
    ),
    (2, stage(other=", 2"), ["my_stage(8, 16, 3, 2): not yet", "RuntimeError"]),
    (2, stage(first="1", shortcut="1"), ["output shape", "0.conv1: stride is 1, not 2"]),
    (2, stage(end="return layers"), ["got a list", "nn.Sequential(*blocks)"]),
    (2, stage(end="return nn.ModuleList(layers)"), ["forward", "use nn.Sequential"]),
    (2, stage(end="return nn.Sequential(*layers[:-1])"), ["1.conv1.weight: is missing"]),
    (
        2,
        stage(when="inplanes != planes"),
        ["my_stage(8, 16, 3, 2): correct", "my_stage(8, 8, 2, 2): not yet", "addition differ"],
    ),
    (
        2,
        stage(end="return nn.Sequential(layers[0], *[layers[-1]] * (blocks - 1))"),
        ["my_stage(8, 16, 3, 2): not yet", "1 and 2 are one object"],
    ),
    (
        3,
        COUNTED.format("inplanes != planes"),
        ["(64, 64, 2, 2)", "a stride needs a projection too"],
    ),
    (3, COUNTED.format("False"), ["the projection is missing"]),
    (3, WEIGHTS.format("18 * planes**2 * blocks"), ["with arguments (64, 64, 3, 1)", "221952"]),
    (3, WEIGHTS.format("planes / 0"), ["ZeroDivisionError"]),
    (3, WEIGHTS.format("str(planes)"), ["returns '64'", "expected: 221952"]),
    (4, "depth_26 = {'blocks in each stage': 6, 'weights': 17_960_232}", ["two layers"]),
    (4, "depth_26 = {'blocks in each stage': 3, 'weights': 17_960_233}", ["weights: 17960233"]),
    (
        4,
        "depth_26 = {'blocks in each stage': 12, 'weights': ...}",
        ["12 is not right", "there are four stages"],
    ),
    (5, early("self.relu(out)"), ["not yet", "shortcut is never added"]),
    (5, early("out + x"), ["not yet", "ReLU after the addition is missing"]),
    (5, early("self.relu(out + x)"), ["early ReLU: correct"]),  # the right block, by mistake
]
