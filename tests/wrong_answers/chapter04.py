"""Wrong answers to the exercises of chapter 04, and the words that each must be told."""


def projections(c18=8, c50=16, b152=4, b56=2) -> str:
    return (
        f"projections = {{'ResNet-18, option C': {c18}, 'ResNet-50, option C': {c50}, "
        f"'ResNet-152, option B': {b152}, 'CIFAR ResNet-56, option B': {b56}}}"
    )


def pooled(*layers: str) -> str:
    return (
        f"def my_pooled(inplanes, planes, stride):\n    return nn.Sequential({', '.join(layers)})\n"
    )


POOL = "nn.AvgPool2d(stride, stride, ceil_mode=True)"
CONV = "nn.Conv2d(inplanes, planes, 1, bias=False)"
NORM = "nn.BatchNorm2d(planes)"
SHARE = "def share_read(kernel, stride):\n    return {}"
FIELDS = "fields = {{'ResNet-32': {}, 'ResNet-50 v1': {}}}"
ORDER = "def order(inplanes, planes):\n    return {}"
NOTHING = "for_nothing = {{'MACs for nothing': {}, 'percent of the net': {}}}"

# (exercise, answer, words that the check must say)
WRONG = [
    (1, projections(c18=3), ["ResNet-18, option C: 3 is not right", "on every shortcut"]),
    (1, projections(c50=4), ["ResNet-50, option C: 4 is not right", "on every shortcut"]),
    (1, projections(b152=3), ["ResNet-152, option B: 3", "64 channels in, 256 out"]),
    (1, projections(b152=50), ["ResNet-152, option B: 50", "this is option C"]),
    (1, projections(b56=3), ["CIFAR ResNet-56", "keeps 16 channels"]),
    (1, projections(b56=27), ["CIFAR ResNet-56", "this is option C"]),
    (1, projections(b56="'two'"), ["'two' is not a number"]),
    (1, projections(b56="..."), ["CIFAR ResNet-56, option B: not answered yet"]),
    # Floor instead of ceil: only the odd side shows it.
    (
        2,
        pooled("nn.AvgPool2d(stride, stride)", CONV, NORM),
        [
            "my_pooled, stride 2, side 16: correct",
            "my_pooled, stride 2, side 15: not yet",
            "(2, 16, 7, 7)",
            "(2, 16, 8, 8)",
        ],
    ),
    # Both the pooling and the convolution stride.
    (
        2,
        pooled(POOL, "nn.Conv2d(inplanes, planes, 1, stride, bias=False)", NORM),
        ["my_pooled, stride 2, side 16: not yet", "(2, 16, 4, 4)", "1: stride is 2, not 1"],
    ),
    # Option B under another name.
    (
        2,
        pooled("nn.Identity()", "nn.Conv2d(inplanes, planes, 1, stride, bias=False)", NORM),
        ["my_pooled, stride 2, side 16: not yet", "differs from the reference"],
    ),
    (2, pooled(POOL, CONV), ["2.weight: is missing"]),
    (
        2,
        pooled("nn.MaxPool2d(stride, stride, ceil_mode=True)", CONV, NORM),
        ["side 16: not yet", "differs from the reference", "my_pooled, stride 1, side 8: correct"],
    ),
    (
        2,
        pooled(POOL, "nn.Conv2d(inplanes, planes, 1)", NORM),
        ["wasteful", "1.bias", "use bias=False"],
    ),
    (
        2,
        f"def my_pooled(inplanes, planes, stride):\n    return [{POOL}, {CONV}, {NORM}]\n",
        ["got a list", "nn.Sequential"],
    ),
    (
        3,
        SHARE.format("(kernel / stride) ** 2"),
        ["(3, 2)", "returns 2.25", "expected: 1.0", "read no more than all"],
    ),
    (3, SHARE.format("min(1.0, kernel / stride)"), ["(1, 2)", "returns 0.5", "two sides"]),
    (3, SHARE.format("1 / stride**2"), ["(3, 2)", "returns 0.25", "a wider window reads more"]),
    (3, SHARE.format("100 * min(1, kernel / stride) ** 2"), ["returns 25.0", "at most 1"]),
    (4, FIELDS.format(81, 483), ["ResNet-32: 81 is not right", "five"]),
    (4, FIELDS.format(143, 483), ["ResNet-32: 143", "still has the smaller jump"]),
    (4, FIELDS.format(137, 427), ["ResNet-50 v1: 427", "the stride comes before the 3x3"]),
    (4, FIELDS.format(137, 899), ["ResNet-50 v1: 899", "one 3x3 only"]),
    (4, FIELDS.format(63, 483), ["ResNet-32: 63", "the jump doubles"]),
    (4, FIELDS.format(67, 483), ["ResNet-32: 67", "two 3x3 convolutions"]),
    (5, ORDER.format("list(range(planes))"), ["4 is not right", "only channels with zeros"]),
    (5, ORDER.format("[*range(11, 3, -1), *range(4), *range(12, 16)]"), ["8 is not", "were they?"]),
    (5, ORDER.format("list(range(4, 12))"), ["exactly once, in a list"]),
    (5, ORDER.format("[*range(4, 12), *range(16)]"), ["exactly once, in a list"]),
    (5, ORDER.format("[[1]] * planes"), ["exactly once, in a list"]),
    (5, ORDER.format("planes / 0"), ["raises ZeroDivisionError"]),
    (5, ORDER.format("planes"), ["raises TypeError: 'int' object is not iterable"]),
    (5, ORDER.format("[*range(8, 16), *range(8)]"), ["only channels with zeros agree"]),
    (6, NOTHING.format(115_605_504, 3.0), ["115605504 is not right", "conv2 too"]),
    (6, NOTHING.format(491_323_392, 12.7), ["conv1 is needed"]),
    (6, NOTHING.format(500_957_184, 13.0), ["one quarter of the positions is read"]),
    (6, NOTHING.format(125_239_296, 3.2), ["there are three"]),
    (
        6,
        NOTHING.format(375_717_888, 0.0974),
        ["percent of the net: 0.0974 is not right", "percent or a share?"],
    ),
]
