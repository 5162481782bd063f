"""Submissions of assignment 2: wrong ones with what they lose, unusual ones that lose nothing."""

ODD = """
a, b = PARAMETERS["inplanes"], PARAMETERS["planes"]
k, step, side = PARAMETERS["kernel"], PARAMETERS["stride"], PARAMETERS["side"]
first = (side - 1) // step + 1
second = first - k + 1
one, two = k * k * a * b, k * k * b * b
odd_weights = {
    "all": one + two + b * b + a * b + 3 * b + 4 * b,
    "never used": b * b + 2 * b,
    "removed by BN": 2 * b,
}
odd_sizes = {
    "behind conv1": first,
    "behind conv2": second,
    "shortcut": first,
    "padding": k // 2,
    "MACs of conv2": two * second**2,
}
"""
BASIC = """
class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        k = PARAMETERS["kernel"]
        self.conv1 = nn.Conv2d(inplanes, planes, k, stride, k // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, k, 1, k // 2, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(
                nn.Conv2d(inplanes, planes, 1, stride, bias=False),
                nn.BatchNorm2d(planes),
            )

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.bn1(self.conv1(x)).relu()
        out = self.bn2(self.conv2(out))
        return (out + shortcut).relu()
"""
DEEP = """
class Bottleneck(nn.Module):
    expansion = PARAMETERS["expansion"]

    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        width = planes * self.expansion
        first, second = (stride, 1) if PARAMETERS["stride_in"] == "conv1" else (1, stride)
        self.conv1 = nn.Conv2d(inplanes, planes, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, second, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or inplanes != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(inplanes, width, 1, stride, bias=False),
                nn.BatchNorm2d(width),
            )

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.bn1(self.conv1(x)).relu()
        out = self.bn2(self.conv2(out)).relu()
        out = self.bn3(self.conv3(out))
        return (out + shortcut).relu()
"""
START = """
def start_as_identity(block):
    last = block.bn3 if hasattr(block, "bn3") else block.bn2
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()


def starts_as_identity(block, channels):
    trial = copy.deepcopy(block)
    x = torch.rand(4, channels, 7, 7)
    for training in (True, False):
        trial.train(training)
        with torch.no_grad():
            out = trial(x.clone())
        if (out - x).abs().max() > 1e-5:
            return False
    return True
"""


def edited(source: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert old in source, old
        source = source.replace(old, new)
    return source


def odd(*changes):
    return {"q1": edited(ODD, *changes)}


def basic(*changes):
    return {"q2": edited(BASIC, *changes)}


def deep(*changes):
    return {"q3": edited(DEEP, *changes)}


def start(*changes):
    return {"q4": edited(START, *changes)}


SUM = "return (out + shortcut).relu()"
MIDDLE = "out = self.bn1(self.conv1(x)).relu()"
END = "out = self.bn2(self.conv2(out))"
BN2 = "        self.bn2 = nn.BatchNorm2d(planes)\n"
TEST = "if stride != 1 or inplanes != planes:"
OUTPUTS = {"basic_same", "basic_changed"}
RUNS = {*OUTPUTS, "basic_modes"}
DEEP_OUTPUTS = {"bottleneck_values", "bottleneck_stride"}
DEEP_SUM = "return (out + shortcut).relu()"
TESTS = {"test_plain", "test_traps", "hands_off"}
ALL_OF_2 = {"basic_names", *RUNS}
BEGIN, TEST_HEAD = START.split("\n\n\n")[0], "def starts_as_identity(block, channels):\n"

# (what is wrong, edits, parts that lose their marks, words the feedback must hold)
WRONG = [
    # --- 1 · read an odd block
    (
        "biases forgotten",
        odd(("+ 3 * b + 4 * b", "+ 4 * b")),
        {"odd_weights"},
        "one bias for each output channel",
    ),
    ("BN forgotten", odd(("+ 3 * b + 4 * b", "+ 3 * b")), {"odd_weights"}, "a gamma and a beta"),
    (
        "running statistics counted",
        odd(("+ 3 * b + 4 * b", "+ 3 * b + 8 * b")),
        {"odd_weights"},
        "running statistics are no weights",
    ),
    (
        "the unused convolution taken for used",
        odd(('"never used": b * b + 2 * b', '"never used": 2 * b')),
        {"odd_weights"},
        "one more layer never runs",
    ),
    (
        "every bias removed",
        odd(('BN": 2 * b', 'BN": 3 * b')),
        {"odd_weights"},
        "directly behind each of the three biases",
    ),
    (
        "padding imagined",
        odd(("second = first - k + 1", "second = first")),
        {"odd_sizes"},
        "conv2 has no padding",
    ),
    (
        "sizes rounded down, padding forgotten",
        odd(("first = (side - 1) // step + 1", "first = (side - k) // step + 1")),
        {"odd_sizes"},
        "behind conv1",
    ),
    (
        "positions on one side only",
        odd(("two * second**2", "two * second")),
        {"odd_sizes"},
        "the map has two sides",
    ),
    ("a number as text", odd(("k // 2,", "'2',")), {"odd_sizes"}, "this is text"),
    ("nothing in the dict", {"q1": "odd_weights = {}"}, {"odd_weights", "odd_sizes"}, "odd_sizes"),
    # --- 2 · the basic block
    (
        "no ReLU after the addition",
        basic((SUM, "return out + shortcut")),
        OUTPUTS,
        "there is no ReLU after the addition",
    ),
    (
        "ReLU before the addition",
        basic((SUM, "return out.relu() + shortcut")),
        OUTPUTS,
        "the ReLU comes before the addition; it belongs after it",
    ),
    (
        "ReLU before and after the addition",
        basic((SUM, "return (out.relu() + shortcut).relu()")),
        OUTPUTS,
        "a ReLU stands before the addition as well",
    ),
    (
        "no ReLU between the convolutions",
        basic((MIDDLE, "out = self.bn1(self.conv1(x))")),
        OUTPUTS,
        "there is no ReLU behind bn1",
    ),
    (
        "second BN missing",
        basic((BN2, ""), (END, "out = self.conv2(out)")),
        {"basic_names", *OUTPUTS},
        "bn2 is missing, or never runs",
    ),
    (
        "second BN made and never run",
        basic((END, "out = self.conv2(out)")),
        RUNS,
        "bn2.weight gets no gradient",
    ),
    (
        "BN after the addition",
        basic((END, "out = self.conv2(out)"), (SUM, "return self.bn2(out + shortcut).relu()")),
        OUTPUTS,
        "the last BN stands behind the addition",
    ),
    (
        "BN behind ReLU",
        basic((MIDDLE, "out = self.bn1(self.conv1(x).relu())")),
        OUTPUTS,
        "the order is convolution, BN, ReLU",
    ),
    (
        "one BN for both convolutions",
        basic((END, "out = self.bn1(self.conv2(out))")),
        RUNS,
        "bn1 runs behind each convolution",
    ),
    (
        "stride in conv2",
        basic(
            ("planes, k, stride,", "planes, k, 1,"),
            ("(planes, planes, k, 1,", "(planes, planes, k, stride,"),
        ),
        {"basic_changed"},
        "the stride sits in conv2",
    ),
    (
        "no stride on the shortcut",
        basic(("planes, 1, stride,", "planes, 1,")),
        {"basic_changed", "basic_modes"},
        "the projection needs the same stride as the branch",
    ),
    (
        "projection only where the stride is not 1",
        basic((TEST, "if stride != 1:")),
        {"basic_names", "basic_changed"},
        "a projection is needed there too, not only where the stride is not 1",
    ),
    (
        "projection only where the channels change",
        basic((TEST, "if inplanes != planes:")),
        {"basic_names", "basic_changed"},
        "a projection is needed there too, not only where the channels change",
    ),
    (
        "no projection at all",
        basic((TEST, "if False:")),
        {"basic_names", "basic_changed", "basic_modes"},
        "It changes when the stride is not 1",
    ),
    (
        "projection always",
        basic((TEST, "if True:")),
        {"basic_names", "basic_same"},
        "a projection that is not needed",
    ),
    (
        "3x3 projection",
        basic(("planes, 1, stride, bias", "planes, 3, stride, 1, bias")),
        {"basic_names", "basic_changed"},
        "the kernel is 3x3, not 1x1",
    ),
    (
        "projection without BN",
        basic(
            ("                nn.BatchNorm2d(planes),\n", ""),
        ),
        {"basic_names", "basic_changed"},
        "the projection's BN is missing",
    ),
    (
        "bias left in",
        basic(("k // 2, bias=False", "k // 2")),
        {"basic_names"},
        "BN follows and subtracts any constant",
    ),
    (
        "paths averaged",
        basic((SUM, "return ((out + shortcut) / 2).relu()")),
        OUTPUTS,
        "the two paths are averaged",
    ),
    (
        "shortcut never added",
        basic((SUM, "return out.relu()")),
        {*OUTPUTS, "basic_modes"},
        "the shortcut is never added",
    ),
    (
        "BN always in train mode",
        basic(
            (
                END,
                "bn = self.bn2\n"
                "        out = F.batch_norm(self.conv2(out), bn.running_mean, bn.running_var,\n"
                "                           bn.weight, bn.bias, training=True)",
            )
        ),
        {"basic_modes"},
        "in eval mode the output for one picture depends on the others",
    ),
    (
        "input edited in place",
        basic((SUM, "shortcut += out\n        return shortcut.relu()")),
        {"basic_modes"},
        "the block changes its input",
    ),
    (
        "in-place ReLU on the input",
        basic(("shortcut = x if", "x = F.relu(x, inplace=True)\n        shortcut = x if")),
        RUNS,
        "the block changes its input",
    ),
    (
        "padding of a 3x3 for any kernel, kernel fixed",
        basic((", k, stride, k // 2", ", 3, stride, 1"), (", k, 1, k // 2", ", 3, 1, 1")),
        {"basic_names", *OUTPUTS},
        "the kernel is 3x3, not 5x5",
    ),
    (
        "padding forgotten",
        basic(("stride, k // 2", "stride"), ("1, k // 2", "1")),
        RUNS,
        "which padding keeps the map as large as it is?",
    ),
    (
        "shortcut from behind the first layer",
        basic(
            ("        shortcut = x if self.downsample is None else self.downsample(x)\n", ""),
            (MIDDLE, MIDDLE + "\n        shortcut = out"),
        ),
        RUNS,
        "the shortcut starts behind the first ReLU",
    ),
    (
        "shortcut behind a ReLU",
        basic((SUM, "return (out + shortcut.relu()).relu()")),
        OUTPUTS,
        "a ReLU stands on the shortcut",
    ),
    (
        "forgotten return",
        basic((SUM, "(out + shortcut).relu()")),
        RUNS,
        "does forward end with `return`?",
    ),
    (
        "forward nested in __init__",
        {
            "q2": BASIC.replace("    def forward", "        def forward")
            .replace("        shortcut = x", "            shortcut = x")
            .replace("        out =", "            out =")
            .replace("        return (out", "            return (out")
        },
        RUNS,
        "does it stand inside __init__?",
    ),
    (
        "conv2 takes the block's input channels",
        basic(("nn.Conv2d(planes, planes, k", "nn.Conv2d(inplanes, planes, k")),
        {"basic_names", "basic_changed", "basic_modes"},
        "what comes out of the layer before it?",
    ),
    (
        "the branch is detached",
        basic((SUM, "return (out.detach() + shortcut).relu()")),
        {"basic_modes"},
        "is nothing detached?",
    ),
    (
        "two mistakes at once",
        basic((SUM, "return (out + shortcut) / 2")),
        OUTPUTS,
        "two mistakes: there is no ReLU after the addition; and: the two paths are averaged",
    ),
    (
        "super().__init__() forgotten",
        basic(("        super().__init__()\n", "")),
        ALL_OF_2,
        "before Module.__init__() call",
    ),
    # --- 3 · the bottleneck
    (
        "the paper's expansion",
        deep(('PARAMETERS["expansion"]', "4")),
        {"bottleneck_names", *DEEP_OUTPUTS},
        "the class says expansion = 4",
    ),
    (
        "the expansion is no attribute",
        deep(
            ('    expansion = PARAMETERS["expansion"]\n', ""),
            ("self.expansion", 'PARAMETERS["expansion"]'),
        ),
        {"bottleneck_names"},
        "the class has no attribute expansion",
    ),
    (
        "stride in the other convolution",
        deep(('== "conv1"', '!= "conv1"')),
        {"bottleneck_stride"},
        "the stride sits in the wrong convolution",
    ),
    (
        "stride in two convolutions",
        deep(
            ("(stride, 1) if", "(stride, stride) if"), ("else (1, stride)", "else (stride, stride)")
        ),
        {"bottleneck_stride"},
        "two convolutions of the branch have the stride",
    ),
    (
        "projection decided by planes",
        deep(("inplanes != width", "inplanes != planes")),
        {"bottleneck_names", "bottleneck_values"},
        "a projection that is not needed",
    ),
    (
        "no ReLU behind bn2",
        deep(("out = self.bn2(self.conv2(out)).relu()", END)),
        DEEP_OUTPUTS,
        "there is no ReLU behind bn2",
    ),
    (
        "third BN missing",
        deep(
            ("        self.bn3 = nn.BatchNorm2d(width)\n", ""),
            ("out = self.bn3(self.conv3(out))", "out = self.conv3(out)"),
        ),
        {"bottleneck_names", *DEEP_OUTPUTS},
        "bn3 is missing, or never runs",
    ),
    (
        "ReLU before the addition, bottleneck",
        deep((DEEP_SUM, "return out.relu() + shortcut")),
        DEEP_OUTPUTS,
        "the ReLU comes before the addition; it belongs after it",
    ),
    (
        "bottleneck copied from torchvision, without a projection of its own",
        {
            "q3": """
class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inplanes, planes, stride=1, downsample=None):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)
"""
        },
        {"bottleneck_names", *DEEP_OUTPUTS},
        "the class says expansion = 4",
    ),
    # --- 4 · start as the identity
    (
        "the first BN set to zero",
        start(('last = block.bn3 if hasattr(block, "bn3") else block.bn2', "last = block.bn1")),
        {"start"},
        "still lets the branch through",
    ),
    (
        "beta left as it was",
        start(("        last.bias.zero_()\n", "")),
        {"start"},
        "the branch still adds beta",
    ),
    (
        "bn2 of a bottleneck",
        start(('last = block.bn3 if hasattr(block, "bn3") else block.bn2', "last = block.bn2")),
        {"start"},
        "bn3, still lets the branch through",
    ),
    (
        "convolutions set to zero",
        start(
            (
                BEGIN.strip(),
                "def start_as_identity(block):\n"
                "    for part in block.modules():\n"
                "        if isinstance(part, nn.Conv2d):\n"
                "            nn.init.zeros_(part.weight)",
            )
        ),
        {"start"},
        "it changes conv1.weight",
    ),
    (
        "a new start with ones: wrong init",
        start(("last.weight.zero_()", "last.weight.fill_(1.0)")),
        {"start"},
        "which of its two lists multiplies what the branch gives?",
    ),
    (
        "weights frozen",
        start(
            (
                "        last.bias.zero_()\n",
                "        last.bias.zero_()\n    last.weight.requires_grad_(False)\n",
            )
        ),
        {"start"},
        "requires_grad stays True",
    ),
    (
        "forward replaced",
        start((BEGIN.strip(), "def start_as_identity(block):\n    block.forward = lambda x: x")),
        {"start"},
        "nothing in the block has changed",
    ),
    (
        "always True",
        start((TEST_HEAD, TEST_HEAD + "    return True\n")),
        TESTS,
        "it accepts a block whose branch does not give 0",
    ),
    (
        "always False",
        start((TEST_HEAD, TEST_HEAD + "    return False\n")),
        TESTS,
        "it refuses a block that starts as the identity",
    ),
    (
        "input with negative values",
        start(("torch.rand(", "torch.randn(")),
        TESTS,
        "does your input have negative values?",
    ),
    (
        "an input of zeros",
        start(("torch.rand(", "torch.zeros(")),
        {"test_plain", "test_traps"},
        "it accepts a block that gives 0 for every input",
    ),
    (
        "an input of ones",
        start(("torch.rand(", "torch.ones(")),
        {"test_traps"},
        "are all channels of your input equal?",
    ),
    (
        "eval mode only",
        start(("(True, False)", "(False,)")),
        {"test_traps"},
        "it accepts a block that is the identity in eval mode only",
    ),
    (
        "train mode only",
        start(("(True, False)", "(True,)")),
        {"test_traps"},
        "it accepts a block that is the identity in train mode only",
    ),
    (
        "compared with an input that the block has edited",
        start(("trial(x.clone())", "trial(x)")),
        {"test_traps"},
        "it accepts a block that halves its input in place",
    ),
    (
        "a loose tolerance",
        start(("> 1e-5", "> 0.1")),
        {"test_traps"},
        "rounding is far smaller",
    ),
    (
        "the tested block changes",
        start(("copy.deepcopy(block)", "block")),
        {"hands_off"},
        "a pass in train mode moves the running statistics",
    ),
    (
        "the mode is not put back",
        start(
            (
                "    trial = copy.deepcopy(block)\n",
                "    trial = copy.deepcopy(block)\n    block.eval()\n",
            )
        ),
        {"hands_off"},
        "the tested block is left in another mode",
    ),
    (
        "a test that prints and returns nothing",
        start(("    return True\n", "    print('ok')\n")),
        TESTS,
        "it gives None, not True or False",
    ),
    (
        "a test that looks for names",
        start(
            (
                START.split(TEST_HEAD)[1],
                "    return bool((block.bn2.weight == 0).all())\n",
            )
        ),
        TESTS,
        "has no attribute 'bn2'",
    ),
    (
        "a test of the last weights alone",
        start(
            (
                START.split(TEST_HEAD)[1],
                "    gamma = [p for p in block.parameters() if p.dim() == 1][-2]\n"
                "    return gamma.abs().max().item() == 0\n",
            )
        ),
        {"test_plain", "test_traps"},
        "compare values, not names",
    ),
]

# (what is unusual, edits): correct, and loses nothing
UNUSUAL = [
    (
        "ReLU by torch.maximum, sum by torch.add, modules in a loop, names by add_module",
        {
            "q2": """
class BasicBlock(nn.Module):
    def __init__(self, cin, cout, stride=1):
        super().__init__()
        k = PARAMETERS["kernel"]
        for i, (a, s) in enumerate([(cin, stride), (cout, 1)], start=1):
            conv = nn.Conv2d(a, cout, (k, k), (s, s), padding=(k - 1) // 2, bias=False)
            self.add_module(f"conv{i}", conv)
            self.add_module(f"bn{i}", nn.BatchNorm2d(cout))
        if not (stride == 1 and cin == cout):
            self.downsample = nn.Sequential()
            self.downsample.add_module("0", nn.Conv2d(cin, cout, 1, stride, bias=False))
            self.downsample.add_module("1", nn.BatchNorm2d(cout))

    def forward(self, x):
        zero = torch.zeros((), device=x.device, dtype=x.dtype)
        h = x
        for i in (1, 2):
            if i == 2:
                h = torch.maximum(h, zero)
            h = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(h))
        side = self.downsample(x) if hasattr(self, "downsample") else x
        return torch.maximum(torch.add(h, side), zero)
"""
        },
    ),
    (
        "in-place operations on its own tensors, an empty Sequential as the identity",
        {
            "q2": """
def conv(a, b, k, stride=1):
    return nn.Conv2d(a, b, k, stride, padding="same" if stride == 1 else k // 2, bias=False)


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        k = PARAMETERS["kernel"]
        self.relu = nn.ReLU(inplace=True)
        self.conv1, self.bn1 = conv(inplanes, planes, k, stride), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv(planes, planes, k), nn.BatchNorm2d(planes)
        self.downsample = nn.Sequential()
        if (stride, inplanes) != (1, planes):
            self.downsample = nn.Sequential(
                nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes)
            )

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.downsample(x)
        return self.relu(out)
"""
        },
    ),
    (
        "functional convolution and batch norm in the right mode, ReLU by clamp",
        basic(
            (MIDDLE, "out = self.step(x, self.conv1, self.bn1).clamp(min=0)"),
            (END, "out = self.step(out, self.conv2, self.bn2)"),
            (SUM, "return torch.clamp(sum([out, shortcut]), 0, None)"),
            (
                "    def forward(self, x):",
                """    def step(self, x, conv, bn):
        x = F.conv2d(x, conv.weight, None, conv.stride, conv.padding)
        if self.training:
            bn.num_batches_tracked += 1
        return F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias,
                            self.training, bn.momentum, bn.eps)

    def forward(self, x):""",
            ),
        ),
    ),
    (
        "a base class for both blocks, branch from a list, nn.Identity on the shortcut",
        {
            "q2": """
class Residual(nn.Module):
    '''What both blocks share: pairs of convolution and BN, by name.'''

    def __init__(self, plan, stride):
        super().__init__()
        self.count = len(plan)
        for i, (a, b, k, s) in enumerate(plan, 1):
            setattr(self, f"conv{i}", nn.Conv2d(a, b, k, s, k // 2, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm2d(b))
        first, last = plan[0][0], plan[-1][1]
        self.downsample = nn.Identity()
        if stride > 1 or first != last:
            self.downsample = nn.Sequential(
                nn.Conv2d(first, last, 1, stride, bias=False), nn.BatchNorm2d(last)
            )

    def forward(self, x):
        out = x
        for i in range(1, self.count + 1):
            out = getattr(self, f"conv{i}")(out)
            out = getattr(self, f"bn{i}")(out)
            out = out if i == self.count else nn.functional.relu(out)
        return nn.functional.relu(self.downsample(x) + out)


class BasicBlock(Residual):
    def __init__(self, inplanes, planes, stride=1):
        k = PARAMETERS["kernel"]
        super().__init__([(inplanes, planes, k, stride), (planes, planes, k, 1)], stride)
""",
            "q3": """
class Bottleneck(Residual):
    expansion = PARAMETERS["expansion"]

    def __init__(self, inplanes, planes, stride=1):
        one = stride if PARAMETERS["stride_in"] == "conv1" else 1
        plan = [
            (inplanes, planes, 1, one),
            (planes, planes, 3, stride // one),
            (planes, planes * Bottleneck.expansion, 1, 1),
        ]
        super().__init__(plan, stride)
""",
        },
    ),
    (
        "test in both modes by hand, without a copy, everything put back",
        start(
            (
                START.split(TEST_HEAD)[1],
                """    state = {name: value.clone() for name, value in block.state_dict().items()}
    modes = [(part, part.training) for part in block.modules()]
    gap = 0.0
    for mode in ("eval", "train"):
        x = torch.arange(3 * channels * 25.0).reshape(3, channels, 5, 5) % 17 / 4
        getattr(block, mode)()
        gap = max(gap, float((block(x.clone()).detach() - x).abs().amax()))
    block.load_state_dict(state)
    for part, training in modes:
        part.training = training
    return gap < 1e-4
""",
            ),
            (
                BEGIN.strip(),
                """def start_as_identity(block):
    names = [name for name, part in block.named_modules() if name.startswith("bn")]
    for parameter in getattr(block, max(names)).parameters():
        parameter.data = torch.zeros_like(parameter)""",
            ),
        ),
    ),
    (
        "numbers measured with the layers of torch",
        {
            "q1": """
p = PARAMETERS
one = nn.Conv2d(p["inplanes"], p["planes"], p["kernel"], p["stride"], p["kernel"] // 2)
two = nn.Conv2d(p["planes"], p["planes"], p["kernel"])
three = nn.Conv2d(p["planes"], p["planes"], 1, bias=False)
side = nn.Conv2d(p["inplanes"], p["planes"], 1, p["stride"])
bn = nn.BatchNorm2d(p["planes"])
count = lambda *layers: sum(w.numel() for m in layers for w in m.parameters())
odd_weights = dict(all=count(one, two, three, side) + 2 * count(bn))
odd_weights["never used"] = torch.tensor(count(three, bn))
odd_weights["removed by BN"] = float(one.bias.numel() + two.bias.numel())
x = torch.zeros(1, p["inplanes"], p["side"], p["side"])
odd_sizes = {"behind conv1": one(x).shape[2], "behind conv2": two(one(x)).shape[3]}
odd_sizes["shortcut"] = side(x).shape[-1]
odd_sizes["padding"] = (odd_sizes["shortcut"] - odd_sizes["behind conv2"]) / 2
odd_sizes["MACs of conv2"] = two.weight.numel() * odd_sizes["behind conv2"] ** 2
"""
        },
    ),
    (
        "a test that gives a tensor, and compares the largest gap with the largest value",
        {
            "q4": """
def start_as_identity(block):
    last = getattr(block, "bn3", block.bn2)
    last.weight.data *= 0
    last.bias.data *= 0


def starts_as_identity(block, channels):
    twin, gaps = copy.deepcopy(block), []
    for mode in (True, False):
        x = torch.rand(4, channels, 7, 5) * 3
        gaps.append((twin.train(mode)(x.clone()) - x).abs().max() / x.max())
    return max(gaps) < 1e-4
"""
        },
    ),
]
