"""Why a reader's net could not be built or run: the line, the part, and what to look at."""

import difflib
import traceback
from pathlib import Path

import torch
from torch import nn

from . import causes
from .anatomy import ancestry
from .answers import Finding, raised
from .tape import Step, Tape
from .watch import Watched

FOREIGN = (str(Path(torch.__file__).parent), str(Path(__file__).parent))


def line(error: BaseException) -> str:
    """The reader's own line in which it happened, or ""."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not f.filename.startswith(FOREIGN)]
    if not own:
        return ""
    code = own[-1].line or ""
    code = code if len(code) <= 80 else code[:77] + "..."
    return f"{own[-1].name}, line {own[-1].lineno}" + (f": `{code}`" if code else "")


def of_words(error: BaseException) -> str:
    """What the words of an error mean."""
    text = str(error)
    if isinstance(error, NotImplementedError):
        return "something here is still to be written"
    if "unexpected keyword argument" in text:
        return "the keyword differs from the name in the `def`: compare both, letter by letter"
    if "required positional argument" in text:
        return "hand in the missing value: build=lambda: Net(...); or does `self` stand first?"
    if "must be an iterable, not NoneType" in text:
        return "the function that makes the stage gives nothing back: is `return` inside an `if`?"
    if isinstance(error, AttributeError):
        return _misspelt(error, text)
    return ""


def _misspelt(error: AttributeError, text: str) -> str:
    name, owner = getattr(error, "name", None) or "", getattr(error, "obj", None)
    names = [n for n in dir(owner) if n[0] != "_"] if owner is not None else []
    near = difflib.get_close_matches(name, names, 1, 0.6)
    if "expansion" in [name, *near] or "expansion" in text:
        written = f"; there is {near[0]}" if near and near[0] != name else ""
        return f"each block class needs `expansion = 1` (basic) or 4 (bottleneck){written}"
    lower = [n for n in names if n.lower() == name.lower()]
    near = lower or near
    return f"misspelt? there is {near[0]}" if near else f"nothing here is called {name}: misspelt?"


def of_result(tape: Tape) -> Finding:
    """The net gives something else than a tensor that was computed."""
    hint = "does forward end with `return`?" if tape.gave_none is not None else ""
    return Finding("broken", "gives no tensor that it computed", "forward", "a tensor", hint)


def of_running(net: nn.Module, tape: Tape, seen: Watched) -> Finding:
    """Why the forward pass stopped, and where."""
    error, text = seen.error, str(seen.error)
    part, inputs = seen.stopped or (net, ())
    name = tape.names.get(part, "")
    what, hint = raised(error), of_words(error)
    source = line(error)
    if "is missing the required" in text:
        what, hint = "there is no forward method", _no_forward(part)
        source = f"class {type(part).__name__}"
    elif "NoneType" in text and inputs and inputs[0] is None:
        what = "gets None from the part before it"
        before = f" of {tape.gave_none}" if tape.gave_none else ""
        hint = f"does forward{before} end with `return`?"
    elif "'NoneType' object is not callable" in text:
        what, hint = _none_called(part, source)
    elif "must match the size" in text and tape.failed and len(tape.failed.reads) > 1:
        what, hint = _unequal(tape, tape.failed)
    elif misfit := causes.misfit(name or type(part).__name__, part, inputs):
        what, hint = misfit, _channels(part, inputs, tape) or hint
    elif "too small" in text or "can't be greater than actual input" in text:
        sizes = [f"{s.shape[2]}x{s.shape[3]}" for s in tape.steps if len(s.shape) == 4]
        strides = [str(s.stride) for s in tape.steps if s.kind == "conv" and s.stride > 1]
        what = f"the map is too small: {', '.join(dict.fromkeys(sizes))}"
        hint = f"the convolutions stride {', '.join(strides)}; a ResNet strides 2, 1, 2, 2, 2"
    elif isinstance(error, NameError) and (error.name in dict(part.named_modules())):
        hint = f"the layer belongs to the module: self.{error.name}"
    where = ", ".join(dict.fromkeys(w for w in (name or "forward", source) if w))
    return Finding("broken", what, where, hint=hint)


def _no_forward(part: nn.Module) -> str:
    if isinstance(part, (nn.ModuleList, nn.ModuleDict)):
        return "a ModuleList has none: use nn.Sequential, or call its parts one by one"
    code = getattr(type(part).__init__, "__code__", None)
    inner = [c.co_name for c in getattr(code, "co_consts", ()) if hasattr(c, "co_name")]
    if "forward" in inner:
        return "`def forward` is nested in __init__: move it to the left, to the same depth"
    near = difflib.get_close_matches("forward", vars(type(part)), 1, 0.6)
    return f"misspelt? there is {near[0]}" if near else "write `def forward(self, x):`"


def _none_called(part: nn.Module, source: str) -> tuple[str, str]:
    none = [n for n, v in [*vars(part).items(), *part._modules.items()] if v is None]
    named = [n for n in none if f"{n}(" in source] or [n for n in none if n[0] != "_"]
    what = f"{named[0]} is None" if named else "None is called as if it were a layer"
    if named and ("down" in named[0] or "short" in named[0] or "proj" in named[0]):
        return what, "downsample is None where the shape stays: test that first"
    return what, "does the function that makes it end with `return`, and not inside an `if`?"


def _unequal(tape: Tape, step: Step) -> tuple[str, str]:
    """The two sides of an addition differ."""
    above = ancestry(tape.steps)
    sides = [[s for s in tape.steps if above[k] >> s.index & 1] for k in step.reads[:2]]
    sides.sort(key=lambda side: -sum(s.kind == "conv" for s in side))
    branch, shortcut = sides
    a, b = branch[-1].shape[1:], shortcut[-1].shape[1:]
    what = f"the branch has shape {a}, the shortcut {b}: they cannot be added"
    for s in branch:
        if s.kind == "conv" and s not in shortcut and s.padding < s.fits:
            hint = f"{s.where} is {s.kernel}x{s.kernel}: padding={s.fits} keeps the size"
            return what, f"{hint}, padding={s.padding} does not"
    own = [s for s in shortcut if s not in branch]
    if any(s.op in ("pad", "cat", "setitem") for s in own):
        hint = f"option A has to fill up to {a[0]} channels and take every stride-th pixel"
        return what, hint
    if a[0] == b[0] and a[1] > b[1] >= 1:
        hint = "the branch does not stride: does its convolution get the stride, or do **kwargs?"
        return what, hint
    word = "channels" if a[0] != b[0] else "stride"
    if any(s.kind == "conv" for s in own):
        return what, f"the projection on the shortcut has to follow the branch in its {word}"
    hint = "the shortcut needs a projection (1x1 convolution with the same stride, and BN)"
    return what, hint + "; is it made from stride != 1 or inplanes != planes * expansion?"


def _channels(part: nn.Module, inputs: tuple, tape: Tape) -> str:
    """Why a layer gets another number of channels or features than it was made for."""
    if inputs[0].dim() < 2:
        return "the pictures are mixed: torch.flatten(x, 1) keeps them apart"
    got = inputs[0].shape[1]
    maps = [s.shape[1:] for s in tape.steps if len(s.shape) == 4]
    if isinstance(part, nn.Linear):
        c, h, w = maps[-1] if maps else (got, 1, 1)
        if inputs[0].dim() > 2:
            return "" if h * w > 1 else "flatten before it: torch.flatten(x, 1)"
        one = f"put nn.AdaptiveAvgPool2d(1) before it, and {c} features into it"
        if part.in_features == c and h * w > 1:
            return f"pooling is forgotten before it: the map is still {c} x {h} x {w}"
        if part.in_features % c == 0 and part.in_features > c:
            return f"a fixed number of features works at one picture size only: {one}"
        return one if h * w > 1 else f"nn.Linear({got}, ...): 512 * expansion in a ResNet"
    wanted = getattr(part, "in_channels", None) or getattr(part, "num_features", None)
    before = next((s.where for s in reversed(tape.steps) if s.kind == "conv"), "")
    name = tape.names.get(part, "")
    if isinstance(part, nn.Conv2d) and not before:
        return f"the picture has {got} channels"
    same = before.rpartition(".")[0] == name.rpartition(".")[0]
    if isinstance(part, nn.Conv2d) and same:
        return f"it has to take the {got} channels that {before} gives, not the block's input"
    if not isinstance(part, nn.Conv2d):
        return f"as many channels as {before} gives: {got}"
    if got in (4 * wanted, 2 * wanted) or wanted == 4 * got:
        return (
            "a block gives planes * expansion channels: is the expansion (4 in a bottleneck) "
            "missing where inplanes is counted on?"
        )
    return f"{before} gives {got}; is inplanes brought up to date behind each block?"
