"""Figures: read by everyone, on light and dark, and two of them can stand on one page."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from resnet_lib import create, diagram, plots
from resnet_lib.blocks import (
    BasicBlock,
    Bottleneck,
    PreActBasicBlock,
    PreActBottleneck,
    make_shortcut,
)
from resnet_lib.shapes import net_shapes

ROOT = Path(__file__).resolve().parent.parent
ROWS = [
    {
        "epoch": k,
        "train_loss": 2 / k,
        "valid_loss": 2.1 / k,
        "train_accuracy": 50 + k,
        "valid_accuracy": 49 + k,
    }
    for k in (1, 2, 3)
]
PIXELS = torch.arange(4 * 3 * 8 * 8).reshape(4, 3, 8, 8).remainder(256).to(torch.uint8)
RANKING = [("cat", 0.7), ("dog & <co>", 0.2), ("猫", 0.1)]


def draw(figure):
    axes = figure.add_subplot()
    axes.plot([1, 2, 3], [3, 1, 2], label="a & b < c")
    axes.bar([1, 2], [1, 2], color=plots.GREEN)
    axes.annotate("here", (1, 1), (2, 2), arrowprops={"arrowstyle": "->"})
    axes.set(xlabel="step", ylabel="loss (nats)", title="$x^2$")
    axes.legend()


FIGURES = {
    "curves": lambda alt="alt": plots.curves(ROWS, alt=alt, caption="Live"),
    "figure": lambda alt="alt": plots.figure(draw, alt=alt),
    "grid": lambda alt="alt": plots.grid(PIXELS, list("abcd"), alt=alt, marks=[True] * 3 + [False]),
    "prediction": lambda alt="alt": plots.prediction(PIXELS[0], RANKING, alt=alt),
    "walk": lambda alt="alt": plots.shape_walk(net_shapes(224, 224), alt=alt),
    "diagram": lambda alt="alt": diagram.block_diagram(BasicBlock(8, 8), (8, 6, 6), alt=alt),
}
XLINK = "{http://www.w3.org/1999/xlink}href"


@pytest.fixture(scope="module", params=FIGURES)
def picture(request):
    return FIGURES[request.param](f"what {request.param} shows")


def tree(picture) -> ElementTree.Element:
    """The figure as XML; also a proof that the markup is well formed."""
    return ElementTree.fromstring(picture._repr_html_())


def svgs(element) -> list[ElementTree.Element]:
    return [e for e in element.iter() if e.tag.endswith("}svg")]


# --- text for those who do not see


@pytest.mark.parametrize("alt", ["", "  \n", None])
@pytest.mark.parametrize("name", FIGURES)
def test_alt_text_is_demanded(name, alt):
    with pytest.raises(ValueError, match="needs alt text"):
        FIGURES[name](alt)


def test_the_figure_is_an_image_with_a_label(picture):
    root = tree(picture)
    assert root.tag == "figure"
    first, *rest = svgs(root)
    assert first.get("role") == "img" and first.get("aria-label") == picture.alt
    assert all(e.get("aria-hidden") == "true" and not e.get("aria-label") for e in rest)
    captions = [e.text for e in root.iter("figcaption")]
    assert captions == ([picture.caption] if picture.caption else [])
    assert repr(picture) == f"[figure: {picture.alt}]"


def test_alt_text_and_caption_are_escaped():
    alt, caption = 'a "quoted" <b> & more', "<script>alert(1)</script>"
    picture = plots.Picture(['<svg xmlns="http://www.w3.org/2000/svg"/>'], alt, caption)
    root = tree(picture)
    assert svgs(root)[0].get("aria-label") == alt
    assert next(root.iter("figcaption")).text == caption


# --- markup that can stand in a page


def test_markup_fits_into_a_page(picture):
    text = picture._repr_html_()
    assert "<?xml" not in text and "<!DOCTYPE" not in text
    assert "<style" not in text  # it would reach out to the whole page
    assert "<script" not in text and " onload" not in text
    for svg in svgs(tree(picture)):
        assert svg.get("viewBox") and not svg.get("width") and not svg.get("height")
    # No address outside of the page, apart from the names of the XML dialects.
    addresses = re.findall(r'https?://[^"\s]*', text)
    assert set(addresses) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_text_is_text_in_the_colour_of_the_page(picture):
    root = tree(picture)
    texts = [e for e in root.iter() if e.tag.endswith(("}text", "}tspan"))]
    words = "".join("".join(e.itertext()) for e in texts)
    assert len(words) > 3, "no text: are the letters drawn as outlines?"
    allowed = ("currentColor", f"var(--rl-c1, {plots.RUST})")  # rust marks a wrong answer
    for e in texts:
        style = dict(p.split(":", 1) for p in (e.get("style") or "").split(";") if ":" in p)
        colour = (e.get("fill") or style.get(" fill") or style.get("fill") or "").strip()
        if e.tag.endswith("}text") and not list(e):
            assert colour in allowed, ElementTree.tostring(e)
    # Every literal colour in the drawing is only the fallback of a page's colour.
    text = re.sub(r'href="data:[^"]*"', "", picture._repr_html_())
    bare = re.sub(r"var\(--[\w-]+, (var\(--[\w-]+, )?[^)]*\)+", "", text)
    assert re.findall(r"(?<![\w&])#[0-9a-fA-F]{3,8}\b(?=[;\"' )])", bare) == []
    assert not re.search(r'(?:fill|stroke)(?:="|: ?)(?:black|white|rgb)', bare)
    assert "DejaVu" not in text


def test_figures_on_one_page_share_no_id_and_every_reference_is_met():
    shown = [make(f"{name} {k}") for name, make in FIGURES.items() for k in "12"]
    # Of each kind two that differ: the curves of two nets have the same frames and ticks.
    shown[1] = plots.curves([{**r, "train_loss": 1} for r in ROWS], alt="other curves")
    shown[3] = plots.figure(lambda f: f.add_subplot().plot([1, 2, 3], [3, 2, 2]), alt="other")
    shown[5] = plots.grid(PIXELS.flip(0), list("dcba"), alt="other pictures")
    shown[7] = plots.prediction(PIXELS[1], RANKING, alt="other prediction")
    shown[9] = plots.shape_walk(net_shapes(160, 160), alt="other walk")
    page = ElementTree.fromstring(f"<body>{''.join(p._repr_html_() for p in shown)}</body>")
    ids = [e.get("id") for e in page.iter() if e.get("id")]
    assert len(ids) == len(set(ids)) and len(ids) > 20
    referred = set()
    for svg in svgs(page):
        own = {e.get("id") for e in svg.iter() if e.get("id")}
        used = set(re.findall(r"url\(#([^)]*)\)", ElementTree.tostring(svg, encoding="unicode")))
        for e in svg.iter():
            for name in (XLINK, "href"):
                if (e.get(name) or "").startswith("#"):
                    used.add(e.get(name)[1:])
        assert used <= own, used - own  # and never into another drawing
        referred |= used
    assert set(ids) == referred  # no id that nobody needs


SHOW = """
import hashlib, sys
sys.path.insert(0, "tests")
import test_plots
for name, make in test_plots.FIGURES.items():
    print(name, hashlib.sha256(make()._repr_html_().encode()).hexdigest())
"""


def test_the_same_bytes_in_every_process():
    """A page that is built again without a change must not differ."""
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    here = [
        f"{name} {hashlib.sha256(make()._repr_html_().encode()).hexdigest()}"
        for name, make in FIGURES.items()
    ]
    assert done.stdout.splitlines() == here


def luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: str, b: str) -> float:
    """The ratio of WCAG 2."""
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_ratio_itself():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("background", ["#ffffff", "#1e1e1e"])
@pytest.mark.parametrize("name", [n for n in plots.PALETTE if n != "grid"])
def test_every_fallback_colour_is_seen_on_light_and_on_dark(name, background):
    ratio = contrast(plots.PALETTE[name], background)
    assert ratio >= 3, f"{name} {plots.PALETTE[name]} on {background}: {ratio:.2f}"


def test_labels_units_and_both_curves():
    root = tree(plots.curves(ROWS, alt="x"))
    words = [e.text for e in root.iter() if e.tag.endswith("}text")]
    for word in ("epoch", "Loss (nats)", "Accuracy (%)", "training", "validation"):
        assert word in words
    text = plots.curves(ROWS, alt="x")._repr_html_()
    assert text.count("stroke-dasharray") >= 2  # told apart without colour


def test_prediction_shows_names_as_they_are():
    words = [e.text for e in tree(FIGURES["prediction"]()).iter() if e.tag.endswith("}text")]
    assert {"cat", "dog & <co>", "猫", "70.0 %", "20.0 %", "10.0 %"} <= set(words)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_figure_in_a_file(tmp_path, suffix):
    path = tmp_path / f"curves{suffix}"
    plots.save(lambda figure: plots.draw_curves(figure, ROWS), path)
    assert path.stat().st_size > 5000
    if suffix == ".svg":
        text = path.read_text()
        assert plots.INK in text and "var(" not in text  # no page around it: plain colours
        assert "Accuracy" in text


def test_drawing_leaves_the_settings_of_matplotlib_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    for make in FIGURES.values():
        make()
    assert dict(matplotlib.rcParams) == before


# --- the diagram of a block

CONV3, CONV1 = "conv 3×3, {}", "conv 1×1, {}"


def texts(ops) -> list[str]:
    return [op.text for op in ops]


BASIC = ["conv 3×3, 16, stride 2", "BN", "ReLU", "conv 3×3, 16", "BN"]
SIDES = {
    "A": ["[::2], add zero channels"],
    "A-end": ["[::2], add zero channels"],
    "B": ["conv 1×1, 16, stride 2", "BN"],
    "C": ["conv 1×1, 16, stride 2", "BN"],
    "pooled": ["average pool, stride 2", "conv 1×1, 16", "BN"],
}


@pytest.mark.parametrize("kind", SIDES)
def test_basic_block_with_every_shortcut(kind):
    block = BasicBlock(8, 16, 2, make_shortcut(kind, 8, 16, 2))
    branch, side, tail, common = diagram.trace(block, (8, 6, 6))
    assert texts(branch) == BASIC and texts(side) == SIDES[kind]
    assert texts(tail) == ["+", "ReLU"] and common == 0
    assert branch[-1].shape == side[-1].shape == tail[-1].shape == (16, 3, 3)
    words = shown(block)
    assert [w for w in words if w in (*BASIC, *SIDES[kind])] != [] and "identity" not in words


def shown(block, shape=(8, 6, 6)) -> list[str]:
    """The words of the drawing, in their order."""
    root = tree(diagram.block_diagram(block, shape, alt="a block"))
    return [e.text for e in root.iter() if e.tag.endswith("}text")]


def plus_signs(block, shape=(8, 6, 6)) -> int:
    root = tree(diagram.block_diagram(block, shape, alt="a block"))
    return sum(e.tag.endswith("}circle") for e in root.iter())


@pytest.mark.parametrize(
    ("block", "wanted", "identity"),
    [
        (BasicBlock(8, 8), ["conv 3×3, 8", "BN", "ReLU", "conv 3×3, 8", "BN", "ReLU"], True),
        (
            Bottleneck(8, 2),
            ["conv 1×1, 2", "BN", "ReLU", "conv 3×3, 2", "BN", "ReLU", "conv 1×1, 8", "BN", "ReLU"],
            True,
        ),
        (
            Bottleneck(8, 2, groups=2, base_width=64),
            ["conv 1×1, 4", "BN", "ReLU", "conv 3×3, 4, 2 groups", "BN", "ReLU", "conv 1×1, 8"],
            True,
        ),
        (
            PreActBasicBlock(8, 8),
            ["BN", "ReLU", "conv 3×3, 8", "BN", "ReLU", "conv 3×3, 8"],
            True,
        ),
        (
            PreActBottleneck(8, 2),
            ["BN", "ReLU", "conv 1×1, 2", "BN", "ReLU", "conv 3×3, 2", "BN", "ReLU", "conv 1×1, 8"],
            True,
        ),
    ],
    ids=["basic", "bottleneck", "groups", "preact basic", "preact bottleneck"],
)
def test_the_boxes_are_what_runs(block, wanted, identity):
    branch, side, tail, common = diagram.trace(block, (8, 6, 6))
    ran = texts([*branch, *tail[1:]])
    assert ran[: len(wanted)] == wanted and side == [] and common == 0
    words = shown(block)
    assert ("identity" in words) is identity and plus_signs(block) == 1
    assert words[0] == "x   8 × 6 × 6" and words[-1] == "out   8 × 6 × 6"


@pytest.mark.parametrize(("stride_in", "at"), [("1x1", 0), ("3x3", 3)])
def test_the_stride_of_a_bottleneck_is_where_it_is(stride_in, at):
    down = make_shortcut("B", 8, 16, 2)
    branch, *_ = diagram.trace(Bottleneck(8, 4, 2, down, stride_in=stride_in), (8, 6, 6))
    assert [k for k, text in enumerate(texts(branch)) if "stride 2" in text] == [at]


def test_preactivation_shares_its_first_steps_where_the_shape_changes():
    block = PreActBasicBlock(8, 16, 2, make_shortcut("B", 8, 16, 2, normalise=False))
    branch, side, tail, common = diagram.trace(block, (8, 6, 6))
    assert common == 2 and texts(branch)[:2] == ["BN", "ReLU"]
    assert texts(side) == ["conv 1×1, 16, stride 2"] and texts(tail) == ["+"]


@pytest.mark.parametrize(
    "block", [BasicBlock(8, 8, residual=False), create("plain34").layer1[0]], ids=["own", "plain34"]
)
def test_a_block_without_addition(block):
    shape = (block.conv1.in_channels, 6, 6)
    branch, side, tail, common = diagram.trace(block, shape)
    assert (side, tail, common) == ([], [], 0)
    assert [op.kind for op in branch] == ["conv", "norm", "relu", "conv", "norm", "relu"]
    words = shown(block, shape)
    assert "identity" not in words and plus_signs(block, shape) == 0


def test_a_forgotten_shortcut_is_not_drawn():
    """The module has a projection, but forward does not use it: the picture must not either."""

    class Forgot(BasicBlock):
        def forward(self, x):
            return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))

    block = Forgot(8, 16, 2, make_shortcut("B", 8, 16, 2))
    words = shown(block)
    assert not any("conv 1×1" in w for w in words) and plus_signs(block) == 0
    assert shown(block) == shown(BasicBlock(8, 16, 2, None, residual=False))


def test_wrong_orders_are_drawn_as_they_run():
    class Early(BasicBlock):
        def forward(self, x):
            return x + torch.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))

    branch, side, tail, _ = diagram.trace(Early(8, 8), (8, 6, 6))
    assert texts(branch)[-1] == "ReLU" and texts(tail) == ["+"] and side == []


@pytest.mark.parametrize("mode", [True, False])
def test_drawing_a_block_changes_nothing_in_it(mode):
    block = BasicBlock(8, 16, 2, make_shortcut("B", 8, 16, 2)).train(mode)
    block.bn2.eval()  # a mixture has to survive too
    before = {k: v.clone() for k, v in block.state_dict().items()}
    modes = [m.training for m in block.modules()]
    diagram.block_diagram(block, (8, 6, 6), alt="a block")
    assert [m.training for m in block.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in block.state_dict().items())
    assert all(not m._forward_hooks for m in block.modules())


def test_other_layers_are_named():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 3, padding=1)
            self.drop = nn.Dropout2d()
            self.act = nn.GELU()

        def forward(self, x):
            return self.drop(self.act(self.conv(x))) + x

    assert texts(diagram.trace(Odd(), (8, 6, 6))[0]) == ["conv 3×3, 8", "GELU", "Dropout2d"]


@pytest.mark.parametrize("axis", ["x", "y"])
def test_powers_of_ten_are_plain_text(axis):
    """Formulas are off, so matplotlib's own labels would show their source."""

    def draw(figure):
        axes = figure.add_subplot()
        axes.plot([1e-3, 1, 1e4], [1e-3, 1, 1e4])
        axes.set(**{f"{axis}scale": "log"})

    page = plots.figure(draw, alt="a line")._repr_html_()
    assert "mathdefault" not in page
    assert ">10⁻²<" in page and ">10⁴<" in page
