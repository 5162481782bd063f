"""Find stem, residual blocks and stages in the operations of a forward pass, whatever their names.

A residual block is an addition whose two sides come from one tensor, the fork, and of which one
side has convolutions. The side with more of them is the branch, the other one the shortcut.
"""

from dataclasses import dataclass, field
from math import prod
from posixpath import commonpath

from .answers import GRADES, Finding
from .tape import Step, Tape

BROKEN, WASTEFUL, VARIANT = GRADES


@dataclass(eq=False)
class Block:
    """One residual block; `name` is that of the innermost part that holds all of it."""

    name: str
    fork: Step
    join: Step
    branch: list[Step]
    shortcut: list[Step]

    @property
    def convs(self) -> list[Step]:
        return [s for s in self.branch if s.kind == "conv"]

    @property
    def projections(self) -> list[Step]:
        return [s for s in self.shortcut if s.kind == "conv"]

    @property
    def stride(self) -> int:
        """How many times smaller the branch makes the map; a map of 1x1 does not hide it."""
        strided = ("conv2d", "max_pool2d", "avg_pool2d")
        stride = prod(s.stride for s in self.branch if s.op in strided)
        before, after = self.fork.shape[2], self.join.shape[2]
        if -(-before // stride) == after:
            return stride
        return max(1, round(before / max(1, after)))  # for example with parallel convolutions

    @property
    def changes(self) -> bool:
        """Whether channels or size differ between input and output."""
        return self.fork.shape[1:] != self.join.shape[1:]

    @property
    def early(self) -> bool:
        """BN or ReLU stand on the branch before its first convolution."""
        kinds = [s.kind for s in self.branch]
        return bool({"norm", "act"} & {*kinds[: kinds.index("conv")]})

    @property
    def where(self) -> str:
        """Its name, or where it has none of its own, the convolutions it is made of."""
        return self.name or f"the block {self.convs[0].where} ... {self.convs[-1].where}"


@dataclass
class Anatomy:
    """What was found. Lists are in the order of execution."""

    steps: list[Step]
    live: list[Step] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    stages: list[list[Block]] = field(default_factory=list)
    stem: list[Step] = field(default_factory=list)
    outside: list[Step] = field(default_factory=list)
    v2: set[Block] = field(default_factory=set)
    """Blocks in pre-activation order."""
    lonely: list[str] = field(default_factory=list)
    """Parts of the same class as a block, in which nothing is added."""
    depends: bool = True
    """Whether the output depends on the input."""
    odd: list[tuple[Step, str]] = field(default_factory=list)
    """Joins that are no sums of a branch and a shortcut."""

    def readers(self, step: Step) -> list[Step]:
        return [s for s in self.live if step.index in s.reads]

    def behind(self, step: Step) -> Step | None:
        """What reads the output first; dropout, constant factors, changes of form left out."""
        passed = ("dropout", "dropout2d", "clone", "contiguous", "type")
        after = self.readers(step)
        while after and (after[0].op in passed or after[0].scales):
            after = self.readers(after[0])
        return after[0] if after else None


def ancestry(steps: list[Step]) -> list[int]:
    """One number for each step: its bit k says whether the step depends on step k, or is it."""
    above = []
    for step in steps:
        mask = 1 << step.index
        for read in step.reads:
            mask |= above[read]
        above.append(mask)
    return above


def dissect(tape: Tape) -> Anatomy:
    """The anatomy of the net that was run under `tape`."""
    body, above = Anatomy(tape.steps), ancestry(tape.steps)
    body.live = [s for s in body.steps if above[tape.output] >> s.index & 1]
    body.depends = bool(above[tape.output] & 1)
    found = []
    for step in body.live:
        if step.kind in ("add", "sub", "mul") and len(step.shape) == 4 and len(step.reads) == 2:
            _join(body, step, above, found)
    for block in reversed(found):  # a block inside a branch is a part of that branch
        inside = any(
            o.fork.index <= block.fork.index and block.join.index < o.join.index
            for o in body.blocks
        )
        if not inside:
            body.blocks.insert(0, block)
    _regions(body)
    return body


def _join(body: Anatomy, step: Step, above: list[int], found: list[Block]) -> None:
    one, two = step.reads
    common = above[one] & above[two]
    if not common:
        return
    fork = body.steps[common.bit_length() - 1]
    if one == two:
        body.odd.append((step, "twice"))
        return
    span = body.steps[fork.index + 1 : step.index]
    gates = _gates(body, span, step.shape[2:])  # no links of the chain
    span = [s for s in span if s not in gates]
    sides = [[s for s in span if above[side] >> s.index & 1] for side in (one, two)]
    sides.sort(key=lambda side: -sum(s.kind == "conv" for s in side))
    branch, shortcut = sides
    if not any(s.kind == "conv" for s in branch):
        return
    if step.kind != "add":
        same = body.steps[one].shape == body.steps[two].shape
        if step.kind == "sub" or (same and branch[-1].kind != "act"):
            body.odd.append((step, step.kind))
        return
    where = [s.where.replace(".", "/") for s in (*branch, step) if s.kind in ("conv", "add")]
    found.append(Block(commonpath(where).replace("/", "."), fork, step, branch, shortcut))


def _gates(body: Anatomy, span: list[Step], size: tuple[int, ...]) -> set[Step]:
    """Squeeze-and-excitation: one number for each channel, also where the map itself is 1x1."""
    found = set()
    for s in span:
        mean = s.op in ("mean", "adaptive_avg_pool2d") or {body.steps[k] for k in s.reads} <= found
        if len(s.shape) < 4 or (s.shape[2:] == (1, 1) and (mean or size != (1, 1))):
            found.add(s)
    return found


def _regions(body: Anatomy) -> None:
    """Stem, stages, what lies between."""
    if not body.blocks:
        return
    for block in body.blocks:  # BN and ReLU first: on the branch, or shared with a projection
        shared = block.fork.kind == "act" and block.branch[-1].kind == "conv" and block.changes
        before = any(body.steps[k].kind == "norm" for k in block.fork.reads)
        if block.early or (shared and before):
            body.v2.add(block)
    if 2 * len(body.v2) > len(body.blocks):
        body.v2 |= {b for b in body.blocks if b.branch[-1].kind == "conv"}
    first, last = body.blocks[0].fork.index, body.blocks[-1].join.index
    body.stem = [s for s in body.live if s.index <= first]
    inside = {s for b in body.blocks for s in (*b.branch, *b.shortcut)}
    gates = [range(b.fork.index, b.join.index) for b in body.blocks]
    gates.append(range(last, len(body.steps)))
    body.outside = [
        s
        for s in body.live
        if s.index > first
        and s.kind == "conv"
        and s not in inside
        # squeeze-and-excitation works on 1x1 maps beside the chain, some heads behind it
        and not (s.shape[2:] == (1, 1) and any(s.index in gate for gate in gates))
    ]
    for block in body.blocks:
        before = body.stages[-1][-1] if body.stages else None
        parent, old = (b.name.rpartition(".")[0] if b else "" for b in (block, before))
        grows = before is None or before.join.shape[1] != block.join.shape[1]
        if grows or (block.stride > 1 and parent != old):
            body.stages.append([])
        body.stages[-1].append(block)


def say(grade: str, what: str, places: list, expected: str = "", hint: str = "") -> list[Finding]:
    """One finding about all these steps, blocks or names; none if there are none."""
    names = list(dict.fromkeys(getattr(place, "where", place) for place in places))
    if not names:
        return []
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return [Finding(grade, what, (names[0] or "forward") + more, expected, hint)]
