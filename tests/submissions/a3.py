"""Wrong and unusual submissions of assignment 3; in PARAMETERS of the public copy."""

from textwrap import dedent


def sizes(conv="ROOM // stride + 1", padding="dilation * (kernel - 1) // 2") -> str:
    conv = conv.replace("ROOM", "(size + 2 * padding - dilation * (kernel - 1) - 1)")
    return (
        "def conv_output(size, kernel, stride, padding, dilation):\n"
        f"    return {conv}\n\n\n"
        f"def fitting_padding(kernel, dilation):\n    return {padding}\n"
    )


def swap(text: str, *pairs: tuple[str, str]) -> str:
    """`text` with replacements, each of which has to find its place."""
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


WALK = dedent("""
    def map_sizes(side, stem, stages):
        sizes = []
        for kernel, stride, padding in stem:
            side = (side + 2 * padding - kernel) // stride + 1
            sizes.append(side)
        for blocks, stride in stages:
            side = (side - 1) // stride + 1
            sizes.append(side)
        return sizes


    def last_of(side):
        first = (side + 2 * PARAMETERS["stem_padding"] - PARAMETERS["stem_kernel"]) // 2 + 1
        last = (first - 1) // 2 + 1
        for _ in range(3):
            last = (last - 1) // 2 + 1
        return first, last


    picture = PARAMETERS["stem_kernel"]
    while last_of(picture)[1] < PARAMETERS["last"]:
        picture += 1
    first, last = last_of(PARAMETERS["picture"])
    walk = {"first map": first, "last map": last, "smallest picture": picture}
""")

BLOCK = dedent("""
    p, side = 2 * PARAMETERS["width"], PARAMETERS["side"]
    e = PARAMETERS["expansion"]
    a, b, small = PARAMETERS["width"] * e, p * e, (side + 1) // 2
    first = small if PARAMETERS["stride_in"] == "1x1" else side
    first_block = {
        "weights of the branch": a * p + 9 * p * p + p * b,
        "weights of the projection": a * b,
        "parameters of BN": 2 * (p + p + b + b),
        "MACs": a * p * first**2 + (9 * p * p + p * b + a * b) * small**2,
    }
""")

STAGE = dedent("""
    def stage_cost(inplanes, planes, blocks, stride, side, option):
        wide = planes * PARAMETERS["expansion"]
        parameters = macs = 0
        for block in range(blocks):
            small = (side - 1) // stride + 1
            first = small if PARAMETERS["stride_in"] == "1x1" else side
            parameters += inplanes * planes + 9 * planes**2 + planes * wide
            parameters += 2 * (planes + planes + wide)
            macs += inplanes * planes * first**2
            macs += 9 * planes**2 * small**2
            macs += planes * wide * small**2
            changes = stride > 1 or inplanes != wide
            if option == "C" or (option == "B" and changes):
                parameters += inplanes * wide + 2 * wide
                macs += inplanes * wide * small**2
            inplanes, side, stride = wide, small, 1
        return parameters, macs
""")

ZEROS = dedent("""
    def before(extra):
        if PARAMETERS["zeros"] == "end":
            return 0
        return (extra + 1) // 2 if PARAMETERS["odd_zero"] == "front" else extra // 2


    def shortcut_a(x, channels, stride):
        extra = channels - x.shape[1]
        if extra < 0:
            raise ValueError("too few channels")
        front = before(extra)
        back = extra - front
        y = x[:, :, ::stride, ::stride]
        return F.pad(y, (0, 0, 0, 0, front, back)).clone()


    def frozen_weight(inplanes, channels):
        front = before(channels - inplanes)
        weight = torch.zeros(channels, inplanes, 1, 1)
        weight[front : front + inplanes, :, 0, 0] = torch.eye(inplanes)
        return weight
""")

SEEN = dedent("""
    def seen(size, kernel, stride, padding, dilation):
        found = set()
        start = -padding
        while start + dilation * (kernel - 1) < size + padding:
            for tap in range(kernel):
                found.add(start + tap * dilation)
            start += stride
        return sorted(p for p in found if 0 <= p < size)
""")

POOLED = dedent("""
    class PooledShortcut(nn.Module):
        def __init__(self, inplanes, planes, stride):
            super().__init__()
            divide = stride**2 if PARAMETERS["edge"] == "zeros" else None
            self.pool = nn.AvgPool2d(stride, stride, ceil_mode=True, divisor_override=divide)
            self.conv = nn.Conv2d(inplanes, planes, 1, bias=False)
            self.bn = nn.BatchNorm2d(planes)

        def forward(self, x):
            return self.bn(self.conv(self.pool(x)))
""")
POOL = "nn.AvgPool2d(stride, stride, ceil_mode=True, divisor_override=divide)"
CONV = "nn.Conv2d(inplanes, planes, 1, bias=False)"

STAGE_BOTH = {"stage_parameters", "stage_macs"}
OUTPUTS = {"zeros", "odd"}
SLICE = "x[:, :, ::stride, ::stride]"
PAD = "return F.pad(y, (0, 0, 0, 0, front, back)).clone()"
ROW = "parameters += 2 * (planes + planes + wide)"
PROJECT = 'option == "C" or (option == "B" and changes)'

# (what is wrong, the answers, parts that lose their marks, words that the feedback holds)
WRONG = [
    ("off by one", {"q1": sizes("ROOM // stride")}, {"conv_output"}, "the first window counts"),
    ("one too many", {"q1": sizes("ROOM // stride + 2")}, {"conv_output"}, "one too many"),
    (
        "round instead of floor",
        {"q1": sizes("round(ROOM / stride) + 1")},
        {"conv_output"},
        "round down",
    ),
    (
        "ceil instead of floor",
        {"q1": sizes("-(-ROOM // stride) + 1")},
        {"conv_output"},
        "round down, not up",
    ),
    ("a broken number", {"q1": sizes("ROOM / stride + 1")}, {"conv_output"}, "`//` rounds down"),
    (
        "dilation forgotten",
        {"q1": sizes("(size + 2 * padding - kernel) // stride + 1")},
        {"conv_output"},
        "the dilation is forgotten",
    ),
    (
        "dilation times kernel",
        {"q1": sizes("(size + 2 * padding - dilation * kernel) // stride + 1")},
        {"conv_output"},
        "kernel - 1 gaps",
    ),
    (
        "padding at one end",
        {"q1": sizes("(ROOM - padding) // stride + 1")},
        {"conv_output"},
        "on both ends",
    ),
    (
        "a layer is built and measured",
        {
            "q1": sizes(
                "nn.Conv1d(1, 1, kernel, stride, padding, dilation)"
                "(torch.zeros(1, 1, size)).shape[2]"
            )
        },
        {"conv_output"},
        "plain Python is asked for",
    ),
    ("nothing is returned", {"q1": sizes("None")}, {"conv_output"}, "`return`"),
    (
        "padding without dilation",
        {"q1": sizes(padding="kernel // 2")},
        {"fitting_padding"},
        "the dilation is forgotten",
    ),
    ("padding is always 1", {"q1": sizes(padding="1")}, {"fitting_padding"}, "3x3 without"),
    (
        "the padding of both ends",
        {"q1": sizes(padding="dilation * (kernel - 1)")},
        {"fitting_padding"},
        "both ends together",
    ),
    (
        "every block strides",
        {"q2": swap(WALK, ("(side - 1) // stride + 1", "-(-side // stride**blocks)"))},
        {"map_sizes"},
        "a stage strides once",
    ),
    (
        "floor at odd sides",
        {"q2": swap(WALK, ("(side - 1) // stride + 1", "side // stride"))},
        {"map_sizes"},
        "a 3x3 with padding 1 rounds up",
    ),
    (
        "the stem is one number",
        {"q2": swap(WALK, ("return sizes", "return sizes[len(stem) - 1 :]"))},
        {"map_sizes"},
        "one number for each layer of the stem",
    ),
    (
        "strides are always 2",
        {"q2": swap(WALK, ("(side - 1) // stride + 1", "(side + 1) // 2"))},
        {"map_sizes"},
        "the strides are in the list",
    ),
    (
        "divided by 32",
        {"q2": swap(WALK, ("picture}", 'PARAMETERS["last"] * 32}'))},
        {"walk"},
        "rule of thumb",
    ),
    (
        "the first stage halves too",
        {"q2": swap(WALK, ('"last map": last', '"last map": (last + 1) // 2'))},
        {"walk"},
        "the first stage has stride 1",
    ),
    (
        "the first map is half of the picture",
        {"q2": swap(WALK, ('"first map": first', '"first map": -(-PARAMETERS["picture"] // 2)'))},
        {"walk"},
        "your padding is not half of your kernel",
    ),
    (
        "BN of the projection forgotten",
        {"q3": swap(BLOCK, ("(p + p + b + b)", "(p + p + b)"))},
        {"block_parameters"},
        "the projection has a BN too",
    ),
    (
        "running statistics are parameters",
        {"q3": swap(BLOCK, ("2 * (p + p + b + b)", "4 * (p + p + b + b)"))},
        {"block_parameters"},
        "are buffers",
    ),
    (
        "the projection ends with planes channels",
        {"q3": swap(BLOCK, ('projection": a * b', 'projection": a * p'))},
        {"block_parameters"},
        "planes * expansion",
    ),
    (
        "MACs at the input's size",
        {"q3": swap(BLOCK, ("first**2", "side**2"), ("small**2", "side**2"))},
        {"block_macs"},
        "each position of the OUTPUT map",
    ),
    (
        "FLOPs in one block",
        {
            "q3": swap(
                BLOCK,
                ('"MACs": a * p * first**2', '"MACs": 2 * a * p * first**2'),
                ("+ (9 * p", "+ 2 * (9 * p"),
            )
        },
        {"block_macs"},
        "is one MAC, not two",
    ),
    (
        "the stride in the other convolution",
        {"q3": swap(BLOCK, ('== "1x1"', '== "3x3"'))},
        {"block_macs"},
        "look at stride_in",
    ),
    (
        "BN forgotten",
        {"q4": swap(STAGE, (ROW, "pass"), (" + 2 * wide\n", "\n"))},
        {"stage_parameters"},
        "BN is missing",
    ),
    (
        "BN of the projections forgotten",
        {"q4": swap(STAGE, (" + 2 * wide\n", "\n"))},
        {"stage_parameters"},
        "the projection has a BN too",
    ),
    (
        "bias counted",
        {"q4": swap(STAGE, (ROW, ROW.replace("2 *", "3 *")), (" + 2 * wide\n", " + 3 * wide\n"))},
        {"stage_parameters"},
        "a bias is counted",
    ),
    (
        "running statistics counted",
        {"q4": swap(STAGE, (ROW, ROW.replace("2 *", "4 *")), (" + 2 * wide\n", " + 4 * wide\n"))},
        {"stage_parameters"},
        "are buffers",
    ),
    (
        "a projection in every block",
        {"q4": swap(STAGE, (PROJECT, 'option != "A"'))},
        STAGE_BOTH,
        "only where the shape changes",
    ),
    ("no projection", {"q4": swap(STAGE, (PROJECT, "False"))}, STAGE_BOTH, "is not counted"),
    (
        "a stride alone does not project",
        {"q4": swap(STAGE, ("stride > 1 or inplanes != wide", "inplanes != wide"))},
        STAGE_BOTH,
        "a stride needs a projection too",
    ),
    (
        "the first block always projects",
        {"q4": swap(STAGE, ("stride > 1 or inplanes != wide", "block == 0"))},
        STAGE_BOTH,
        "keeps its identity",
    ),
    (
        "C is B",
        {"q4": swap(STAGE, (PROJECT, 'option != "A" and changes'))},
        STAGE_BOTH,
        "option C projects on every shortcut",
    ),
    (
        "MACs of a stage at the input's size",
        {
            "q4": swap(
                STAGE,
                ("planes * first**2", "planes * side**2"),
                ("9 * planes**2 * small**2", "9 * planes**2 * first**2"),
                ("macs += inplanes * wide * small**2", "macs += inplanes * wide * side**2"),
            )
        },
        {"stage_macs"},
        "each position of the OUTPUT map",
    ),
    (
        "FLOPs of a stage",
        {"q4": swap(STAGE, ("return parameters, macs", "return parameters, 2 * macs"))},
        {"stage_macs"},
        "is one MAC",
    ),
    (
        "odd sides cut",
        {"q4": swap(STAGE, ("(side - 1) // stride + 1", "side // stride"))},
        {"stage_macs"},
        "rounds up",
    ),
    (
        "the stride in the other convolution of a stage",
        {"q4": swap(STAGE, ('== "1x1"', '== "3x3"'))},
        {"stage_macs"},
        "look at stride_in",
    ),
    (
        "the projection works at the large map",
        {"q4": swap(STAGE, ("inplanes * wide * small**2", "inplanes * wide * side**2"))},
        {"stage_macs"},
        "the projection has the stride too",
    ),
    (
        "side, not side squared",
        {
            "q4": swap(
                STAGE,
                ("first**2", "first"),
                ("small**2", "small"),
            )
        },
        {"stage_macs"},
        "side * side positions",
    ),
    (
        "a stage is built and counted",
        {
            "q4": "def stage_cost(*case):\n    net = nn.Conv2d(case[0], case[1], 1)\n"
            "    return sum(p.numel() for p in net.parameters()), 0\n"
        },
        STAGE_BOTH,
        "plain Python is asked for",
    ),
    (
        "zeros as in the other form",
        {"q5": swap(ZEROS, ('if PARAMETERS["zeros"] == "end":', "if True:"))},
        {*OUTPUTS, "as_convolution"},
        "the other form",
    ),
    (
        "zeros at the wrong end",
        {"q5": swap(ZEROS, ("(0, 0, 0, 0, front, back)", "(0, 0, 0, 0, extra, 0)"))},
        OUTPUTS,
        "at the wrong end",
    ),
    (
        "an odd difference loses a channel",
        {"q5": swap(ZEROS, ("front, back)", "extra // 2, extra // 2)"))},
        {"odd"},
        "one channel too few",
    ),
    (
        "an odd difference crashes",
        {
            "q5": swap(
                ZEROS,
                (
                    PAD,
                    "out = x.new_zeros(len(x), channels, *y.shape[2:])\n"
                    "    out[:, extra // 2 : -(extra // 2) or None] = y\n"
                    "    return out",
                ),
            )
        },
        {"odd"},
        "RuntimeError",
    ),
    (
        "the odd zero at the wrong end",
        {"q5": swap(ZEROS, ("(extra + 1) // 2", "extra // 2"))},
        {"odd", "as_convolution"},
        "the one more stands at the wrong end",
    ),
    ("stride missing", {"q5": swap(ZEROS, (SLICE, "x"))}, OUTPUTS, "the stride is missing"),
    (
        "only rows",
        {"q5": swap(ZEROS, (SLICE, "x[:, :, ::stride]"))},
        OUTPUTS,
        "only the rows are taken",
    ),
    (
        "the last row of a square",
        {"q5": swap(ZEROS, (SLICE, "x[:, :, stride - 1 :: stride, stride - 1 :: stride]"))},
        OUTPUTS,
        "start with the first row",
    ),
    (
        "the mean instead of a position",
        {"q5": swap(ZEROS, (SLICE, "F.avg_pool2d(x, stride)"))},
        OUTPUTS,
        "it does not pool",
    ),
    (
        "stride is 2",
        {"q5": swap(ZEROS, (SLICE, "x[:, :, ::2, ::2] if stride > 1 else x"))},
        OUTPUTS,
        "the stride is not always 2",
    ),
    (
        "the input itself",
        {"q5": swap(ZEROS, (PAD, f"if extra == 0:\n        return y\n    {PAD}"))},
        {"promises"},
        "shares its memory",
    ),
    (
        "detached",
        {"q5": swap(ZEROS, (".clone()", ".detach()"))},
        {"promises"},
        "no gradient flows back",
    ),
    ("always float32", {"q5": swap(ZEROS, (".clone()", ".float()"))}, {"promises"}, "dtype"),
    (
        "fewer channels are cut off",
        {"q5": swap(ZEROS, ("extra < 0", "False"))},
        {"promises"},
        "not a ValueError",
    ),
    (
        "the sum of all channels",
        {"q5": swap(ZEROS, ("torch.eye(inplanes)", "1"))},
        {"as_convolution"},
        "adds all channels up",
    ),
    (
        "the weight turned",
        {"q5": swap(ZEROS, ("return weight", "return weight.transpose(0, 1)"))},
        {"as_convolution"},
        "the output channels come first",
    ),
    (
        "a window hangs over the end",
        {"q6": swap(SEEN, ("start + dilation * (kernel - 1) <", "start <"))},
        {"seen"},
        "hang over the end",
    ),
    (
        "no gaps in a window",
        {
            "q6": swap(
                SEEN,
                ("range(kernel)", "range(dilation * (kernel - 1) + 1)"),
                ("tap * dilation", "tap"),
            )
        },
        {"seen"},
        "skips the positions",
    ),
    (
        "no padding",
        {"q6": swap(SEEN, ("start = -padding", "start = padding = 0"))},
        {"seen"},
        "the padding moves the first window",
    ),
    (
        "where the windows start",
        {
            "q6": "def seen(size, kernel, stride, padding, dilation):\n"
            "    return [p for p in range(-padding, size + padding, stride) if 0 <= p < size]\n"
        },
        {"seen"},
        "where windows start",
    ),
    ("how many", {"q6": swap(SEEN, ("sorted(p", "sum(1"))}, {"seen"}, "not how many"),
    (
        "everything is read",
        {"q6": swap(SEEN, ("sorted(p for p in found if 0 <= p < size)", "list(range(size))"))},
        {"seen"},
        "not every position is read",
    ),
    (
        "the last squares lost",
        {"q7": swap(POOLED, (POOL, "nn.AvgPool2d(stride, stride)"))},
        {"pooled_values"},
        "the last squares are lost",
    ),
    (
        "option B under another name",
        {
            "q7": swap(
                POOLED, (POOL, "nn.Identity()"), ("planes, 1, bias", "planes, 1, stride, bias")
            )
        },
        {"pooled_values"},
        "this is option B",
    ),
    (
        "both stride",
        {"q7": swap(POOLED, ("planes, 1, bias", "planes, 1, stride, bias"))},
        {"pooled_values"},
        "both the pooling and the 1x1 stride",
    ),
    (
        "maximum instead of mean",
        {"q7": swap(POOLED, (POOL, "nn.MaxPool2d(stride, stride, ceil_mode=True)"))},
        {"pooled_values"},
        "not its maximum",
    ),
    (
        "the other border",
        {"q7": swap(POOLED, ('== "zeros"', '!= "zeros"'))},
        {"pooled_values"},
        "look at PARAMETERS['edge']",
    ),
    (
        "a bias in the projection",
        {"q7": swap(POOLED, (", bias=False", ""))},
        {"pooled_names", "pooled_values"},
        "bias=False",
    ),
    (
        "BN is never called",
        {"q7": swap(POOLED, ("self.bn(self.conv(self.pool(x)))", "self.conv(self.pool(x))"))},
        {"pooled_values"},
        "BN is not used",
    ),
    (
        "layers without a name",
        {
            "q7": swap(
                POOLED,
                ("self.pool = ", "pool = "),
                ("self.conv = ", "conv = "),
                (
                    "self.bn = nn.BatchNorm2d(planes)",
                    "self.layers = nn.Sequential(pool, conv, nn.BatchNorm2d(planes))",
                ),
                ("self.bn(self.conv(self.pool(x)))", "self.layers(x)"),
            )
        },
        {"pooled_names", "pooled_values"},
        "asked for by name",
    ),
    (
        "3x3 squares",
        {"q7": swap(POOLED, (POOL, "nn.AvgPool2d(3, stride, padding=1)"))},
        {"pooled_values"},
        "not 3x3",
    ),
]

UNUSUAL = [
    (
        "windows are counted one by one",
        {
            "q1": dedent("""
                def conv_output(size, kernel, stride, padding, dilation):
                    windows, start = 0, -padding
                    while start + dilation * (kernel - 1) < size + padding:
                        windows, start = windows + 1, start + stride
                    return windows

                fitting_padding = lambda kernel, dilation: dilation * (kernel >> 1)
            """)
        },
    ),
    (
        "a walk with accumulate, and numbers as floats",
        {
            "q2": dedent("""
                import math
                from itertools import accumulate

                def map_sizes(side, stem, stages):
                    layers = [*stem, *((1, stride, 0) for _, stride in stages)]
                    def step(n, layer):
                        k, s, p = layer
                        return math.floor((n + 2 * p - k) / s + 1)
                    return tuple(accumulate(layers, step, initial=side))[1:]

                net = ([(PARAMETERS["stem_kernel"], 2, PARAMETERS["stem_padding"]), (3, 2, 1)],
                       [(2, 1), (2, 2), (2, 2), (2, 2)])
                small = PARAMETERS["last"]
                for kernel, stride, padding in [(1, 2, 0)] * 3 + net[0][::-1]:
                    small = (small - 1) * stride + 1 - 2 * padding + kernel - 1
                sides = map_sizes(PARAMETERS["picture"], *net)
                walk = dict(zip(("first map", "last map"), (float(sides[0]), sides[-1])))
                walk["smallest picture"] = small
            """)
        },
    ),
    (
        "a stage as a table of layers",
        {
            "q4": dedent("""
                from collections import namedtuple

                Layer = namedtuple("Layer", "read write kernel side")

                def layers(a, p, n, s, side, option):
                    b = p * PARAMETERS["expansion"]
                    if n:
                        after = -(-side // s)
                        at = side if PARAMETERS["stride_in"] == "3x3" else after
                        yield Layer(a, p, 1, at)
                        yield Layer(p, p, 3, after)
                        yield Layer(p, b, 1, after)
                        if {"A": False, "B": (a, s) != (b, 1), "C": True}[option]:
                            yield Layer(a, b, 1, after)
                        yield from layers(b, p, n - 1, 1, after, option)

                def stage_cost(*stage):
                    table = list(layers(*stage))
                    weights = [t.read * t.write * t.kernel**2 for t in table]
                    cost = [sum(weights) + sum(2 * t.write for t in table)]
                    return cost + [sum(w * t.side**2 for w, t in zip(weights, table))]
            """)
        },
    ),
    (
        "option A as a convolution",
        {
            "q5": dedent("""
                def frozen_weight(inplanes, channels):
                    extra = channels - inplanes
                    up = PARAMETERS["odd_zero"] == "front"
                    front = {"end": 0, "even": -(-extra // 2) if up else extra // 2}
                    columns = torch.arange(inplanes) + front[PARAMETERS["zeros"]]
                    return F.one_hot(columns, channels).T[:, :, None, None].float()

                def shortcut_a(x, channels, stride):
                    if not channels >= x.size(1):
                        raise ValueError
                    weight = frozen_weight(x.size(1), channels).to(x)
                    return F.conv2d(x, weight, stride=stride)
            """)
        },
    ),
    (
        "option A by cat and einsum",
        {
            "q5": dedent("""
                def matrix(inplanes, channels):
                    more = channels - inplanes
                    before = 0
                    if PARAMETERS["zeros"] == "even":
                        before = more // 2 + more % 2 * (PARAMETERS["odd_zero"] == "front")
                    parts = [torch.zeros(before, inplanes), torch.eye(inplanes)]
                    return torch.cat([*parts, torch.zeros(more - before, inplanes)])

                def shortcut_a(x, channels, stride):
                    if channels < x.shape[1]:
                        raise ValueError("fewer channels")
                    x = F.max_pool2d(x, 1, stride)
                    return torch.einsum("oc,bchw->bohw", matrix(x.shape[1], channels).to(x), x)

                def frozen_weight(inplanes, channels):
                    return matrix(inplanes, channels).unsqueeze(-1).unsqueeze(-1)
            """)
        },
    ),
    (
        "each position asks whether a window reads it, and a set is given",
        {
            "q6": dedent("""
                def seen(size, kernel, stride, padding, dilation):
                    last = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride

                    def is_read(position):
                        starts = (position + padding - k * dilation for k in range(kernel))
                        return any(s % stride == 0 and 0 <= s // stride <= last for s in starts)

                    return set(filter(is_read, range(size)))
            """)
        },
    ),
    (
        "squares by unfold and sums, in a function of the module",
        {
            "q7": dedent("""
                class PooledShortcut(nn.Module):
                    def __init__(self, inplanes, planes, stride):
                        super().__init__()
                        self.bn = nn.BatchNorm2d(planes)
                        self.conv = nn.Conv2d(inplanes, planes, (1, 1), bias=False)
                        self.stride = stride

                    def squares(self, x):
                        s = self.stride
                        h, w = -x.shape[2] % s, -x.shape[3] % s
                        x = F.pad(x, (0, w, 0, h))
                        return x.unfold(2, s, s).unfold(3, s, s).sum((-1, -2))

                    def forward(self, x):
                        area = self.squares(torch.ones_like(x[:1, :1]))
                        if PARAMETERS["edge"] == "zeros":
                            area = self.stride ** 2
                        return self.bn(self.conv(self.squares(x) / area))
            """)
        },
    ),
]
