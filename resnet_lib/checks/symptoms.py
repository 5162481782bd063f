"""What is unusual in the anatomy of a net: one function for each organ, findings in plain words."""

import copy
from itertools import pairwise

from torch import Tensor, nn

from . import layout
from .anatomy import BROKEN, VARIANT, WASTEFUL, Anatomy, Block, say
from .answers import Finding
from .tape import Step


def of_anatomy(body: Anatomy, net: nn.Module) -> list[Finding]:
    """All findings that need no numbers: only which operation reads what, and shapes."""
    found = []
    if not body.depends:
        what = "the output does not depend on the picture"
        found = say(BROKEN, what, ["forward"], hint="is `x` written over or forgotten?")
    cut = [s for s in body.live if s.op == "detach"]
    found += say(BROKEN, "detach() cuts the gradient here", cut)
    found += [*_joins(body), *_shortcuts(body), *_branches(body), *_ends(body)]
    return found + _norms(body, net) + _outside(body, net) + layout.of_anatomy(body)


def _path(block: Block) -> list[Step]:
    return [s for s in block.branch if s.kind in ("conv", "norm", "act")]


def _joins(body: Anatomy) -> list[Finding]:
    found, wanted = [], "the sum of branch and shortcut"
    for kind, what, hint in (
        ("twice", "something is added to itself", "was `x` overwritten before the addition?"),
        ("sub", "branch and shortcut are subtracted", "write `out + x`"),
        ("mul", "branch and shortcut are multiplied", "write `out + x`"),
    ):
        found += say(BROKEN, what, [s for s, odd in body.odd if odd == kind], wanted, hint)
    scaled = [
        b
        for b in body.blocks
        if b.join.op == "stack_mean" or any(s.scales for s in body.readers(b.join))
    ]
    what = "the sum is averaged or scaled: each block makes what the shortcut carries smaller"
    return found + say(BROKEN, what, scaled, wanted, "no factor on the sum: relu(out + x)")


def _shortcuts(body: Anatomy) -> list[Finding]:
    blocks, found = body.blocks, []
    needless = [b for b in blocks if b.projections and not b.changes]
    if needless and all(b.projections for b in blocks) and len(blocks) > len(body.stages):
        what = "option C: a projection on every shortcut"
        found = say(VARIANT, what, ["all blocks"], hint="He 2015, section 3.3")
    else:
        what = "a needless projection: nothing changes its shape here"
        wanted = "the identity, which has no weights"
        hint = "project only where the shape changes: stride != 1 or inplanes != outplanes"
        found = say(WASTEFUL, what, needless, wanted, hint)
    naked = [b for b in blocks if b.projections and not any(s.kind == "norm" for s in b.shortcut)]
    naked = [b for b in naked if b not in body.v2 and any(s.kind == "norm" for s in b.branch)]
    what, hint = "the projection on the shortcut has no BN", "usual: 1x1 convolution, then BN"
    found += say(VARIANT, what, naked, hint=hint)
    what = "option A: shortcuts without weights, new channels filled with zeros"
    pads = [b for b in blocks if b.changes and not b.projections]
    found += say(VARIANT, what, pads, hint="He 2015, section 3.3")
    what = "ResNet-D: the shortcut is pooled before its 1x1 convolution"
    pooled = [b for b in blocks if b.projections and any(s.kind == "pool" for s in b.shortcut)]
    found += say(VARIANT, what, pooled, hint="arXiv:1812.01187")
    if large := [b for b in blocks if any(s.kernel > 1 for s in b.projections)]:
        kernel = max(s.kernel for s in large[0].projections)
        what = f"the projection is a {kernel}x{kernel} convolution: {kernel**2} times the weights"
        found += say(VARIANT, what, large, "1x1", "SENet-154 does it on purpose")
    dirty = [
        b
        for b in blocks
        if any(s.kind == "act" or s.op == "dropout" or s.scales for s in b.shortcut)
    ]
    what = "a ReLU, dropout or a constant factor stands on the shortcut"
    hint = "the shortcut should carry its input on unchanged (He 2016, table 1)"
    return found + say(BROKEN, what, dirty, hint=hint)


def _outside(body: Anatomy, net: nn.Module) -> list[Finding]:
    """Convolutions that no shortcut bridges."""
    if not body.blocks:
        if body.odd or not any(s.kind == "conv" for s in body.live):
            return []
        what = "plain net: no shortcut is added anywhere"
        hint = "a residual block ends in relu(out + x); without the sum it is the plain twin"
        return say(VARIANT, what, ["the whole net"], hint=hint)
    parts = dict(net.named_modules())
    names = {b.name for b in body.blocks if b.name}
    kinds = {type(parts[n]) for n in names if not type(parts[n]).__module__.startswith("torch.")}
    late, others = [], []
    stem = [s for s in body.stem if s.kind == "conv"]
    for step in (*stem, *body.outside):
        words = step.where.split(".")
        around = [".".join(words[:k]) for k in range(len(words), 0, -1)]
        if any(a in names for a in around):
            late.append(step.where)
        elif mates := [a for a in around if type(parts.get(a)) in kinds]:
            body.lonely.append(mates[0])
        elif step not in stem:
            others.append(step.where)
    what, wanted = "the shortcut starts behind this convolution", "it starts at the block's input"
    hint = "keep the input first, `identity = x`, and do not write over it"
    found = say(BROKEN, what, late, wanted, hint)
    what = f"the shortcut is never added here, though it is in {body.blocks[0].where}"
    found += say(BROKEN, what, body.lonely, "relu(out + x)", "is the addition inside an `if`?")
    what = "a convolution outside of the residual blocks: no shortcut bridges it"
    return found + say(VARIANT, what, others)


def _branches(body: Anatomy) -> list[Finding]:
    bare, without, swapped = [], [], []
    for block in body.blocks:
        path = _path(block)
        at = [k for k, s in enumerate(path) if s.kind == "conv"]
        for a, b in pairwise(at):
            between = {s.kind for s in path[a:b]}
            apart = {path[k].given(6, "groups", 1) == path[k].shape[1] for k in (a, b)}
            if "act" not in between and True not in apart:  # depthwise: one half of a convolution
                bare.append(f"between {path[a].where} and {path[b].where}")
            if [s.kind for s in path[a + 1 : b] if s.kind != "conv"][:2] == ["act", "norm"]:
                swapped.append(f"behind {path[a].where}")
            if "norm" not in between and True not in apart:
                without.append(path[a].where)
        if block not in body.v2 and "norm" not in {s.kind for s in path[at[-1] :]}:
            without.append(path[at[-1]].where)
    what = "no ReLU between two convolutions: together they are one linear step"
    found = say(BROKEN, what, bare, "conv, BN, ReLU, conv")
    what = "the ReLU stands before BN"
    found += say(VARIANT, what, swapped, "convolution, BN, ReLU")
    if any(s.kind == "norm" for s in body.live):
        what = "BN is missing behind a convolution"
        return found + say(BROKEN, what, without, "convolution, then BN")
    hint = "without it a deep net needs a special initialisation (Fixup)"
    where = ["the whole net"] if body.blocks else []
    return found + say(VARIANT, "no batch normalisation anywhere", where, hint=hint)


def _norms(body: Anatomy, net: nn.Module) -> list[Finding]:
    biased, parts = [], dict(copy.deepcopy(net).train().named_modules())
    for step in body.live:
        if step.kind == "conv" and step.given(2, "bias") is not None:
            after = body.readers(step)
            if after and all(s.op in ("batch_norm", "instance_norm") for s in after):
                biased.append(step)
    what = "a bias in front of BN: BN subtracts any constant, so it does nothing"
    found = say(WASTEFUL, what, biased, "bias=False")
    used = [s for s in body.live if s.op == "batch_norm" and not s.given(5, "training", False)]
    # On purpose: its factors are no weights, or the net's own train() leaves it in eval mode.
    own = [s for s in used if type(s.given(3, "weight")) is not Tensor]
    meant = not any(parts[s.where].training for s in own)
    grade = VARIANT if meant else BROKEN
    hint = "right for fine-tuning" if meant else "is `eval()` called in __init__ or forward?"
    frozen = [*used, *(s for s in body.live if s.op == "frozen_bn")]
    what = "BN uses its running statistics although the net is in train mode"
    return found + say(grade, what, frozen, hint=hint)


def _ends(body: Anatomy) -> list[Finding]:
    """ReLU at the end of a block: before or after the addition, or nowhere."""
    blocks, before, missing, late = body.blocks, [], [], []
    if 2 * len(body.v2) > len(blocks):
        what = "pre-activation (v2): BN and ReLU before each convolution"
        found = say(VARIANT, what, ["all blocks"], hint="He 2016, arXiv:1603.05027")
        tail = body.behind(blocks[-1].join)
        if tail is not None and tail.kind not in ("norm", "act"):
            what = "no BN and ReLU behind the last block of a pre-activation net"
            wanted = "one BN and one ReLU before the pooling"
            found += say(BROKEN, what, blocks[-1:], wanted)
        return found
    for block in blocks:
        tail = body.behind(block.join)
        if _path(block)[-1].kind == "act":
            before.append(block)
        elif block not in body.v2 and (tail is None or tail.kind != "act"):
            (late if tail and tail.kind == "norm" else missing).append(block)
    what = "the ReLU comes before the addition"
    if body.outside and not any(b.changes for b in blocks):
        what += ", as in ResNet-9 and DarkNet: plain convolutions between the blocks stride"
        found = say(VARIANT, what, before)
    else:
        hint = "relu(bn(...)) + x can only grow: relu(out + x)"
        found = say(BROKEN, what, before, "the ReLU after the addition", hint)
    found += say(BROKEN, "BN stands behind the addition", late, "relu(out + x)")
    return found + say(BROKEN, "the ReLU after the addition is missing", missing, "relu(out + x)")


def of_parts(net: nn.Module) -> list[Finding]:
    """What the parts say before anything runs."""
    for name, part in net.named_modules():
        for word in ("padding", "stride", "kernel_size", "dilation"):
            value = getattr(part, word, None)
            values = value if isinstance(value, tuple) else (value,)
            if type(part).__module__.startswith("torch.") and any(v is True for v in values):
                what = f"{word}=True: torch wants a number of pixels"
                hint = "padding=1 keeps the size of a 3x3 convolution, padding=0 that of a 1x1"
                return [Finding(BROKEN, what, name, f"{word}=1 or another number", hint)]
    return []
