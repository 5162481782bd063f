"""Wrong answers to the exercises of chapter 01, and the words that each must be told."""


def illness(a=2, b=1, c=3, d=4) -> str:
    return f"illness = {{'A': {a}, 'B': {b}, 'C': {c}, 'D': {d}}}"


def nothing(*lines: str, end: str = "return block") -> str:
    return "\n    ".join(("def do_nothing(block):", *lines, end)) + "\n"


def start(*lines: str, end: str = "return net") -> str:
    return "\n    ".join(("def my_start(net):", *lines, end)) + "\n"


def tables(he=1.78, plain=-5.13, worth=7.42) -> str:
    return (
        f"from_tables = {{'He 2015, residual': {he}, 'Li 2018, no shortcut': {plain}, "
        f"'shortcut at 56 layers': {worth}}}"
    )


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
    (2, nothing(DIRAC, end="block.eval()"), ["-1 is not right", "return the block?"]),
    (3, WAYS.format("0.5**layers"), ["with arguments (1.0, 1)", "expected: 0.841"]),
    (
        3,
        WAYS.format("0.5 * (1 + math.erf(bias / math.sqrt(2)))"),
        ["with arguments (0.0, 10)", "returns 0.5"],
    ),
    (
        3,
        WAYS.format("(0.5 * (1 + math.erf(bias))) ** layers"),
        ["with arguments (1.0, 1)", "returns 0.92"],
    ),
    (4, tables(he=-1.78), ["He 2015, residual: -1.78", "it falls: positive"]),
    (4, tables(plain=5.13), ["Li 2018, no shortcut: 5.13", "it rises"]),
    (4, tables(worth=0.81), ["shortcut at 56 layers: 0.81", "at 20 layers"]),
    (4, tables(worth=6.34), ["shortcut at 56 layers: 6.34", "one paper for both"]),
    # BN takes the scale out again.
    (
        5,
        start("for layer in net.layers:", "    layer.weight.data *= 0.5"),
        ["seeds rescued: 0 is not right", "divided out by BN"],
    ),
    (5, start("net.residual = True"), ["-1 is not right", "must stay plain"]),
    (5, start("net.layers = net.layers[:6]"), ["-1 is not right", "56 layers deep"]),
    (5, start("bn_bias(net, 2.0)", end="pass"), ["-2 is not right", "return the net?"]),
]
