"""Figures that are legible on a light and on a dark page, on a phone, and without eyes.

A figure is inline SVG inside <figure>: text and axes take the colour of the page's text, the
data colours are CSS variables of the book's style sheet with middle-bright fallbacks for places
without it (Colab, Jupyter). Alt text is required; a caption is shown below the figure.
"""

import hashlib
import html
import io
import math
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path

# Drawn with these literal colours, replaced by CSS afterwards. Fallback: at least 3:1 on white
# and on near-black.
INK = "#010203"
PALETTE = {
    "c0": "#3f7fcb",
    "c1": "#c8601e",
    "c2": "#1d8f70",
    "c3": "#b0559a",
    "c4": "#a8760f",
    "c5": "#7d828c",
    "grid": "#9aa0ab",
    "panel": "#8b919c",
    "soft": "#7b8290",
}
BLUE, RUST, GREEN, PLUM, OCHRE, SLATE = (PALETTE[f"c{i}"] for i in range(6))
CURVES = {"loss": "Loss (nats)", "accuracy": "Accuracy (%)"}  # a panel each, with its label


class Picture:
    """One or more SVG drawings with alt text and a caption; notebooks show it by itself."""

    def __init__(self, svgs: Sequence[str], alt: str, caption: str = "", width: int = 560):
        if not alt or not alt.strip():
            raise ValueError("a figure needs alt text: say in one sentence what it shows")
        self.svgs, self.alt, self.caption, self.width = list(svgs), alt, caption, width

    def _repr_html_(self) -> str:
        label = html.escape(self.alt, quote=True)
        parts = []
        for i, svg in enumerate(self.svgs):
            # The first drawing carries the description of the whole; the others are silent.
            who = f'role="img" aria-label="{label}"' if i == 0 else 'aria-hidden="true"'
            style = f"width:100%;height:auto;max-width:{self.width}px;flex:1 1 300px"
            svg = _own_ids(svg, f"{i} {self.alt} {self.caption}")
            parts.append(svg.replace("<svg ", f'<svg {who} style="{style}" ', 1))
        row = "display:flex;flex-wrap:wrap;gap:0.5rem 1rem;justify-content:center"
        note = f"<figcaption>{html.escape(self.caption)}</figcaption>" if self.caption else ""
        return (
            f'<figure class="rl-figure" style="margin:0.8rem 0">'
            f'<div class="rl-row" style="{row}">{"".join(parts)}</div>{note}</figure>'
        )

    def __repr__(self) -> str:
        return f"[figure: {self.alt}]"


@contextmanager
def drawing(width: float = 5.2, height: float = 3.3):
    """Give a matplotlib Figure in the book's style; draw on it inside the `with` block."""
    import matplotlib
    from matplotlib.figure import Figure

    style = {
        "svg.fonttype": "none",
        "text.parse_math": False,  # class names are text, also "US$"
        "svg.hashsalt": "resnet",
        "font.size": 11,
        "axes.titlesize": 12,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": PALETTE["grid"],
        "grid.alpha": 0.35,
        "lines.linewidth": 2,
        "legend.frameon": False,
        "axes.prop_cycle": matplotlib.cycler(color=[BLUE, RUST, GREEN, PLUM, OCHRE, SLATE]),
        **dict.fromkeys(
            ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK
        ),
        **dict.fromkeys(("figure.facecolor", "axes.facecolor"), "none"),
    }
    with matplotlib.rc_context(style):
        yield Figure(figsize=(width, height), layout="constrained")


def to_svg(figure) -> str:
    """A matplotlib figure as themed inline SVG: page colours, no fixed size, no clashing ids."""
    _plain_powers(figure)
    buffer = io.StringIO()
    with warnings.catch_warnings():  # the page's own fonts draw the text, Chinese too
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    # A style element would reach out of the drawing to the whole page.
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.S)
    everywhere = 'stroke-linejoin="round" stroke-linecap="butt" fill="currentColor"'
    svg = svg.replace("<svg ", f"<svg {everywhere} ", 1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"font(-family)?: ([0-9.]+px )?'DejaVu Sans'[^;\"]*", _page_font, svg)
    svg = svg.replace(INK, "currentColor").replace("#000000", "currentColor")
    for name, colour in PALETTE.items():
        svg = svg.replace(colour, f"var(--rl-{name}, {colour})")
    return re.sub(r"\n\s*", "\n", svg)


def _plain_powers(figure) -> None:
    """Logarithmic axes say 10² in plain text: formulas are off, as class names may hold a $."""
    from matplotlib.ticker import FuncFormatter, LogFormatterSciNotation

    raised = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

    def power(value: float, _) -> str:
        exponent = round(math.log10(value)) if value > 0 else 0
        whole = value > 0 and math.isclose(value, 10.0**exponent)
        return f"10{str(exponent).translate(raised)}" if whole else f"{value:g}"

    for axis in (a for axes in figure.axes for a in (axes.xaxis, axes.yaxis)):
        if isinstance(axis.get_major_formatter(), LogFormatterSciNotation):
            axis.set_major_formatter(FuncFormatter(power))


def _own_ids(svg: str, about: str) -> str:
    """Drop ids that nothing refers to; make the others unlike those of every other drawing."""
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg))
    mark = "f" + hashlib.sha256((about + svg).encode()).hexdigest()[:10]
    svg = re.sub(r' id="([^"]*)"', lambda m: f' id="{mark}-{m[1]}"' if m[1] in used else "", svg)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{mark}-", svg)


def _page_font(match: re.Match) -> str:
    family = "var(--rl-sans, system-ui), sans-serif"
    return f"font: {match[2]}{family}" if match[2] else f"font-family: {family}"


def figure(
    draw: Callable, *, alt: str, caption: str = "", size: tuple[float, float] = (5.2, 3.3)
) -> Picture:
    """A figure for a page from `draw(matplotlib_figure)`; `size` in inches (a page has about 6)."""
    with drawing(*size) as canvas:
        draw(canvas)
        return Picture([to_svg(canvas)], alt, caption)


def save(figure_of: Callable, path: str | Path) -> None:
    """Draw `figure_of(figure)` into a file on white, for the command line (.png, .svg, .pdf)."""
    with drawing() as figure:
        figure_of(figure)
        for axes in figure.axes:
            axes.set_facecolor("white")
        figure.savefig(path, facecolor="white", dpi=150)


def curves(
    history: Sequence[dict], *, alt: str, caption: str = "", epochs: int | None = None
) -> Picture:
    """Loss and accuracy against the epoch, training and validation, from rows of `train.fit`."""
    svgs = []
    for key in CURVES:
        with drawing(4.2, 3.1) as figure:
            draw_curve(figure.add_subplot(), history, key, epochs)
            svgs.append(to_svg(figure))
    return Picture(svgs, alt, caption, width=440)


def draw_curve(axes, history, key: str, epochs: int | None = None) -> None:
    """One panel: `key` (one of `CURVES`) of training (solid) and validation (dashed)."""
    from matplotlib.ticker import MaxNLocator

    x = [row["epoch"] for row in history]
    looks = (("train", BLUE, "-", "training"), ("valid", RUST, "--", "validation"))
    for part, colour, line, label in looks:
        y = [row[f"{part}_{key}"] for row in history]
        axes.plot(x, y, line, color=colour, label=label, marker="o", markersize=3)
    axes.set(xlabel="epoch", ylabel=CURVES[key], xlim=(0.8, max(epochs or 0, x[-1], 2) + 0.2))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.legend()


def draw_curves(figure, history) -> None:
    """Both panels on one matplotlib figure, for files on disk."""
    figure.set_size_inches(9, 3.4)
    for axes, key in zip(figure.subplots(1, 2), CURVES, strict=True):
        draw_curve(axes, history, key)


def live_curves(
    epochs: int, *, alt: str, caption: str = "", also: Callable[[], Picture] | None = None
) -> Callable:
    """A callback for `fit(on_epoch=...)`: draws the curves anew after each epoch, in place.

    `also()` gives a second figure, drawn anew below the first, for example predicted pictures.
    """
    handles = []

    def show(result) -> None:
        from IPython.display import display

        row = result.history[-1]
        state = (
            f"Epoch {row['epoch']} of {epochs}: validation accuracy {row['valid_accuracy']:.1f} %."
        )
        about = {"alt": alt, "caption": f"{caption} {state}".strip(), "epochs": epochs}
        pictures = [curves(result.history, **about)]
        pictures += [also()] if also else []
        if handles:
            for handle, picture in zip(handles, pictures, strict=True):
                handle.update(picture)
        else:
            handles.extend(display(picture, display_id=True) for picture in pictures)

    return show


def grid(
    pixels,
    titles: Sequence[str],
    *,
    alt: str,
    caption: str = "",
    columns: int = 5,
    marks: Sequence[bool] | None = None,
) -> Picture:
    """Pictures (N, C, H, W) uint8 side by side, each with a title; `marks` False draws it rust."""
    rows = -(-len(pixels) // columns)
    with drawing(5.2, 5.2 / columns * 1.28 * rows) as figure:
        all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in all_axes:
            axes.set_axis_off()
        for i, (axes, image, title) in enumerate(zip(all_axes, pixels, titles, strict=False)):
            colour = INK if marks is None or marks[i] else RUST
            axes.imshow(_hwc(image), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_title(title, color=colour, fontsize=10)
        return Picture([to_svg(figure)], alt, caption, width=620)


def confusion(
    matrix, classes: Sequence[str], *, alt: str, caption: str = "", width: float = 5.2
) -> Picture:
    """How often each true class (row) got which answer (column), from counts (K, K)."""
    with drawing(width, 0.9 * width) as figure:
        axes = figure.add_subplot()
        for true, row in enumerate(matrix):
            for said, count in enumerate(row):
                # A root makes few mistakes visible; half strength leaves the number legible.
                alpha = 0.55 * (float(count) / max(1.0, float(sum(row)))) ** 0.5
                look = {"color": BLUE if true == said else RUST, "alpha": alpha, "linewidth": 0}
                axes.broken_barh([(said - 0.5, 1)], (true - 0.5, 1), **look)
                if count:
                    axes.text(said, true, int(count), ha="center", va="center", fontsize=9)
        ticks = range(len(classes))
        axes.set(xticks=ticks, yticks=ticks, xlabel="answer of the net", ylabel="true class")
        axes.set_xticklabels(classes, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticklabels(classes)
        axes.set(xlim=(-0.5, len(classes) - 0.5), ylim=(len(classes) - 0.5, -0.5))
        axes.grid(visible=False)
        return Picture([to_svg(figure)], alt, caption, width=620)


def draw_prediction(figure, pixels, ranking: Sequence[tuple[str, float]]) -> None:
    """The picture as the net sees it, and a bar for each class's probability."""
    figure.set_size_inches(5.2, 2.4)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.5))
    left.imshow(_hwc(pixels), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    left.set_axis_off()
    names = [name for name, _ in ranking][::-1]
    chances = [100 * p for _, p in ranking][::-1]
    bars = right.barh(names, chances, color=[SLATE] * (len(names) - 1) + [BLUE], height=0.65)
    right.bar_label(bars, [f"{c:.1f} %" for c in chances], padding=3)
    right.set(xlim=(0, 128), xlabel="probability (%)", xticks=(0, 50, 100))
    right.grid(visible=False, axis="y")
    right.tick_params(axis="y", length=0)


def prediction(pixels, ranking, *, alt: str, caption: str = "") -> Picture:
    """`draw_prediction` as a figure for a page."""
    with drawing() as figure:
        draw_prediction(figure, pixels, ranking)
        return Picture([to_svg(figure)], alt, caption, width=620)


def _hwc(image):
    image = image.permute(1, 2, 0).cpu().numpy()
    return image[..., 0] if image.shape[-1] == 1 else image


def shape_walk(steps, *, alt: str, caption: str = "") -> Picture:
    """The maps of a net as boxes: height shows pixels per side, width shows channels (log).

    Args:
        steps: rows with name, channels, height, width, for example from `shapes.net_shapes`.
    """
    with drawing(6.4, 2.7) as figure:
        axes = figure.add_subplot()
        axes.set_axis_off()
        x, tallest = 0.0, max(s.height for s in steps)
        for i, s in enumerate(steps):
            w = 0.25 + 0.09 * math.log2(s.channels)
            h = max(0.06, math.sqrt(s.height / tallest))
            colour = (SLATE, BLUE, BLUE, GREEN, GREEN, GREEN, GREEN, OCHRE)[min(i, 7)]
            colour = OCHRE if s.name == "avgpool" else colour
            axes.add_patch(_box(x, -h / 2, w, h, colour))
            axes.text(x + w / 2, -0.60, s.name, ha="center", va="top", fontsize=9)
            axes.text(
                x + w / 2,
                -0.72,
                f"{s.channels} × {s.height}²"
                if s.height == s.width
                else f"{s.channels} × {s.height}·{s.width}",
                ha="center",
                va="top",
                fontsize=8,
            )
            x += max(w, 0.85) + 0.12
        axes.set(xlim=(-0.15, x), ylim=(-0.88, 0.52))
        return Picture([to_svg(figure)], alt, caption, width=720)


def _box(x, y, w, h, colour):
    from matplotlib.patches import FancyBboxPatch

    return FancyBboxPatch(
        (x, y),
        w,
        h,
        boxstyle="round,pad=0,rounding_size=0.03",
        facecolor=colour,
        edgecolor=INK,
        linewidth=0.8,
        alpha=0.75,
    )
