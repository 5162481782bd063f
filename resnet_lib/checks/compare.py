"""Compare a reader's block, stage or net with a reference, and name the difference."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .answers import Finding, Report, close, raised, unanswered


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

    Looked at, in this order, until something is broken: building, running, output shape, weights
    (names and shapes), and then, with the reference's weights copied in, outputs in train and in
    eval mode, running statistics and gradients.
    """
    try:
        net = build()
    except NotImplementedError:
        return Report(subject, answered=False)
    except Exception as error:
        return Report(subject, findings=[Finding("broken", raised(error), "while building it")])
    if unanswered(net):
        return Report(subject, answered=False)
    report = Report(subject)
    if not isinstance(net, nn.Module):
        text = f"got a {type(net).__name__}, not a torch module"
        hint = "a function that builds a stage has to return nn.Sequential(*blocks)"
        report.findings.append(Finding("broken", text, "result", hint=hint))
        return report
    net = copy.deepcopy(net).cpu()  # the reader's own net keeps its weights and its device
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, *input_shape, generator=generator)
    reference = copy.deepcopy(reference)
    for step in (_runs, _weights, _behaviour):
        try:
            found = step(net, reference, x)
        except Exception as error:  # for example only in eval mode, or only with gradients
            found = [Finding("broken", raised(error), "while comparing it with the reference")]
        if found is None:
            return Report(subject, answered=False)
        report.findings += found
        if not report.ok:
            break
    return report


def _runs(net: nn.Module, reference: nn.Module, x: Tensor) -> list[Finding] | None:
    """None: forward is still to be written."""
    with torch.no_grad():
        want = tuple(copy.deepcopy(reference)(x).shape)
        try:
            out = copy.deepcopy(net)(x.clone())
        except NotImplementedError as error:
            if "is missing the required" not in str(error):  # torch's own words
                return None
            hint = "is the name misspelt? A ModuleList has none either: use nn.Sequential"
            return [Finding("broken", "there is no such method", "forward", hint=hint)]
        except Exception as error:
            hint = ""
            if "must match the size" in str(error):
                hint = "the two sides of the addition differ in shape: does the shortcut follow "
                hint += "the branch in channels and in stride?"
            where = f"on an input of shape {tuple(x.shape)}"
            return [Finding("broken", raised(error), where, hint=hint)]
    if not isinstance(out, Tensor):
        hint = "does forward end with `return`?" if out is None else ""
        return [Finding("broken", f"gives a {type(out).__name__}", "forward", "a tensor", hint)]
    got = tuple(out.shape)
    if got == want:
        return []
    hint = ""
    if len(got) == 4 and got[2:] != want[2:]:
        hint = "where is the stride? Only the first block of a stage strides"
    elif len(got) == 4 or len(got) == 2:
        hint = "how many channels leave the last layer?"
    return [Finding("broken", f"{got}", "output shape", f"{want}", hint)]


def _weights(net: nn.Module, reference: nn.Module, _x: Tensor) -> list[Finding]:
    own, right = net.state_dict(), reference.state_dict()
    found = []
    for name in [k for k in own if k not in right][:4]:
        if name.endswith("bias") and name.replace("bias", "weight") in right:
            why = "batch normalisation follows and subtracts any constant: use bias=False"
            found.append(Finding("wasteful", "a bias in front of BN", name, "no bias", why))
        elif "downsample" in name:
            hint = "a projection is needed only where the shape changes"
            found.append(Finding("broken", "a weight too many", name, "no such weight", hint))
        else:
            found.append(Finding("broken", "a weight too many", name, "no such weight"))
    for name in [k for k in right if k not in own][:4]:
        hint = ""
        if "downsample" in name:
            hint = "the shape changes here, so the shortcut needs a 1x1 convolution and BN"
        shape = tuple(right[name].shape)
        found.append(Finding("broken", "is missing", name, f"a tensor of shape {shape}", hint))
    for name in [k for k in right if k in own and own[k].shape != right[k].shape][:4]:
        got, want = tuple(own[name].shape), tuple(right[name].shape)
        hint = ""
        if len(got) == 4 and got[0] == want[0]:
            hint = "the number of input channels differs: what comes out of the layer before?"
        found.append(Finding("broken", f"shape {got}", name, f"shape {want}", hint))
    return found


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
            why = _why(net.train(mode), reference.train(mode), x)
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
                hint = "is this layer called once, and only once, in forward?"
                return [Finding("broken", "running statistics differ", name, hint=hint)]
    return []


def _watch(model: nn.Module, x: Tensor) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """(input, output) of each call of each part, in the order in which the parts finish."""
    calls: dict = {}

    def hook_of(name: str):  # clones: an in-place layer behind it would change what is kept
        return lambda _m, inputs, out: calls.setdefault(name, []).append(
            (inputs[0].clone(), out.clone())
        )

    hooks = [m.register_forward_hook(hook_of(name)) for name, m in model.named_modules()]
    with torch.no_grad():
        model(x.clone())
    for hook in hooks:
        hook.remove()
    return calls


def _why(net: nn.Module, reference: nn.Module, x: Tensor) -> str:
    """Name the first part whose output differs, and test the usual suspects on it."""
    own, right = _watch(net, x), _watch(reference, x)
    layers = [n for n in right if list(reference.get_submodule(n).parameters(recurse=False))]
    first = next(
        (
            n
            for n in right
            if n in own and len(own[n]) == len(right[n]) and not _same(own, right, n)
        ),
        "",
    )
    parent = first.rpartition(".")[0]
    for block in dict.fromkeys((first, parent)):  # the block that goes wrong, in a stage or net
        if block in own and (text := _block(block, own, right)):
            return text
    for n in layers:
        if n not in own:
            return f"{n} never runs in your forward"
        if len(own[n]) != len(right[n]):
            return f"{n} runs {len(own[n])} times in your forward, not {len(right[n])}"
    if not first:
        return "each layer is right by itself: look at the order in forward"
    for (got, _), (wanted, _) in zip(own[first], right[first], strict=True):
        if got.shape == wanted.shape and got.min() < 0 <= wanted.min():
            return f"{first} gets negative values: a ReLU is missing before it"
        if not close(got, wanted):
            return f"the first part that differs is {first}; look at what comes before it"
    return (
        f"{first} gets the right input, but its output differs: look at its settings and its "
        "forward; is it in the right mode (train or eval)?"
    )


def _same(own: dict, right: dict, name: str) -> bool:
    pairs = zip(own[name], right[name], strict=True)
    return all(close(a[1], b[1]) for a, b in pairs)


def _block(name: str, own: dict, right: dict) -> str:
    """The usual mistakes at the end of the residual block `name`, or ""."""
    at = f"in block {name}: " if name else ""
    dot = f"{name}." if name else ""
    relu = torch.relu
    source, out = own[name][0]
    last = next((own[dot + n][-1][1] for n in ("bn3", "bn2") if dot + n in own), None)
    if last is None or name not in right:
        return ""
    skip = own[f"{dot}downsample"][0][1] if f"{dot}downsample" in own else source
    if close(out, relu(last)):
        return f"{at}the shortcut is never added"
    if last.shape == skip.shape:
        if close(out, relu(last) + skip) or close(out, relu(last) + relu(skip)):
            return f"{at}the ReLU comes before the addition; it belongs after it"
        if close(out, relu((last + skip) / 2)):
            return f"{at}the two paths are averaged; they should be summed"
    if out.min() < 0 <= right[name][0][1].min():
        return f"{at}the output has negative values: the ReLU after the addition is missing"
    return ""
