"""Wrong answers to the exercises of chapter 00, and the words that each must be told."""

SIDES = "sides = {{'conv 5x5': {}, 'conv 3x3': {}, 'max-pool 2x2': {}}}"
COSTS = "costs = {{'weights': {}, 'multiplications': {}, 'value': {}}}"
TRAIN = "in_train = {{'output for a 5': {}, 'running mean': {}, 'running var': {}}}"
EVAL = "in_eval = {{'eval, a 5': {}, 'running mean': {}, 'train, four 5s': {}}}"
SOFT = "soft = {{'third class': {}, 'plus 100': {}, 'loss of equal logits': {}}}"
SLOPES = "slopes = {{'loss': {}, 'first logit': {}, 'third logit': {}}}"
STEPS = "steps = {{'plain': {}, 'weight decay': {}, 'momentum, two steps': {}}}"
KNOWN = "known = {{'parameters': {}, 'state_dict': {}, 'new in each call': {}}}"
STEP = """
def my_step(w, v, gradient, rate, momentum, decay):
    {}
"""


def repaired(
    init="self.conv = nn.Conv2d(4, 8, 3, padding=1, bias=False)\n        "
    "self.bn = nn.BatchNorm2d(8)",
    forward="return torch.relu(self.bn(self.conv(x)))",
    start="super().__init__()",
):
    return (
        "class Repaired(nn.Module):\n    def __init__(self):\n"
        f"        {start}\n        {init}\n    def forward(self, x):\n        {forward}\n"
    )


CONV = "nn.Conv2d(4, 8, 3, padding=1, bias=False)"
NESTED = f"""
class Repaired(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = {CONV}
        self.bn = nn.BatchNorm2d(8)

        def forward(self, x):
            return torch.relu(self.bn(self.conv(x)))
"""

# (exercise, answer, words that the check must say)
WRONG = [
    (1, SIDES.format(48, 48, 24), ["conv 5x5: 48 is not right", "the formula ends with + 1"]),
    (1, SIDES.format(50, 50, 25), ["conv 5x5: 50", "round down, not up", "fills no window"]),
    (1, SIDES.format(47, 47, 23), ["on *both* sides is missing", "max-pool 2x2: 23 is not right"]),
    (1, SIDES.format(49.5, 49, 24), ["only whole windows count"]),
    (1, SIDES.format(49, 47, 24), ["conv 3x3: 47", "gives back what a 3x3 window takes away"]),
    (1, SIDES.format(49, 49, 24.5), ["max-pool 2x2: 24.5", "only whole windows count"]),
    (1, SIDES.format(49, 49, 23), ["max-pool 2x2: 23", "the formula ends with + 1"]),
    (1, SIDES.format(49, 49, "..."), ["max-pool 2x2: not answered yet"]),
    (2, COSTS.format(4_608, 294_912, -2), ["weights: 4608 is not right", "one bias for each"]),
    (2, COSTS.format(320, 294_912, -2), ["reads all input channels"]),
    (2, COSTS.format(4_640, 296_960, 2), ["added, not multiplied", "turn the kernel around"]),
    (2, COSTS.format(4_640, 4_608, -2), ["that is one position of the map"]),
    (2, COSTS.format(4_640, 165_888, -2), ["padding 1 keeps the map at 8x8"]),
    (3, TRAIN.format(4, 0.3, 1.3), ["running var: 1.3 is not right", "divides by n - 1, not by n"]),
    (3, TRAIN.format(4, 2.7, 4.9), ["running mean: 2.7", "the share of the *new* value"]),
    (3, TRAIN.format(3.598, 0.3, 1.433), ["output for a 5: 3.598", "divide by n, not by n - 1"]),
    (4, EVAL.format(1, 2, 1), ["eval, a 5: 1 is not right", "does not look at the batch"]),
    (4, EVAL.format(5.5, 2.3, 1), ["running mean: 2.3", "only reads the running statistics"]),
    (4, EVAL.format(5.5, 2, 5.5), ["train, four 5s: 5.5", "How far is a 5 from it?"]),
    (4, EVAL.format(3.25, 2, 1), ["the *root* of the running variance"]),
    (5, SOFT.format(0.7, 0.7, 2.303), ["third class: 0.7", "the exponentials, not the logits"]),
    (5, SOFT.format(0.625, 1, 2.303), ["plus 100: 1 is not right", "above and below the line"]),
    (5, SOFT.format(0.625, 0.625, 1), ["natural logarithm, not base 10"]),
    (5, SOFT.format(0.625, 0.625, 0.1), ["that is the probability"]),
    (6, SLOPES.format(2.079, 0.125, 0.625), ["first logit: 0.125", "1 has to be subtracted"]),
    (6, SLOPES.format(2.079, 0.875, 0), ["must *lower* the loss", "takes probability from"]),
    (6, SLOPES.format(0.47, -8, -0.375), ["third class were", "not by the logit", "only"]),
    (7, STEPS.format(3.6, 2.25, 1.38), ["plain: 3.6 is not right", "walk *against* the gradient"]),
    (7, STEPS.format(2.4, 2.1, 1.92), ["no factor 2", "velocity is missing in the second step"]),
    (7, STEPS.format(2.4, 2.25, 1.812), ["the whole gradient, not 0.1 of it"]),
    (7, STEPS.format(2.4, 2.25, 1.26), ["the second gradient is taken at the new weight"]),
    (
        8,
        STEP.format("g = 2 * w + decay * w\n    v = 0.9 * v + g\n    return w - 0.1 * v, v"),
        ["my_step (all numbers new): not yet"],
    ),
    (
        8,
        STEP.format("return w - rate * gradient, gradient"),
        ["my_step (weight decay): not yet", "returns (2.4, 6.0)", "expected: (2.25, 7.5)"],
    ),
    (
        8,
        STEP.format("g = gradient + decay * w\n    return w - rate * g, g"),
        ["my_step (old velocity): not yet"],
    ),
    (
        8,  # decay beside the velocity, as in AdamW
        STEP.format(
            "v = momentum * v + gradient\n    return w - rate * v - rate * decay * w, v",
        ),
        ["my_step (weight decay): not yet", "returns (2.25, 6.0)"],
    ),
    (
        8,  # the velocity holds the learning rate
        STEP.format(
            "v = momentum * v - rate * (gradient + decay * w)\n    return w + v, v",
        ),
        ["my_step (standing still, no decay): not yet", "expected: (2.4, 6.0)"],
    ),
    (
        8,
        STEP.format("return w - rate * (momentum * v + gradient + decay * w)"),
        ["my_step (standing still, no decay): not yet", "expected: (2.4, 6.0)"],
    ),
    (9, KNOWN.format(43, 50, 20), ["parameters: 43", "state_dict: 50", "hides its layers"]),
    (9, KNOWN.format(30, 23, 0), ["a buffer is stored", "is saved too", "which line of forward"]),
    (9, KNOWN.format(28, 35, 20), ["not a weight", "a plain tensor is not saved"]),
    (9, KNOWN.format(63, 30, 20), ["made in forward is not stored at all"]),
    (10, repaired(start="pass"), ["while building it", "before Module.__init__() call"]),
    (
        10,
        repaired(init="pass", forward=f"return torch.relu(nn.BatchNorm2d(8)({CONV}(x)))"),
        ["Conv2d runs that is no part of the module", "make it in __init__"],
    ),
    (
        10,
        repaired(
            init=f"self.parts = [{CONV}, nn.BatchNorm2d(8)]",
            forward="return torch.relu(self.parts[1](self.parts[0](x)))",
        ),
        ["parts: layers in a plain list are not trained", "nn.Sequential"],
    ),
    (
        10,
        repaired(forward="self.bn(self.conv(x)).relu_()"),
        ["gives a NoneType", "does forward end with `return`?"],
    ),
    (10, repaired(forward="return self.bn(self.conv(x))"), ["Repaired: not yet", "differs from"]),
    (10, NESTED, ["forward: there is no such method"]),
    (
        10,
        repaired(
            init=f"self.conv = {CONV}",
            forward="return torch.relu(nn.BatchNorm2d(8)(self.conv(x)))",
        ),
        ["a BatchNorm2d runs that is no part of the module"],
    ),
    (10, repaired(init=f"self.conv, self.bn = {CONV}", forward="return x"), ["not yet"]),
]
