"""The picture of a block, generated from the module itself by tracing it.

What is drawn is what the code does: a shortcut that is missing in the code is missing here.
"""

import copy
import html
from dataclasses import dataclass

import torch
from torch import fx, nn

from .plots import PALETTE, Picture

BOX = 168  # width of a box, in the drawing's units
ROW = 52  # distance between two boxes
MAIN, SIDE = 100, 300  # x of the branch and of the shortcut


@dataclass(frozen=True)
class Op:
    """One traced step: what it says on the box, which kind it is, and its output shape."""

    text: str
    kind: str  # "conv", "norm", "relu", "add", "shape" or "other"
    shape: tuple[int, ...]


class _Tracer(fx.Tracer):
    """Looks into Sequential only; everything else is one step."""

    def is_leaf_module(self, m: nn.Module, name: str) -> bool:
        return not isinstance(m, nn.Sequential)


def trace(block: nn.Module, input_shape: tuple[int, int, int]) -> tuple[list, list, list, int]:
    """(branch, shortcut, tail, common): the steps of a block in the order in which they run.

    `branch` leads from the input to the addition, `shortcut` are the steps beside it, `tail`
    starts with the addition. The shortcut leaves the branch after its first `common` steps (0 in
    the original block). Without an addition everything is in `branch`.

    Args:
        input_shape: (channels, height, width).
    """
    block = copy.deepcopy(block).to("meta").eval()  # nothing is computed, the block stays as it is
    graph = _Tracer().trace(block)
    module = fx.GraphModule(block, graph)
    shapes = _Shapes(module).collect(torch.zeros(1, *input_shape, device="meta"))
    modules = dict(block.named_modules())
    nodes = [n for n in graph.nodes if n.op not in ("placeholder", "output", "get_attr")]
    steps = {n: _describe(n, modules, shapes[n]) for n in nodes}
    add = next((n for n in nodes if steps[n].kind == "add"), None)
    if add is None:
        return [steps[n] for n in nodes], [], [], 0

    def back(node):  # the chain of single-input steps that leads to `node`
        chain = []
        while node in steps:
            chain.append(node)
            node = next((a for a in node.args if isinstance(a, fx.Node)), None)
        return chain[::-1]

    left, right = (back(a) for a in add.args[:2])
    if len(left) < len(right):
        left, right = right, left
    common = 0
    while common < len(right) and left[common] is right[common]:
        common += 1
    tail = [add, *nodes[nodes.index(add) + 1 :]]
    as_ops = [[steps[n] for n in chain] for chain in (left, right[common:], tail)]
    return *as_ops, common


class _Shapes(fx.Interpreter):
    def collect(self, x):
        self.found = {}
        with torch.no_grad():
            self.run(x)
        return self.found

    def run_node(self, node):
        out = super().run_node(node)
        self.found[node] = tuple(out.shape[1:]) if isinstance(out, torch.Tensor) else ()
        return out


def _describe(node: fx.Node, modules: dict, shape: tuple[int, ...]) -> Op:
    if node.op == "call_module":
        m = modules[node.target]
        if isinstance(m, nn.Conv2d):
            k = f"{m.kernel_size[0]}×{m.kernel_size[1]}"
            stride = f", stride {m.stride[0]}" if m.stride[0] > 1 else ""
            groups = f", {m.groups} groups" if m.groups > 1 else ""
            return Op(f"conv {k}, {m.out_channels}{stride}{groups}", "conv", shape)
        if isinstance(m, nn.BatchNorm2d):
            return Op("BN", "norm", shape)
        if isinstance(m, nn.ReLU):
            return Op("ReLU", "relu", shape)
        if isinstance(m, nn.AvgPool2d):
            return Op(f"average pool, stride {m.stride}", "shape", shape)
        if type(m).__name__ == "PadShortcut":
            return Op(
                f"[::{m.stride}], add zero channels" if m.stride > 1 else "add zero channels",
                "shape",
                shape,
            )
        return Op(type(m).__name__, "other", shape)
    name = getattr(node.target, "__name__", str(node.target))
    if name in ("add", "iadd", "add_"):
        return Op("+", "add", shape)
    return Op("ReLU" if "relu" in name else name, "relu" if "relu" in name else "other", shape)


def block_diagram(
    block: nn.Module, input_shape: tuple[int, int, int], *, alt: str, caption: str = ""
) -> Picture:
    """Draw `block` as it runs on one picture of `input_shape` (channels, height, width).

    The branch is a column of boxes, the shortcut a line beside it (dashed when it is the
    identity). A shape is written where it changes.
    """
    branch, side, tail, common = trace(block, input_shape)
    has_add = bool(tail)
    y, parts = 40, [_label(MAIN, 18, f"x   {_size(input_shape)}")]
    parts.append(_arrow(MAIN, 26, y))
    split_y = 32
    for i, op in enumerate(branch):
        parts.append(_op(MAIN, y, op))
        y += ROW
        parts.append(_arrow(MAIN, y - ROW + 32, y))
        if op.shape != (branch[i - 1].shape if i else tuple(input_shape)):
            parts.append(_label(MAIN + 9, y - 6, _size(op.shape), "start", 11))
        if i + 1 == common:
            split_y = y - 12
    if has_add:
        add_y = y + 14
        parts.append(_side(side, split_y, add_y))
        parts.append(_plus(MAIN, add_y))
        y = add_y + 14
        for op in tail[1:]:
            parts += [_arrow(MAIN, y, y + 20), _op(MAIN, y + 20, op)]
            y += 20 + 32
        parts.append(_arrow(MAIN, y, y + 22))
        y += 22
    out = (tail or branch)[-1]
    parts.append(_label(MAIN, y + 16, f"out   {_size(out.shape)}"))
    width = SIDE + BOX / 2 + 12 if has_add else 2 * MAIN
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {y + 28:g}" '
        f'font-family="var(--rl-sans, system-ui), sans-serif" font-size="13">'
        f"{''.join(parts)}</svg>"
    )
    return Picture([svg], alt, caption, width=int(width * 0.95))


COLOURS = {"conv": "c0", "norm": "c2", "relu": "c1", "shape": "c3", "other": "c5"}


def _var(name: str) -> str:
    return f"var(--rl-{name}, {PALETTE[name]})"


def _size(shape) -> str:
    return " × ".join(map(str, shape))


def _label(x, y, text, anchor="middle", size=13) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}" fill="currentColor">'
        f"{html.escape(text)}</text>"
    )


def _op(x, y, op: Op) -> str:
    colour = _var(COLOURS.get(op.kind, "c5"))
    return (
        f'<rect x="{x - BOX / 2:g}" y="{y:g}" width="{BOX}" height="32" rx="6" fill="{colour}" '
        f'fill-opacity="0.16" stroke="{colour}" stroke-width="1.5"/>' + _label(x, y + 21, op.text)
    )


def _arrow(x, y1, y2) -> str:
    return (
        f'<path d="M{x:g} {y1:g}V{y2:g}m-4 -6l4 6l4 -6" fill="none" stroke="currentColor" '
        'stroke-width="1.3"/>'
    )


def _plus(x, y) -> str:
    return (
        f'<circle cx="{x:g}" cy="{y:g}" r="14" fill="none" stroke="currentColor" '
        f'stroke-width="1.5"/><path d="M{x - 7:g} {y:g}h14M{x:g} {y - 7:g}v14" '
        'stroke="currentColor" stroke-width="1.8"/>'
    )


def _side(ops, top, bottom) -> str:
    """The shortcut: out of the main line at `top`, down, into the addition at `bottom`."""
    dashes = "" if ops else ' stroke-dasharray="6 4"'
    line = (
        f'<path d="M{MAIN} {top:g}H{SIDE}V{bottom:g}H{MAIN + 16}m6 -4l-6 4l6 4" fill="none" '
        f'stroke="currentColor" stroke-width="1.3"{dashes}/>'
    )
    if not ops:
        middle = (top + bottom) / 2
        return line + _label(SIDE + 8, middle, "identity", "start")
    start = (top + bottom - (len(ops) - 1) * ROW) / 2 - 16
    boxes = []
    for i, op in enumerate(ops):
        # An opaque plate under the half-transparent box hides the line behind it.
        boxes.append(
            f'<rect x="{SIDE - BOX / 2:g}" y="{start + i * ROW:g}" width="{BOX}" height="32" '
            'rx="6" fill="var(--pst-color-background, var(--rl-plate, Canvas))"/>'
        )
        boxes.append(_op(SIDE, start + i * ROW, op))
    return line + "".join(boxes)
