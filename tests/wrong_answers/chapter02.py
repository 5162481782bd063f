"""Wrong answers to the exercises of chapter 02, and the words that each must be told."""

THREE = "three = {{'with shortcuts': {}, 'without shortcuts': {}, 'two branches': {}}}"
BACKWARD = "def block_backward(x, W, g):\n    {}\n    return {}"
LEAKY = """
def leaky_factor(a):
    square = (1 + a**2) / 2
    mean = {mean}
    return {end}
"""
RESTART = """
def restart(net):
    with torch.no_grad():
        {}
    return {}
"""
EVERY_CONV = "for m in convs(net): m.weight *= 0.1"
EVERY_BN = "for m in net.modules(): isinstance(m, nn.BatchNorm2d) and m.{}.fill_({})"
SHORTCUT = "def shortcut_path(scale, blocks):\n    return {}"
MOST = "def most_blocks(scale):\n    return {}"
MASK = "g = g * (W @ x + x > 0)"


def leaky(mean="(1 - a) / math.sqrt(2 * math.pi)", end="math.sqrt(square / (square - mean**2))"):
    return LEAKY.format(mean=mean, end=end)


# (exercise, answer, words that the check must say)
WRONG = [
    (1, THREE.format(0.9, -0.1, -0.4), ["shortcuts: 0.9 is not right", "in every block"]),
    (1, THREE.format(1.7, -0.1, -0.4), ["shortcuts: 1.7 is not right", "multiply"]),
    (1, THREE.format(1.2, 0.7, -0.4), ["without shortcuts: 0.7", "multiplies its slopes"]),
    (1, THREE.format(1.2, -0.1, 0.7), ["two branches: 0.7", "paths with one branch"]),
    (1, THREE.format(1.2, -0.1, "..."), ["two branches: not answered yet"]),
    (2, BACKWARD.format("pass", "g + W.T @ g"), ["not yet", "the ReLU is missing"]),
    (2, BACKWARD.format(MASK, "W.T @ g"), ["not yet", "the shortcut is missing"]),
    (2, BACKWARD.format(MASK, "g + W @ g"), ["not yet", "transpose"]),
    (
        2,
        BACKWARD.format("g = g * (x > 0)", "g + W.T @ g"),
        ["not yet", "the value before the ReLU"],
    ),
    (2, BACKWARD.format("pass", "(W.T @ g + g) * (W @ x + x > 0)"), ["not yet", "comes first"]),
    (2, BACKWARD.format("pass", "(W.T * g) @ x @ x @ x"), ["raises RuntimeError"]),
    (3, leaky(mean="0"), ["with arguments (0.0)", "returns 1.0", "subtracts the mean"]),
    (
        3,
        leaky(end="math.sqrt((square - mean**2) / square)"),
        ["arguments (0.0)", "1.211", "upside down"],
    ),
    (3, leaky(end="square / (square - mean**2)"), ["arguments (0.0)", "returns 1.466", "root"]),
    (3, leaky(mean="1 / math.sqrt(2 * math.pi)"), ["with arguments (0.2)"]),
    (4, RESTART.format(EVERY_CONV, "net"), ["calm seeds: 0 is not right", "divides a scale"]),
    (4, RESTART.format(EVERY_BN.format("weight", 0), "net"), ["no gradient at all"]),
    (4, RESTART.format(EVERY_BN.format("bias", 1), "build(56, True)"), ["must stay plain"]),
    (4, RESTART.format("pass", "build(8, False)"), ["with 56 layers"]),
    (4, RESTART.format("net.conv1.weight *= 1000", "net"), ["only divide their own gradient"]),
    (4, RESTART.format("pass", "None"), ["does your function return the net?"]),
    (4, RESTART.format(EVERY_BN.format("bias", 0.3), "net"), ["calm seeds: 0 is not right"]),
    (5, SHORTCUT.format("scale * blocks"), ["shortcut_path: not yet", "(0.5, 3)", "a power"]),
    (5, SHORTCUT.format("(1 + scale) ** blocks"), ["expected: 0.125", "no slope of a branch"]),
    (5, MOST.format("math.log(0.01) / math.log(scale)"), ["6.64", "a whole number"]),
    (5, MOST.format("math.ceil(math.log(0.01) / math.log(scale))"), ["returns 7", "round down"]),
    (5, MOST.format("math.floor(math.log(0.01) / scale)"), ["most_blocks: not yet", "expected: 6"]),
]
