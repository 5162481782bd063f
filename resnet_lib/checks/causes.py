"""Say why a module differs from its reference: watch every part run, and test the usual suspects.

Everything here gives a sentence for the reader, or "" where nothing is known.
"""

import re
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from .answers import close

SETTINGS = (
    *("in_channels", "out_channels", "num_features", "in_features", "out_features"),
    *("kernel_size", "stride", "padding", "dilation", "groups", "eps", "momentum", "p"),
)


@dataclass
class Watched:
    """What happened in one forward pass."""

    calls: dict[str, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)
    """(input, output) of each call of each part, by name."""
    order: list[tuple[str, int]] = field(default_factory=list)
    """Which call of which part finished first, second, ..."""
    strangers: list[nn.Module] = field(default_factory=list)
    """Layers with weights that ran, but are no parts of the net."""
    error: Exception | None = None
    stopped: tuple[nn.Module, tuple] | None = None
    """The innermost part that was running when the error came, and its input's shape."""


def watch(net: nn.Module, x: Tensor) -> Watched:
    """Run `net` on `x` without gradients. Errors are kept, not raised."""
    names = {part: name for name, part in net.named_modules()}
    seen, running = Watched(), []

    def enters(part: nn.Module, inputs: tuple) -> None:
        running.append((part, tuple(getattr(inputs[0], "shape", ())) if inputs else ()))

    def leaves(part: nn.Module, inputs: tuple, out: object) -> None:
        running.pop()
        if part not in names:
            if part._parameters or part._buffers:
                seen.strangers.append(part)
        elif inputs and isinstance(inputs[0], Tensor) and isinstance(out, Tensor):
            # Clones: an in-place layer behind it would change what is kept.
            pair = (inputs[0].clone(), out.clone())
            of_part = seen.calls.setdefault(names[part], [])
            seen.order.append((names[part], len(of_part)))
            of_part.append(pair)

    hooks = [register_module_forward_pre_hook(enters), register_module_forward_hook(leaves)]
    try:
        with torch.no_grad():
            net(x.clone())
    except Exception as error:
        seen.error, seen.stopped = error, (running[-1] if running else None)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


# --- errors


def of_building(error: Exception) -> str:
    """Why `__init__` failed."""
    text = str(error)
    if "before Module.__init__()" in text or "has no attribute '_modules'" in text:
        return "__init__ has to begin with super().__init__()"
    return ""


def of_running(net: nn.Module, seen: Watched) -> str:
    """Why the forward pass stopped."""
    text = str(seen.error)
    parts = dict(net.named_modules())
    if "must match the size" in text:
        return (
            "the two sides of the addition differ in shape: does the shortcut follow the branch "
            "in channels and in stride?"
        )
    if isinstance(seen.error, NameError) and getattr(seen.error, "name", "") in parts:
        return f"the layer belongs to the module: self.{seen.error.name}"
    if "positional argument" in text and seen.stopped and seen.stopped[0] is net:
        return "is it `def forward(self, x):`, with self?"
    if seen.stopped and seen.stopped[0] is not net:
        part, shape = seen.stopped
        name = next((n for n, p in parts.items() if p is part), type(part).__name__)
        return _misfit(name, part, shape)
    return of_gradients(seen.error)


def of_gradients(error: Exception) -> str:
    """Why the backward pass stopped."""
    if "inplace operation" in str(error) or "in-place operation" in str(error):
        return (
            "`+=`, `add_` and in-place ReLUs write over values that are still needed: write "
            "`out = out + x`"
        )
    return ""


def _misfit(name: str, part: nn.Module, shape: tuple) -> str:
    if isinstance(part, nn.Linear) and len(shape) > 2:
        return f"{name} gets shape {shape}: pool and flatten to (pictures, features) first"
    for kind, word in ((nn.Conv2d, "in_channels"), (_BatchNorm, "num_features")):
        if isinstance(part, kind) and len(shape) == 4 and shape[1] != getattr(part, word):
            return (
                f"{name} is made for {getattr(part, word)} channels and gets {shape[1]}: what "
                "comes out of the layer before it?"
            )
    if isinstance(part, nn.Linear) and shape and shape[-1] != part.in_features:
        return f"{name} is made for {part.in_features} features and gets {shape[-1]}"
    return ""


# --- layers that the net does not know


def hidden(net: nn.Module) -> list[str]:
    """Names of plain lists and dicts in which modules are kept, where torch does not see them."""
    found, known = [], set(net.modules())
    for name, part in net.named_modules():
        for word, value in vars(part).items():
            if word.startswith("_") or not isinstance(value, (list, tuple, dict)):
                continue  # torch's own dicts begin with an underscore
            items = value.values() if isinstance(value, dict) else value
            if any(isinstance(item, nn.Module) and item not in known for item in items):
                found.append(f"{name}.{word}" if name else word)
    return found


# --- outputs


def of_shape(net: nn.Module, reference: nn.Module, own: Watched, right: Watched) -> str:
    """Why the output has another shape: the first part whose output has another one."""
    # The branch first: a reader thinks of the shortcut as following it.
    for name, k in sorted(right.order, key=lambda call: "downsample" in call[0]):
        got, want = (calls.get(name, ())[k : k + 1] for calls in (own.calls, right.calls))
        if not name or not got or got[0][1].shape == want[0][1].shape:
            continue
        if settings := _settings(net.get_submodule(name), reference.get_submodule(name)):
            later = "stride" in settings and re.search(r"(^|\.)[1-9]\d*\.conv\d$", name)
            return f"{name}: {settings}" + "; only the first block of a stage strides" * bool(later)
        shape = tuple(got[0][1].shape)
        return f"{name} is the first whose output has another shape: {shape}"
    return ""


def _settings(part: nn.Module, reference: nn.Module) -> str:
    """Settings of a layer that differ, for example `stride is 1, not 2`."""
    found = []
    for word in SETTINGS:
        got, want = getattr(part, word, None), getattr(reference, word, None)
        if type(part) is type(reference) and got != want:
            found.append(f"{word} is {_short(got)}, not {_short(want)}")
    return "; ".join(found)


def _short(value) -> str:
    same = isinstance(value, tuple) and len(set(value)) == 1
    return str(value[0] if same else value)


def of_output(net: nn.Module, reference: nn.Module, x: Tensor) -> str:
    """Why the values differ, when weights and shapes agree."""
    as_it_should = watch(reference, x)
    own, right, again = watch(net, x).calls, as_it_should.calls, watch(net, x).calls
    if "" in own and "" in again and not close(own[""][0][1], again[""][0][1]) and net.training:
        return "two calls on the same pictures differ: is something random in it, such as dropout?"
    first = next(
        (
            name
            for name, k in as_it_should.order
            if len(own.get(name, ())) == len(right[name])
            and not close(own[name][k][1], right[name][k][1])
        ),
        "",
    )
    for block in dict.fromkeys((first, first.rpartition(".")[0])):  # in a stage or net
        if block in own and block in right and (text := _block(block, own, right)):
            return text
    for n in right:
        if not list(reference.get_submodule(n).parameters(recurse=False)):
            continue
        if n not in own:
            return f"{n} never runs in your forward"
        if len(own[n]) != len(right[n]):
            return f"{n} runs {len(own[n])} times in your forward, not {len(right[n])}"
    if not first:
        if own[""][0][1].min() < 0 <= right[""][0][1].min():
            return "the output has negative values: is a ReLU missing at the end?"
        return "each layer is right by itself: look at the order in forward"
    return _layer(first, net, reference, own, right)


def _layer(name: str, net: nn.Module, reference: nn.Module, own: dict, right: dict) -> str:
    for (got, _), (wanted, _) in zip(own[name], right[name], strict=True):
        if got.shape == wanted.shape and got.min() < 0 <= wanted.min():
            return f"{name} gets negative values: a ReLU is missing before it"
        if got.shape == wanted.shape and wanted.min() < 0 <= got.min():
            return (
                f"{name} gets no negative values, and should: is there a ReLU too many before it?"
            )
        if not close(got, wanted):
            return f"the first part that differs is {name}; look at what comes before it"
    if settings := _settings(net.get_submodule(name), reference.get_submodule(name)):
        return f"{name}: {settings}"
    return (
        f"{name} gets the right input, but its output differs: look at its settings "
        "and its forward; is it in the right mode (train or eval)?"
    )


def _block(name: str, own: dict, right: dict) -> str:
    """The usual mistakes at the end of the residual block `name`, or ""."""
    at = f"in block {name}: " if name else ""
    dot = f"{name}." if name else ""
    relu = torch.relu
    source, out = own[name][0]
    end = next((dot + n for n in ("bn3", "bn2") if dot + n in own), None)
    if end is None:
        return ""
    last = own[end][-1][1]
    skip = own[f"{dot}downsample"][0][1] if f"{dot}downsample" in own else source
    inner = {
        n.removeprefix(dot): calls[0][1]
        for n, calls in own.items()
        if n.startswith(dot) and n not in (name, end) and "downsample" not in n
    }
    with suppress(RuntimeError):
        if close(out, relu(last + skip)):
            return ""  # the end is right: something before it is not
    before = "the ReLU comes before the addition; it belongs after it"
    as_well = "a ReLU stands before the addition as well; only the one after it belongs there"
    suspects = [
        (lambda: relu(last), "the shortcut is never added"),
        (lambda: relu(last) + skip, before),
        (lambda: relu(last) + relu(skip), before),
        (lambda: relu(relu(last) + skip), as_well),
        (lambda: relu((last + skip) / 2), "the two paths are averaged; they should be summed"),
        (lambda: relu(last * skip), "the two paths are multiplied; they should be summed"),
        (lambda: relu(last - skip), "the shortcut is subtracted; it should be added"),
        (lambda: relu(last + 2 * skip), "the shortcut is added twice"),
        (lambda: relu(skip), "only the shortcut comes out; the branch is missing"),
        (lambda: relu(last + source), "downsample runs, but its output is not what is added"),
    ]
    for n, value in inner.items():
        text = f"the shortcut starts behind {n}; it has to start at the block's input"
        suspects += [(lambda v=value: relu(last + v), text)]
        suspects += [(lambda v=value: relu(last + relu(v)), text)]
    for formula, text in suspects:
        with suppress(RuntimeError):  # where the shapes do not fit, it was not this
            if close(out, formula()):
                return at + text
    if out.min() < 0 <= right[name][0][1].min():
        return f"{at}the output has negative values: the ReLU after the addition is missing"
    return ""
