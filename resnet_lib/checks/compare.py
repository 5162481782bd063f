"""Compare a reader's block, stage or net with a reference, and name the difference."""

import copy
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from . import causes
from .answers import Finding, Report, close, raised
from .watch import watch


def module(
    subject: str,
    build: Callable[[], nn.Module],
    reference: nn.Module,
    input_shape: tuple[int, int, int],
) -> Report:
    """Compare a block, a stage or a net with a reference that uses the same layer names.

    Args:
        build: function without arguments that returns the reader's module.
        reference: the same thing as it should be. It is not changed.
        input_shape: (channels, height, width) of one input.

    Looked at, in this order, until something is broken: building, running, output shape, whether
    all layers are known to the module, weights (names and shapes), and then, with the reference's
    weights copied in, outputs in train and in eval mode, running statistics and gradients.
    """
    if found := causes.is_module(build):
        return Report(subject, findings=found)
    try:
        net = build()
        if net is ...:
            return Report(subject, answered=False)
        if not isinstance(net, nn.Module):
            return Report(subject, findings=[causes.no_module(net)])
        net = copy.deepcopy(net).cpu()  # the reader's own net keeps its weights and its device
    except NotImplementedError:
        return Report(subject, answered=False)
    except Exception as error:
        hint = causes.of_building(error)
        found = Finding("broken", raised(error), "while building it", hint=hint)
        return Report(subject, findings=[found])
    report = Report(subject)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, *input_shape, generator=generator)
    reference = copy.deepcopy(reference)
    if type(net) is type(reference) is nn.Sequential and len(net) == len(reference):
        names = [name for name, _ in reference.named_children()]  # the reader's may have others
        net = nn.Sequential(OrderedDict(zip(names, net, strict=True)))
    for step in (_runs, _weights, _behaviour):
        try:
            found = step(net, reference, x)
        except Exception as error:  # for example only in eval mode, or only with gradients
            where, hint = "while comparing it with the reference", causes.of_gradients(error)
            found = [Finding("broken", raised(error), where, hint=hint)]
        if found is None:
            return Report(subject, answered=False)
        report.findings += found
        if not report.ok:
            break
    return report


def _runs(net: nn.Module, reference: nn.Module, x: Tensor) -> list[Finding] | None:
    """None: forward is still to be written."""
    right = watch(copy.deepcopy(reference), x)
    if right.error is not None:
        raise right.error
    trial = copy.deepcopy(net)
    seen = watch(trial, x)
    want, out, error = tuple(right.out.shape), seen.out, seen.error
    if isinstance(error, NotImplementedError):
        if "is missing the required" not in str(error):  # torch's own words
            return None
        hint = "is the name misspelt? A ModuleList has none either: use nn.Sequential"
        return [Finding("broken", "there is no such method", "forward", hint=hint)]
    if error is not None:
        where = f"on an input of shape {tuple(x.shape)}"
        hint = causes.of_running(trial, reference, seen, right)
        return [Finding("broken", raised(error), where, hint=hint)]
    if not isinstance(out, Tensor):
        hint = "does forward end with `return`?" if out is None else ""
        return [Finding("broken", f"gives a {type(out).__name__}", "forward", "a tensor", hint)]
    if found := causes.unknown_layers(net, seen):
        return found
    got = tuple(out.shape)
    if got == want:
        return []
    hint = causes.of_shape(net, reference, seen, right)
    if len(got) == 4 and got[2:] != want[2:]:
        hint = hint or "where is the stride? Only the first block of a stage strides"
    elif len(got) == 4 or len(got) == 2:
        hint = hint or "how many channels leave the last layer?"
    return [Finding("broken", f"{got}", "output shape", f"{want}", hint)]


def _weights(net: nn.Module, reference: nn.Module, _x: Tensor) -> list[Finding]:
    own, right = net.state_dict(keep_vars=True), reference.state_dict()
    known = {id(own[k]) for k in own if k in right}
    strange = [k for k in own if k not in right and id(own[k]) not in known]
    missing = [k for k in right if k not in own]
    if renamed := _renamed(own, right, strange, missing):
        return renamed
    if others := causes.other_kinds(net, reference, [*strange, *missing]):
        return [Finding("broken", text) for text in others[:4]]
    found = []
    if twice := [k for k in own if k not in right and id(own[k]) in known]:
        what = f"one layer under two names: state_dict stores it twice ({twice[0]})"
        found.append(Finding("known variant", what))
    for name in strange[:4]:
        weight = own.get(name.removesuffix("bias") + "weight")
        if name.endswith("bias") and name[:-4] + "weight" in right and weight.dim() > 1:
            why = "batch normalisation follows and subtracts any constant: use bias=False"
            found.append(Finding("wasteful", "a bias in front of BN", name, "no bias", why))
        elif "downsample" in name:
            hint = "a projection is needed only where the shape changes"
            found.append(Finding("broken", "a weight too many", name, "no such weight", hint))
        else:
            found.append(Finding("broken", "a weight too many", name, "no such weight"))
    for name in missing[:4]:
        hint = ""
        if "downsample" in name:
            hint = "the shape changes here, so the shortcut needs a 1x1 convolution and BN"
        shape = tuple(right[name].shape)
        found.append(Finding("broken", "is missing", name, f"a tensor of shape {shape}", hint))
    for name in [k for k in right if k in own and own[k].shape != right[k].shape][:4]:
        got, want = tuple(own[name].shape), tuple(right[name].shape)
        hint = ""
        if len(got) == 4 and got[2:] != want[2:]:
            hint = f"the kernel is {got[2]}x{got[3]}, not {want[2]}x{want[3]}"
        elif len(got) == 4 and got[0] == want[0]:
            hint = "the number of input channels differs: what comes out of the layer before?"
        found.append(Finding("broken", f"shape {got}", name, f"shape {want}", hint))
    for one, other in causes.one_object(net, reference)[:1]:
        hint = "make a new one for each place: `[block] * 2` repeats the same block"
        found.append(Finding("broken", f"{one} and {other} are one object", hint=hint))
    return found


def _renamed(own: dict, right: dict, strange: list[str], missing: list[str]) -> list[Finding]:
    """The same layers in the same order under other names: nothing else is wrong with them."""
    if [own[k].shape for k in strange] != [right[k].shape for k in missing]:
        return []
    pairs = {
        a.rpartition(".")[0]: b.rpartition(".")[0] for a, b in zip(strange, missing, strict=True)
    }
    if any(a in ("", b) or any(part.isdigit() for part in a.split(".")) for a, b in pairs.items()):
        return []  # a position is no name, and a bare parameter no layer
    hint = "the check finds a layer by its name; the names are torchvision's"
    return [
        Finding("broken", f"is called {a}", "a layer", f"the name {b}", hint)
        for a, b in list(pairs.items())[:4]
    ]


def _behaviour(net: nn.Module, reference: nn.Module, x: Tensor) -> list[Finding]:
    with torch.no_grad():  # random gammas and betas, so that no BN hides behind 1 and 0
        generator = torch.Generator().manual_seed(1)
        for name, value in reference.state_dict().items():
            if value.dtype.is_floating_point and value.dim() == 1 and "var" not in name:
                value.copy_(
                    torch.rand(value.shape, generator=generator) + 0.5 * ("mean" not in name)
                )
        for name, value in net.state_dict().items():
            if name not in reference.state_dict():  # a needless bias: graded already
                value.zero_()
    net.load_state_dict(reference.state_dict(), strict=False)
    for mode in (True, False):
        net.train(mode), reference.train(mode)
        net.zero_grad(), reference.zero_grad()
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        out, right = net(a), reference(b)
        if not close(out, right):
            where = f"output in {'train' if mode else 'eval'} mode"
            why = causes.of_output(net.train(mode), reference.train(mode), x)
            return [Finding("broken", "differs from the reference", where, hint=why)]
        if right.requires_grad and not out.requires_grad:
            hint = "is it computed inside no_grad, or detached? Nothing could be learned"
            return [Finding("broken", "the output carries no gradient", "backward", hint=hint)]
        out.square().mean().backward(), right.square().mean().backward()
        if not close(a.grad, b.grad):
            hint = "is something detached, or inside no_grad?"
            return [Finding("broken", "the gradient of the input differs", "backward", hint=hint)]
        own = dict(net.named_parameters())
        for name, value in reference.named_parameters():
            grad = own[name].grad if name in own else None
            if value.grad is not None and not close(grad, value.grad):
                what = "it gets no gradient" if grad is None else "its gradient differs"
                hint = "is it frozen, detached, or a buffer? Then it cannot learn"
                return [Finding("broken", what, name, hint=hint)]
        for name, value in reference.state_dict().items():
            if "running" in name and not close(net.state_dict()[name], value):
                layer = name.rpartition(".")[0]
                hint = causes.settings(net.get_submodule(layer), reference.get_submodule(layer))
                hint = hint or "is this layer called once, and only once, in forward?"
                return [Finding("broken", "running statistics differ", name, hint=hint)]
    return []
