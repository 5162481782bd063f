"""The plan of a whole net: strides, padding, stem, head, and the number of blocks."""

from itertools import pairwise

from .anatomy import BROKEN, VARIANT, WASTEFUL, Anatomy, Block, say
from .answers import Finding

KNOWN = {
    "ResNet-18": ("basic", [2, 2, 2, 2]),
    "ResNet-34": ("basic", [3, 4, 6, 3]),
    "ResNet-50": ("bottleneck", [3, 4, 6, 3]),
    "ResNet-101": ("bottleneck", [3, 4, 23, 3]),
    "ResNet-152": ("bottleneck", [3, 8, 36, 3]),
}


def of_anatomy(body: Anatomy) -> list[Finding]:
    """All findings about the plan."""
    looks = (_strides, _windows, _stem, _head, _counts)
    return [found for look in looks for found in look(body)]


def _strides(body: Anatomy) -> list[Finding]:
    found, stages = [], body.stages
    strides = ", ".join(str(max(b.stride for b in stage)) for stage in stages)
    wanted = "1 in the first stage, 2 in the others"
    if big := [b for b in body.blocks if b.stride > 2]:
        what = f"stride {big[0].stride}; the stages stride {strides}"
        found += say(BROKEN, what, big, wanted)
    late = [b for stage in stages for b in stage[1:] if b.stride > 1]
    keras = late and all(b is stage[-1] for stage in stages for b in stage if b.stride > 1)
    if keras:
        what = "the last block of a stage strides, as in Keras' ResNet50V2"
        found += say(VARIANT, what, late, "the first block strides")
    else:
        what = "a later block of the stage strides as well"
        found += say(BROKEN, what, late, "only the first block strides")
    still = []
    for before, stage in pairwise(stages):
        if stage[0].join.shape[2] >= before[-1].join.shape[2] > 1:
            still.append(stage[0])
    if any(s.side(5, "dilation") > 1 for b in body.blocks for s in b.convs):
        found += say(VARIANT, "dilated convolutions instead of strides", ["the stages"])
    elif still and not keras:
        what = f"no downsampling: the map stays {'x'.join(map(str, still[0].join.shape[2:]))}"
        hint = "is the stride handed on to the convolution, or lost in **kwargs or a default?"
        found += say(BROKEN, what, still, f"stride {wanted}", hint)
    pooled = any(s.op == "max_pool2d" for s in body.stem)
    whole = not keras and not body.lonely
    if stages and stages[0][0].stride > 1 and pooled and whole:
        what = f"the first stage strides too, behind a max-pooling; the stages stride {strides}"
        found += say(BROKEN, what, stages[0][:1], wanted)
    # v1 strides at the start of a bottleneck, the other at the end of a basic block
    two = [b for b in body.blocks if b.stride == 2 and len(b.convs) > 1]
    first = [b for b in two if b.convs[0].stride > 1 and b.convs[0].kernel == 1]
    last = [b for b in two if b.convs[-1].stride > 1 and b.convs[-1].kernel == 3]
    what = "v1: the stride sits in the first 1x1 convolution"
    found += say(VARIANT, what, first, hint="torchvision: in the 3x3 (v1.5)")
    what = "the stride sits in the second convolution"
    return found + say(VARIANT, what, last, hint="usually the first 3x3 has it")


def _windows(body: Anatomy) -> list[Finding]:
    """Padding that does not fit the kernel, groups and widths."""
    odd, found = [], []
    for step in (s for b in body.blocks for s in (*b.branch, *b.shortcut) if s.kind == "conv"):
        padded = any(body.steps[k].op == "pad" for k in step.reads)
        if step.kernel % 2 and step.padding != step.fits and not padded:
            odd.append(step)
    if odd:
        what = f"padding {odd[0].padding} around a {odd[0].kernel}x{odd[0].kernel} convolution"
        hint = "kernel // 2 keeps the size; anything else shrinks or frames the map"
        found += say(BROKEN, what, odd, f"{odd[0].fits}", hint)
    necks = [b for b in body.blocks if _kind(b) == "bottleneck"]
    wide = [b for b in necks if b.convs[1].shape[1] * 4 != b.join.shape[1]]
    if grouped := [s for b in body.blocks for s in b.convs if s.given(6, "groups", 1) > 1]:
        what = f"ResNeXt: convolutions in {grouped[0].given(6, 'groups')} groups"
        found += say(VARIANT, what, grouped)
    elif wide:
        what = f"wide: {wide[0].convs[1].shape[1]} inner channels of {wide[0].join.shape[1]}"
        found += say(VARIANT, what, wide, "a quarter of the output")
    return found


def _stem(body: Anatomy) -> list[Finding]:
    found = []
    for pool in (s for s in body.live if s.op == "max_pool2d"):
        padded = pool.padding or any(body.steps[k].op == "pad" for k in pool.reads)
        if pool.kernel == 3 and pool.stride == 2 and not padded:
            size = "x".join(map(str, pool.shape[2:]))
            what = f"max-pooling without padding: the map is {size}"
            hint = "weights that were trained with padding=1 give other answers in this net"
            found += say(VARIANT, what, [pool], "padding=1", hint)
    convs = [s for s in body.stem if s.kind == "conv"]
    if not convs:
        return found
    first, side, end = convs[0], body.steps[0].shape[2], body.blocks[-1].join.shape[2:]
    if len(convs) > 1 and not body.lonely:
        what = f"deep stem: {len(convs)} convolutions (ResNet-D has three 3x3)"
        found += say(VARIANT, what, [first])
    elif len(convs) == 1 and first.kernel == 3 and first.stride == 1:
        what = "small stem (CIFAR): one 3x3 convolution, stride 1"
        found += say(VARIANT, what, [first], hint="right for pictures of 32x32")
    elif first.kernel > 3 and first.stride == 1 and side >= 64:
        what = f"the stem's convolution does not stride: the last maps are {end[0]}x{end[1]}"
        hint = "each convolution behind it has four times the work"
        found += say(WASTEFUL if max(end) > 7 else VARIANT, what, [first], "stride=2", hint)
    if first.kernel > 3 and end == (1, 1) and side <= 64:
        hint = "pictures of 32x32 need a 3x3 convolution without max-pooling"
        found += say(VARIANT, "a stem for large pictures: the last maps are 1x1", [first], "", hint)
    behind = {s.kind for s in body.stem if s.index > convs[-1].index}
    normed = any(s.kind == "norm" for s in body.live)
    for kind, word in (("norm", "BN"), ("act", "ReLU")):
        if kind not in behind and (normed or kind == "act") and not body.v2:
            what = f"{word} is missing behind the stem's convolution"
            found += say(BROKEN, what, convs[-1:], "convolution, BN, ReLU")
    return found


def softmaxed(where: str) -> Finding:
    """The net ends in a softmax."""
    hint = "cross-entropy applies softmax itself: twice flattens the gradients"
    what = "softmax at the end: each row of the output is a set of probabilities"
    return Finding(BROKEN, what, where, "raw scores", hint)


def _head(body: Anatomy) -> list[Finding]:
    last = body.live[-1]
    pairs = [(s, body.behind(s)) for s in body.live if s.op == "linear"]
    rows = [f"{a.where} and {b.where}" for a, b in pairs if b and b.op == "linear"]
    what = "no activation between two linear layers: together they are one"
    found = say(WASTEFUL, what, rows, "one linear layer, or a ReLU between them")
    loss = {"log_softmax": "NLLLoss", "sigmoid": "BCELoss"}.get(last.op)
    if last.kind == "softmax":
        return [*found, softmaxed(last.where or "forward")]
    if loss and (last.op != "sigmoid" or last.shape[1:] in ((), (1,))):
        what = f"{last.op} at the end: train it with {loss}"
        return found + say(VARIANT, what, [last], "raw scores")
    if last.kind == "act" and len(last.shape) == 2:
        return found + say(BROKEN, f"{last.op} behind the scores", [last], "raw scores")
    if last.shape[:1] != (2,):
        what = f"the output has shape {last.shape} for a batch of 2 pictures"
        hint = "flatten with torch.flatten(x, 1), which keeps the pictures apart"
        return found + say(BROKEN, what, [last], "one row for each picture", hint)
    return found


def _kind(block: Block) -> str:
    kernels = [s.kernel for s in block.convs]
    return {(3, 3): "basic", (1, 3, 1): "bottleneck"}.get(tuple(kernels), str(kernels))


def _counts(body: Anatomy) -> list[Finding]:
    """The number of blocks in each stage, compared with the nearest known net."""
    counts = [len(stage) for stage in body.stages]
    kinds = {_kind(b) for b in body.blocks}
    if not counts or body.lonely or (len(counts) == 3 and len(set(counts)) == 1):  # 6n + 2 of CIFAR
        return []
    kind = min(kinds) if len(kinds) == 1 else "mixed"
    known = {name: plan for name, (of, plan) in KNOWN.items() if of == kind}
    if not known or counts in known.values():
        return []
    if len(counts) != 4:
        what = f"{len(counts)} stages of {counts} blocks"
        return say(VARIANT, what, ["the stages"], "3 (CIFAR) or 4 (ImageNet) stages")
    far = {n: sum(abs(a - b) for a, b in zip(counts, p, strict=True)) for n, p in known.items()}
    name = min(far, key=far.get)
    at = next(k for k in range(4) if counts[k] != known[name][k])
    what = f"as {name}, but {counts[at]} blocks instead of {known[name][at]} in stage {at + 1}"
    return say(VARIANT, what, body.stages[at][:1], f"{known[name]}, not {counts}")
