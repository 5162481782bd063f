"""Wrong answers to the exercises of chapter 01, and the words that each must be told."""


def illness(a=2, b=1, c=3, d=4) -> str:
    return f"illness = {{'A': {a}, 'B': {b}, 'C': {c}, 'D': {d}}}"


def nothing(*lines: str, end: str = "return block") -> str:
    return "\n    ".join(("def do_nothing(block):", *lines, end)) + "\n"


def start(*lines: str, end: str = "return net") -> str:
    return "\n    ".join(("def my_start(net):", *lines, end)) + "\n"


def controls(a=1, b=3, c=2, d=5) -> str:
    return f"excluded_by = {{'A': {a}, 'B': {b}, 'C': {c}, 'D': {d}}}"


DIRAC = "nn.init.dirac_(block.conv1.weight); nn.init.dirac_(block.conv2.weight)"
WAYS = "def open_ways(bias, layers):\n    return {}"

# (exercise, answer, words that the check must say)
WRONG = [
    (1, illness(a=1), ["A: 1 is not right", "look at the training error"]),
    (1, illness(b=2), ["B: 2 is not right", "cannot tell the two apart"]),
    (1, illness(c=2), ["C: 2 is not right", "both errors fell"]),
    (1, illness(d=2), ["D: 2 is not right", "look at the training error"]),
    (1, illness(b="'overfitting'"), ["B: 'overfitting' is not a number"]),
    # Identity convolutions with a shortcut: x is added to its own copy.
    (2, nothing(DIRAC), ["residual, train mode", "the branch must give 0"]),
    # A zero branch without a shortcut: everything is lost.
    (2, nothing("nn.init.zeros_(block.bn2.weight)"), ["plain, eval mode", "zeros erase x"]),
    (2, nothing("pass"), ["the branch must give 0", "each convolution must copy"]),
    (2, nothing(DIRAC, end="block.eval()"), ["plain, eval mode: return the block that you"]),
    (2, nothing("block.bn2.weight = 0"), ["raises TypeError: cannot assign 'int' as parameter"]),
    (
        2,
        nothing("block.residual = True\n    nn.init.zeros_(block.bn2.weight)"),
        ["plain, eval mode: change only the weights"],
    ),
    (2, nothing("pass", end="return nn.Identity()"), ["return the block that you were given"]),
    (
        3,
        WAYS.format("0.5**layers"),
        ["with arguments (1.0, 1)", "expected: 0.841", "right for the bias 0 only"],
    ),
    (
        3,
        WAYS.format("0.5 * (1 + math.erf(bias / math.sqrt(2)))"),
        ["with arguments (0.0, 10)", "returns 0.5", "the share of one ReLU"],
    ),
    (
        3,
        WAYS.format("(0.5 * (1 + math.erf(bias))) ** layers"),
        ["with arguments (1.0, 1)", "returns 0.92", "takes bias / sqrt(2)"],
    ),
    (
        3,
        WAYS.format("1 - (0.5 * (1 + math.erf(bias / math.sqrt(2)))) ** layers"),
        ["with arguments (0.0, 10)", "the closed ones"],
    ),
    (4, controls(a=4), ["A: 4 is not right", "low when a net overfits"]),
    (4, controls(b=1), ["B: 1 is not right", "too few weights has a high"]),
    (4, controls(c=3), ["C: 3 is not right", "change the rate alone"]),
    (4, controls(d=4), ["D: 4 is not right", "end as high as with fewer steps"]),
    (4, controls(d=3), ["D: 3 is not right", "began at the goal"]),
    # BN takes the scale out again.
    (
        5,
        start("for layer in net.layers:", "    layer.weight.data *= 0.5"),
        ["seeds rescued: 0 is not right", "divided out by BN"],
    ),
    (5, start("net.residual = True"), ["the net must stay plain"]),
    (5, start("net.layers = net.layers[:6]"), ["must stay 56 layers deep"]),
    (5, start("bn_bias(net, 2.0)", end="pass"), ["return the net that you were given"]),
]
