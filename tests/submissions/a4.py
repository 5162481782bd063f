"""Wrong and unusual submissions for assignment 4, and what the marker must make of them."""

STAGE = """
def make_layer(block, inplanes, planes, blocks, stride):
    outplanes = {wide}
    downsample = None
    if {when}:
        downsample = nn.Sequential({shortcut})
    first = block(inplanes, planes, {first}, downsample)
    others = [block({follow}, planes{other}) for _ in range({count})]
    return {end}
"""
PROJECTION = "nn.Conv2d(inplanes, outplanes, 1, {}, bias={}), nn.BatchNorm2d(outplanes)"
FOLLOWS = PROJECTION.format("stride", "False")


def stage(
    wide="planes * block.expansion",
    when="stride != 1 or inplanes != outplanes",
    shortcut=FOLLOWS,
    first="stride",
    follow="outplanes",
    other="",
    count="blocks - 1",
    end="nn.Sequential(first, *others)",
):
    return STAGE.format(**locals())


NET = """
class ResNet(nn.Module):
    def __init__(self, block, layers, num_classes=1000, width=64, course=False):
        super().__init__()
        kernel, stride, pool = 7, 2, 3
        planes = [width * 2**i for i in range(len(layers))]
        if {course}:
            kernel = PARAMETERS["stem_kernel"]
            stride = PARAMETERS["stem_stride"]
            pool = PARAMETERS["pool_kernel"]
            growth = PARAMETERS["growth"]
            planes = {planes}
        self.conv1 = nn.Conv2d(3, width, kernel, stride, {stem_pad}, bias={bias})
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(pool, 2, {pool_pad})
        self.stages = [f"layer{{i + 1}}" for i in range({stages})]
        inplanes = width
        for i, name in enumerate(self.stages):
            stage = make_layer(block, inplanes, planes[i], layers[i], {strides})
            self.add_module({name}, stage)
            inplanes = planes[i] * block.expansion
        self.avgpool = {head}
        self.fc = nn.Linear({features}, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                {init}
            {more}

    def forward(self, x):
        x = {stem}
        for name in self.stages:
            x = getattr(self, name)(x)
        return {end}
"""


def net(
    course="course",
    planes="[width * (1 + growth * i) for i in range(len(layers))]",
    stem_pad="kernel // 2",
    bias="False",
    pool_pad="(pool - 1) // 2",
    stages="len(layers)",
    strides="1 if i == 0 else 2",
    name="name",
    head="nn.AdaptiveAvgPool2d(1)",
    features="inplanes",
    init="nn.init.kaiming_normal_(m.weight, mode='fan_out', nonlinearity='relu')",
    more="pass",
    stem="self.maxpool(self.relu(self.bn1(self.conv1(x))))",
    end="self.fc(torch.flatten(self.avgpool(x), 1))",
):
    return NET.format(**locals())


PROOF = """
def equal(p, q):
    if p is None or q is None:
        return p is q
    if p.shape != q.shape:
        return False
    p, q = p.detach().double(), q.detach().double()
    gap, largest = (p - q).abs().max(), torch.maximum(p.abs().max(), q.abs().max())
    {compare}


def behaviour(net, x):
    net, found = {copy}, {{}}
    for key, value in {state}:
        found["before", key] = value.clone()
    for mode in {modes}:
        net.train(mode == "train")
        net.zero_grad()
        {seed}
        pictures = x.detach().clone().requires_grad_()
        out = net(pictures)
        found[mode, "output"] = out
        {gradients}
    {after}
    return found


def same_network(a, b, x):
    one, other = behaviour(a, x), behaviour(b, x)
    if one.keys() != other.keys():
        return False
    return all(equal(one[key], other[key]) for key in one)
"""


def proof(
    compare="return bool(gap <= 1e-4 * largest)",
    copy="copy.deepcopy(net)",
    state="net.state_dict().items()",
    modes="('eval', 'train')",
    seed="torch.manual_seed(0)",
    gradients="out.square().mean().backward(); found[mode, 'x'] = pictures.grad; "
    "found |= {(mode, k): p.grad for k, p in net.named_parameters()}",
    after="found |= {('after', k): v for k, v in net.state_dict().items()}",
):
    return PROOF.format(**locals())


LOAD = """
NORM = {{"gamma": "{gamma}", "beta": "{beta}", "mean": "{mean}", "var": "{var}"}}


def rename(key):
    s, word = re.escape(PARAMETERS["separator"]), PARAMETERS["stage_word"]
    inner = {{"{zero}": "downsample.0", "{one}": "downsample.1"}}
    inner |= {{f"conv{{i}}": f"conv{{i}}" for i in (1, 2, 3)}}
    inner |= {{f"norm{{i}}": f"bn{{i}}" for i in (1, 2, 3)}}
    outer = {{"stem conv": "conv1", "stem norm": "bn1", "head": "fc"}}
    *place, last = key.split(PARAMETERS["separator"])
    start, names = "", outer
    found = re.{match}(rf"{{word}}({digits}){{s}}block({digits}){{s}}.+", key)
    if found:
        stage = int(found[1]) - {first_stage}
        block = int(found[2]) - {first_block}
        if {known}:
            start, names, place = f"layer{{stage + 1}}.{{block}}.", inner, place[2:]
    layer = names.get(" ".join(place))
    norm = layer in ("bn1", "bn2", "bn3", "downsample.1")
    last = NORM.get(last) if norm else {{"kernel": "weight", "bias": "bias"}}.get(last)
    if layer is None or last is None:
        {unknown}
    return f"{{start}}{{layer}}.{{last}}"


def convert(state):
    found = {{}}
    for key in list(state):
        value = {take}
        if value.dim() == 4:
            layout = PARAMETERS["kernel_layout"]
            value = {kernel}
        elif value.dim() == 2:
            value = {matrix}
        found[rename(key)] = value
    return found
"""


def load(
    gamma="weight",
    beta="bias",
    mean="running_mean",
    var="running_var",
    zero="shortcut conv",
    one="shortcut norm",
    match="fullmatch",
    digits=r"\d+",
    first_stage="PARAMETERS['first_stage']",
    first_block="PARAMETERS['first_block']",
    known="stage >= 0 and block >= 0",
    unknown="raise KeyError(key)",
    take="state[key]",
    kernel="value.permute(*(layout.index(c) for c in 'OIHW'))",
    matrix="value.T",
):
    return LOAD.format(**locals())


STAGES = {"stage_names", "stage_values"}
OUTPUTS = {"net_values", "net_course", "net_real"}
NETS = {"net_names", *OUTPUTS}
PROOFS = {
    *("proof_accepts", "proof_weights", "proof_outputs", "proof_training"),
    "proof_untouched",
}
LOADS = {"load_names", "load_values"}

# (what is wrong, edits, parts that lose their marks, words that the feedback must hold)
WRONG = [
    # Question 1
    (
        "a projection only where the stride is not 1",
        {"q1": stage(when="stride != 1")},
        {*STAGES, *NETS},
        "downsample.0.weight is missing",
    ),
    (
        "a projection only where the channels change",
        {"q1": stage(when="inplanes != outplanes")},
        STAGES,
        "where the stride is not 1",
    ),
    (
        "a projection in every stage",
        {"q1": stage(when="True")},
        {*STAGES, *NETS},
        "a projection is needed only where the shape changes",
    ),
    (
        "the projection has no BN",
        {"q1": stage(shortcut="nn.Conv2d(inplanes, outplanes, 1, stride, bias=False)")},
        {*STAGES, *NETS},
        "a projection is a 1x1 convolution and a BN after it",
    ),
    (
        "the projection has a bias",
        {"q1": stage(shortcut=PROJECTION.format("stride", "True"))},
        {*STAGES, *NETS},
        "use bias=False",
    ),
    (
        "the projection is 3x3",
        {"q1": stage(shortcut=PROJECTION.replace("1, {}", "3, {}, 1").format("stride", "False"))},
        {*STAGES, *NETS},
        "the size of the kernel is another one",
    ),
    (
        "the stride is missing on the shortcut",
        {"q1": stage(shortcut=PROJECTION.format("1", "False"))},
        {"stage_values", *OUTPUTS},
        "the same stride as the first block",
    ),
    (
        "every block has the stride",
        {"q1": stage(other=", stride")},
        {"stage_values", *OUTPUTS},
        "only the first block of a stage has the stride",
    ),
    (
        "no block has the stride",
        {"q1": stage(first="1", shortcut=PROJECTION.format("1", "False"))},
        {"stage_values", *OUTPUTS},
        "no block has the stride",
    ),
    (
        "the expansion is always 4",
        {"q1": stage(wide="planes * 4")},
        {*STAGES, *NETS},
        "planes * block.expansion",
    ),
    (
        "the expansion is forgotten in the later blocks",
        {"q1": stage(follow="planes")},
        {*STAGES, *NETS},
        "how many channels come in here",
    ),
    (
        "one block used many times",
        {"q1": stage(end="nn.Sequential(first, *[block(outplanes, planes)] * (blocks - 1))")},
        {"stage_values", *OUTPUTS},
        "is one block, used n times",
    ),
    (
        "a block too many",
        {"q1": stage(count="blocks")},
        {*STAGES, *NETS},
        "how many blocks in each",
    ),
    (
        "a plain list instead of a module",
        {"q1": stage(end="[first, *others]")},
        {*STAGES, *NETS, "net_start"},
        "nn.Sequential(*blocks)",
    ),
    # Question 2
    (
        "the max-pooling never runs",
        {"q2": net(stem="self.relu(self.bn1(self.conv1(x)))")},
        OUTPUTS,
        "the max-pooling of the stem never runs",
    ),
    (
        "the max-pooling stands before BN",
        {"q2": net(stem="self.relu(self.bn1(self.maxpool(self.conv1(x))))")},
        OUTPUTS,
        "the max-pooling last",
    ),
    (
        "the max-pooling has no padding",
        {"q2": net(pool_pad="(pool - 1) // 2 if course else 0")},
        {"net_values", "net_real"},
        "the max-pooling needs padding",
    ),
    (
        "conv1 has padding 3 whatever its kernel",
        {"q2": net(stem_pad="3")},
        {"net_course"},
        "is the net with course=False right?",
    ),
    (
        "conv1 has no padding",
        {"q2": net(stem_pad="0")},
        OUTPUTS,
        "conv1 needs padding",
    ),
    (
        "no ReLU in the stem",
        {"q2": net(stem="self.maxpool(self.bn1(self.conv1(x)))")},
        OUTPUTS,
        "the ReLU of the stem is missing",
    ),
    (
        "layer1 has stride 2 as well",
        {"q2": net(strides="2")},
        {*NETS},
        "layer1 has stride 1",
    ),
    (
        "only layer2 has stride 2",
        {"q2": net(strides="2 if i == 1 else 1")},
        OUTPUTS,
        "line by line",
    ),
    (
        "no stage has a stride",
        {"q2": net(strides="1")},
        OUTPUTS,
        "every stage after layer1 has stride 2",
    ),
    (
        "fc forgets the expansion",
        {"q2": net(features="planes[-1]")},
        NETS,
        "what leaves the last stage?",
    ),
    (
        "always four stages",
        {"q2": net(stages="4")},
        {"net_names", "net_values", "net_course", "net_start"},
        "IndexError",
    ),
    (
        "stages counted from 0",
        {
            "q2": net(name="f'layer{i}'", stages="len(layers)").replace(
                'f"layer{i + 1}"', 'f"layer{i}"'
            )
        },
        NETS,
        "layer0",
    ),
    ("a bias in conv1", {"q2": net(bias="True")}, NETS, "use bias=False"),
    (
        "a pooling window of 7",
        {"q2": net(head="nn.AvgPool2d(7)")},
        OUTPUTS,
        "a window of fixed size fits one size of pictures only",
    ),
    (
        "max-pooling in the head",
        {"q2": net(head="nn.AdaptiveMaxPool2d(1)")},
        OUTPUTS,
        "the mean over each map",
    ),
    (
        "softmax at the end",
        {"q2": net(end="self.fc(torch.flatten(self.avgpool(x), 1)).softmax(1)")},
        OUTPUTS,
        "no softmax",
    ),
    (
        "a sigmoid at the end",
        {"q2": net(end="self.fc(torch.flatten(self.avgpool(x), 1)).sigmoid()")},
        OUTPUTS,
        "compare with the list",
    ),
    ("the course's net is the paper's", {"q2": net(course="False")}, {"net_course"}, "still the"),
    (
        "the course's widths double",
        {"q2": net(planes="planes")},
        {"net_course"},
        "do not double",
    ),
    (
        "the course's widths forget the 1",
        {"q2": net(planes="[width * max(1, growth * i) for i in range(len(layers))]")},
        {"net_course"},
        "layer1 has i = 0",
    ),
    ("torch's own start", {"q2": net(init="pass")}, {"net_start"}, "torch's own start"),
    (
        "fan_in instead of fan_out",
        {"q2": net(init="nn.init.kaiming_normal_(m.weight)")},
        {"net_start"},
        "this is fan_in",
    ),
    (
        "Xavier's start",
        {"q2": net(init="nn.init.xavier_normal_(m.weight)")},
        {"net_start"},
        "this is Xavier's",
    ),
    (
        "every BN starts at zero",
        {"q2": net(more="if isinstance(m, nn.BatchNorm2d): nn.init.zeros_(m.weight)")},
        {"net_start"},
        "does not start at 1",
    ),
    # Question 3
    (
        "always the same",
        {"q3": "def same_network(a, b, x):\n    return True\n"},
        PROOFS,
        "says True",
    ),
    (
        "never the same",
        {"q3": "def same_network(a, b, x):\n    return False\n"},
        PROOFS,
        "says False",
    ),
    (
        "a word instead of True",
        {"q3": "def same_network(a, b, x):\n    return 'equal'\n"},
        PROOFS,
        "not True or False",
    ),
    (
        "the same text when printed",
        {"q3": "def same_network(a, b, x):\n    return str(a) == str(b)\n"},
        PROOFS,
        "compare behaviour",
    ),
    (
        "logits in eval mode alone",
        {
            "q3": "def same_network(a, b, x):\n"
            "    with torch.no_grad():\n"
            "        one, other = (copy.deepcopy(n).eval()(x) for n in (a, b))\n"
            "    if one.shape != other.shape:\n        return False\n"
            "    return bool((one - other).abs().max() <= 1e-4 * one.abs().max())\n"
        },
        {"proof_weights", "proof_outputs", "proof_training"},
        "compare the outputs in train mode too",
    ),
    (
        "equal bit by bit",
        {"q3": proof(compare="return torch.equal(p, q)")},
        {"proof_accepts"},
        "not bit by bit",
    ),
    (
        "allclose as it comes",
        {"q3": proof(compare="return torch.allclose(p, q)")},
        {"proof_accepts"},
        "element by element",
    ),
    (
        "a fixed limit of 1e-3",
        {"q3": proof(compare="return bool(gap <= 1e-3)")},
        {"proof_accepts", "proof_outputs"},
        "compare relative to the largest",
    ),
    (
        "NaN gets through",
        {"q3": proof(compare="return not bool(gap > 1e-4 * largest)")},
        {"proof_outputs"},
        "`nan > limit` is False",
    ),
    (
        "division by a largest value of zero",
        {"q3": proof(compare="return bool(gap / largest <= 1e-4)")},
        PROOFS,
        "says False",
    ),
    ("no seed", {"q3": proof(seed="pass")}, {"proof_accepts"}, "is the same seed set"),
    (
        "train mode is not compared",
        {"q3": proof(modes="('eval',)")},
        {"proof_outputs", "proof_training"},
        "compare the outputs in train mode too",
    ),
    (
        "eval mode is not compared",
        {"q3": proof(modes="('train',)")},
        {"proof_outputs"},
        "compare the outputs in eval mode too",
    ),
    (
        "no gradients",
        {"q3": proof(gradients="pass")},
        {"proof_training"},
        "compare the gradients",
    ),
    (
        "the gradient of the pictures alone",
        {"q3": proof(gradients="out.mean().backward(); found[mode] = pictures.grad")},
        {"proof_training"},
        "the gradient of every parameter",
    ),
    (
        "no statistics after the run",
        {"q3": proof(after="pass")},
        {"proof_training"},
        "compare the running statistics after a run",
    ),
    (
        "parameters without buffers",
        {"q3": proof(state="net.named_parameters()", after="pass")},
        {"proof_weights", "proof_training"},
        "not only parameters",
    ),
    (
        "values without names",
        {
            "q3": proof(
                state="enumerate(net.state_dict().values())",
                gradients="out.square().mean().backward(); found[mode, 'x'] = pictures.grad; "
                "found |= {(mode, k): p.grad for k, p in enumerate(net.parameters())}",
                after="found |= {('after', k): v for k, v in enumerate(net.buffers())}",
            )
        },
        {"proof_weights"},
        "compare the names",
    ),
    (
        "a net with another shape is an error",
        {"q3": proof().replace("p.shape != q.shape", "False")},
        {"proof_weights"},
        "compare shapes before values",
    ),
    (
        "the nets themselves run",
        {"q3": proof(copy="net")},
        {"proof_untouched"},
        "work on copies",
    ),
    (
        "the mode is part of the proof",
        {
            "q3": proof(
                state="[('mode', torch.tensor(float(net.training))), *net.state_dict().items()]"
            )
        },
        {"proof_accepts", "proof_untouched"},
        "the mode they come in is no matter",
    ),
    # Question 4
    (
        "their first stage is not layer1",
        {"q4": load(first_stage="1")},
        {*LOADS, "load_errors"},
        "layer1 is their first stage",
    ),
    (
        "their first block is not block 0",
        {"q4": load(first_block="0")},
        {*LOADS, "load_errors"},
        "torch counts blocks from 0",
    ),
    (
        "mean and var mixed up",
        {"q4": load(mean="running_var", var="running_mean")},
        LOADS,
        "mean and var are mixed up",
    ),
    (
        "gamma and beta mixed up",
        {"q4": load(gamma="bias", beta="weight")},
        LOADS,
        "gamma is the weight",
    ),
    (
        "convolution and BN of the shortcut mixed up",
        {
            "q4": load(zero="shortcut norm", one="shortcut conv").replace(
                '"bn3", "downsample.1"', '"bn3", "downsample.0"'
            )
        },
        LOADS,
        "0 is the convolution and 1 its BN",
    ),
    (
        "stages of one digit",
        {"q4": load(digits=r"\d")},
        LOADS,
        "KeyError",
    ),
    (
        "unknown names get through",
        {"q4": load(unknown="return key")},
        {"load_errors"},
        "an unknown name must raise KeyError",
    ),
    (
        "a ValueError for unknown names",
        {"q4": load(unknown="raise ValueError(key)")},
        {"load_errors"},
        "gives 'ValueError'",
    ),
    (
        "a KeyError without the name",
        {"q4": load(unknown="raise KeyError('unknown')")},
        {"load_errors"},
        "a KeyError without the name",
    ),
    (
        "numbers below the first get through",
        {"q4": load(known="True")},
        {"load_errors"},
        "an unknown name must raise KeyError",
    ),
    (
        "kernels in their layout",
        {"q4": load(kernel="value")},
        {"load_values"},
        "the kernels lie in another layout",
    ),
    (
        "the permutation the wrong way round",
        {"q4": load(kernel="value.permute(*('OIHW'.index(c) for c in layout))")},
        {"load_values"},
        "the wrong way round",
    ),
    (
        "height and width mixed up",
        {"q4": load(kernel="value.permute(*(layout.index(c) for c in 'OIWH'))")},
        {"load_values"},
        "height and width",
    ),
    (
        "the head is not transposed",
        {"q4": load(matrix="value")},
        {"load_values"},
        "the matrix of the head has to be transposed",
    ),
    (
        "their dict is emptied",
        {"q4": load(take="state.pop(key)")},
        {"load_values"},
        "the dict that comes in has changed",
    ),
]

# (what is unusual, edits): correct, and loses nothing
UNUSUAL = [
    (
        "a stage grown with append",
        {
            "q1": "def make_layer(block, inplanes, planes, blocks, stride):\n"
            "    stage = nn.Sequential()\n"
            "    for i in range(blocks):\n"
            "        out, step = planes * block.expansion, stride if i == 0 else 1\n"
            "        down = nn.Sequential()\n"
            "        if (step, inplanes) != (1, out):\n"
            "            down.append(nn.Conv2d(inplanes, out, 1, step, bias=False))\n"
            "            down.append(nn.BatchNorm2d(out))\n"
            "        stage.append(block(inplanes, planes, stride=step, downsample=down or None))\n"
            "        inplanes = out\n"
            "    return stage\n"
        },
    ),
    (
        "a stage that is a class of its own",
        {
            "q1": "class Stage(nn.Sequential):\n"
            "    def __init__(self, block, inplanes, planes, blocks, stride):\n"
            "        out = block.expansion * planes\n"
            "        need = stride > 1 or out != inplanes\n"
            "        conv = nn.Conv2d(inplanes, out, (1, 1), (stride, stride), bias=False)\n"
            "        down = nn.Sequential(conv, nn.BatchNorm2d(out)) if need else None\n"
            "        later = (block(out, planes, 1, None) for _ in range(1, blocks))\n"
            "        super().__init__(block(inplanes, planes, stride, down), *later)\n\n\n"
            "make_layer = Stage\n"
        },
    ),
    (
        "the net with setattr, functional steps and mean",
        {
            "q2": "import torch.nn.functional as F\n\n\n"
            "class ResNet(nn.Module):\n"
            "    def __init__(self, block, layers, num_classes=1000, width=64, course=False):\n"
            "        super().__init__()\n"
            "        p = PARAMETERS\n"
            "        k, s, m = (p['stem_kernel'], p['stem_stride'], p['pool_kernel'])"
            " if course else (7, 2, 3)\n"
            "        self.conv1 = nn.Conv2d(3, width, k, s, k // 2, bias=False)\n"
            "        self.bn1, self.pool = nn.BatchNorm2d(width), (m, 2, (m - 1) // 2)\n"
            "        c, self.depth = width, len(layers)\n"
            "        for i in range(self.depth):\n"
            "            wide = width + i * p['growth'] * width if course else width << i\n"
            "            part = make_layer(block, c, wide, layers[i], 1 + (i > 0))\n"
            "            setattr(self, f'layer{i + 1}', part)\n"
            "            c = wide * block.expansion\n"
            "        self.fc = nn.Linear(c, num_classes)\n"
            "        for w in self.parameters():\n"
            "            if w.dim() == 4:\n"
            "                out = w.shape[0] * w.shape[2] * w.shape[3]\n"
            "                nn.init.normal_(w, 0, (2 / out) ** 0.5)\n\n"
            "    def forward(self, x):\n"
            "        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), *self.pool)\n"
            "        for i in range(self.depth):\n"
            "            x = self._modules[f'layer{i + 1}'](x)\n"
            "        return F.linear(x.mean((-1, -2)), self.fc.weight, self.fc.bias)\n"
        },
    ),
    (
        "the net as one nn.Sequential with names",
        {
            "q2": "class ResNet(nn.Sequential):\n"
            "    def __init__(self, block, layers, num_classes=1000, width=64, course=False):\n"
            "        def pick(name, value):\n"
            "            return PARAMETERS[name] if course else value\n\n"
            "        k, p = pick('stem_kernel', 7), pick('pool_kernel', 3)\n"
            "        stem = nn.Conv2d(3, width, k, pick('stem_stride', 2), k // 2, bias=False)\n"
            "        parts = dict(conv1=stem, bn1=nn.BatchNorm2d(width), relu=nn.ReLU(True),\n"
            "                     maxpool=nn.MaxPool2d(p, stride=2, padding=(p - 1) // 2))\n"
            "        come, wide = width, width\n"
            "        for i, n in enumerate(layers, 1):\n"
            "            parts[f'layer{i}'] = make_layer(block, come, wide, n, min(i, 2))\n"
            "            come = wide * block.expansion\n"
            "            wide = wide + PARAMETERS['growth'] * width if course else 2 * wide\n"
            "        parts |= dict(avgpool=nn.AdaptiveAvgPool2d((1, 1)), flatten=nn.Flatten(),\n"
            "                      fc=nn.Linear(come, num_classes))\n"
            "        super().__init__()\n"
            "        for name, part in parts.items():\n"
            "            self.add_module(name, part)\n"
            "        for part in self.modules():\n"
            "            if type(part) is nn.Conv2d:\n"
            "                nn.init.kaiming_normal_(part.weight, mode='fan_out')\n"
        },
    ),
    (
        "a proof that puts everything back by hand and uses autograd.grad",
        {
            "q3": "def facts(net, x):\n"
            "    kept = {k: v.clone() for k, v in net.state_dict().items()}\n"
            "    modes = [m.training for m in net.modules()]\n"
            "    yield from kept.items()\n"
            "    torch.manual_seed(5)\n"
            "    with torch.no_grad():\n"
            "        yield 'eval', net.eval()(x)\n"
            "    torch.manual_seed(5)\n"
            "    y = x.clone().requires_grad_()\n"
            "    out = net.train()(y)\n"
            "    named = {k: p for k, p in net.named_parameters() if p.requires_grad}\n"
            "    yield 'train', out.detach()\n"
            "    loss = out.square().mean()\n"
            "    grads = torch.autograd.grad(loss, [y, *named.values()], allow_unused=True)\n"
            "    yield from zip(['x', *('d ' + k for k in named)], grads)\n"
            "    yield from ((k + ' moved', v.clone()) for k, v in net.state_dict().items())\n"
            "    net.load_state_dict(kept)\n"
            "    for m, mode in zip(net.modules(), modes):\n"
            "        m.training = mode\n\n\n"
            "def same_network(a, b, x):\n"
            "    one, other = dict(facts(a, x)), dict(facts(b, x))\n"
            "    if set(one) != set(other):\n"
            "        return False\n"
            "    same = torch.tensor(True)\n"
            "    for k, p in one.items():\n"
            "        q = other[k]\n"
            "        if p is None or q is None:\n"
            "            same = same & (p is q)\n"
            "        elif p.shape != q.shape:\n"
            "            return False\n"
            "        else:\n"
            "            big = max(float(p.abs().max()), float(q.abs().max()))\n"
            "            same = same & ((p - q).abs() <= 1e-4 * big).all()\n"
            "    return same\n"
        },
    ),
    (
        "names by a table of all that their library can make",
        {
            "q4": "PLACES = ['conv1', 'bn1'] + [\n"
            "    f'layer{s}.{b}.{part}' for s in range(1, 20) for b in range(40)\n"
            "    for part in ('conv1', 'conv2', 'conv3', 'bn1', 'bn2', 'bn3',\n"
            "                 'downsample.0', 'downsample.1')\n"
            "]\n"
            "NAMES = ['fc.weight', 'fc.bias']\n"
            "for place in PLACES:\n"
            "    norm = 'bn' in place or place.endswith('downsample.1')\n"
            "    ends = ['weight'] + ['bias', 'running_mean', 'running_var'] * norm\n"
            "    NAMES += [f'{place}.{end}' for end in ends]\n"
            "TABLE = {their_name(name): name for name in NAMES}\n"
            "rename = TABLE.__getitem__\n\n\n"
            "def convert(state):\n"
            "    torchs = ''.join(sorted(PARAMETERS['kernel_layout'], key='OIHW'.index))\n"
            "    how = f'{PARAMETERS[\"kernel_layout\"]}->{torchs}'.lower()\n"
            "    turned = {4: how, 2: 'ab->ba', 1: 'a->a'}\n"
            "    return {rename(k): torch.einsum(turned[v.dim()], v) for k, v in state.items()}\n"
        },
    ),
]
