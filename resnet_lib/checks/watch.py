"""Run a module once and keep what every part of it got and gave."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
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
    out: object = None
    error: Exception | None = None
    stopped: tuple[nn.Module, tuple] | None = None
    """The innermost part that was running when the error came, and its inputs."""


def watch(net: nn.Module, x: Tensor) -> Watched:
    """Run `net` on `x` without gradients. Errors are kept, not raised."""
    names = {part: name for name, part in net.named_modules()}
    seen, running = Watched(), []

    def enters(part: nn.Module, inputs: tuple) -> None:
        running.append((part, inputs))

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
            seen.out = net(x.clone())
    except Exception as error:
        seen.error, seen.stopped = error, (running[-1] if running else None)
    finally:
        for hook in hooks:
            hook.remove()
    return seen
