"""The seven nets that torchvision has too: same keys, same start, same numbers after training.

One fixture walks both nets through the same life (look, five SGD steps, look again) and keeps
what was seen; each test then compares one thing, so a failure names the thing and the net.
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
    for _ in range(5):
        picture = x.clone().requires_grad_()
        optimiser.zero_grad()
        logits = net(picture)
        F.cross_entropy(logits, y).backward()
        seen.logits.append(logits.detach())
        seen.input_grads.append(picture.grad)
        optimiser.step()
    seen.weights = {k: p.detach() for k, p in net.named_parameters()}
    seen.buffers = dict(net.named_buffers())
    with torch.no_grad():
        seen.eval_after = net.eval()(x)
    seen.x = x
    return seen


@pytest.fixture(scope="module", params=NAMES)
def pair(request):
    ours = life(getattr(resnet_lib, request.param))
    theirs = life(getattr(torchvision.models, request.param))
    return SimpleNamespace(name=request.param, ours=ours, theirs=theirs)


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


def test_keys_shapes_and_order(pair):
    ours, theirs = pair.ours.start, pair.theirs.start
    assert list(ours) == list(theirs)
    assert [v.shape for v in ours.values()] == [v.shape for v in theirs.values()]
    # The optimiser's state is numbered by the order of parameters, so that has to agree too.
    assert [k for k, _ in pair.ours.net.named_parameters()] == [
        k for k, _ in pair.theirs.net.named_parameters()
    ]


def test_same_seed_gives_the_same_initial_weights(pair):
    for key, value in pair.theirs.start.items():
        assert torch.equal(pair.ours.start[key], value), key


def test_eval_logits_before_training(pair):
    close(pair.ours.eval_before, pair.theirs.eval_before, "untrained eval logits")


def test_train_logits_in_each_step(pair):
    for step, (a, b) in enumerate(zip(pair.ours.logits, pair.theirs.logits, strict=True)):
        close(a, b, f"logits of step {step}")


def test_input_gradients_in_each_step(pair):
    both = zip(pair.ours.input_grads, pair.theirs.input_grads, strict=True)
    for step, (a, b) in enumerate(both):
        assert a.abs().max() > 0
        close(a, b, f"input gradient of step {step}")


def test_weights_after_five_steps(pair):
    same(pair.ours.weights, pair.theirs.weights, "trained weight")
    moved = sum(not torch.equal(pair.ours.start[k], w) for k, w in pair.ours.weights.items())
    assert moved == len(pair.ours.weights)


def test_running_statistics_after_five_steps(pair):
    same(pair.ours.buffers, pair.theirs.buffers, "running statistic")
    assert pair.ours.buffers["bn1.num_batches_tracked"].item() == 5


def test_eval_logits_after_five_steps(pair):
    close(pair.ours.eval_after, pair.theirs.eval_after, "eval logits")


def test_every_bit_is_equal(pair):
    """Both do the same operations in the same order, so not even the last bit may differ."""
    assert torch.equal(pair.ours.eval_before, pair.theirs.eval_before)
    assert all(map(torch.equal, pair.ours.logits, pair.theirs.logits))
    assert all(map(torch.equal, pair.ours.input_grads, pair.theirs.input_grads))
    for kind in ("weights", "buffers"):
        ours, theirs = getattr(pair.ours, kind), getattr(pair.theirs, kind)
        for key in theirs:
            assert torch.equal(ours[key], theirs[key]), (kind, key)
    assert torch.equal(pair.ours.eval_after, pair.theirs.eval_after)


def test_checkpoints_load_strictly_in_both_directions(pair):
    with torch.device("meta"):
        ours = getattr(resnet_lib, pair.name)()
        theirs = getattr(torchvision.models, pair.name)()
    # assign=True puts the tensors themselves into the empty nets instead of copying them.
    ours.load_state_dict(pair.theirs.net.state_dict(), strict=True, assign=True)
    theirs.load_state_dict(pair.ours.net.state_dict(), strict=True, assign=True)
    with torch.no_grad():
        close(ours.eval()(pair.ours.x), pair.theirs.eval_after, "torchvision's weights in ours")
        close(theirs.eval()(pair.ours.x), pair.ours.eval_after, "our weights in torchvision's")


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
    x = torch.randn(2, 3, 49, 32)
    close(ours(x).detach(), theirs(x).detach(), case)
