"""The seven nets that torchvision has too: same keys, same start, same numbers after training.

Both nets walk through the same life (look, five SGD steps, look again), and what was seen is
compared, thing by thing; the message of a failure names the thing.
Differences are measured relative to the largest value: an untrained deep net in eval mode gives
logits around 1e7, where an absolute tolerance says nothing.
"""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import resnet_lib

torchvision = pytest.importorskip("torchvision")

NAMES = [
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "wide_resnet50_2",
]
SEED = 7
STEPS = 5


def life(build) -> SimpleNamespace:
    """Everything worth comparing in five steps of training, from a fixed seed."""
    torch.manual_seed(SEED)
    net = build()
    seen = SimpleNamespace(net=net)
    seen.start = {key: value.clone() for key, value in net.state_dict().items()}
    x = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    y = torch.tensor([3, 5])
    with torch.no_grad():
        seen.eval_before = net.eval()(x)
    net.train()
    optimiser = torch.optim.SGD(
        net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, fused=True
    )
    seen.logits, seen.input_grads = [], []
    for _ in range(STEPS):
        picture = x.clone().requires_grad_()
        optimiser.zero_grad()
        logits = net(picture)
        F.cross_entropy(logits, y).backward()
        seen.logits.append(logits.detach())
        seen.input_grads.append(picture.grad)
        optimiser.step()
    optimiser.zero_grad()  # gives the memory back
    seen.weights = {k: p.detach() for k, p in net.named_parameters()}
    seen.buffers = dict(net.named_buffers())
    with torch.no_grad():
        seen.eval_after = net.eval()(x)
    seen.x = x
    return seen


def close(a: torch.Tensor, b: torch.Tensor, what: str, rtol: float = 1e-5) -> None:
    assert a.shape == b.shape and a.dtype == b.dtype, what
    error = (a - b).abs().max().item()
    size = b.abs().max().item()
    assert math.isfinite(size), what
    assert error <= rtol * size, f"{what}: differs by {error:.3g} where values reach {size:.3g}"


def same(a: dict, b: dict, what: str) -> None:
    assert list(a) == list(b), what
    for key in a:
        close(a[key], b[key], f"{what} {key}")


@pytest.mark.parametrize("name", NAMES)
def test_same_life(name):
    """Each line compares one more thing, in the order in which differences would arise."""
    ours = life(getattr(resnet_lib, name))
    theirs = life(getattr(torchvision.models, name))

    assert list(ours.start) == list(theirs.start), "keys"
    # The optimiser's state is numbered by the order of parameters, so that has to agree too.
    assert list(ours.weights) == list(theirs.weights), "order of parameters"
    for key, value in theirs.start.items():
        assert torch.equal(ours.start[key], value), f"initial {key}"
    close(ours.eval_before, theirs.eval_before, "untrained eval logits")
    for step in range(STEPS):
        close(ours.logits[step], theirs.logits[step], f"logits of step {step}")
        a, b = ours.input_grads[step], theirs.input_grads[step]
        assert a.abs().max() > 0
        close(a, b, f"input gradient of step {step}")
    same(ours.weights, theirs.weights, "trained weight")
    same(ours.buffers, theirs.buffers, "running statistic")
    assert ours.buffers["bn1.num_batches_tracked"].item() == STEPS
    assert all(not torch.equal(ours.start[k], w) for k, w in ours.weights.items()), "no training"
    close(ours.eval_after, theirs.eval_after, "trained eval logits")

    # Both do the same operations in the same order, so not even the last bit differs.
    for thing in ("eval_before", "logits", "input_grads", "weights", "buffers", "eval_after"):
        for a, b in zip(*map(tensors, (vars(ours)[thing], vars(theirs)[thing])), strict=True):
            assert torch.equal(a, b), f"bits of {thing}"

    assert_checkpoints_load(name, ours, theirs)


def tensors(thing) -> list[torch.Tensor]:
    if isinstance(thing, torch.Tensor):
        return [thing]
    return list(thing.values()) if isinstance(thing, dict) else thing


def assert_checkpoints_load(name: str, ours: SimpleNamespace, theirs: SimpleNamespace) -> None:
    """Strictly, in both directions, and the borrowed weights give the lender's outputs."""
    with torch.device("meta"):
        borrower = getattr(resnet_lib, name)()
        lender = getattr(torchvision.models, name)()
    # assign=True puts the tensors themselves into the empty nets instead of copying them.
    borrower.load_state_dict(theirs.net.state_dict(), strict=True, assign=True)
    lender.load_state_dict(ours.net.state_dict(), strict=True, assign=True)
    with torch.no_grad():
        close(borrower.eval()(ours.x), theirs.eval_after, "torchvision's weights in ours")
        close(lender.eval()(ours.x), ours.eval_after, "our weights in torchvision's")


def small(module, block: str, **options):
    """A small net from either library's general class, by torchvision's argument names."""
    torch.manual_seed(SEED)
    source = resnet_lib.models if module is resnet_lib else torchvision.models.resnet
    return source.ResNet(getattr(source, block), [1, 1, 1, 1], num_classes=5, **options)


OPTIONS = {
    "zero gamma, basic": ("BasicBlock", {"zero_init_residual": True}),
    "zero gamma, bottleneck": ("Bottleneck", {"zero_init_residual": True}),
    "odd groups and width": ("Bottleneck", {"groups": 2, "width_per_group": 24}),
    "group norm": ("BasicBlock", {"norm_layer": lambda c: nn.GroupNorm(8, c)}),
    "zero gamma that is no parameter": (
        "Bottleneck",
        {"norm_layer": torchvision.ops.FrozenBatchNorm2d, "zero_init_residual": True},
    ),
    "frozen statistics": ("Bottleneck", {"norm_layer": torchvision.ops.FrozenBatchNorm2d}),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_shared_options_mean_the_same(case):
    block, options = OPTIONS[case]
    ours, theirs = small(resnet_lib, block, **options), small(torchvision, block, **options)
    a, b = ours.state_dict(), theirs.state_dict()
    assert list(a) == list(b)
    for key in a:
        assert torch.equal(a[key], b[key]), key
    x = torch.randn(2, 3, 49, 32, generator=torch.Generator().manual_seed(2))
    close(ours(x).detach(), theirs(x).detach(), case)


@pytest.mark.parametrize(("planes", "groups", "width"), [(10, 3, 30), (6, 1, 64), (64, 32, 4)])
def test_inner_width_of_a_bottleneck(planes, groups, width):
    """Rounded down first and multiplied by the groups then: 10 * 30 / 64 = 4.7, so 3 * 4."""
    cin = 4 * planes
    ours = resnet_lib.models.Bottleneck(cin, planes, groups=groups, base_width=width)
    theirs = torchvision.models.resnet.Bottleneck(cin, planes, groups=groups, base_width=width)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    assert ours.conv2.groups == groups
    x = torch.randn(2, cin, 5, 6, generator=torch.Generator().manual_seed(3))
    assert torch.equal(ours(x), theirs(x))
