"""What is unusual in the anatomy of a net: one function for each organ, findings in plain words."""

import copy
from itertools import pairwise

from torch import Tensor, nn

from . import layout
from .anatomy import BROKEN, VARIANT, WASTEFUL, Anatomy, Block, places, some
from .answers import Finding
from .tape import Step


def of_anatomy(body: Anatomy, net: nn.Module) -> list[Finding]:
    """All findings that need no numbers: only which operation reads what, and shapes."""
    found = []
    if not body.depends:
        what = "the output does not depend on the picture"
        found.append(Finding(BROKEN, what, "forward", hint="is `x` written over or forgotten?"))
    if cut := [s.where for s in body.live if s.op == "detach"]:
        found.append(Finding(BROKEN, "detach() cuts the gradient here", some(cut)))
    outside = _outside(body, net)
    for look in (_joins, _shortcuts, _branches, _ends):
        found += look(body)
    return found + _norms(body, net) + outside + layout.of_anatomy(body)


def _path(block: Block) -> list[Step]:
    return [s for s in block.branch if s.kind in ("conv", "norm", "act")]


def _joins(body: Anatomy) -> list[Finding]:
    words = {
        "twice": ("something is added to itself", "was `x` overwritten before the addition?"),
        "sub": ("branch and shortcut are subtracted", "write `out + x`"),
        "mul": ("branch and shortcut are multiplied", "write `out + x`"),
    }
    found = []
    for kind, (what, hint) in words.items():
        if at := [step.where for step, odd in body.odd if odd == kind]:
            wanted = "the sum of branch and shortcut"
            found.append(Finding(BROKEN, what, some(at), wanted, hint))
    return found


def _shortcuts(body: Anatomy) -> list[Finding]:
    blocks, found = body.blocks, []
    needless = [b for b in blocks if b.projections and not b.changes]
    if needless and all(b.projections for b in blocks) and len(blocks) > len(body.stages):
        what = "option C: a projection on every shortcut"
        found.append(Finding(VARIANT, what, "all blocks", "", "He 2015, section 3.3"))
    elif needless:
        what = "a needless projection: nothing changes its shape here"
        wanted = "the identity, which has no weights"
        hint = "project only where the shape changes: stride != 1 or inplanes != outplanes"
        found.append(Finding(WASTEFUL, what, places(needless), wanted, hint))
    naked = [b for b in blocks if b.projections and not any(s.kind == "norm" for s in b.shortcut)]
    naked = [b for b in naked if b not in body.v2 and any(s.kind == "norm" for s in b.branch)]
    pads = [b for b in blocks if b.changes and not b.projections]
    pooled = [b for b in blocks if b.projections and any(s.kind == "pool" for s in b.shortcut)]
    pad = "option A: shortcuts without weights, new channels filled with zeros"
    for those, what, source in (
        (naked, "the projection on the shortcut has no BN", "usual: 1x1 convolution, then BN"),
        (pads, pad, "He 2015, section 3.3"),
        (pooled, "ResNet-D: the shortcut is pooled before its 1x1 convolution", "arXiv:1812.01187"),
    ):
        if those:
            found.append(Finding(VARIANT, what, places(those), "", source))
    dirty = [b for b in blocks if any(s.kind == "act" or s.op == "dropout" for s in b.shortcut)]
    if dirty:
        what = "a ReLU or dropout stands on the shortcut"
        hint = "the shortcut should carry its input on unchanged (He 2016, table 1)"
        found.append(Finding(BROKEN, what, places(dirty), hint=hint))
    return found


def _outside(body: Anatomy, net: nn.Module) -> list[Finding]:
    """Convolutions that no shortcut bridges."""
    if not body.blocks:
        if body.odd or not any(s.kind == "conv" for s in body.live):
            return []
        what = "plain net: no shortcut is added anywhere"
        hint = "a residual block ends in relu(out + x); without the sum it is the plain twin"
        return [Finding(VARIANT, what, "the whole net", "", hint)]
    parts = dict(net.named_modules())
    names = {b.name for b in body.blocks if b.name}
    kinds = {type(parts[n]) for n in names if not type(parts[n]).__module__.startswith("torch.")}
    found, late, others = [], [], []
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
    if late:
        what = "the shortcut starts behind this convolution"
        wanted = "it starts at the block's input"
        hint = "keep the input first, `identity = x`, and do not write over it"
        found.append(Finding(BROKEN, what, some(late), wanted, hint))
    if body.lonely:
        what = f"the shortcut is never added here, though it is in {body.blocks[0].place}"
        hint = "is the addition inside an `if`?"
        found.append(Finding(BROKEN, what, some(body.lonely), "relu(out + x)", hint))
    if others:
        what = "a convolution outside of the residual blocks: no shortcut bridges it"
        found.append(Finding(VARIANT, what, some(others)))
    return found


def _branches(body: Anatomy) -> list[Finding]:
    bare, without, swapped, found = [], [], [], []
    for block in body.blocks:
        path = _path(block)
        at = [k for k, s in enumerate(path) if s.kind == "conv"]
        for a, b in pairwise(at):
            between = {s.kind for s in path[a:b]}
            apart = {path[k].given(6, "groups", 1) == path[k].shape[1] for k in (a, b)}
            if "act" not in between and True not in apart:  # depthwise: one half of a convolution
                bare.append(f"{path[a].where} and {path[b].where}")
            if [s.kind for s in path[a + 1 : b] if s.kind != "conv"][:2] == ["act", "norm"]:
                swapped.append(path[a].where)
            if "norm" not in between and True not in apart:
                without.append(path[a].where)
        if block not in body.v2 and "norm" not in {s.kind for s in path[at[-1] :]}:
            without.append(path[at[-1]].where)
    if bare:
        what = "no ReLU between two convolutions: together they are one linear step"
        found.append(Finding(BROKEN, what, f"between {some(bare)}", "conv, BN, ReLU, conv"))
    if swapped:
        what = "the ReLU stands before BN"
        found.append(Finding(VARIANT, what, f"behind {some(swapped)}", "convolution, BN, ReLU"))
    if body.blocks and not any(s.kind == "norm" for s in body.live):
        what = "no batch normalisation anywhere"
        hint = "without it a deep net needs a special initialisation (Fixup)"
        found.append(Finding(VARIANT, what, "the whole net", hint=hint))
    elif without:
        what = "BN is missing behind a convolution"
        found.append(Finding(BROKEN, what, some(without), "convolution, then BN"))
    return found


def _norms(body: Anatomy, net: nn.Module) -> list[Finding]:
    found, biased, parts = [], [], dict(copy.deepcopy(net).train().named_modules())
    for step in body.live:
        if step.kind == "conv" and step.given(2, "bias") is not None:
            after = body.readers(step)
            if after and all(s.op in ("batch_norm", "instance_norm") for s in after):
                biased.append(step.where)
    if biased:
        what = "a bias in front of BN: BN subtracts any constant, so it does nothing"
        found.append(Finding(WASTEFUL, what, some(biased), "bias=False"))
    frozen = [s for s in body.live if s.op == "batch_norm" and not s.given(5, "training", False)]
    # On purpose: its factors are no weights, or the net's own train() leaves it in eval mode.
    own = [s for s in frozen if type(s.given(3, "weight")) is not Tensor]
    meant = not any(parts[s.where].training for s in own)
    if frozen:
        what = "BN uses its running statistics although the net is in train mode"
        hint = "right for fine-tuning" if meant else "is `eval()` called in __init__ or forward?"
        found.append(
            Finding(VARIANT if meant else BROKEN, what, some([s.where for s in frozen]), hint=hint)
        )
    return found


def _ends(body: Anatomy) -> list[Finding]:
    """ReLU at the end of a block: before or after the addition, or nowhere."""
    blocks, found, before, missing = body.blocks, [], [], []
    if 2 * len(body.v2) > len(blocks):
        what = "pre-activation (v2): BN and ReLU before each convolution"
        found.append(Finding(VARIANT, what, "all blocks", "", "He 2016, arXiv:1603.05027"))
        tail = body.behind(blocks[-1].join)
        if tail is not None and tail.kind not in ("norm", "act"):
            what = "no BN and ReLU behind the last block of a pre-activation net"
            wanted = "one BN and one ReLU before the pooling"
            found.append(Finding(BROKEN, what, blocks[-1].place, wanted))
        return found
    for block in blocks:
        tail = body.behind(block.join)
        if _path(block)[-1].kind == "act":
            before.append(block)
        elif block not in body.v2 and (tail.kind != "act" if tail else True):
            missing.append(block)
    if before:
        what = "the ReLU comes before the addition"
        hint = "relu(bn(...)) + x can only grow: relu(out + x). (DarkNet does it on purpose)"
        found.append(Finding(BROKEN, what, places(before), "the ReLU after the addition", hint))
    late = [b for b in missing if (tail := body.behind(b.join)) and tail.kind == "norm"]
    if missing:
        what = "BN stands behind the addition" if late else "the ReLU after the addition is missing"
        found.append(Finding(BROKEN, what, places(late or missing), "relu(out + x)"))
    return found


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
