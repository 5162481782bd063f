"""Equal outputs in Keras: article E's pre-activation nets, ResNet50V2's form, and ResNet50.

The constructions are written here in our own words, in Keras and as changes of our nets. Random
weights are copied and the logits compared (no softmax: of large numbers it makes zeros and ones).
The classic net of two functions is chapter 09's own: its cells are executed, not copied.
Keras is a development dependency; without it these tests are skipped. Pictures are small.
"""

import ast
import importlib.util
import os
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import resnet_lib
from resnet_lib.measure import count_parameters

if importlib.util.find_spec("keras") is None:
    pytest.skip("Keras is not installed: pip install keras", allow_module_level=True)
if "keras" not in sys.modules:
    os.environ["KERAS_BACKEND"] = "torch"  # must be set before the import

import keras
from test_notebooks import CHAPTERS, cells, code, needed_for

LAYERS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
LAYERS |= {101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
KINDS = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
CLASSES = 10
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(autouse=True)
def on_the_cpu():
    keras.config.set_image_data_format("channels_last")
    with keras.device("cpu:0"):
        yield
    keras.utils.clear_session(free_memory=True)


# --- article E's form, in Keras


def keras_e(depth: int, side: int):
    """The model, and its layers with weights in the order in which they were made."""
    layers, made = keras.layers, []

    def remember(layer):
        made.append(layer)
        return layer

    def conv(x, channels, kernel, stride=1):
        how = {"kernel_initializer": "he_normal", "kernel_regularizer": keras.regularizers.L2(1e-4)}
        return remember(layers.Conv2D(channels, kernel, stride, padding="same", **how))(x)

    def activate(x):
        return layers.ReLU()(remember(layers.BatchNormalization())(x))

    def block(x, planes, stride, first):
        plan = [(3, planes), (3, planes)]
        if depth >= 50:
            plan = [(1, planes), (3, planes), (1, 4 * planes)]
        out, changed = x, stride != 1 or x.shape[-1] != plan[-1][1]
        for i, (kernel, channels) in enumerate(plan):
            out = out if first and i == 0 else activate(out)
            out = conv(out, channels, kernel, stride if i == 0 else 1)
        return layers.Add()([conv(x, channels, 1, stride) if changed else x, out])

    pixels = layers.Input((side, side, 3))
    x = layers.MaxPooling2D(3, 2, padding="same")(activate(conv(pixels, 64, 7, 2)))
    for i, count in enumerate(LAYERS[depth]):
        for b in range(count):
            x = block(x, 64 * 2**i, 2 if i > 0 and b == 0 else 1, i == b == 0)
    x = layers.GlobalAveragePooling2D()(activate(x))
    return keras.Model(pixels, remember(layers.Dense(CLASSES))(x)), made


# --- the same from our factories: the switches that make our net article E's


def our_e(depth: int) -> nn.Module:
    options = {"stride_in": "1x1"} if depth >= 50 else {}
    net = resnet_lib.create(f"preact_resnet{depth}", num_classes=CLASSES, **options)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
        if isinstance(module, nn.Conv2d):
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
        if getattr(module, "shared", False):
            module.shared = False  # the projection starts from the raw input
    return net


def in_order_of_use(net: nn.Module) -> list[nn.Module]:
    found = [net.conv1, net.bn1]
    for stage in net.stage_names:
        for block in getattr(net, stage):
            for i in range(1, 4):
                found += [getattr(block, f"{kind}{i}", None) for kind in ("bn", "conv")]
            found += list(block.downsample or [])
    return [m for m in [*found, net.norm, net.fc] if isinstance(m, KINDS)]


@torch.no_grad()
def with_random_numbers(net: nn.Module) -> nn.Module:
    """So that no bias and no BN hides behind 0 and 1."""
    for module in net.modules():
        if isinstance(module, KINDS) and module.bias is not None:
            nn.init.normal_(module.bias, std=0.1)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net.eval()


def arrays(module: nn.Module) -> list:
    found = [module.weight.detach(), module.bias.detach()]
    if isinstance(module, nn.Conv2d):
        found[0] = found[0].permute(2, 3, 1, 0)
    elif isinstance(module, nn.Linear):
        found[0] = found[0].T
    else:
        found += [module.running_mean, module.running_var]
    return [value.numpy() for value in found]


def same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels in front and behind for Keras' padding="same"."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def pad_like_keras(net: nn.Module) -> nn.Module:
    def hook(module, inputs):
        kernel = module.kernel_size
        kernel = kernel if isinstance(kernel, int) else kernel[0]
        rows, columns = (same(side, kernel, 2) for side in inputs[0].shape[2:])
        return (F.pad(inputs[0], (*columns, *rows)),)  # behind a ReLU, 0 cannot win a maximum

    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.padding = (0, 0)
            module.register_forward_pre_hook(hook)
        elif isinstance(module, nn.MaxPool2d):
            module.padding = 0
            module.register_forward_pre_hook(hook)
    return net


def logits(model, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        out = model(x.permute(0, 2, 3, 1).contiguous().numpy(), training=False)
    return torch.from_numpy(keras.ops.convert_to_numpy(out).copy())


def gap(net: nn.Module, x: torch.Tensor, theirs: torch.Tensor) -> float:
    """Relative to the norm of the logits."""
    with torch.no_grad():
        return ((net(x) - theirs).norm() / theirs.norm()).item()


@pytest.mark.parametrize("depth", LAYERS)
def test_article_e(depth):
    """At 33 pixels both paddings agree; at 32 only a net that pads like Keras does."""
    torch.manual_seed(depth)
    net = with_random_numbers(our_e(depth))
    model, made = keras_e(depth, None)
    for layer, module in zip(made, in_order_of_use(net), strict=True):
        layer.set_weights(arrays(module))
    statistics = sum(2 * m.num_features for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    assert model.count_params() == count_parameters(net) + statistics

    odd, even = torch.randn(2, 3, 33, 33), torch.randn(2, 3, 32, 32)
    of_odd, of_even = logits(model, odd), logits(model, even)
    assert of_odd.abs().max() > 0.01 and (of_odd[0] - of_odd[1]).abs().max() > 0.01
    assert gap(net, odd, of_odd) < 1e-4
    assert gap(net, even, of_even) > 0.01  # padded on both sides: another net
    pad_like_keras(net)
    assert gap(net, odd, of_odd) < 1e-4
    assert gap(net, even, of_even) < 1e-4


def test_the_raw_projection_decides():
    """With the shortcut from relu(bn(x)), as in our own form, the outputs are others."""
    torch.manual_seed(0)
    net, x = with_random_numbers(our_e(18)), torch.randn(2, 3, 33, 33)
    model, made = keras_e(18, 33)
    for layer, module in zip(made, in_order_of_use(net), strict=True):
        layer.set_weights(arrays(module))
    theirs = logits(model, x)
    assert gap(net, x, theirs) < 1e-4
    for module in net.modules():
        if getattr(module, "downsample", None) is not None:
            module.shared = True
    assert gap(net, x, theirs) > 0.01


@pytest.mark.parametrize("deep", [18, 50])
def test_its_biases_never_learn(deep):
    """Train mode: each is a constant of a channel, and some BN subtracts it."""
    torch.manual_seed(0)
    net = our_e(deep).double().train()
    x = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    F.cross_entropy(net(x), torch.arange(4)).backward()
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    largest = max(m.weight.grad.abs().max().item() for m in convs)
    assert max(m.bias.grad.abs().max().item() for m in convs) < 1e-9 * largest


# --- keras.applications


def keras_name(ours: str) -> str:
    simple = {"conv1": "conv1_conv", "bn1": "conv1_bn", "fc": "predictions", "norm": "post_bn"}
    if ours in simple:
        return simple[ours]
    stage, block, part = ours.split(".", 2)
    shortcut = {"downsample.0": "0_conv", "downsample.1": "0_bn"}
    inner = shortcut.get(part) or f"{part[-1]}_{part[:-1]}"
    return f"conv{int(stage[-1]) + 1}_block{int(block) + 1}_{inner}"


def with_random_weights(model):
    """Kernels stay as Keras draws them; biases, BN and the last layer get random numbers."""
    for layer in model.layers:
        old = layer.get_weights()
        kernels = [a for a in old if a.ndim == 4]
        drawn = [0.5 + torch.rand(a.shape).numpy() for a in old[len(kernels) :]]
        layer.set_weights(kernels + drawn)
    return model


def stored(model, name: str) -> list[torch.Tensor]:
    return [torch.from_numpy(a.copy()) for a in model.get_layer(name).get_weights()]


@torch.no_grad()
def fill(module: nn.Module, w: list[torch.Tensor], folded: float | torch.Tensor = 0.0) -> None:
    if isinstance(module, nn.BatchNorm2d):
        module.eps = 1.001e-5
        targets = [module.weight, module.bias, module.running_mean, module.running_var]
        w = [w[0], w[1], w[2] - folded, w[3]]
    else:
        targets = [module.weight] + ([module.bias] if module.bias is not None else [])
        w = [w[0].permute(3, 2, 0, 1) if w[0].ndim == 4 else w[0].T, *w[1:]][: len(targets)]
    for target, value in zip(targets, w, strict=True):
        assert target.shape == value.shape
        target.copy_(value)


def test_the_classic_net_of_identity_and_conv_blocks():
    """keras.applications.ResNet50: v1, with a bias in front of each BN."""
    torch.manual_seed(0)
    how = {"weights": None, "classes": CLASSES, "classifier_activation": None}
    model = with_random_weights(keras.applications.ResNet50(input_shape=(64, 64, 3), **how))
    net, x = (
        resnet_lib.resnet50(stride_in="1x1", num_classes=CLASSES).eval(),
        torch.randn(2, 3, 64, 64),
    )
    bias = torch.zeros(())
    used = set()
    for name, module in net.named_modules():  # each BN comes right behind its convolution
        if isinstance(module, KINDS):
            used.add(keras_name(name))
            w = stored(model, keras_name(name))
            fill(module, w, bias)
            bias = w[1]
    assert used == {layer.name for layer in model.layers if layer.weights}
    theirs = logits(model, x)
    assert gap(net, x, theirs) < 1e-4
    for block in (net.layer2[0], net.layer3[0], net.layer4[0]):  # v1.5: same weights, other net
        block.conv1.stride, block.conv2.stride = (1, 1), (2, 2)
    assert gap(net, x, theirs) > 0.01


def of_chapter_09(name: str) -> dict:
    """`name`, and all that it needs, from the statements of the page."""
    path = next(p for p in CHAPTERS if p.name.startswith("09"))
    page = [code(cell) for cell in cells(path) if cell["cell_type"] == "code"]
    body = [statement for text in page for statement in ast.parse(text).body]
    found = {"__name__": "chapter 09"}
    exec(compile(ast.Module(needed_for(ast.parse(name).body, body), []), path.name, "exec"), found)
    return found


@pytest.mark.parametrize("moved", [False, True], ids=["as it is", "stride in the 3x3"])
def test_two_functions_make_the_classic_net(moved, capsys):
    """The page's identity_block and conv_block against keras.applications.ResNet50 and ours."""
    page = of_chapter_09("classic_proof")
    assert "identity_block" in page and "conv_block" in page
    assert capsys.readouterr().out == ""  # definitions alone: nothing of the page was run
    if moved:  # v1.5: the same weights load, another net
        conv_bn, relu = page["conv_bn"], keras.layers.ReLU

        def three(x, planes, stride, name):
            x = relu()(conv_bn(x, planes, 1, 1, f"{name}_1"))
            x = relu()(conv_bn(x, planes, 3, stride, f"{name}_2"))
            return conv_bn(x, 4 * planes, 1, 1, f"{name}_3")

        page["three"] = three
    of_two, ours = page["classic_proof"](side=64)
    assert of_two > 0.01 if moved else of_two < 1e-4
    assert ours < 1e-4


class V2Block(nn.Module):
    """ResNet50V2's: projects relu(bn(x)) with a bias, strides in the last block of a stage."""

    def __init__(self, block: nn.Module, first: bool, stride: int, inplanes: int):
        super().__init__()
        width, out = block.conv2.out_channels, block.conv3.out_channels
        self.preact = nn.BatchNorm2d(inplanes)
        self.project = nn.Conv2d(inplanes, out, 1) if first else None
        self.shrink = nn.MaxPool2d(1, stride) if stride > 1 else nn.Identity()
        self.conv1 = nn.Conv2d(inplanes, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1)

    def forward(self, x):
        pre = torch.relu(self.preact(x))
        shortcut = self.shrink(x) if self.project is None else self.project(pre)
        out = torch.relu(self.bn1(self.conv1(pre)))
        return shortcut + self.conv3(torch.relu(self.bn2(self.conv2(out))))


def our_v2(model) -> nn.Module:
    """Our pre-activation ResNet-50 with its blocks replaced, and Keras' weights in it."""
    net = resnet_lib.preact_resnet50(num_classes=CLASSES)
    net.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
    net.bn1, net.relu, channels = nn.Identity(), nn.Identity(), 64
    for i, stage in enumerate(net.stage_names):
        blocks = getattr(net, stage)
        for b, block in enumerate(blocks):
            last = b == len(blocks) - 1 and i < 3
            blocks[b] = V2Block(block, b == 0, 2 if last else 1, channels)
            channels = block.conv3.out_channels
            name = f"conv{i + 2}_block{b + 1}"
            layers = {"preact": "preact_bn", "project": "0_conv", "conv1": "1_conv"}
            layers |= {"bn1": "1_bn", "conv2": "2_conv", "bn2": "2_bn", "conv3": "3_conv"}
            for ours, theirs in layers.items():
                if getattr(blocks[b], ours) is not None:
                    fill(getattr(blocks[b], ours), stored(model, f"{name}_{theirs}"))
    for ours, theirs in (("conv1", "conv1_conv"), ("norm", "post_bn"), ("fc", "predictions")):
        fill(getattr(net, ours), stored(model, theirs))
    return net.eval()


def test_resnet50v2_is_a_third_form():
    torch.manual_seed(0)
    how = {"weights": None, "classes": CLASSES, "classifier_activation": None}
    model = with_random_weights(keras.applications.ResNet50V2(input_shape=(64, 64, 3), **how))
    net, x = our_v2(model), torch.randn(2, 3, 64, 64)
    body = nn.Sequential(net.conv1, net.maxpool, net.layer1, net.layer2, net.layer3, net.layer4)

    def whole(x):  # no ReLU between the stem and the first block, so not net.forward
        return net.fc(torch.relu(net.norm(body(x))).mean((2, 3)))

    assert gap(whole, x, logits(model, x)) < 1e-4
    # None of its stages begins with a stride, all but the last end with one.
    strides = [[b.conv2.stride[0] for b in getattr(net, s)] for s in net.stage_names]
    assert [s[0] for s in strides] == [1] * 4 and [s[-1] for s in strides] == [2, 2, 2, 1]
