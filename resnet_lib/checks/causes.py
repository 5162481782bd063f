"""Say why a module differs from its reference: watch every part run, and test the usual suspects.

Everything here gives a sentence for the reader, or "" where nothing is known.
"""

import re
from contextlib import suppress

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .answers import Finding, close
from .watch import Watched, watch

SETTINGS = (
    *("in_channels", "out_channels", "num_features", "in_features", "out_features"),
    *("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode", "ceil_mode"),
    *("eps", "momentum", "affine", "track_running_stats", "p", "negative_slope", "output_size"),
)


# --- errors


def is_module(build: object) -> list[Finding]:
    """A finished module where a function that builds one is wanted."""
    if not isinstance(build, nn.Module):
        return []
    hint = "hand in the function or the class that builds it, not the finished module"
    return [Finding("broken", "this is a module already", hint=hint)]


def no_module(got: object) -> Finding:
    """What `build` gave instead of a module."""
    if got is None:
        return Finding("broken", "gives nothing back", "result", hint="is a `return` missing?")
    many = isinstance(got, (list, tuple)) or hasattr(got, "__next__")
    hint = "a function that builds a stage has to return nn.Sequential(*blocks)" if many else ""
    return Finding("broken", f"got a {type(got).__name__}, not a torch module", "result", hint=hint)


def of_building(error: Exception) -> str:
    """Why `__init__` failed."""
    text = str(error)
    if "before Module.__init__()" in text or "has no attribute '_modules'" in text:
        return "__init__ has to begin with super().__init__()"
    if "is not a Module subclass" in text:
        return "is a star missing, nn.Sequential(*layers), or brackets, nn.ReLU()?"
    if "uninitialized" in text.lower():
        return "write the numbers of channels yourself; lazy layers learn them at the first call"
    return ""


def of_running(net: nn.Module, reference: nn.Module, seen: Watched, right: Watched) -> str:
    """Why the forward pass stopped."""
    text, name = str(seen.error), getattr(seen.error, "name", None) or ""
    parts = dict(net.named_modules())
    shared = one_object(net, reference)
    if "must match the size" in text:
        why = of_shape(net, reference, seen, right)
        why = why or "does the shortcut follow the branch in channels and in stride?"
        return f"the two sides of the addition differ in shape: {why}"
    if isinstance(seen.error, NameError) and name in parts:
        return f"the layer belongs to the module: self.{name}"
    if isinstance(seen.error, NameError) and name == "F":
        return "write `import torch.nn.functional as F`, or nn.functional instead of F"
    if isinstance(seen.error, AttributeError) and name in dict(reference.named_modules()):
        return f"write `self.{name} = ...` in __init__ (two underscores on each side)"
    if "'NoneType' object is not callable" in text:
        return "downsample is None where the shape stays: test that first"
    if "positional argument" in text and seen.stopped and seen.stopped[0] is net:
        return "is it `def forward(self, x):`, with self?"
    if shared:
        return "{} and {} are one object: make a new one for each place".format(*shared[0])
    if seen.stopped and seen.stopped[0] is not net:
        part, inputs = seen.stopped
        where = next((n for n, p in parts.items() if p is part), type(part).__name__)
        return misfit(where, part, inputs)
    return of_gradients(seen.error)


def of_gradients(error: Exception) -> str:
    """Why the backward pass stopped."""
    if "inplace operation" in str(error) or "in-place operation" in str(error):
        return (
            "`+=`, `add_` and in-place ReLUs write over values that are still needed: write "
            "`out = out + x`"
        )
    return ""


def misfit(name: str, part: nn.Module, inputs: tuple) -> str:
    if inputs and isinstance(inputs[0], nn.Module):
        layer = type(inputs[0]).__name__
        return f"{name} gets a layer instead of a tensor: nn.{layer}()(x), not nn.{layer}(x)"
    shape = tuple(getattr(inputs[0], "shape", ())) if inputs else ()
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


def unknown_layers(
    net: nn.Module, seen: Watched, called: str = "module", where: str = "forward"
) -> list[Finding]:
    """Layers that run, or wait in a plain list, and are no parts of `net`."""
    if lists := hidden(net):
        what = "layers in a plain list are not trained, saved or moved to the GPU"
        return [Finding("broken", what, lists[0], hint="use nn.Sequential or nn.ModuleList")]
    if not seen.strangers:
        return []
    what = f"a {type(seen.strangers[0]).__name__} runs that is no part of the {called}"
    hint = "a layer made in forward is new and untrained at every call: make it in __init__"
    return [Finding("broken", what, where, hint=hint)]


def one_object(net: nn.Module, reference: nn.Module) -> list[tuple[str, str]]:
    """Pairs of names that are one object in `net`, and two in `reference`."""
    right = dict(reference.named_modules(remove_duplicate=False))
    first, found = {}, []
    for name, part in net.named_modules(remove_duplicate=False):
        if name not in right or not list(part.parameters()):
            continue
        other = first.setdefault(part, name)
        if right[other] is not right[name]:
            found.append((other, name))
    return found


def other_kinds(net: nn.Module, reference: nn.Module, names: list[str]) -> list[str]:
    """For weights that do not fit: which of torch's own layers around them is of another kind."""
    own, right = dict(net.named_modules()), dict(reference.named_modules())
    found = []
    for name in names:
        around = name.split(".")[:-1]
        for n in (".".join(around[:k]) for k in range(1, len(around) + 1)):
            if n in own and n in right and (text := _kind(own[n], right[n])):
                found.append(f"{n} {text}")
                break
    return list(dict.fromkeys(found))


def _kind(part: nn.Module, reference: nn.Module) -> str:
    """`is a MaxPool2d, not an AvgPool2d`, for torch's own layers; "" if they are of one kind."""

    def torchs(module: nn.Module) -> bool:
        return type(module).__module__.startswith("torch.nn.")

    def of(module: nn.Module) -> str:
        inner = list(module.children())
        kinds = ", ".join(type(child).__name__ for child in inner)
        parts = kinds if all(map(torchs, inner)) else f"{len(inner)} parts"
        return type(module).__name__ + (f"({parts})" if inner else "")

    if not torchs(part) or not torchs(reference) or of(part) == of(reference):
        return ""
    return f"is {_a(of(part))}, not {_a(of(reference))}"


def _a(word: str) -> str:
    return f"{'an' if word[0] in 'AEI' else 'a'} {word}"


# --- outputs


def of_shape(net: nn.Module, reference: nn.Module, own: Watched, right: Watched) -> str:
    """Why the output has another shape: the first part whose output has another one."""
    # The branch first: a reader thinks of the shortcut as following it.
    for name, k in sorted(right.order, key=lambda call: "downsample" in call[0]):
        got, want = (calls.get(name, ())[k : k + 1] for calls in (own.calls, right.calls))
        if not name or not got or got[0][1].shape == want[0][1].shape:
            continue
        if differ := settings(net.get_submodule(name), reference.get_submodule(name)):
            later = "stride" in differ and re.search(r"(^|\.)[1-9]\d*\.conv\d$", name)
            return f"{name}: {differ}" + "; only the first block of a stage strides" * bool(later)
        shape = tuple(got[0][1].shape)
        return f"{name} is the first whose output has another shape: {shape}"
    return ""


def settings(part: nn.Module, reference: nn.Module) -> str:
    """What differs between two layers, for example `stride is 1, not 2`."""
    if kind := _kind(part, reference):
        return kind
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
    more = [n for n in own if n not in right and _kind(net.get_submodule(n), nn.Identity())]
    if more and type(net) is nn.Sequential:
        return f"{more[0]} ({type(net.get_submodule(more[0])).__name__}) is a part too many"
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
    if differ := settings(net.get_submodule(name), reference.get_submodule(name)):
        return f"{name}: {differ}"
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
        conv = own.get(end.replace("bn", "conv"))
        if conv and close(own[end][-1][0], conv[-1][1] + skip):
            return f"{at}the last BN stands behind the addition; it belongs before it"
    before = "the ReLU comes before the addition; it belongs after it"
    as_well = "a ReLU stands before the addition as well; only the one after it belongs there"
    suspects = [
        (lambda: relu(last), "the shortcut is never added"),
        (lambda: relu(last) + skip, before),
        (lambda: relu(last) + relu(skip), before),
        (lambda: relu(last + relu(skip)), "a ReLU stands on the shortcut: it has to stay as it is"),
        (lambda: relu(2 * last), "the branch is added to itself: was `x` overwritten before?"),
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
    if text := _mixed(out, last, skip):
        return at + text
    if out.min() < 0 <= right[name][0][1].min():
        return f"{at}the output has negative values: the ReLU after the addition is missing"
    return ""


def _mixed(out: Tensor, last: Tensor, skip: Tensor) -> str:
    """Whether the sum is a * branch + b * shortcut with other factors than 1 and 1."""
    if not out.shape == last.shape == skip.shape or int((out > 0).sum()) < 8:
        return ""
    passed = out > 0
    sides = torch.stack([last[passed], skip[passed]], 1).double()
    a, b = torch.linalg.lstsq(sides, out[passed].double()[:, None]).solution.flatten().tolist()
    if not close(out, torch.relu(a * last + b * skip)):
        return ""
    return f"the sum is {a:.3g} times the branch {b:+.3g} times the shortcut; both should be 1"
