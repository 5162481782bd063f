"""Numbers of parameters and multiply-accumulates: published tables, closed forms, torch's counter.

`CLOSED_FORM` counts every factory with pencil and paper, from He 2015 (arXiv:1512.03385, table 1
and section 4.2) and He 2016 (arXiv:1603.05027), without building a module.
"""

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from resnet_lib import FACTORIES, ResNet, create
from resnet_lib.blocks import BasicBlock, Bottleneck, PreActBottleneck
from resnet_lib.measure import Row, count_parameters, layer_table, macs

# ---------------------------------------------------------------- parameters with a pencil


def conv(cin: int, cout: int, k: int, groups: int = 1) -> int:
    """k * k * (cin / groups) weights for each of cout outputs, no bias: a BN follows."""
    return k * k * cin // groups * cout


def bn(c: int) -> int:
    """gamma and beta; the running statistics are no parameters."""
    return 2 * c


def by_pencil(
    kind: str,
    blocks: list[int],
    *,
    cifar: bool = False,
    option: str = "B",
    preact: bool = False,
    groups: int = 1,
    per_group: int = 64,
    classes: int | None = None,
) -> int:
    """Parameters of a net of "basic" or "deep" blocks, added up from the papers' tables."""
    widths = [16, 32, 64] if cifar else [64, 128, 256, 512]
    classes = classes or (10 if cifar else 1000)
    total = conv(3, widths[0], 3 if cifar else 7) + bn(widths[0])
    cin = widths[0]
    for stage, (w, n) in enumerate(zip(widths, blocks, strict=True)):
        for b in range(n):
            first_of_all = stage == b == 0
            if kind == "basic":
                cout = w
                total += conv(cin, w, 3) + conv(w, w, 3)
                behind, before = bn(w) + bn(w), bn(cin) + bn(w)
            else:
                cout, inner = 4 * w, w * per_group // 64 * groups
                total += conv(cin, inner, 1) + conv(inner, inner, 3, groups) + conv(inner, cout, 1)
                behind = bn(inner) + bn(inner) + bn(cout)
                before = bn(cin) + bn(inner) + bn(inner)
            # Pre-activation: BN before each convolution, but the first block finds its input done.
            total += before - bn(cin) * first_of_all if preact else behind
            changes = cin != cout or (stage > 0 and b == 0)
            if option == "C" or (option == "B" and changes):
                total += conv(cin, cout, 1) + (0 if preact else bn(cout))
            cin = cout
    total += bn(cin) if preact else 0
    return total + cin * classes + classes


def small(n: int, **more) -> int:
    return by_pencil("basic", [n, n, n], cifar=True, **{"option": "A"} | more)


L18, L34, L101, L152 = [2, 2, 2, 2], [3, 4, 6, 3], [3, 4, 23, 3], [3, 8, 36, 3]
N164 = [18, 18, 18]

# name: (the number itself, the closed form). The first column pins what the second says.
CLOSED_FORM = {
    "resnet18": (11_689_512, by_pencil("basic", L18)),
    "resnet34": (21_797_672, by_pencil("basic", L34)),
    "resnet50": (25_557_032, by_pencil("deep", L34)),
    "resnet101": (44_549_160, by_pencil("deep", L101)),
    "resnet152": (60_192_808, by_pencil("deep", L152)),
    "resnext50_32x4d": (25_028_904, by_pencil("deep", L34, groups=32, per_group=4)),
    "wide_resnet50_2": (68_883_240, by_pencil("deep", L34, per_group=128)),
    "plain18": (11_515_688, by_pencil("basic", L18, option="none")),
    "plain34": (21_623_848, by_pencil("basic", L34, option="none")),
    "preact_resnet18": (11_687_720, by_pencil("basic", L18, preact=True)),
    "preact_resnet34": (21_795_880, by_pencil("basic", L34, preact=True)),
    "preact_resnet50": (25_549_352, by_pencil("deep", L34, preact=True)),
    "preact_resnet101": (44_541_480, by_pencil("deep", L101, preact=True)),
    "preact_resnet152": (60_185_128, by_pencil("deep", L152, preact=True)),
    "resnet20": (269_722, small(3)),
    "resnet32": (464_154, small(5)),
    "resnet44": (658_586, small(7)),
    "resnet56": (853_018, small(9)),
    "resnet110": (1_727_962, small(18)),
    "resnet1202": (19_421_274, small(200)),
    "resnet164": (1_704_154, by_pencil("deep", N164, cifar=True)),
    "plain20": (269_722, small(3, option="none")),
    "plain32": (464_154, small(5, option="none")),
    "plain44": (658_586, small(7, option="none")),
    "plain56": (853_018, small(9, option="none")),
    "plain110": (1_727_962, small(18, option="none")),
    "preact_resnet20": (269_722, small(3, preact=True)),
    "preact_resnet32": (464_154, small(5, preact=True)),
    "preact_resnet44": (658_586, small(7, preact=True)),
    "preact_resnet56": (853_018, small(9, preact=True)),
    "preact_resnet110": (1_727_962, small(18, preact=True)),
    "preact_resnet164": (1_703_258, by_pencil("deep", N164, cifar=True, preact=True)),
}


def on_meta(name: str, **options) -> ResNet:
    with torch.device("meta"):
        return create(name, **options)


def test_no_factory_escapes_the_table():
    assert CLOSED_FORM.keys() == FACTORIES.keys()


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_parameters_of_every_factory(name):
    number, closed_form = CLOSED_FORM[name]
    assert closed_form == number
    net = on_meta(name)
    assert count_parameters(net) == number
    assert count_parameters(net) == sum(p.numel() for p in set(net.parameters()))


@pytest.mark.parametrize(
    ("name", "option", "number"),
    [
        ("resnet18", "A", 11_515_688),
        ("resnet18", "A-end", 11_515_688),
        ("resnet18", "B", 11_689_512),
        ("resnet18", "pooled", 11_689_512),
        ("resnet34", "A", 21_623_848),
        ("resnet34", "B", 21_797_672),
        ("resnet34", "C", 22_716_840),
    ],
)
def test_shortcut_options_of_the_imagenet_nets(name, option, number):
    assert count_parameters(on_meta(name, shortcut=option)) == number
    if option in "ABC":
        blocks = {"resnet18": L18, "resnet34": L34}[name]
        assert by_pencil("basic", blocks, option=option) == number


def test_the_three_projections_of_option_b():
    for name in ("resnet18", "resnet34"):
        net = on_meta(name)
        shortcuts = [m.downsample for m in net.modules() if getattr(m, "downsample", None)]
        assert [count_parameters(m) for m in shortcuts] == [8_448, 33_280, 132_096]
        assert sum(map(count_parameters, shortcuts)) == 173_824
    # Option C of ResNet-34: sixteen blocks, thirteen projections more than B.
    net = on_meta("resnet34", shortcut="C")
    assert (
        sum(isinstance(m.downsample, nn.Module) for m in net.modules() if hasattr(m, "conv2")) == 16
    )


@pytest.mark.parametrize(
    ("depth", "number"),
    [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)],
)
def test_cifar_options(depth, number):
    name = f"resnet{depth}"
    assert count_parameters(on_meta(name, shortcut="A-end")) == number
    assert count_parameters(on_meta(name, shortcut="B")) == number + 2_752
    assert count_parameters(on_meta(f"plain{depth}")) == number
    assert small((depth - 2) // 6, option="B") == number + 2_752


def test_four_classes():
    """Both places of the stride: moving it moves no weight."""
    for stride_in in ("3x3", "1x1"):
        net = on_meta("resnet50", num_classes=4, stride_in=stride_in)
        assert count_parameters(net) == 23_516_228
        assert count_parameters(net.fc) == 8_196
    assert by_pencil("deep", L34, classes=4) == 23_516_228


@pytest.mark.parametrize("stride_in", ["3x3", "1x1"])
@pytest.mark.parametrize("preact", [False, True])
def test_groups_in_both_orders(preact, stride_in):
    name = "preact_resnet50" if preact else "resnet50"
    net = on_meta(name, groups=32, width_per_group=4, stride_in=stride_in)
    wanted = by_pencil("deep", L34, preact=preact, groups=32, per_group=4)
    assert count_parameters(net) == wanted
    assert tuple(net.layer1[0].conv2.weight.shape) == (128, 4, 3, 3)


def test_without_the_top():
    net, headless = on_meta("resnet18"), on_meta("resnet18", include_top=False)
    assert count_parameters(net) - count_parameters(headless) == 512 * 1000 + 1000


def test_count_parameters_sees_frozen_and_ignores_buffers():
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    net[0].requires_grad_(False)
    assert count_parameters(net) == 8 + 4
    shared = nn.Linear(3, 3)
    assert count_parameters(nn.Sequential(shared, nn.ReLU(), shared)) == 12


# ---------------------------------------------------------------- multiply-accumulates

GMAC = {
    ("resnet18", "3x3"): 1.814,
    ("resnet34", "3x3"): 3.664,
    ("resnet50", "1x1"): 3.858,
    ("resnet50", "3x3"): 4.089,
    ("resnet101", "1x1"): 7.570,
    ("resnet101", "3x3"): 7.801,
    ("resnet152", "1x1"): 11.282,
    ("resnet152", "3x3"): 11.514,
}


@pytest.mark.parametrize(("name", "stride_in"), GMAC)
def test_macs_of_the_imagenet_table(name, stride_in):
    count = macs(on_meta(name, stride_in=stride_in), (3, 224, 224))
    assert round(count / 1e9, 3) == GMAC[name, stride_in]


def test_macs_of_resnet20_with_a_pencil():
    """32x32 pixels; the stem, six 3x3 convolutions per stage, the classifier."""
    stem = 32 * 32 * 16 * 3 * 9
    stage1 = 6 * 32 * 32 * 16 * 16 * 9
    stage2 = 16 * 16 * 32 * 16 * 9 + 5 * 16 * 16 * 32 * 32 * 9
    stage3 = 8 * 8 * 64 * 32 * 9 + 5 * 8 * 8 * 64 * 64 * 9
    wanted = stem + stage1 + stage2 + stage3 + 64 * 10
    assert macs(create("resnet20"), (3, 32, 32)) == wanted == 40_551_040
    assert macs(create("plain20"), (3, 32, 32)) == wanted


COUNTED = [
    ("resnet18", {}, (3, 224, 224)),
    ("resnet34", {"shortcut": "C"}, (3, 65, 97)),
    ("resnet50", {}, (3, 64, 64)),
    ("resnet50", {"stride_in": "1x1", "shortcut": "pooled"}, (3, 63, 64)),
    ("resnext50_32x4d", {}, (3, 64, 64)),
    ("wide_resnet50_2", {"include_top": False}, (3, 64, 64)),
    ("preact_resnet50", {"norm_layer": nn.Identity}, (3, 64, 64)),
    ("preact_resnet20", {"in_channels": 1}, (1, 33, 31)),
    ("plain34", {}, (3, 64, 64)),
    ("resnet164", {"num_classes": 100}, (3, 32, 32)),
]


@pytest.mark.parametrize(("name", "options", "shape"), COUNTED, ids=lambda v: str(v))
def test_macs_agree_with_the_counter_of_torch(name, options, shape):
    """It counts a multiplication and an addition as two."""
    net = on_meta(name, **options).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.empty(1, *shape, device="meta"))
    assert macs(net, shape) * 2 == counter.get_total_flops()


# ---------------------------------------------------------------- the table of layers


def net_on_cpu(block=Bottleneck, **options) -> ResNet:
    torch.manual_seed(0)
    return ResNet(block, [1, 2], num_classes=5, widths=(8, 16), **options)


def test_rows_are_the_calls_in_their_order():
    """Against a run with numbers: the names, classes and shapes that hooks see."""
    net = net_on_cpu().eval()
    seen, handles = [], []
    for name, m in net.named_modules():
        if not list(m.children()):
            handles.append(
                m.register_forward_hook(
                    lambda m, _i, out, name=name: seen.append(
                        (name, type(m).__name__, tuple(out.shape[1:]))
                    )
                )
            )
    net(torch.zeros(1, 3, 37, 40))
    for handle in handles:
        handle.remove()
    rows = layer_table(net, (3, 37, 40))
    assert [(r.name, r.kind, r.shape) for r in rows] == seen
    assert rows[0] == Row("conv1", "Conv2d", (8, 19, 20), 8 * 3 * 49, 19 * 20 * 8 * 3 * 49)
    assert rows[-1] == Row("fc", "Linear", (5,), 64 * 5 + 5, 64 * 5)
    relus = [r for r in rows if r.name == "layer1.0.relu"]
    assert len(relus) == 3 and not any(r.macs or r.parameters for r in relus)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck, PreActBottleneck])
def test_sums_of_the_table(block):
    net = net_on_cpu(block)
    rows = layer_table(net, (3, 32, 32))
    assert sum(r.parameters for r in rows) == count_parameters(net)
    assert sum(r.macs for r in rows) == macs(net, (3, 32, 32)) > 0
    assert all((r.macs > 0) == (r.kind in ("Conv2d", "Linear")) for r in rows)
    plain = {r.name: r.parameters for r in rows if r.parameters}
    for name, number in plain.items():
        assert number == count_parameters(net.get_submodule(name))


def test_grouped_convolutions():
    rows = layer_table(nn.Conv2d(6, 8, (3, 5), groups=2, bias=True), (6, 10, 10))
    assert rows == [Row("", "Conv2d", (8, 8, 6), 8 * 3 * 15 + 8, 8 * 8 * 6 * 3 * 15)]


def test_a_shared_layer_has_its_weights_counted_once_but_works_twice():
    layer = nn.Conv2d(4, 4, 3, padding=1)
    rows = layer_table(nn.Sequential(layer, nn.ReLU(), layer), (4, 5, 5))
    assert [(r.name, r.parameters) for r in rows] == [("0", 148), ("1", 0), ("0", 0)]
    assert [r.macs for r in rows] == [25 * 4 * 4 * 9, 0, 25 * 4 * 4 * 9]


@pytest.mark.parametrize("train", [False, True])
def test_looking_changes_nothing(train):
    net = net_on_cpu().train(train)
    net.layer1.eval()
    before = copy.deepcopy(net.state_dict())
    flags = [m.training for m in net.modules()]
    state = torch.get_rng_state()
    layer_table(net, (3, 32, 32))
    macs(net, (3, 32, 32))
    assert [m.training for m in net.modules()] == flags
    assert all(p.device.type == "cpu" and p.requires_grad for p in net.parameters())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(m._forward_hooks for m in net.modules())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_number_formats(dtype):
    assert macs(create("resnet20").to(dtype), (3, 32, 32)) == 40_551_040
