"""Write down every tensor operation of one forward pass, with the part of the net it stands in.

Nothing is guessed from names: additions, ReLUs and convolutions are seen where they happen, in
a module, in a function, or as an operator.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.overrides import TorchFunctionMode

KINDS = {
    "add": "add iadd radd stack_sum stack_mean",
    "sub": "sub isub rsub subtract",
    "mul": "mul imul rmul multiply",
    "div": "div idiv truediv itruediv divide",
    "act": "relu relu6 leaky_relu prelu elu celu selu gelu silu hardswish mish hardtanh softplus "
    "sigmoid tanh clamp clamp_min clip maximum where rrelu hardsigmoid",
    "norm": "batch_norm frozen_bn group_norm layer_norm instance_norm local_response_norm",
    "pool": "max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d mean amax interpolate",
    "conv": "conv2d",
    "linear": "linear matmul addmm",
    "softmax": "softmax softmin",
}
KIND = {word: kind for kind, words in KINDS.items() for word in words.split()}


@dataclass(eq=False)
class Step:
    """One operation: its name, what kind it is, whose outputs it reads, where it stands."""

    index: int
    op: str
    reads: tuple[int, ...]
    shape: tuple[int, ...]
    where: str
    args: tuple = ()
    kwargs: dict | None = None

    @property
    def kind(self) -> str:
        return KIND.get(self.op, "other")

    @property
    def scales(self) -> bool:
        """Times or divided by a constant; times 0 is a way to write zeros (option A)."""
        numbers = [a for a in self.args if isinstance(a, (int, float)) and a not in (0, 1)]
        return self.kind in ("mul", "div") and bool(numbers)

    @property
    def fits(self) -> int:
        """The padding with which a convolution of this kernel and dilation keeps the size."""
        return self.side(5, "dilation") * (self.kernel - 1) // 2

    def given(self, position: int, word: str, otherwise=None):
        """An argument, given by position or by name."""
        if word in self.kwargs:
            return self.kwargs[word]
        return self.args[position] if len(self.args) > position else otherwise

    def side(self, position: int, word: str, otherwise: int = 1) -> int:
        """An argument that is one number, or one for each side: the larger one."""
        value = self.given(position, word, otherwise)
        if isinstance(value, str):
            return otherwise
        return int(max(value)) if isinstance(value, (tuple, list)) and value else int(value)

    @property
    def kernel(self) -> int:
        weight = self.given(1, "weight")
        if self.kind == "conv":
            return int(max(weight.shape[2:]))
        return self.side(1, "kernel_size")

    @property
    def stride(self) -> int:
        if self.kind == "conv":
            return self.side(3, "stride")
        stride = self.given(2, "stride")
        return self.kernel if stride in (None, (), []) else self.side(2, "stride")

    @property
    def padding(self) -> int:
        if self.kind == "conv":
            return self.side(4, "padding", self.kernel // 2)
        return self.side(3, "padding", 0)


def _tensors(values) -> list[Tensor]:
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += [v for v in value if isinstance(v, Tensor)]
    return found


def _scaled(x: Tensor, kwargs: dict) -> Tensor:
    """The shape, the gradients and the errors of a batch normalisation, on the meta device."""
    form = (1, -1, *[1] * (x.dim() - 2))
    out = x * 1
    for factor in (kwargs.get("weight"), kwargs.get("bias")):
        out = out if factor is None else out * factor.view(form)
    return out


class Tape(TorchFunctionMode):
    """Use as `with Tape(net) as tape: net(x)`; afterwards `tape.steps` and `tape.output`."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.names = {part: name for name, part in net.named_modules()}
        self.net, self.steps, self.running = net, [], []
        self.output: int | None = None
        self.failed: Step | None = None
        self.gave_none: str | None = None
        self.stranger_in = ""
        self._at, self._kept = {}, []  # tensors are kept, so that no id is given twice

    def __enter__(self):
        self._hooks = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave),
        ]
        return super().__enter__()

    def __exit__(self, *error):
        for hook in self._hooks:
            hook.remove()
        return super().__exit__(*error)

    def _enter(self, part: nn.Module, inputs: tuple) -> None:
        if part not in self.names and not self.stranger_in:
            self.stranger_in = self._where()
        self.running.append(part)

    def _leave(self, part: nn.Module, inputs: tuple, out: object) -> None:
        self.running.pop()
        if out is None:
            self.gave_none = self.names.get(part)
        if isinstance(out, Tensor):
            if id(out) not in self._at:  # computed out of sight, for example by numpy
                self._write("module", _tensors(inputs), out, (), {})
            last = self.steps[self._at[id(out)]]
            if last.kind == "add" and isinstance(getattr(part, "running_mean", None), Tensor):
                last.op = "frozen_bn"  # as in torchvision.ops: a factor and a summand
            if part is self.net:
                self.output = self._at[id(out)]

    def _where(self) -> str:
        return next((self.names[p] for p in reversed(self.running) if p in self.names), "")

    def _step(self, op: str, tensors: list[Tensor], shape, args, kwargs) -> Step:
        """One operation has one name here, in whatever words it was written."""
        reads = tuple(self._at[id(t)] for t in tensors if id(t) in self._at)
        mask = op == "mul" and any(t.dtype is torch.bool for t in tensors)
        if mask or (op == "max" and len(tensors) == 2):
            op = "maximum"  # a ReLU
        if op.endswith("_like") or op in ("gt", "ge"):
            reads = ()  # only the shape is read, or where a ReLU lets pass
        source = self.steps[reads[0]] if reads else None
        stacked = op in ("sum", "mean") and source and source.op == "stack"
        if stacked and shape == self.steps[source.reads[0]].shape:
            op, reads = f"stack_{op}", source.reads
        return Step(len(self.steps), op, reads, shape, self._where(), args, kwargs)

    def _write(self, op: str, tensors: list[Tensor], out: Tensor, args, kwargs) -> None:
        step = self._step(op, tensors, tuple(out.shape), args, kwargs)
        self.steps.append(step)
        self._at[id(out)] = step.index
        self._kept.append(out)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        op = getattr(func, "__name__", str(func)).strip("_")
        tensors = _tensors([*args, *kwargs.values()])
        try:
            without = op == "batch_norm" and args[0].is_meta  # torch's own loads half of a compiler
            out = _scaled(args[0], kwargs) if without else func(*args, **kwargs)
        except Exception:
            self.failed = self._step(op, tensors, (), args, kwargs)
            raise
        if op == "setitem":
            out = args[0]
        for one in _tensors(out if isinstance(out, (tuple, list)) else [out]):
            if not isinstance(one, nn.Parameter):
                self._write(op, tensors, one, args, kwargs)
        return out if op != "setitem" else None
