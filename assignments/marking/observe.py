"""What a probe can look at in a student's module. Runs in the sandbox: torch alone."""

import hashlib

import torch
from torch import Tensor, nn


def observe(module: nn.Module, input_shape: tuple[int, ...], seed: int, what: str) -> object:
    """Fill `module` from `seed`, run it on two inputs drawn from `seed`, and tell `what`:

    "names": [name, shape] of each entry of the state_dict, sorted. "shape": of the output.
    "eval", "train": the output. "gradient": that of the mean squared output (train mode) with
    respect to the input. "running": running means and variances after one pass in train mode.
    "twice": whether a second run in eval mode gives the same and the input stays as it was.
    "count": the number of parameters.
    """
    if what == "names":
        return sorted([name, list(value.shape)] for name, value in module.state_dict().items())
    if what == "count":
        return sum(p.numel() for p in module.parameters())
    fill(module, seed)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, *input_shape, generator=generator)
    before = x.clone()
    module.train(what in ("train", "gradient", "running"))
    if what == "gradient":
        x.requires_grad_()
        out = module(x)
        return torch.autograd.grad(out.square().mean(), x)[0]
    with torch.no_grad():
        out = module(x)
        if what == "shape":
            return list(out.shape)
        if what == "twice":
            first = out.clone()
            return bool(torch.equal(module(before.clone()), first) and torch.equal(x, before))
    if what == "running":
        state = sorted(module.state_dict().items())
        return [value for name, value in state if "running_" in name]
    return out


def fill(module: nn.Module, seed: int) -> None:
    """Give every parameter and buffer values that depend on `seed` and on its name alone."""
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.dtype.is_floating_point:
                value.copy_(_drawn(name, value, seed))


def _drawn(name: str, value: Tensor, seed: int) -> Tensor:
    number = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:6], "big")
    generator = torch.Generator().manual_seed(number)
    if value.dim() > 1:  # He initialisation keeps the size of a deep net's output in range
        spread = (2 / value[0].numel()) ** 0.5
        return spread * torch.randn(value.shape, generator=generator)
    drawn = torch.rand(value.shape, generator=generator)
    return drawn - 0.5 if name.endswith(("bias", "mean")) else drawn + 0.5
