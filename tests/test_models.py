"""Blocks and nets: all options together, the documented errors, and what each option means.

The meaning is tested against code written here from the papers, never against the library's own
words: loops for the padding and the pool, functional code for the pre-activation net, hooks and
edited nets for the plain twin.
"""

import itertools
import math
import re
import shutil
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from resnet_lib import FACTORIES, ResNet, create
from resnet_lib.blocks import (
    SHORTCUTS,
    BasicBlock,
    Bottleneck,
    PadShortcut,
    PreActBasicBlock,
    PreActBottleneck,
    conv1x1,
    conv3x3,
    make_shortcut,
    zero_last,
)
from resnet_lib.models import check_input

BLOCKS = {b.__name__: b for b in (BasicBlock, Bottleneck, PreActBasicBlock, PreActBottleneck)}
NORMS = {"bn": nn.BatchNorm2d, "gn": lambda c: nn.GroupNorm(2, c), "no": nn.Identity}
IS_PREACT = {"PreActBasicBlock", "PreActBottleneck"}


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stir(net: nn.Module, seed: int = 0) -> nn.Module:
    """Give norm layers and biases values that are not 0 or 1, so that forgetting one shows."""
    g = torch.Generator().manual_seed(seed)
    for m in net.modules():
        if isinstance(m, (nn.BatchNorm2d, nn.GroupNorm)):
            m.weight.data.uniform_(0.5, 1.5, generator=g)
            m.bias.data.uniform_(-0.5, 0.5, generator=g)
        elif isinstance(m, nn.Conv2d) and m.bias is not None:
            m.bias.data.uniform_(-0.5, 0.5, generator=g)
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.uniform_(-0.5, 0.5, generator=g)
            m.running_var.uniform_(0.5, 1.5, generator=g)
    return net


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


# ---------------------------------------------------------------- every combination of options


def combinations():
    """Every legal combination, as one pytest case each; the id spells the combination."""
    for block, shortcut, stem, norm, zero, top in itertools.product(
        BLOCKS, SHORTCUTS, ("imagenet", "cifar"), NORMS, (False, True), (True, False)
    ):
        without = shortcut in ("none", "A", "A-end")
        if zero and (without or (norm == "no" and block not in IS_PREACT)):
            continue  # contradictions: see test_contradictory_options
        bottleneck = "Bottleneck" in block
        for stride_in, groups in itertools.product(
            ("3x3", "1x1") if bottleneck else ("3x3",), (1, 2) if bottleneck else (1,)
        ):
            options = {
                "shortcut": shortcut,
                "stem": stem,
                "norm_layer": NORMS[norm],
                "zero_init_residual": zero,
                "include_top": top,
                "stride_in": stride_in,
                "groups": groups,
            }
            words = [block, shortcut, stem, norm, stride_in, f"groups{groups}"]
            words += ["zero"] * zero + ["notop"] * (not top)
            yield pytest.param(block, options, id="-".join(words))


def build(block: str, options: dict) -> ResNet:
    torch.manual_seed(0)
    return ResNet(BLOCKS[block], [1, 2], num_classes=3, widths=(8, 16), **options)


def silent_parameters(net: ResNet, block: str) -> set[str]:
    """Parameters that zero_init_residual cuts off at the start: the branch before its zero.

    The zeroed weight itself must learn. A pre-activation `bn1` also feeds the shortcut of a block
    that changes the shape, so there it gets a gradient from that side.
    """
    silent = set()
    for name, m in net.named_modules():
        if type(m).__name__ != block:
            continue
        last = 3 if "Bottleneck" in block else 2
        alive = {f"conv{last}"} if block in IS_PREACT else {f"bn{last}"}
        alive.add("downsample")
        cin, cout = m.conv1.in_channels, getattr(m, f"conv{last}").out_channels
        if block in IS_PREACT and (m.stride > 1 or cin != cout):
            alive.add("bn1")
        for key, _ in m.named_parameters():
            if key.split(".")[0] not in alive:
                silent.add(f"{name}.{key}")
    return silent


@pytest.mark.parametrize(("block", "options"), list(combinations()))
def test_combination(block, options):
    net = build(block, options)
    x = seeded(2, 3, 16, 17).requires_grad_()  # one even and one odd side
    side = (2, 3) if options["stem"] == "imagenet" else (8, 9)
    channels = 16 * (4 if "Bottleneck" in block else 1)

    out = net(x)
    assert out.shape == ((2, 3) if options["include_top"] else (2, channels, *side))
    assert torch.isfinite(out).all()
    (out * seeded(*out.shape, seed=1)).sum().backward()
    assert torch.isfinite(x.grad).all() and x.grad.abs().sum() > 0

    silent = silent_parameters(net, block) if options["zero_init_residual"] else set()
    for name, p in net.named_parameters():
        assert p.grad is not None, f"no gradient at {name}"
        assert torch.isfinite(p.grad).all(), name
        assert bool(p.grad.any()) == (name not in silent), f"zero or not: {name}"

    net.eval()
    with torch.no_grad():
        x = x.detach()
        out = net(x)
        if options["groups"] == 1 and options["stride_in"] == "3x3" and not silent:
            # Groups, strides and values leave the graph as it is, so one trace stands for all.
            assert torch.equal(fx.symbolic_trace(net)(x), out)
        with torch.autocast("cpu", torch.bfloat16):
            short = net(x)
        assert relative(short.float(), out) < 0.05
        last = net.to(memory_format=torch.channels_last)
        assert relative(last(x.to(memory_format=torch.channels_last)), out) < 1e-5


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_dtypes_and_other_inputs(block, shortcut):
    """float64 nets, grey pictures, one picture, and sides smaller than the total stride."""
    net = build(block, {"shortcut": shortcut, "in_channels": 1}).double().eval()
    for size in ((1, 1), (2, 3), (5, 40)):
        out = net(torch.rand(1, 1, *size, dtype=torch.float64))
        assert out.dtype == torch.float64 and out.shape == (1, 3) and torch.isfinite(out).all()


# ---------------------------------------------------------------- exporters and compilers


def tiny(block: str, shortcut: str) -> ResNet:
    torch.manual_seed(0)
    return ResNet(
        BLOCKS[block], [1, 1], num_classes=3, widths=(4, 8), stem="cifar", shortcut=shortcut
    )


def train_step(run, net: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """The output, the gradients of all weights and of the input, and the buffers afterwards."""
    net.zero_grad()
    x = x.clone().requires_grad_()
    out = run(x)
    out.square().sum().backward()
    grads = [p.grad.clone() for p in net.parameters()]
    return [out.detach(), x.grad, *grads, *[b.clone() for b in net.buffers()]]


def assert_compiles(net: nn.Module, x: torch.Tensor) -> None:
    before = {k: v.clone() for k, v in net.state_dict().items()}
    plain = train_step(net, net, x)
    net.load_state_dict(before)
    torch.compiler.reset()
    compiled = train_step(torch.compile(net, backend="aot_eager", fullgraph=True), net, x)
    for a, b in zip(compiled, plain, strict=True):
        assert (a - b).abs().max() <= 1e-5 * max(1, b.abs().max())


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_export(block, shortcut):
    net = tiny(block, shortcut).eval()
    x = seeded(2, 3, 8, 9)
    program = torch.export.export(net, (x,))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), net(x))


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_compile_each_block(block, shortcut):
    """Forward and backward of a block that changes the shape, so that each shortcut has work."""
    net = tiny(block, shortcut).layer2[0]
    assert_compiles(net, seeded(2, net.conv1.in_channels, 7, 8))


@pytest.mark.parametrize("block", BLOCKS)
def test_compile_a_whole_net(block):
    assert_compiles(tiny(block, "B"), seeded(2, 3, 8, 9))


def test_compile_with_the_real_compiler():
    """Inductor writes C++ for the machine; this is what a reader gets from torch.compile."""
    if not any(map(shutil.which, ("g++", "clang++", "c++"))):
        message = "NOT TESTED: torch.compile's inductor needs a C++ compiler, none was found"
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    net = ResNet(BasicBlock, [1], num_classes=3, widths=(4,), stem="cifar").eval()
    x = seeded(2, 3, 8, 9)
    torch.compiler.reset()
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(net, fullgraph=True)(x), net(x))
    torch.compiler.reset()


# ---------------------------------------------------------------- documented errors

CONTRADICTIONS = {
    "unknown stem": (BasicBlock, {"stem": "mnist"}, "stem='mnist': choose 'imagenet'"),
    "unknown shortcut": (BasicBlock, {"shortcut": "D"}, "shortcut='D' is not known; choose one"),
    "unknown stride_in": (Bottleneck, {"stride_in": "5x5"}, "stride_in='5x5': choose '3x3'"),
    "stride_in in a basic block": (BasicBlock, {"stride_in": "1x1"}, "has no 1x1 convolution"),
    "stride_in in preact basic": (PreActBasicBlock, {"stride_in": "1x1"}, "no 1x1 convolution"),
    "groups in a basic block": (BasicBlock, {"groups": 2}, "use a bottleneck net"),
    "width in preact basic": (PreActBasicBlock, {"width_per_group": 4}, "use a bottleneck net"),
    "widths missing": (BasicBlock, {"widths": (8,)}, "give one of each per stage"),
    "zero gamma in a plain net": (
        BasicBlock,
        {"shortcut": "none", "zero_init_residual": True},
        "zero_init_residual needs a shortcut",
    ),
    "zero gamma, plain preact": (
        PreActBottleneck,
        {"shortcut": "none", "zero_init_residual": True},
        "zero_init_residual needs a shortcut",
    ),
    "zero gamma, padded channels": (
        BasicBlock,
        {"shortcut": "A-end", "zero_init_residual": True},
        "would leave the padded channels at 0 for ever",
    ),
    "zero gamma without norm": (
        Bottleneck,
        {"norm_layer": nn.Identity, "zero_init_residual": True},
        "needs a norm_layer with a weight",
    ),
    "zero gamma, norm without gamma": (
        BasicBlock,
        {"norm_layer": lambda c: nn.GroupNorm(2, c, affine=False), "zero_init_residual": True},
        "needs a norm_layer with a weight",
    ),
    "padding cannot remove channels": (
        BasicBlock,
        {"shortcut": "A", "widths": (16, 8)},
        "shortcut A can only add channels, but 16 should become 8",
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradictory_options(case):
    block, options, message = CONTRADICTIONS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        ResNet(block, [1, 1], **{"widths": (8, 16)} | options)


@pytest.mark.parametrize("layers", [[], [0, 1], [1, 1, 1], [2, -1]])
def test_layers_must_fit_widths(layers):
    with pytest.raises(ValueError, match="at least one block per stage"):
        ResNet(BasicBlock, layers, widths=(8, 16))


WRONG_INPUTS = {
    "no batch": (torch.zeros(3, 8, 8), r"got shape (3, 8, 8); add the batch dimension with"),
    "flat": (torch.zeros(3, 64), r"got shape (3, 64)"),
    "five": (torch.zeros(1, 1, 3, 8, 8), r"got shape (1, 1, 3, 8, 8)"),
    "nhwc": (torch.zeros(2, 8, 9, 3), r"channels come last here: use x.permute(0, 3, 1, 2)"),
    "bytes": (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), r"got torch.uint8; use x.float() / 255"),
    "int64": (torch.zeros(2, 3, 8, 8, dtype=torch.long), r"got torch.int64; use x.float() / 255"),
    "grey": (torch.zeros(2, 1, 8, 8), r"got shape (2, 1, 8, 8)"),
}


@pytest.mark.parametrize("case", WRONG_INPUTS)
def test_wrong_inputs_are_explained(case):
    x, message = WRONG_INPUTS[case]
    net = tiny("BasicBlock", "B")
    start = "the net wants a float tensor of shape (batch, 3, height, width)"
    for call in (net, fx.symbolic_trace(net), lambda x: check_input(x, 3)):
        with pytest.raises(ValueError, match=re.escape(message)) as caught:
            call(x)
        assert str(caught.value).startswith(start)
    if case in ("flat", "five", "grey"):
        assert ";" not in str(caught.value)  # no hint that would not help


def test_check_input_returns_the_same_tensor():
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        x = torch.zeros(2, 3, 3, 3, dtype=dtype)
        assert check_input(x, 3) is x


# ---------------------------------------------------------------- factories

CIFAR_NAMES = {n for n in FACTORIES if int(re.findall(r"\d+", n)[0]) in (20, 32, 44, 56, 110)} | {
    "resnet164",
    "preact_resnet164",
    "resnet1202",
}
TINY_RUNS = [n for n in FACTORIES if n in CIFAR_NAMES and re.search("20|32|44|56", n)]
TINY_RUNS = [n for n in TINY_RUNS if "1202" not in n] + ["resnet18", "plain18", "preact_resnet18"]


@pytest.mark.parametrize("name", FACTORIES)
def test_factory_builds_and_runs_on_meta(name):
    """On the meta device nothing is computed, so a deep net takes a moment only."""
    with torch.device("meta"):
        net = create(name, num_classes=7).eval()
        if name != "resnet1202":  # even without numbers its 2,400 layers take seconds
            assert net(torch.empty(2, 3, 64, 64)).shape == (2, 7)
        assert net.num_features == net.fc.in_features
    assert FACTORIES[name].__name__ == name and FACTORIES[name].__doc__
    # The number in the name: convolutions and linear layers, those on shortcuts not counted.
    layers = [
        m
        for key, m in net.named_modules()
        if isinstance(m, (nn.Conv2d, nn.Linear)) and "downsample" not in key
    ]
    assert len(layers) == int(re.findall(r"\d+", name)[0])
    assert ("plain" in name) == all(not m.residual for m in net.modules() if hasattr(m, "residual"))
    assert ("preact" in name) == (net.norm is not None)
    relus = [m for m in net.modules() if isinstance(m, nn.ReLU)]
    assert relus and not any(m.inplace for m in relus), "a hook would see a changed value"
    cifar = name in CIFAR_NAMES
    assert net.conv1.kernel_size == ((3, 3) if cifar else (7, 7))
    assert isinstance(net.maxpool, nn.Identity if cifar else nn.MaxPool2d)


@pytest.mark.parametrize("name", TINY_RUNS)
def test_small_factories_run(name):
    net = create(name).eval()
    with torch.no_grad():
        out = net(seeded(1, 3, 32, 32))
    assert out.shape == (1, 10 if name in CIFAR_NAMES else 1000) and torch.isfinite(out).all()


def test_factory_options_win_over_the_defaults_of_the_factory():
    with torch.device("meta"):
        deep = ("101", "110", "152", "164", "1202")  # the same code, but long to build
        for name in [n for n in FACTORIES if not n.endswith(deep)]:
            net = create(name, in_channels=1, shortcut="C", include_top=False)
            assert net.conv1.in_channels == 1 and net.fc is None and net.avgpool is None
            assert isinstance(net.layer1[0].downsample, nn.Sequential), name
        assert create("resnext50_32x4d", groups=16).layer1[0].conv2.groups == 16
        assert create("resnet20").layer2[0].downsample.front == 8  # the even padding
        assert create("resnet20", widths=(8, 16, 32)).num_features == 32


def test_create_lists_the_names():
    with pytest.raises(ValueError, match="there is no model 'resnet19'; choose one of") as caught:
        create("resnet19")
    for name in FACTORIES:
        assert re.search(rf"\b{name}\b", str(caught.value))
    assert type(create("resnet20", num_classes=4)) is ResNet


def test_package_exports_every_factory():
    import resnet_lib

    assert set(FACTORIES) <= set(resnet_lib.__all__)
    assert all(getattr(resnet_lib, name) is FACTORIES[name] for name in FACTORIES)


def test_hooks_see_what_the_layer_produced():
    """With an in-place ReLU the value kept here would have changed by the end of the pass."""
    net = tiny("Bottleneck", "B")
    kept = []
    for m in net.modules():
        if not list(m.children()):
            m.register_forward_hook(lambda _m, _i, out: kept.append((out, out.clone())))
    net(seeded(2, 3, 8, 8))
    assert kept and all(torch.equal(a, b) for a, b in kept)


# ---------------------------------------------------------------- convolutions and padding


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_helpers(stride):
    a, b = conv3x3(4, 6, stride, groups=2), conv1x1(4, 6, stride)
    assert a.weight.shape == (6, 2, 3, 3) and b.weight.shape == (6, 4, 1, 1)
    assert a.bias is None and b.bias is None
    x = seeded(1, 4, 5, 6)
    size = (1, 6, math.ceil(5 / stride), math.ceil(6 / stride))
    assert a(x).shape == size and b(x).shape == size
    torch.testing.assert_close(b(x), conv1x1_by_hand(x[:, :, ::stride, ::stride], b.weight))


def conv1x1_by_hand(x, weight):
    return torch.einsum("nchw,oc->nohw", x, weight[:, :, 0, 0])


def pad_by_hand(x: torch.Tensor, cout: int, stride: int, end: bool) -> torch.Tensor:
    """Option A one number at a time: channel c of x becomes channel c (end) or c + extra // 2."""
    n, cin, h, w = x.shape
    out = torch.zeros(n, cout, -(-h // stride), -(-w // stride), dtype=x.dtype)
    shift = 0 if end else (cout - cin) // 2
    for i, c in itertools.product(range(n), range(cin)):
        for row, col in itertools.product(range(0, h, stride), range(0, w, stride)):
            out[i, c + shift, row // stride, col // stride] = x[i, c, row, col]
    return out


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("cout", [4, 5, 8, 13])
def test_padding_shortcut_against_a_loop(cout, stride, end):
    module = PadShortcut(4, cout, stride, end)
    assert not list(module.parameters())
    for h, w in ((6, 5), (1, 1), (2, 7)):
        x = seeded(2, 4, h, w)
        assert torch.equal(module(x), pad_by_hand(x, cout, stride, end))
    text = repr(module)
    assert f"stride={stride}" in text and f"{0 if end else (cout - 4) // 2} in front" in text


def test_padding_shortcut_in_a_net():
    for kind in ("A", "A-end"):
        net = create("resnet20", shortcut=kind)
        for name, cin, cout in (("layer2", 16, 32), ("layer3", 32, 64)):
            x = seeded(1, cin, 5, 4)
            module = getattr(net, name)[0].downsample
            assert torch.equal(module(x), pad_by_hand(x, cout, 2, kind == "A-end"))


def test_the_two_paddings_do_not_understand_each_other():
    """Keys and shapes agree, so loading succeeds and only the outputs tell."""
    even, end = create("resnet20").eval(), create("resnet20", shortcut="A-end").eval()
    end.load_state_dict(even.state_dict(), strict=True)
    x = seeded(2, 3, 32, 32)
    with torch.no_grad():
        assert relative(end(x), even(x)) > 0.05


def test_make_shortcut_kinds():
    same, grow = (8, 8, 1), (8, 16, 2)
    for kind in SHORTCUTS:
        assert (make_shortcut(kind, *same) is None) == (kind != "C")
        assert (make_shortcut(kind, *grow) is None) == (kind == "none")
    names = [type(m).__name__ for m in make_shortcut("pooled", *grow)]
    assert names == ["AvgPool2d", "Conv2d", "BatchNorm2d"]
    assert isinstance(make_shortcut("pooled", 8, 16, 1)[0], nn.Identity)
    for kind in ("B", "C"):
        conv, norm = make_shortcut(kind, *grow)
        assert conv.stride == (2, 2) and conv.bias is None and norm.num_features == 16
        (conv,) = make_shortcut(kind, *grow, normalise=False)
        assert conv.bias is None
        assert make_shortcut(kind, *grow, norm_layer=nn.Identity)[0].bias is not None
    with pytest.raises(ValueError, match="choose one of A, A-end, B, C, pooled, none"):
        make_shortcut("b", *grow)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("norm", NORMS)
def test_biases_exist_only_without_normalisation(block, norm):
    net = build(block, {"norm_layer": NORMS[norm], "shortcut": "B"})
    for name, m in net.named_modules():
        if isinstance(m, nn.Conv2d):
            # In a pre-activation block the branch's own bias is added to the shortcut anyway.
            wanted = norm == "no" and not ("downsample" in name and block in IS_PREACT)
            assert (m.bias is not None) == wanted, name
            if m.bias is not None:
                assert not m.bias.any()


# ---------------------------------------------------------------- blocks against own arithmetic


def bn(x, m):
    """Batch normalisation in eval mode, written out."""
    mean, var, gamma, beta = (
        t[None, :, None, None] for t in (m.running_mean, m.running_var, m.weight, m.bias)
    )
    return (x - mean) / torch.sqrt(var + m.eps) * gamma + beta


def pool_by_hand(x: torch.Tensor) -> torch.Tensor:
    """The mean over each 2x2 window, over the pixels that exist at the right and lower edge."""
    n, c, h, w = x.shape
    out = torch.empty(n, c, -(-h // 2), -(-w // 2), dtype=x.dtype)
    for row, col in itertools.product(range(out.shape[2]), range(out.shape[3])):
        window = x[:, :, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2]
        out[:, :, row, col] = window.sum((2, 3)) / (window.shape[2] * window.shape[3])
    return out


def shortcut_by_hand(block: nn.Module, kind: str, x: torch.Tensor) -> torch.Tensor:
    """What the shortcut should add, from the weights in block.downsample but not its forward."""
    last = block.conv3 if hasattr(block, "conv3") else block.conv2
    cin, cout, stride = x.shape[1], last.out_channels, block.stride
    same = stride == 1 and cin == cout
    if kind in ("A", "A-end"):
        return pad_by_hand(x, cout, stride, kind == "A-end")
    if same and kind in ("B", "pooled"):
        return x
    conv = next(m for m in block.downsample if isinstance(m, nn.Conv2d))
    if kind == "pooled":
        x = pool_by_hand(x) if stride == 2 else x
    else:
        x = x[:, :, ::stride, ::stride]
    out = conv1x1_by_hand(x, conv.weight)
    norm = [m for m in block.downsample if isinstance(m, nn.BatchNorm2d)]
    assert bool(norm) != block.preactivation
    return bn(out, norm[0]) if norm else out


def conv(x, m, stride, padding):
    return F.conv2d(x, m.weight, stride=stride, padding=padding, groups=m.groups)


def branch_by_hand(m: nn.Module, x: torch.Tensor, stride_in: str = "3x3") -> torch.Tensor:
    """The branch of an original block (He 2015, figure 5), before the addition."""
    s = m.stride
    if not hasattr(m, "conv3"):
        out = bn(conv(x, m.conv1, s, 1), m.bn1).clamp(min=0)
        return bn(conv(out, m.conv2, 1, 1), m.bn2)
    first, second = (s, 1) if stride_in == "1x1" else (1, s)
    out = bn(conv(x, m.conv1, first, 0), m.bn1).clamp(min=0)
    out = bn(conv(out, m.conv2, second, 1), m.bn2).clamp(min=0)
    return bn(conv(out, m.conv3, 1, 0), m.bn3)


def preact_by_hand(m, x: torch.Tensor, kind: str, first: bool, stride_in: str) -> torch.Tensor:
    """He 2016, eq. 1-3 and figure 4(e): x + F(x) with F = conv(relu(bn(...))), nothing behind.

    As in the authors' code the shortcut takes relu(bn(x)) where the shape changes, and the very
    first block finds its input activated already.
    """
    deep = hasattr(m, "conv3")
    cout = (m.conv3 if deep else m.conv2).out_channels
    pre = x if first else bn(x, m.bn1).clamp(min=0)
    s = m.stride
    if deep:
        a, b = (s, 1) if stride_in == "1x1" else (1, s)
        out = conv(pre, m.conv1, a, 0)
        out = conv(bn(out, m.bn2).clamp(min=0), m.conv2, b, 1)
        out = conv(bn(out, m.bn3).clamp(min=0), m.conv3, 1, 0)
    else:
        out = conv(pre, m.conv1, s, 1)
        out = conv(bn(out, m.bn2).clamp(min=0), m.conv2, 1, 1)
    if kind == "none":
        return out
    changes = s != 1 or x.shape[1] != cout
    return out + shortcut_by_hand(m, kind, pre if changes else x)


def net_by_hand(net: ResNet, x, kind: str, stride_in: str, stem: str) -> torch.Tensor:
    if stem == "imagenet":
        x = bn(conv(x, net.conv1, 2, 3), net.bn1).clamp(min=0)
        x = F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-torch.inf), 3, 2)
    else:
        x = bn(conv(x, net.conv1, 1, 1), net.bn1).clamp(min=0)
    blocks = [*net.layer1, *net.layer2, *net.layer3]
    for i, m in enumerate(blocks):
        if m.preactivation:
            x = preact_by_hand(m, x, kind, i == 0, stride_in)
        elif kind == "none":
            x = branch_by_hand(m, x, stride_in).clamp(min=0)
        else:
            x = (branch_by_hand(m, x, stride_in) + shortcut_by_hand(m, kind, x)).clamp(min=0)
    if net.norm is not None:
        x = bn(x, net.norm).clamp(min=0)
    return x.mean((2, 3)) @ net.fc.weight.T + net.fc.bias


WHOLE_NETS = [
    (block, kind, stride_in, stem)
    for block in BLOCKS
    for kind in SHORTCUTS
    for stride_in in (("3x3", "1x1") if "Bottleneck" in block else ("3x3",))
    for stem in ("imagenet", "cifar")
]


@pytest.mark.parametrize(("block", "kind", "stride_in", "stem"), WHOLE_NETS)
def test_whole_net_against_the_equations(block, kind, stride_in, stem):
    groups = 2 if "Bottleneck" in block else 1
    net = ResNet(
        BLOCKS[block],
        [2, 1, 2],
        num_classes=3,
        widths=(4, 6, 10),
        groups=groups,
        stem=stem,
        shortcut=kind,
        stride_in=stride_in,
    )
    net = stir(net).double().eval()
    x = seeded(2, 3, 18, 13).double()
    with torch.no_grad():
        torch.testing.assert_close(net(x), net_by_hand(net, x, kind, stride_in, stem))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("cin", [4, 8])
@pytest.mark.parametrize("kind", SHORTCUTS)
@pytest.mark.parametrize("block", BLOCKS)
def test_lone_block_against_the_equations(block, kind, cin, stride):
    """Also a stride without new channels and new channels without a stride, rare in the nets."""
    cls = BLOCKS[block]
    downsample = make_shortcut(kind, cin, 8, stride, normalise=not cls.preactivation)
    m = cls(cin, 8 // cls.expansion, stride, downsample, residual=kind != "none")
    m = stir(m).double().eval()
    x = seeded(2, cin, 7, 6).double()
    with torch.no_grad():
        if cls.preactivation:
            wanted = preact_by_hand(m, x, kind, False, "3x3")
        else:
            wanted = branch_by_hand(m, x)
            wanted = wanted if kind == "none" else wanted + shortcut_by_hand(m, kind, x)
            wanted = wanted.clamp(min=0)
        torch.testing.assert_close(m(x), wanted)


@pytest.mark.parametrize("block", sorted(IS_PREACT))
def test_preactivation_net_in_train_mode(block):
    """The equations again with batch statistics: gradients and running statistics agree too."""
    net = stir(build(block, {"stem": "cifar"})).double()
    x = seeded(3, 3, 8, 7).double()
    out = net(x)
    seen = {k: v.clone() for k, v in net.named_buffers()}
    stats = {}

    def batch_norm(x, name):
        m = net.get_submodule(name)
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        stats[name] = mean, x.var((0, 2, 3))
        x = (x - mean[:, None, None]) / torch.sqrt(var[:, None, None] + m.eps)
        return x * m.weight[:, None, None] + m.bias[:, None, None]

    y = batch_norm(conv(x, net.conv1, 1, 1), "bn1").clamp(min=0)
    for name in ("layer1.0", "layer2.0", "layer2.1"):
        m = net.get_submodule(name)
        pre = y if name == "layer1.0" else batch_norm(y, f"{name}.bn1").clamp(min=0)
        out2 = pre
        for i in (1, 2, 3) if hasattr(m, "conv3") else (1, 2):
            if i > 1:
                out2 = batch_norm(out2, f"{name}.bn{i}").clamp(min=0)
            layer = getattr(m, f"conv{i}")
            strides = i == (2 if hasattr(m, "conv3") else 1)
            size = layer.weight.shape[-1]
            out2 = conv(out2, layer, m.stride if strides else 1, size // 2)
        if m.downsample is None:
            y = y + out2
        else:
            y = out2 + conv(pre, m.downsample[0], m.stride, 0)
    y = batch_norm(y, "norm").clamp(min=0).mean((2, 3)) @ net.fc.weight.T + net.fc.bias
    torch.testing.assert_close(out, y)

    start = stir(build(block, {"stem": "cifar"})).double()
    for name, (mean, var) in stats.items():
        old = start.get_submodule(name)
        new_mean = 0.9 * old.running_mean + 0.1 * mean
        new_var = 0.9 * old.running_var + 0.1 * var
        torch.testing.assert_close(seen[f"{name}.running_mean"], new_mean)
        torch.testing.assert_close(seen[f"{name}.running_var"], new_var)
    norms = {n for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert norms == set(stats)


@pytest.mark.parametrize("block", sorted(IS_PREACT))
def test_preactivation_identity_path_is_clean(block):
    """Equation 3 of He 2016: between shape changes, x_L - x_l is the sum of the branches."""
    cls = BLOCKS[block]
    c = 8 * cls.expansion
    stack = stir(nn.Sequential(*[cls(c, 8) for _ in range(3)])).eval()
    x = -seeded(1, c, 5, 5).abs()  # all negative: any ReLU on the path would show
    for m in stack:
        zero_last(m)
    assert torch.equal(stack(x), x)


# ---------------------------------------------------------------- the plain twin


class Nothing(nn.Module):
    def forward(self, x):
        return 0.0


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("kind", [k for k in SHORTCUTS if k != "none"])
@pytest.mark.parametrize("block", BLOCKS)
def test_plain_twin_is_the_net_without_the_shortcut(block, kind, train):
    net = stir(tiny(block, kind)).train(train)
    twin = tiny(block, "none").train(train)
    weights = {k: v for k, v in net.state_dict().items() if "downsample" not in k}
    twin.load_state_dict(weights, strict=True)  # same layers, so strict loading must work
    assert not any("downsample" in k for k in twin.state_dict())
    x = seeded(4, 3, 8, 9)
    with torch.no_grad():
        assert relative(net(x), twin(x)) > 0.01
        twin.load_state_dict(weights)
        net.load_state_dict(weights, strict=False)
        for m in net.modules():
            if hasattr(m, "downsample"):
                m.downsample = Nothing()
        assert torch.equal(net(x), twin(x))


@pytest.mark.parametrize("block", ["BasicBlock", "Bottleneck"])
def test_plain_twin_by_hooks(block):
    """A second way: a hook on every block of the residual net puts relu(branch) in its place."""
    net = stir(tiny(block, "B")).eval()
    twin = tiny(block, "none").eval()
    twin.load_state_dict({k: v for k, v in net.state_dict().items() if "downsample" not in k})
    for m in net.modules():
        if isinstance(m, BLOCKS[block]):
            m.register_forward_hook(lambda m, args, _out: branch_by_hand(m, args[0]).clamp(min=0))
    x = seeded(2, 3, 8, 9)
    with torch.no_grad():
        torch.testing.assert_close(net(x), twin(x))


# ---------------------------------------------------------------- stride, zero start, pool


@pytest.mark.parametrize("stride_in", ["1x1", "3x3"])
@pytest.mark.parametrize("block", ["Bottleneck", "PreActBottleneck"])
def test_stride_in_is_where_it_says(block, stride_in):
    net = build(block, {"stride_in": stride_in, "stem": "cifar"})
    strided = {n for n, m in net.named_modules() if isinstance(m, nn.Conv2d) and m.stride[0] == 2}
    where = "conv1" if stride_in == "1x1" else "conv2"
    assert strided == {f"layer2.0.{where}", "layer2.0.downsample.0"}
    sizes = {}
    for name in ("conv1", "conv2", "conv3"):
        layer = getattr(net.layer2[0], name)
        layer.register_forward_hook(
            lambda _m, _i, out, name=name: sizes.update({name: out.shape[2:]})
        )
    net(seeded(2, 3, 9, 8))
    assert sizes == {"conv1": (5, 4) if stride_in == "1x1" else (9, 8)} | dict.fromkeys(
        ("conv2", "conv3"), (5, 4)
    )


@pytest.mark.parametrize("stride_in", ["1x1", "3x3"])
def test_stride_in_1x1_never_reads_three_of_four_positions(stride_in):
    block = stir(Bottleneck(4, 4, 2, residual=False, stride_in=stride_in)).eval()
    x = seeded(1, 4, 8, 8).requires_grad_()
    block(x).sum().backward()
    read = x.grad[0].abs().sum(0) > 0
    unread = read.clone()
    unread[::2, ::2] = False
    assert not unread.any() if stride_in == "1x1" else unread.sum() > 40


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("kind", ["B", "C", "pooled"])
def test_zero_init_makes_each_block_its_shortcut(block, kind):
    options = {"shortcut": kind, "zero_init_residual": True, "stem": "cifar"}
    net, usual = build(block, options), build(block, options | {"zero_init_residual": False})
    changed = [k for k, v in net.state_dict().items() if not torch.equal(v, usual.state_dict()[k])]
    number = 3 if "Bottleneck" in block else 2
    last = f"conv{number}" if block in IS_PREACT else f"bn{number}"
    assert changed == [f"{name}.{last}.weight" for name in ("layer1.0", "layer2.0", "layer2.1")]

    seen = []
    for m in net.modules():
        if isinstance(m, BLOCKS[block]):
            m.register_forward_hook(lambda m, args, out: seen.append((m, args[0], out)))
    for train in (False, True):
        seen.clear()
        net.train(train)(seeded(2, 3, 8, 9))
        assert len(seen) == 3
        for m, x, out in seen:
            if block in IS_PREACT:
                changes = m.stride > 1 or x.shape[1] != out.shape[1]
                start = m.bn1(x).clamp(min=0) if changes else x
                wanted = start if m.downsample is None else m.downsample(start)
            else:
                wanted = (x if m.downsample is None else m.downsample(x)).clamp(min=0)
            torch.testing.assert_close(out, wanted)

    net.zero_grad()
    net(seeded(2, 3, 8, 9)).square().sum().backward()
    for m, _, _ in seen[:3]:
        assert getattr(m, last).weight.grad.any(), "the zeroed branch can never wake up"


@pytest.mark.parametrize("block", BLOCKS)
def test_zero_init_and_padding_leave_dead_channels(block):
    """Why ResNet refuses two options together: relu(0) has slope 0.

    Channels that shortcut A fills with zeros stay 0 while the branch adds 0, each ReLU behind
    them (after the addition, or in the next pre-activation) passes no gradient back, and so they
    stay 0 for ever, however long the net trains. Every other shortcut avoids this.
    """
    number = 3 if "Bottleneck" in block else 2
    for kind in ("A", "B"):
        net = build(block, {"stem": "cifar", "shortcut": kind})
        for m in net.modules():
            if isinstance(m, BLOCKS[block]):
                zero_last(m)
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        for step in range(8):
            optimiser.zero_grad()
            F.cross_entropy(
                net(seeded(4, 3, 8, 8, seed=step)), torch.tensor([0, 1, 2, 0])
            ).backward()
            optimiser.step()
        last = getattr(net.layer2[-1], f"{'conv' if block in IS_PREACT else 'bn'}{number}").weight
        dead = (last.flatten(1) if last.dim() > 1 else last[:, None]).eq(0).all(1)
        half = len(dead) // 4  # zeros in front, and as many behind
        assert dead[:half].all() == dead[-half:].all() == (kind == "A")
        assert not dead[half:-half].all()


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("norm", NORMS)
def test_zero_last_on_a_lone_block(block, norm):
    """Exactly zero, whatever the weights and biases were."""
    m = stir(BLOCKS[block](8, 8 // BLOCKS[block].expansion, norm_layer=NORMS[norm])).eval()
    if norm == "no" and block not in IS_PREACT:
        with pytest.raises(ValueError, match="norm_layer with a weight"):
            zero_last(m)
        return
    zero_last(m)
    x = seeded(1, 8, 4, 4)
    assert torch.equal(m(x), x if block in IS_PREACT else x.clamp(min=0))


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 2), (1, 1)])
def test_pooled_shortcut_is_resnet_d(size):
    """arXiv:1812.01187, figure 2c: 2x2 mean, stride 2, then 1x1 convolution and BN."""
    module = stir(make_shortcut("pooled", 4, 6, 2)).eval()
    x = seeded(2, 4, *size)
    wanted = bn(conv1x1_by_hand(pool_by_hand(x), module[1].weight), module[2])
    torch.testing.assert_close(module(x), wanted)
    x.requires_grad_()
    module(x).sum().backward()
    assert (x.grad != 0).all()  # no position is thrown away


def test_pooled_shortcut_of_a_constant_is_constant():
    """Also at odd sizes: a border that averaged in zeros would be darker."""
    pool = make_shortcut("pooled", 4, 6, 2)[0]
    assert torch.equal(pool(torch.ones(1, 4, 5, 7)), torch.ones(1, 4, 3, 4))


@pytest.mark.parametrize("block", BLOCKS)
def test_initialisation(block):
    """He normal with fan_out, gamma 1, beta 0, in all convolutions including shortcuts."""
    torch.manual_seed(0)
    net = ResNet(BLOCKS[block], [1, 1], widths=(32, 64), stem="cifar")
    for name, m in net.named_modules():
        if isinstance(m, nn.Conv2d):
            fan_out = m.out_channels * m.kernel_size[0] ** 2
            spread = m.weight.std().item() * math.sqrt(fan_out / 2)
            assert abs(spread - 1) < 6 / math.sqrt(2 * m.weight.numel()), name
            assert abs(m.weight.mean().item()) < 5 * m.weight.std() / m.weight.numel() ** 0.5
        elif isinstance(m, nn.BatchNorm2d):
            assert m.weight.eq(1).all() and not m.bias.any()


def test_reproducible_from_the_seed():
    a, b = build("Bottleneck", {}), build("Bottleneck", {})
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
