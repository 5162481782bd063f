"""The doctor of the bug clinic: what is broken, wasteful or a known variant in a reader's net."""

import copy
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from . import accidents, causes, layout, symptoms
from .anatomy import BROKEN, VARIANT, WASTEFUL, Anatomy, dissect, say
from .answers import GRADES, Finding, Report, close, raised
from .tape import Tape
from .watch import Watched, watch

SMALL = 64  # pixels along one side, enough where numbers are needed


def doctor(build: Callable[[], nn.Module], input_shape: tuple[int, int, int]) -> Report:
    """Examine a ResNet that a reader wrote, and say in plain words what is unusual, and where.

    Args:
        build: function without arguments (or a class) that returns the net. It is called once.
        input_shape: (channels, height, width) of one picture.

    Returns:
        A `Report`. Each of its `.findings` has `.grade`, `.what`, `.where`, `.expected` and
        `.hint`; "broken" comes before "wasteful" and "known variant". A net with nothing to
        object to has neither broken nor wasteful findings; a known variant is no mistake.

    Nothing is raised: what `build` or the net raise becomes a finding. The net is copied, not
    changed; the states of the random number generators are put back. Only a `build` that never
    returns, or fills the memory, is beyond help.

    Blocks are found in the operations of one forward pass without numbers (meta device), so their
    names do not matter. What is compared: He et al. 2015 (arXiv:1512.03385), He et al. 2016
    (arXiv:1603.05027), and torchvision's nets.
    """
    report = Report("your net")
    with _undisturbed():
        try:
            _examine(report, build, input_shape)
        except (Exception, SystemExit) as error:
            hint = "this stopped the doctor; what is listed besides was found before"
            found = Finding(BROKEN, raised(error), accidents.line(error), hint=hint)
            report.findings.append(found)
    report.findings.sort(key=lambda finding: GRADES.index(finding.grade))
    return report


@contextmanager
def _undisturbed() -> Iterator[None]:
    """The same random numbers every time in here, and outside as if nothing had happened."""
    numpy, dtype = sys.modules.get("numpy"), torch.get_default_dtype()
    kept, numpys = random.getstate(), numpy and numpy.random.get_state()
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.default_generator.manual_seed(0)  # the CPU's; a GPU's is left alone
            random.seed(0)
            if numpy:
                numpy.random.seed(0)
            yield
        finally:
            random.setstate(kept)
            torch.set_default_dtype(dtype)
            if numpy:
                numpy.random.set_state(numpys)


def _examine(report: Report, build: Callable, input_shape: tuple) -> None:
    shape = tuple(input_shape)
    if len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape):
        what = f"input_shape={shape}: give (channels, height, width), three whole numbers"
        report.findings += say(BROKEN, what, ["input_shape"])
        return
    net = _built(report, build)
    if net is None:
        return
    parts = net.named_modules()
    if closed := [name for name, part in parts if isinstance(part, torch.jit.ScriptModule)]:
        what = "scripted or traced: the doctor cannot look inside, so it says nothing about the net"
        report.findings += say(VARIANT, what, [closed[0] or "the whole net"])
        return
    report.findings += symptoms.of_parts(net)
    if any(map(is_lazy, net.parameters())):
        watch(net, torch.randn(2, *shape))  # learns the channels; an error is met again below
    dtype = next((p.dtype for p in net.parameters() if p.is_floating_point()), torch.float32)
    x = torch.empty(2, *shape, dtype=dtype, device="meta")
    tape, seen = _run(net, x)
    if seen.error is not None:
        x = torch.randn(2, *shape).to(dtype)
        tape, seen = _run(net, x)
    if seen.error is not None:
        found = accidents.of_running(net, tape, seen)
        report.findings = report.findings or [found]
        return
    if tape.output is None:
        report.findings.append(accidents.of_result(tape))
        return
    body = dissect(tape)
    report.findings += _registered(net, tape, seen)
    report.findings += symptoms.of_anatomy(body, net)
    if seen.strangers:  # they stay on the CPU, and are new each time
        return
    report.findings += _gradients(net, x, body, seen)
    report.findings += _sizes(net, x, body)
    if body.depends:
        report.findings += _numbers(net, shape, dtype, report)


def _run(net: nn.Module, x: Tensor) -> tuple[Tape, Watched]:
    """One forward pass in train mode, of a copy, on the device of x."""
    trial = copy.deepcopy(net).to(x.device).train()
    with Tape(trial) as tape:
        return tape, watch(trial, x)


def _built(report: Report, build: Callable) -> nn.Module | None:
    if found := causes.is_module(build):
        report.findings += found
        return None
    try:
        net = build()
        if net is ...:
            report.answered = False
        elif issubclass(type(net), nn.Module):
            lazy = {id(b): type(b)() for b in net.buffers() if is_lazy(b)}  # not to be copied
            whole = copy.deepcopy(nn.ModuleList([net]), lazy).cpu()
            for part in list(whole.modules()):
                for name, child in part.named_children():  # torch.compile wraps a module
                    part._modules[name] = getattr(child, "_orig_mod", child)
            return whole[0]
        else:
            report.findings.append(causes.no_module(net))
    except (Exception, SystemExit) as error:
        hint = causes.of_building(error) or accidents.of_words(error)
        where = accidents.line(error) or "while building it"
        report.findings.append(Finding(BROKEN, raised(error), where, hint=hint))
    return None


def _registered(net: nn.Module, tape: Tape, seen: Watched) -> list[Finding]:
    """Layers that the net does not know, or knows twice."""
    found = causes.unknown_layers(net, seen, "net", tape.stranger_in or "forward")
    parts, twice = dict(net.named_modules()), []
    for name, calls in seen.calls.items():
        if len(calls) > 1 and any(True for _ in parts[name].parameters()):
            twice.append(name)
    twice = [n for n in twice if not any(n.startswith(f"{other}.") for other in twice)]
    times = len(seen.calls[twice[0]]) if twice else 0
    what = f"one object runs {times} times: all places share its weights"
    hint = "make a new one for each place: `[block] * 2` repeats the same object"
    return found + say(BROKEN, what, twice, "a layer of its own in each place", hint)


def _gradients(net: nn.Module, x: Tensor, body: Anatomy, seen: Watched) -> list[Finding]:
    """Which weights cannot learn. On the meta device there are no values, but gradients flow."""
    trial = copy.deepcopy(net).to(x.device).train()
    own = dict(trial.named_parameters())
    fixed = [name for name, p in own.items() if not p.requires_grad]
    what = f"frozen: {len(fixed)} of {len(own)} weight tensors are not trained"
    hint = "right for fine-tuning a trained net, wrong for training from scratch"
    found = say(VARIANT, what, fixed, "requires_grad=True", hint)
    if len(fixed) == len(own):
        return found
    try:
        with Tape(trial):
            out = trial(x.clone())
            if not out.requires_grad:
                hint = "is it computed inside no_grad, or detached? Nothing could be learned"
                return found + say(BROKEN, "the output carries no gradient", ["backward"], "", hint)
            out.sum().backward()
    except Exception as error:
        if x.is_meta:  # for example checkpointing computes anew, and compares
            return _gradients(net, torch.randn(x.shape, dtype=x.dtype), body, seen)
        return found + say(BROKEN, raised(error), ["backward"], "", causes.of_gradients(error))
    idle, lost, cut = [], [], []
    live = {step.where for step in body.live}
    for name in (n for n, p in own.items() if p.requires_grad and p.grad is None):
        layer = name.rpartition(".")[0]
        (cut if layer in live else lost if layer in seen.calls else idle).append(layer or name)
    what = "has weights, but never runs: they are never trained"
    hint = "use it in forward, or do not make it; is another layer used in its place?"
    found += say(WASTEFUL, what, idle, hint=hint)
    what = "runs, but its result is not used: no gradient reaches its weights"
    hint = "is it a shortcut that is never added, or a name written over?"
    found += say(BROKEN, what, lost, hint=hint)
    what = "no gradient reaches its weights"
    return found + say(BROKEN, what, cut, hint="is it inside no_grad, or is something detached?")


def _sizes(net: nn.Module, x: Tensor, body: Anatomy) -> list[Finding]:
    """Whether pictures of another size fit as well."""
    linear = next((s for s in body.live if s.kind == "linear"), None)
    maps = [s for s in body.live if linear and s.index < linear.index and len(s.shape) == 4]
    if not maps or min(maps[-1].shape[1:]) < 1:
        return []
    channels, height, width = maps[-1].shape[1:]
    other = x.new_empty(2, x.shape[1], x.shape[2] + 32, x.shape[3] + 32)
    _, seen = _run(net, other)
    if seen.error is None:
        return []
    end = body.blocks[-1].join.index if body.blocks else maps[0].index
    pooled = any(s.kind == "pool" and s.index > end for s in body.live)
    wanted = f"nn.AdaptiveAvgPool2d(1) before it, and {channels} features"
    if pooled and height * width == 1:
        what = "a pooling window of fixed size: the net works at one picture size only"
        return say(VARIANT, what, [linear], wanted)
    what = f"it takes {channels * height * width} = {channels} x {height} x {width} features"
    why = "" if pooled else "pooling is forgotten before it: "
    return say(BROKEN, f"{why}{what}: this works at one picture size only", [linear], wanted)


def _numbers(net: nn.Module, shape: tuple, dtype: torch.dtype, report: Report) -> list[Finding]:
    """What only values show: eval mode, pictures that influence each other, constant outputs."""
    small = (shape[0], min(shape[1], SMALL), min(shape[2], SMALL))
    sizes = [small, shape] if torch.Size(shape).numel() <= 10**6 else [small]
    for size, kind in ((s, k) for k in (torch.float64, dtype) for s in sizes):
        trial = copy.deepcopy(net).to(kind).train()  # double: deep nets enlarge rounding errors
        for part in trial.modules():
            if isinstance(part, _BatchNorm) and part.momentum:
                part.momentum = 1.0  # one pass is enough for running statistics that make sense
        x = torch.randn(2, *size).to(kind)
        if watch(trial, x).error is None:
            break
    trial.eval()
    runs = [watch(trial, pictures) for pictures in (x, x, x[:1])]
    one, two, alone = (run.calls for run in runs)
    if any("" not in run.calls for run in runs):
        error = next((run.error for run in runs if run.error), None)
        what = raised(error) if error else "gives no tensor"
        return say(BROKEN, what, ["eval mode, or a single picture"])
    out, single = one[""][0][1], alone[""][0][1]
    if out.shape[:1] != (2,):  # said already
        return []
    if single.shape != out[:1].shape:
        what = f"one picture gives the shape {tuple(single.shape)}, two give {tuple(out.shape)}"
        hint = "squeeze() drops a batch of 1 as well: write torch.flatten(x, 1)"
        return say(BROKEN, what, ["forward"], "one row for each picture", hint)

    def same(name: str, other: dict, side: int) -> bool:
        value = other[name][0][side]
        return close(one[name][0][side][: len(value)], value)

    def first(differ: Callable) -> str:
        parts = [n for n in sorted(one, key=lambda n: -n.count(".")) if n and n in alone]
        return next((n for n in parts if differ(n)), "forward")

    if not torch.isfinite(out).all():
        where = first(lambda n: not torch.isfinite(one[n][0][1]).all())
        return say(BROKEN, "the output holds infinite values or NaN", [where])
    if torch.equal(out[0], out[1]):
        where = first(
            lambda n: torch.equal(*one[n][0][1][:2]) and not torch.equal(*one[n][0][0][:2])
        )
        if isinstance(dict(net.named_modules()).get(where), nn.Linear):
            return []  # a last layer that starts at zero learns nevertheless
        what = "the output is the same for two different pictures"
        hint = "are all weights zero here? Then nothing can learn"
        return say(BROKEN, what, [where], "an output that depends on the picture", hint)
    if not close(out, two[""][0][1]):
        where = first(lambda n: same(n, two, 0) and not same(n, two, 1))
        hint = "F.dropout needs training=self.training; nn.Dropout knows by itself"
        what = "the output is random in eval mode"
        return say(BROKEN, what, [where], "the same output for the same picture", hint)
    if kind is torch.float64 and not close(out[:1], single):
        where = first(
            lambda n: len(one[n][0][0]) == 2 and same(n, alone, 0) and not same(n, alone, 1)
        )
        what = "in eval mode a picture's output depends on the other pictures of its batch"
        hint = "does BN keep running statistics (track_running_stats), is eval() passed on?"
        return say(BROKEN, what, [where], "BN uses its running statistics in eval mode", hint)
    sums = out.sum(-1) if out.dim() == 2 and out.shape[1] > 1 else out.new_zeros(1)
    named = any("softmax" in f.what for f in report.findings)
    if not named and out.min() >= 0 and close(sums, torch.ones_like(sums)):
        return [layout.softmaxed("forward")]
    return []
