"""Wrong answers to the exercises of chapter 07, and the words that each must be told."""

STEPS = (
    "counted = {{'steps in an epoch': {}, 'steps in the run': {}, "
    "'pictures in the last batch': {}, 'step with the highest rate': {}}}"
)
RATE = """
def my_rate(step, steps, peak, warm):
    if step < warm:
        return {rise}
    t = {time}
    return {fall}
"""
NOISE = "noise = {{'mean': {}, 'standard error': {}, 'beyond two (1 or 0)': {}}}"


def rate(
    rise="peak * (step + 1) / (warm + 1)",
    time="(step - warm) / (steps - warm)",
    fall="peak * (1 + math.cos(math.pi * t)) / 2",
):
    return RATE.format(rise=rise, time=time, fall=fall)


def gradient(loss: str, end: str = "return layer.weight.grad", between: str = "pass") -> str:
    return (
        "def my_gradient(count, parts):\n"
        "    layer, x, y = example(count)\n"
        "    for a, b in zip(x.tensor_split(parts), y.tensor_split(parts)):\n"
        f"        {between}\n"
        f"        ({loss}).backward()\n"
        f"    {end}\n"
    )


MEAN = "F.cross_entropy(layer(a), b)"

ALL_AT_ONCE = """
def my_gradient(count, parts):
    layer, x, y = example(count)
    pairs = zip(x.tensor_split(parts), y.tensor_split(parts))
    sum(F.cross_entropy(layer(a), b) * len(b) / count for a, b in pairs).backward()
    return layer.weight.grad
"""

# (exercise, answer, words that the check must say)
WRONG = [
    (
        1,
        STEPS.format(351, 10_560, 72, 1584),
        ["epoch: 351 is not right", "smaller batch is a step"],
    ),
    (1, STEPS.format(352, 10_560, 128, 1584), ["last batch: 128", "what is left?"]),
    (1, STEPS.format(352, 10_560, 72, 53), ["highest rate: 53", "share of the whole run"]),
    (1, STEPS.format(352, 10_560, 72, 1583), ["highest rate: 1583", "still the warm-up"]),
    (2, rate(rise="peak * step / warm"), ["arguments (0, 100, 0.1, 20)", "returns 0.0"]),
    (2, rate(time="step / steps"), ["arguments (20, 100, 0.1, 20)", "expected: 0.1"]),
    (2, rate(fall="peak * (1 - t)"), ["not yet", "arguments (99, 100, 0.1, 20)"]),
    (2, rate(fall="peak * math.cos(math.pi * t)"), ["arguments (60, 100, 0.1, 20)"]),
    (3, "def epoch_loss(losses, sizes):\n    return sum(losses) / len(losses)", ["returns 4.0"]),
    (3, "def epoch_loss(losses, sizes):\n    return losses[-1]", ["returns 1.0", "expected: 1.5"]),
    (3, "def epoch_loss(losses, sizes):\n    return sum(losses)", ["returns 3.0"]),
    (4, "def lowest_loss(classes, smoothing):\n    return 0.0", ["returns 0.0", "(10, 0.1)"]),
    (
        4,
        "def lowest_loss(classes, smoothing):\n    return -math.log(1 - smoothing)",
        ["arguments (10, 0.1)", "not yet"],
    ),
    (
        4,
        "def lowest_loss(classes, smoothing):\n"
        "    s, t = smoothing / (classes - 1), 1 - smoothing\n"
        "    return -t * math.log(t) - (classes - 1) * s * math.log(s)",
        ["arguments (10, 0.1)", "not yet"],
    ),
    (5, gradient(MEAN), ["arguments (8, 2)", "not yet", "times what it should be"]),
    (5, "my_gradient = whole_gradient", ["my_gradient: correct", "one backward: call it once for"]),
    (5, ALL_AT_ONCE, ["my_gradient: correct", "pictures at once: not yet", "expected: 4"]),
    (5, gradient(f"{MEAN} / parts"), ["arguments (8, 3)", "not yet"]),
    (5, gradient(f"{MEAN} * len(b) / count", between="layer.zero_grad()"), ["arguments (8, 2)"]),
    (5, gradient(f"{MEAN} * len(b) / count", end="return layer.weight"), ["not yet", "(8, 1)"]),
    (6, NOISE.format(0.4, 0.26, 0), ["standard error: 0.26", "by n - 1, not by n"]),
    (6, NOISE.format(0.4, 0.56, 0), ["standard error: 0.56", "root of n"]),
    (6, NOISE.format(0.4, 0.3215, 1), ["beyond two (1 or 0): 1", "twice the standard error"]),
]
