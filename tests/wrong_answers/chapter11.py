"""Wrong answers to the exercises of chapter 11, and the words that each must be told."""


def sheets(p=9, q=9, r=2) -> str:
    return f"wrong_line = {{'P': {p}, 'Q': {q}, 'R': {r}}}"


def measured(
    mode="    net.eval()\n",
    graph="@torch.no_grad()\n",
    loss="loss += F.cross_entropy(logits, labels, reduction='sum').item()",
    back="loss / len(y), right / len(y)",
) -> str:
    return (
        f"{graph}def measured(net, x, y, size):\n{mode}"
        "    loss, right = 0.0, 0\n"
        "    for part, labels in zip(x.split(size), y.split(size), strict=True):\n"
        "        logits = net(part)\n"
        f"        {loss}\n"
        "        right += (logits.argmax(1) == labels).sum().item()\n"
        f"    return {back}\n"
    )


def mended(
    first="nn.Conv2d(inplanes, planes, 1, bias=False)",
    second="F.relu(self.bn2(self.conv2(out)))",
    third="self.bn3(self.conv3(out))",
    end="F.relu(out + self.downsample(x))",
) -> str:
    return (
        "class Mended(nn.Module):\n"
        "    def __init__(self, inplanes, planes, stride, downsample):\n"
        "        super().__init__()\n"
        f"        self.conv1 = {first}\n"
        "        self.bn1 = nn.BatchNorm2d(planes)\n"
        "        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)\n"
        "        self.bn2 = nn.BatchNorm2d(planes)\n"
        "        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)\n"
        "        self.bn3 = nn.BatchNorm2d(4 * planes)\n"
        "        self.downsample = downsample\n"
        "    def forward(self, x):\n"
        "        out = F.relu(self.bn1(self.conv1(x)))\n"
        f"        out = {second}\n"
        f"        out = {third}\n"
        f"        return {end}\n"
    )


DETECTOR = "def really_loads(load):\n    {}\n"
COMPARE = "model = load(fresh(seed=1), STATE){}\n    return {}"
ALL_PARAMETERS = (
    "all(torch.equal(a, b) for a, b in zip(model.parameters(), SOURCE.parameters(), strict=True))"
)


def loop(train="net.train()", outside="", inside="", behind="scheduler.step()", body="pass") -> str:
    return (
        "def mended_loop(net, batches, optimizer, scheduler, epochs):\n"
        f"    {outside or 'pass'}\n"
        "    for _ in range(epochs):\n"
        f"        {train or 'pass'}\n"
        "        for x, y in batches:\n"
        "            optimizer.zero_grad()\n"
        "            F.cross_entropy(net(x), y).backward()\n"
        "            optimizer.step()\n"
        f"            {inside or 'pass'}\n"
        f"        {behind or 'pass'}\n"
        f"        {body}\n"
    )


# (exercise, answer, words that the check must say)
WRONG = [
    (1, sheets(p=8), ["P: 8 is not right", "who reads it"]),
    (1, sheets(p=14), ["P: 14 is not right", "16 = 4 * 4"]),
    (1, sheets(q=10), ["Q: 10 is not right", "both names"]),
    (1, sheets(q=8), ["Q: 8 is not right", "what is in x"]),
    (1, sheets(r=5), ["R: 5 is not right", "moves the running means"]),
    (1, sheets(r="..."), ["R: not answered yet"]),
    (2, measured(mode=""), ["which mode is the net in", "state_dict that changed: "]),
    (2, measured(graph=""), ["outputs with a graph: 3 is not right", "no_grad is missing"]),
    (
        2,
        measured(
            loss="loss += F.cross_entropy(logits, labels).item()",
            back="loss / len(x.split(size)), right / len(y)",
        ),
        ["loss: ", "a mean of means"],
    ),
    (
        2,
        measured(loss="loss += F.cross_entropy(logits, labels, reduction='sum')"),
        ["loss: a tensor, not a plain number", ".item()"],
    ),
    (2, measured(back="loss / len(y)"), ["give back two numbers"]),
    (2, measured(back="loss / len(y), 100 * right / len(y)"), ["percent or a share?"]),
    (3, mended(first="nn.Conv2d(inplanes, planes, 1)"), ["wasteful", "conv1.bias"]),
    (
        3,
        mended(second="self.bn2(self.conv2(out))"),
        ["not yet", "output in train mode: differs from the reference"],
    ),
    (
        3,
        mended(third="F.relu(self.bn3(self.conv3(out)))", end="out + self.downsample(x)"),
        ["not yet", "output in train mode: differs from the reference"],
    ),
    (3, mended(end="F.relu(out + x)"), ["the two sides of the addition differ in shape"]),
    (4, DETECTOR.format("return True"), ["3 is not right", "the same to all"]),
    (4, DETECTOR.format("return False"), ["3 is not right", "the same to all"]),
    # The BN buffers are not compared.
    (
        4,
        DETECTOR.format(COMPARE.format("", ALL_PARAMETERS)),
        ["5 is not right", "BN has buffers too"],
    ),
    # Only the last layer is compared.
    (
        4,
        DETECTOR.format(COMPARE.format("", "torch.equal(model[2].weight, SOURCE[2].weight)")),
        ["4 is not right", "only some layers"],
    ),
    (4, DETECTOR.format("return 1"), ["wanted True or False"]),
    (4, DETECTOR.format("return load(fresh(1), STATE) is not None"), ["3 is not right"]),
    (5, loop(train="", outside="net.train()", body="net.eval()"), ["3 is not right", "goes back"]),
    (
        5,
        loop(behind="", inside="scheduler.step()"),
        ["0.111111", "after every batch, not after every epoch"],
    ),
    (5, loop(behind=""), ["the rate never falls"]),
    (5, loop(train="net.eval()"), ["training batches in train mode: 0", "which mode"]),
    (5, loop(train="scheduler.step(); net.train()", behind=""), ["before the first epoch"]),
]
