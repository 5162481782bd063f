"""Wrong answers to the exercises of chapter 10, and the words that each must be told."""


def weights(convolutions: str, norms: str) -> str:
    return f"def c3_weights(c1, c2, n):\n    h = c2 // 2\n    return {convolutions} + {norms}\n"


CONVOLUTIONS = "2 * c1 * h + 2 * h * c2 + 10 * n * h * h"
NORMS = "4 * c2 + 4 * n * h"
SUM = "def without_concat(weight, a, b):\n    h = a.shape[1]\n    return {}\n"


def deeper(blocks=13, c3=27, basic=9) -> str:
    return (
        f"deeper = {{'inner blocks': {blocks}, 'field of the C3 (pixels)': {c3}, "
        f"'field of two basic blocks (pixels)': {basic}}}"
    )


MEAN = """
def mean_behind(act):
    z = torch.linspace(-10, 10, 100_001, dtype=torch.float64)
    density = torch.exp(-z * z / 2) / {root}
    return {sum}
"""
ROOT = "math.sqrt(2 * math.pi)"
TOTAL = "(act(z) * density).sum().item() * (z[1] - z[0]).item()"
C2F = """
class MyC2f(nn.Module):
    def __init__(self, c1, c2, n):
        super().__init__()
        hidden = c2 // 2
        self.cv1 = unit(c1, {first}, 1)
        self.m = {blocks}
        self.cv2 = unit({reads} * hidden, c2, 1)

    def forward(self, x):
        parts = list(self.cv1(x).chunk(2, dim=1))
        for pair in self.m:
            {step}
        {end}
"""
STEP = "parts.append(pair(parts[-1]))"
END = "return self.cv2(torch.cat(parts, dim=1))"
LIST = "nn.ModuleList(Pair(hidden) for _ in range(n))"


def c2f(first="2 * hidden", blocks=LIST, reads="(2 + n)", step=STEP, end=END) -> str:
    return C2F.format(**locals())


# (exercise, answer, words that the check must say)
WRONG = [
    (1, weights(CONVOLUTIONS, "0"), ["not yet", "two weights for each channel"]),
    (
        1,
        weights("2 * c1 * h + 2 * h * c2 + 5 * n * h * h", "4 * c2 + 3 * n * h"),
        ["not halved again"],
    ),
    (
        1,
        weights("2 * c1 * h + 2 * h * c2 + 10 * n * c2 * c2", "4 * c2 + 4 * n * c2"),
        ["work on half the channels"],
    ),
    (1, weights("2 * c1 * h + h * c2 + 10 * n * h * h", NORMS), ["cv3 reads both halves"]),
    (1, weights(CONVOLUTIONS, "n / 0"), ["raises ZeroDivisionError"]),
    (
        2,
        SUM.format("F.conv2d(b, weight[:, :h]) + F.conv2d(a, weight[:, h:])"),
        ["first half of the weights belongs to a"],
    ),
    (2, SUM.format("F.conv2d(a + b, weight[:, :h])"), ["b has weights of its own"]),
    (2, SUM.format("F.conv2d(a, weight[:, :h])"), ["and where is b?"]),
    (2, SUM.format("F.conv2d(a, weight) + F.conv2d(b, weight)"), ["raises RuntimeError"]),
    (
        2,
        SUM.format("torch.stack([F.conv2d(a, weight[:, :h]), F.conv2d(b, weight[:, h:])], 1)"),
        ["shape (2, 2, 6, 5, 5)"],
    ),
    (3, deeper(blocks=14), ["inner blocks: 14 is not right", "this one is heavier"]),
    (3, deeper(blocks=6), ["inner blocks: 6", "that is one basic block"]),
    (3, deeper(blocks=3), ["inner blocks: 3", "have 32 channels"]),
    (3, deeper(c3=53), ["field of the C3 (pixels): 53", "a 1x1 adds none"]),
    (3, deeper(c3=13), ["field of the C3 (pixels): 13", "one pixel on each side"]),
    (3, deeper(c3=26), ["field of the C3 (pixels): 26", "the width begins at 1"]),
    (3, deeper(basic=8), ["two basic blocks (pixels): 8", "the width begins at 1"]),
    (3, deeper(basic=5), ["two basic blocks (pixels): 5", "that is one basic block"]),
    (3, deeper(basic="..."), ["two basic blocks (pixels): not answered yet"]),
    (4, MEAN.format(root=1, sum=TOTAL), ["1 / sqrt(2 pi) in front"]),
    (4, "def mean_behind(act):\n    return act(torch.zeros(1)).item()", ["not its mean"]),
    (
        4,
        MEAN.format(root=ROOT, sum="(act(z) * density).sum().item()"),
        ["ReLU()", "far too much", "the width of one step"],
    ),
    (4, MEAN.format(root=ROOT, sum="act(z) * density"), ["one number: add up"]),
    (
        4,
        "def mean_behind(act):\n    torch.manual_seed(0)\n"
        "    return act(torch.randn(10_000)).mean().item()",
        ["is near 0.3989", "random numbers are not exact enough"],
    ),
    (
        4,
        MEAN.format(root=ROOT, sum=TOTAL)
        .replace("100_001", "1_001")
        .replace(TOTAL, "(act(z) * density).sum().item()"),
        ["far too much", "the width of one step"],
    ),
    (
        4,
        MEAN.format(root=ROOT, sum=TOTAL).replace("-10, 10", "-3, 3"),
        ["finer or wider grid"],
    ),
    (4, "def mean_behind(act):\n    act(torch.zeros(1))", ["it gives nothing back"]),
    (5, c2f(reads="2"), ["MyC2f(16, 16, 1): not yet", "cv2"]),
    (5, c2f(first="hidden"), ["not yet", "cv1"]),
    (5, c2f(blocks="[Pair(hidden) for _ in range(n)]"), ["nn.ModuleList"]),
    (5, c2f(step="parts.append(pair(parts[0]))"), ["not yet", "differ"]),
    (5, c2f(end="self.cv2(torch.cat(parts, dim=1))"), ["return"]),
    (5, c2f(end="return self.cv2(torch.cat(parts[::-1], dim=1))"), ["not yet", "differ"]),
]
