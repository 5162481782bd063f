"""Submissions of assignment 1: known mistakes with the marks they lose, and unusual right work."""

RIGHT = {
    "clearly": """
def clearly(shallow, deep):
    if min(len(shallow or []), len(deep or [])) < 2:
        return "not clear"
    square = sum(statistics.variance(e) / len(e) for e in (shallow, deep))
    rise = statistics.fmean(deep) - statistics.fmean(shallow)
    if abs(rise) <= PARAMETERS["times"] * math.sqrt(square):
        return "not clear"
    return "rises" if rise > 0 else "falls"
""",
    "diagnose": """
def diagnose(train_shallow, test_shallow, train_deep, test_deep):
    train = clearly(train_shallow, train_deep)
    test = clearly(test_shallow, test_deep)
    if train == "rises":
        return "degradation"
    if train == "falls" and test == "rises":
        return "overfitting"
    return "better" if train == test == "falls" else "not clear"
""",
    "ratio": """
def gradient_ratio(net, x, y):
    twin = copy.deepcopy(net).train().requires_grad_()
    convs = [m for m in twin.modules() if isinstance(m, nn.Conv2d)]
    loss = F.cross_entropy(twin(x), y)
    first, last = torch.autograd.grad(loss, [convs[0].weight, convs[-1].weight])
    return (first.norm() / last.norm()).item()
""",
    "story": """
def gradient_story(first, last):
    limit, floor = PARAMETERS["limit"], PARAMETERS["floor"]
    if max(first + last) < floor:
        return "small everywhere"
    ratios = [a / b for a, b in zip(first, last)]
    if min(ratios) > limit:
        return "explodes"
    if max(ratios) < 1 / limit:
        return "vanishes"
    if max(ratios) <= limit and min(ratios) >= 1 / limit:
        return "even"
    return "not clear"
""",
    "numbers": """
n, k, s = PARAMETERS["blocks"], PARAMETERS["length"], PARAMETERS["slope"]
parts = [math.comb(n, m) * s**m for m in range(n + 1)]
by_hand = {
    "paths": 2**n,
    "paths of this length": math.comb(n, k),
    "strongest length": parts.index(max(parts)),
    "part of this length": parts[k],
    "derivative": (1 + s) ** n,
    "derivative, plain": s**n,
    "mean square, no BN": (1 + PARAMETERS["gain"]) ** n,
    "mean square, BN": n + 1,
    "first sum": PARAMETERS["sum"],
    "change of the ratio": PARAMETERS["factor"] ** -2,
}
""",
    "block": """
class Extra(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.bn2.weight)

    def forward(self, x):
        out = torch.relu(self.bn1(self.conv1(x)))
        return x + self.bn2(self.conv2(out))


def deepen(net, place, channels):
    return nn.Sequential(*net[:place], Extra(channels), *net[place:])
""",
    "learns": """
g, c = "gamma2" in PARAMETERS["zero"], "conv2" in PARAMETERS["zero"]
learns = {
    "conv1, step 0": 0,
    "conv2, step 0": 0 if g else 1,
    "gamma2, step 0": 0 if c else 1,
    "beta2, step 0": 1,
    "conv1, step 1": 0 if g and c else 1,
    "conv2, step 1": 0 if g and c else 1,
    "gamma2, step 1": 0 if g and c else 1,
    "beta2, step 1": 1,
}
""",
}


def but(name, *swaps):
    """The right work with parts of its text replaced: (before, after), ..."""
    text = RIGHT[name]
    for before, after in swaps:
        assert before in text, before
        text = text.replace(before, after)
    return text


def rule(*swaps):
    return {"q1": but("clearly", *swaps) + RIGHT["diagnose"]}


def illness(*swaps):
    return {"q1": RIGHT["clearly"] + but("diagnose", *swaps)}


def ratio(*swaps):
    return {"q2": but("ratio", *swaps)}


def story(*swaps):
    return {"q3": but("story", *swaps)}


def number(name, value):
    return {"q4": RIGHT["numbers"] + f"by_hand[{name!r}] = {value}\n"}


def block(*swaps):
    return {"q5": but("block", *swaps)}


def learner(*values):
    lines = [f"learns[{name!r}] = {value}" for name, value in values]
    return {"q6": RIGHT["learns"] + "\n".join(lines)}


CLEARLY_ROOT = 'PARAMETERS["times"] * math.sqrt(square)'
SUM = "sum(statistics.variance(e) / len(e) for e in (shallow, deep))"
TWIN = "copy.deepcopy(net).train().requires_grad_()"
IN_PLACE = "net.train().requires_grad_()"
ZERO_GAMMA = "        nn.init.zeros_(self.bn2.weight)\n"
ADD = "x + self.bn2(self.conv2(out))"
FLOOR = 'if max(first + last) < floor:\n        return "small everywhere"\n    '
VALUES = {"value", "modes"}

# (what is wrong, answers by question, parts that lose their marks, words that must be said)
WRONG = [
    # 1 · Name the illness
    (
        "population variance",
        rule(("statistics.variance", "statistics.pvariance")),
        {"rule"},
        "the sample variance divides by n - 1",
    ),
    (
        "variance not divided by the number of seeds",
        rule((" / len(e)", "")),
        {"rule"},
        "each variance is divided by its number of seeds",
    ),
    (
        "standard errors added",
        rule((SUM, SUM.replace("variance(e) / len(e)", "stdev(e) / len(e) ** 0.5") + " ** 2")),
        {"rule"},
        "add the squares",
    ),
    (
        "means compared without noise",
        rule((CLEARLY_ROOT, "0"), ("< 2", "< 1"), (SUM, "0")),
        {"rule", "illness"},
        "the noise plays no part in it",
    ),
    (
        "another number of times the noise",
        rule((CLEARLY_ROOT, "math.sqrt(square)")),
        {"rule"},
        "how many times the noise?",
    ),
    ("as much as the noise counts as clear", rule(("<=", "<")), {"rule"}, "more than the noise"),
    (
        "one seed not thought of",
        rule(("< 2", "< 1")),
        {"rule", "illness"},
        "raises StatisticsError",
    ),
    (
        "None not thought of",
        rule(("min(len(shallow or []), len(deep or []))", "min(len(shallow), len(deep))")),
        {"rule", "illness"},
        "raises TypeError",
    ),
    (
        "rises and falls mixed up",
        rule(('"rises" if rise > 0 else "falls"', '"falls" if rise > 0 else "rises"')),
        {"rule", "illness"},
        "the other way",
    ),
    (
        "illness told from the test error alone",
        illness(
            ('train == "rises"', "False"),
            ('train == "falls" and ', ""),
            ("train == test", "test"),
        ),
        {"illness"},
        "the test error alone cannot tell the two apart",
    ),
    (
        "degradation wants a test error that was measured",
        illness(('train == "rises"', 'train == "rises" and test != "not clear"')),
        {"illness"},
        "the test error does not come into it",
    ),
    (
        "degradation wants a test error that rises",
        illness(('train == "rises"', 'train == test == "rises"')),
        {"illness"},
        "the test error may even fall",
    ),
    (
        "overfitting whenever the test error rises",
        illness(
            ('train == "rises"', 'train == "rises" and test != "rises"'),
            ('train == "falls" and ', ""),
        ),
        {"illness"},
        "look at the training error first",
    ),
    (
        "degradation whenever the test error rises",
        illness(('train == "rises"', '"rises" in (train, test)')),
        {"illness"},
        "the test error cannot show it",
    ),
    (
        "not clear taken for not rising",
        illness(('train == "falls" and ', "")),
        {"illness"},
        "a training error that clearly falls",
    ),
    (
        "better although the test error is not clear",
        illness(('train == test == "falls"', 'train == "falls"')),
        {"illness"},
        "two clear falls",
    ),
    (
        "a constant answer",
        {"q1": "clearly = lambda *_: 'rises'\ndiagnose = lambda *_: 'degradation'\n"},
        {"rule", "illness"},
        "returns 'degradation'",
    ),
    # 2 · Measure without a trace
    (
        "last over first",
        ratio(("first.norm() / last", "last.norm() / first")),
        VALUES,
        "upside down",
    ),
    (
        "every layer with a weight",
        ratio(("isinstance(m, nn.Conv2d)", "hasattr(m, 'weight')")),
        VALUES,
        "only convolutions count",
    ),
    (
        "squares without the root",
        ratio(("(first.norm() / last.norm())", "(first.pow(2).sum() / last.pow(2).sum())")),
        VALUES,
        "the root of the sum of squares",
    ),
    (
        "sum of absolute values",
        ratio((".norm()", ".abs().sum()")),
        VALUES,
        "adds absolute values",
    ),
    ("measured in eval mode", ratio((".train()", ".eval()")), VALUES, "measured in eval mode"),
    (
        "measured in the mode it arrives in",
        ratio((".train()", "")),
        {"modes"},
        "measure in train mode",
    ),
    (
        "frozen weights not thought of",
        ratio((".requires_grad_()", "")),
        {"modes", "trace"},
        "a frozen weight gets no gradient",
    ),
    ("buffers of BN moved", ratio((TWIN, IN_PLACE)), {"trace"}, "the buffers of BN have moved"),
    (
        "gradients left in .grad",
        {
            "q2": """
def gradient_ratio(net, x, y):
    modes = [m.training for m in net.modules()]
    frozen = [p.requires_grad for p in net.parameters()]
    buffers = copy.deepcopy(list(net.buffers()))
    net.train().requires_grad_().zero_grad()
    F.cross_entropy(net(x), y).backward()
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    ratio = convs[0].weight.grad.norm() / convs[-1].weight.grad.norm()
    for m, mode in zip(net.modules(), modes):
        m.training = mode
    for p, was in zip(net.parameters(), frozen):
        p.requires_grad = was
    with torch.no_grad():
        for now, was in zip(net.buffers(), buffers):
            now.copy_(was)
    return ratio.item()
"""
        },
        {"trace"},
        "the gradients stored in .grad have changed",
    ),
    (
        "one mode for all parts put back",
        {
            "q2": """
def gradient_ratio(net, x, y):
    was, state = net.training, copy.deepcopy(net.state_dict())
    frozen = [p.requires_grad for p in net.parameters()]
    net.train().requires_grad_()
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    ends = [convs[0].weight, convs[-1].weight]
    first, last = torch.autograd.grad(F.cross_entropy(net(x), y), ends)
    net.load_state_dict(state)
    for p, grad in zip(net.parameters(), frozen):
        p.requires_grad = grad
    net.train(was)
    return float(first.norm() / last.norm())
"""
        },
        {"trace"},
        "each part has a mode of its own",
    ),
    (
        "a constant ratio",
        {"q2": "def gradient_ratio(net, x, y):\n    return 1.0\n"},
        {"value", "modes", "trace"},
        "nothing was measured",
    ),
    (
        "a random ratio",
        {"q2": "import random\n\n\ndef gradient_ratio(net, x, y):\n    return random.random()\n"},
        {"value", "modes", "trace"},
        "the same net, another ratio",
    ),
    # 3 · What does the gradient do?
    (
        "the gradient walks forward",
        story(("a / b", "b / a")),
        {"story"},
        "travels from the last layer to the first",
    ),
    ("the floor never asked", story((FLOOR, "")), {"story"}, "a ratio can hide that both are tiny"),
    (
        "the mean of the seeds",
        story(
            ("    if min(ratios)", "    ratios = [statistics.fmean(ratios)]\n    if min(ratios)")
        ),
        {"story"},
        "a mean hides one that differs",
    ),
    (
        "one seed decides",
        story(
            ("min(ratios) > limit", "max(ratios) > limit"),
            ("max(ratios) < 1", "min(ratios) < 1"),
        ),
        {"story"},
        "one seed is not enough",
    ),
    (
        "small everywhere from one norm",
        story(("max(first + last)", "min(first + last)")),
        {"story"},
        "all norms of both lists, not one",
    ),
    # 4 · By hand
    ("paths add", number("paths", "2 * n"), {"paths"}, "they do not add"),
    ("paths squared", number("paths", "n**2"), {"paths"}, "which is the base?"),
    (
        "order counted",
        number("paths of this length", "math.perm(n, k)"),
        {"paths"},
        "the order of the blocks is fixed",
    ),
    (
        "the commonest length",
        number("strongest length", "n // 2"),
        {"paths"},
        "most paths have this",
    ),
    ("one path for all", number("part of this length", "s**k"), {"slopes"}, "this is one path"),
    ("plus one once", number("derivative", "1 + s**n"), {"slopes"}, "plus one in every block"),
    ("slopes added", number("derivative, plain", "n * s"), {"slopes"}, "the chain rule multiplies"),
    (
        "growth without interest",
        number("mean square, no BN", "1 + n * PARAMETERS['gain']"),
        {"growth"},
        "a branch reads the grown line",
    ),
    ("the first 1 forgotten", number("mean square, BN", "n"), {"growth"}, "the line itself begins"),
    (
        "sum divided among the layers",
        number("first sum", "PARAMETERS['sum'] * 2"),
        {"euler"},
        "Euler's rule",
    ),
    (
        "one of two layers counted",
        number("change of the ratio", "1 / PARAMETERS['factor']"),
        {"euler"},
        "the last gradient changes too",
    ),
    # 5 · Deeper, and the same
    (
        "ReLU behind the addition",
        block((ADD, f"torch.relu({ADD})")),
        {"same"},
        "a ReLU cuts the negative values",
    ),
    (
        "branch not zero",
        block((ZERO_GAMMA, "")),
        {"same"},
        "what must the branch give at the start?",
    ),
    (
        "branch nearly zero",
        block((ZERO_GAMMA, "        nn.init.constant_(self.bn2.weight, 1e-6)\n")),
        {"same"},
        "nearly the same, not the same",
    ),
    (
        "BN behind the addition",
        block(
            (ZERO_GAMMA, ZERO_GAMMA + "        self.bn3 = nn.BatchNorm2d(channels)\n"),
            (ADD, f"self.bn3({ADD})"),
        ),
        {"same"},
        "the same in eval mode, not in train mode",
    ),
    (
        "branch times the number 0",
        block((ZERO_GAMMA, ""), (ADD, f"x + 0 * {ADD[4:]}")),
        {"alive"},
        "a factor 0 that is no weight",
    ),
    (
        "ReLU at the end of a zero branch",
        block((ADD, f"x + torch.relu({ADD[4:]})")),
        {"alive"},
        "a ReLU closed at 0",
    ),
    (
        "gamma and convolution both zero",
        block((ZERO_GAMMA, ZERO_GAMMA + "        nn.init.zeros_(self.conv2.weight)\n")),
        {"alive"},
        "two zeros in a row",
    ),
    (
        "an identity for a block",
        block(("Extra(channels)", "nn.Identity()")),
        {"same", "alive"},
        "no two 3x3 convolutions",
    ),
    (
        "the net given back",
        block(("return nn.Sequential(*net[:place], Extra(channels), *net[place:])", "return net")),
        {"same", "alive"},
        "one more than the old one",
    ),
    (
        "block at the wrong place",
        block(("net[:place]", "net[:place - 1]"), ("net[place:]", "net[place - 1:]")),
        {"same", "alive"},
        "no two 3x3 convolutions",
    ),
    # 6 · Who learns first?
    (
        "all weights learn at once",
        learner(*((f"{w}, step 0", 1) for w in ("conv1", "conv2", "gamma2"))),
        {"wakes"},
        "what comes back to it",
    ),
    ("beta forgotten", learner(("beta2, step 0", 0)), {"wakes"}, "nothing is in its way"),
    (
        "the zeros never end, or end too soon",
        learner(("conv1, step 1", "1 - learns['conv1, step 1']")),
        {"wakes"},
        "still zero after the first step",
    ),
]

UNUSUAL = [
    (
        "statistics by tensors",
        {
            "q1": """
def clearly(shallow, deep):
    if shallow is None or deep is None or len(shallow) == 1 or len(deep) == 1:
        return "not clear"
    a, b = (torch.tensor(e, dtype=torch.float64) for e in (shallow, deep))
    noise = (a.var() / a.numel() + b.var() / b.numel()).sqrt()
    distance = b.mean() - a.mean()
    if distance > PARAMETERS["times"] * noise:
        return "rises"
    return "falls" if -distance > PARAMETERS["times"] * noise else "not clear"


def diagnose(*lists):
    match clearly(*lists[::2]), clearly(*lists[1::2]):
        case "rises", _:
            return "degradation"
        case "falls", "rises":
            return "overfitting"
        case "falls", "falls":
            return "better"
    return "not clear"
"""
        },
    ),
    (
        "the net itself, everything put back",
        {
            "q2": """
def gradient_ratio(net, x, y):
    parts, weights = list(net.modules()), list(net.parameters())
    notes = [m.training for m in parts], [(p.requires_grad, p.grad) for p in weights]
    buffers = [b.clone() for b in net.buffers()]
    try:
        net.train()
        for p in weights:
            p.requires_grad_(True)
            p.grad = None
        F.cross_entropy(net(x), y).backward()
        norms = [m.weight.grad.norm() for m in parts if type(m) is nn.Conv2d]
    finally:
        for m, mode in zip(parts, notes[0]):
            m.training = mode
        for p, (wanted, grad) in zip(weights, notes[1]):
            p.requires_grad_(wanted)
            p.grad = grad
        with torch.no_grad():
            for b, was in zip(net.buffers(), buffers):
                b.copy_(was)
    return norms[0] / norms[-1]
"""
        },
    ),
    (
        "a functional call",
        {
            "q2": """
from torch.func import functional_call, grad


def gradient_ratio(net, x, y):
    names = [n for n, m in net.named_modules() if isinstance(m, nn.Conv2d)]
    twin = copy.deepcopy(net).train()
    weights = {n: p.detach() for n, p in twin.named_parameters()}

    def loss(weights):
        buffers = {n: b.clone() for n, b in twin.named_buffers()}
        return F.cross_entropy(functional_call(twin, (weights, buffers), (x,)), y)

    grads = grad(loss)(weights)
    first, last = (grads[f"{names[k]}.weight"].flatten() for k in (0, -1))
    return math.sqrt(first @ first) / math.sqrt(last @ last)
"""
        },
    ),
    (
        "a story by logarithms",
        {
            "q3": """
def gradient_story(first, last):
    if all(norm < PARAMETERS["floor"] for norm in [*first, *last]):
        return "small everywhere"
    edge = math.log(PARAMETERS["limit"])
    found = set()
    for a, b in zip(first, last):
        x = math.log(a) - math.log(b)
        found.add("even" if abs(x) <= edge else "explodes" if x > 0 else "vanishes")
    return "not clear" if len(found) > 1 else min(found)
"""
        },
    ),
    (
        "paths counted one by one, numbers as tensors",
        {
            "q4": RIGHT["numbers"]
            + """
from itertools import product
count = [0] * (n + 1)
for path in product((0, 1), repeat=min(n, 12)):
    count[sum(path)] += 1
if n <= 12:
    by_hand["paths"] = sum(count)
    by_hand["paths of this length"] = torch.tensor(count[k])
x = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
out = x
for _ in range(n):
    out = out + s * out
by_hand["derivative"] = torch.autograd.grad(out, x)[0]
by_hand["paths"] = float(by_hand["paths"])
"""
        },
    ),
    (
        "a gate that is a weight, no BN, put into the net itself",
        {
            "q5": """
class Gated(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1),
        )
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return self.gate * self.branch(x) + x


def deepen(net, place, channels):
    net.insert(place, Gated(channels))
    return net
"""
        },
    ),
    (
        "the last convolution zero, BN and ReLU first",
        {
            "q5": """
class Late(nn.ModuleList):
    def __init__(self, channels):
        convs = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2)]
        super().__init__([nn.BatchNorm2d(channels), convs[0], nn.BatchNorm2d(channels), convs[1]])
        for value in convs[1].parameters():
            nn.init.zeros_(value)

    def forward(self, x):
        h = x
        for bn, conv in zip(list(self)[::2], list(self)[1::2]):
            h = conv(F.leaky_relu(bn(h), 0.1))
        return x.add(h)


def deepen(net, place, channels):
    layers = list(net)
    layers.insert(place, Late(channels))
    return nn.Sequential(*layers)
"""
        },
    ),
    (
        "functional convolutions with weights of its own",
        {
            "q5": """
class Bare(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.one = nn.Parameter(0.1 * torch.randn(channels, channels, 3, 3))
        self.two = nn.Parameter(torch.zeros(channels, channels, 3, 3))

    def forward(self, x):
        h = F.conv2d(x, self.one, padding=1).relu()
        return x + F.conv2d(h, self.two, padding=1)


deepen = lambda net, place, channels: net[:place].append(Bare(channels)).extend(net[place:])
"""
        },
    ),
    (
        "measured, not thought: booleans",
        {
            "q6": """
torch.manual_seed(0)
branch = nn.Sequential(
    nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
    nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4),
)
watched = {"conv1": branch[0].weight, "conv2": branch[3].weight,
           "gamma2": branch[4].weight, "beta2": branch[4].bias}
for name in ("conv2", "gamma2"):
    if name in PARAMETERS["zero"]:
        nn.init.zeros_(watched[name])
head = nn.Linear(4, 3)
x, y = torch.randn(8, 4, 6, 6), torch.randint(3, (8,))
learns = {}
for step in (0, 1):
    branch.zero_grad()
    F.cross_entropy(head((x + branch(x)).relu().mean((2, 3))), y).backward()
    for name, weight in watched.items():
        learns[f"{name}, step {step}"] = bool(weight.grad.abs().max() > 1e-12)
    torch.optim.SGD(branch.parameters(), lr=0.1).step()
"""
        },
    ),
    (
        "a branch that is wider inside, times a weight that starts at 0",
        {
            "q5": """
class Extra(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.factor = nn.Parameter(torch.zeros(1))
        self.up = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.down = nn.Conv2d(2 * channels, channels, 3, padding="same")

    def forward(self, x):
        return x + self.factor * self.down(self.up(x).relu())


def deepen(net, place, channels):
    parts = list(net.children())
    parts.insert(place, Extra(channels))
    return nn.Sequential(*parts)
"""
        },
    ),
]
