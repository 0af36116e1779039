"""The look of every figure: palette, frame, labels; and how figures are saved."""

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from foundling.base import durable

# Okabe and Ito's colours, safe for colour-blind readers, darkened where they were faint on white.
# Each has a lighter twin for dark pages; `inline_svg` turns the first into a CSS variable.
PAPER, INK, MUTED, GRID = "#ffffff", "#1f2933", "#5a6672", "#e3e7ec"
BLUE, VERMILLION, GREEN, PURPLE, GREY, SKY = (
    "#0072b2", "#d55e00", "#00916a", "#a64d94", "#76808a", "#2f9bd6"
)  # fmt: skip
DARK_TWINS = {
    PAPER: "#171b21", INK: "#e8ebee", MUTED: "#a3adb8", GRID: "#2d343d", BLUE: "#5ab4f0",
    VERMILLION: "#ff9350", GREEN: "#3fcb9f", PURPLE: "#df93d4", GREY: "#aeb6bf", SKY: "#a6dbff",
}  # fmt: skip
RUNG_COLOURS = {
    "transformer": BLUE, "attention": VERMILLION, "bag_of_words": GREEN, "finite_lag": PURPLE,
    "next_word": GREY,
}  # fmt: skip
PALETTE = (BLUE, VERMILLION, GREEN, PURPLE, SKY, GREY)
MARKERS = ("o", "s", "^", "D", "v", "P")
DOTTED = (0, (2, 3))
LABEL_GAP = 0.072  # of the axes' height: one line of text
WIDTH, DPI = 7.2, 200  # inches: 1440 pixels wide, still readable at half that


def compact(value: int | float) -> str:
    """A count in short form: 1,200 · 12.5k · 3M."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= (0.9995 * size if unit != "k" else 1e4):
            return f"{value / size:.3g}{unit}"
    return f"{value:,.0f}" if value == round(value) else f"{value:,.3g}"


def per_cent(share: float) -> str:
    """A share for an axis: 12.5%."""
    return f"{100 * share:.3g}%"


def new_figure(
    title: str, x_label: str, y_label: str, *, height: float = 4.0, left: float = 0.1,
    right: float = 0.97,
) -> tuple[Figure, Axes]:  # fmt: skip
    """An empty frame with a title; `left` and `right` are the axes' edges in figure widths."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor=PAPER)
    bottom, top = 0.6 / height, 1 - 0.5 / height
    axes = figure.add_axes((left, bottom, right - left, top - bottom), facecolor="none")
    figure.text(
        0.018, 1 - 0.13 / height, title, fontsize=13, fontweight="bold", color=INK, va="top",
        parse_math=False,
    )  # fmt: skip
    axes.set_xlabel(x_label, color=MUTED, fontsize=11.5, labelpad=5, parse_math=False)
    axes.set_ylabel(y_label, color=MUTED, fontsize=11.5, labelpad=6, parse_math=False)
    frame(axes)
    show(axes.xaxis, compact)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    return figure, axes


def frame(axes: Axes, *, label_size: float = 11) -> None:
    """A line below, a grid behind, and tick labels without ticks."""
    axes.tick_params(colors=MUTED, labelsize=label_size, length=0, pad=5)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)


def horizontal(axes: Axes) -> None:
    """The frame of a horizontal chart: names at the left, values along the x axis."""
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.tick_params(axis="y", labelsize=11.5, labelcolor=INK)
    axes.spines["bottom"].set_visible(False)


def show(axis: Axis, text: Callable[[float], str] | str) -> None:
    """Set how the axis shows its numbers: a function or a format."""
    write = text if callable(text) else lambda value: format(value, text)
    axis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))


def from_start(axes: Axes, *ends: float) -> None:
    """An x axis of steps: from 0 to a little beyond the last of the ends."""
    axes.set_xlim(0, 1.012 * max([1.0, *ends]))


def level(axes: Axes, y: float, **style: Any) -> None:
    """A dotted horizontal line."""
    axes.axhline(y, **{"color": MUTED, "linewidth": 1.2, "linestyle": DOTTED, **style})


def with_intervals(axes: Axes, x: Any, y: Any, low: Any, high: Any, **line: Any) -> None:
    """A curve whose points stand on their intervals, with a band behind it."""
    axes.fill_between(x, low, high, color=line["color"], alpha=0.13, linewidth=0)
    axes.vlines(x, low, high, color=line["color"], alpha=0.45, linewidth=1.2, zorder=3)
    axes.plot(x, y, **{"linewidth": 2, "zorder": 4, **line})


def right_scale(axes: Any, label: str) -> None:
    """Style a second scale at the right."""
    axes.set_ylabel(label, color=MUTED, fontsize=11.5, labelpad=6)
    axes.tick_params(colors=MUTED, labelsize=11, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def empty(figure: Figure, axes: Axes, text: str) -> Figure:
    """The frame with nothing but the reason why it is empty."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=MUTED, fontsize=12)
    return figure


def legend(axes: Axes, where: Any = "upper right", **style: Any) -> None:
    """In a corner of the axes, or `where = "above"` in rows above them."""
    if where == "above":
        where, style = "lower right", {"bbox_to_anchor": (1, 1), "ncols": 4}
    axes.legend(
        loc=where, fontsize=11, labelcolor=INK, facecolor=PAPER, edgecolor="none", framealpha=0.85,
        handlelength=1.4, borderaxespad=0.2, **style,
    )  # fmt: skip


def log_x(axes: Axes, low: int | float, high: int | float, *, base: int = 2) -> None:
    """A logarithmic x axis with ticks at powers of two, or at 1, 2 and 5 for `base` 10."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    if base == 2:
        powers = 2.0 ** np.arange(np.ceil(np.log2(low)), np.floor(np.log2(high)) + 1)
        axes.xaxis.set_major_locator(FixedLocator(list(powers[:: 1 + len(powers) // 12])))
    else:
        axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if high < 200 * low else (1,)))
    axes.xaxis.set_minor_locator(NullLocator())
    show(axes.xaxis, compact)


def padded(values: NDArray[np.float64]) -> tuple[float, float]:
    """Limits that include all `values`, with some margin."""
    low, high = float(values.min()), float(values.max())
    air = 0.06 * (high - low) or 0.05 * abs(high) or 0.1
    return low - air, high + air


def colours(names: Sequence[str]) -> list[str]:
    """A colour per name: a rung always has its own."""
    spare = [colour for colour in PALETTE if colour not in {RUNG_COLOURS.get(n) for n in names}]
    spare = spare or [GREY]
    others = [name for name in names if name not in RUNG_COLOURS]
    given = {name: spare[i % len(spare)] for i, name in enumerate(others)}
    return [RUNG_COLOURS.get(name) or given[name] for name in names]


def end_labels(axes: Axes, ends: Sequence[tuple[str, float, str]]) -> None:
    """Write each curve's name at its right end, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    places = sorted(((y - low) / (high - low), name, colour) for name, y, colour in ends)
    heights: list[float] = []
    for height, _, _ in places:
        heights.append(max(height, heights[-1] + LABEL_GAP) if heights else max(height, 0.02))
    ceiling = 1.0
    for index in reversed(range(len(heights))):
        heights[index] = min(heights[index], ceiling)
        ceiling = heights[index] - LABEL_GAP
    for height, (_, name, colour) in zip(heights, places, strict=True):
        text = name if len(name) <= 16 else name[:15] + "…"
        axes.text(
            1.015, height, text, transform=axes.transAxes, color=colour, fontsize=11,
            fontweight="bold", va="center", parse_math=False,
        )  # fmt: skip


def save(figure: Figure, stem: Path) -> str:
    """Write `stem`.png and `stem`.svg, each whole or not at all; return the SVG's text."""
    png, svg = io.BytesIO(), io.BytesIO()
    FigureCanvasAgg(figure)
    # Little compression: the rest would take longer than the drawing.
    figure.savefig(png, format="png", dpi=DPI, pil_kwargs={"compress_level": 1})
    figure.savefig(svg, format="svg", metadata={"Date": None})
    text = _stable_ids(svg.getvalue().decode("utf-8"), stem.name)
    stem.parent.mkdir(parents=True, exist_ok=True)
    durable.replace(stem.with_suffix(".png"), png.getvalue())
    durable.replace(stem.with_suffix(".svg"), text.encode("utf-8"))
    return text


def inline_svg(svg: str, description: str) -> str:
    """`svg` for use inside an HTML page, in the page's colours (see `theme_variables`)."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>\s*|<style.*?</style>\s*", "", body, flags=re.DOTALL)
    box = re.search(r'viewBox="[^"]*"', body)
    assert box, "matplotlib writes a viewBox"
    for colour in DARK_TWINS:
        body = body.replace(colour, f"var(--c{colour[1:]})")
    body = body.replace("xlink:href", "href")
    label = description.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    head = f'<svg {box.group()} role="img" aria-label="{label}" stroke-linejoin="round">'
    return re.sub(r"<svg[^>]*>", lambda _: head, body, count=1)


def theme_variables(dark: bool) -> str:
    """The CSS variables that an `inline_svg` is drawn with."""
    return " ".join(
        f"--c{light[1:]}: {twin if dark else light};" for light, twin in DARK_TWINS.items()
    )


def _stable_ids(svg: str, prefix: str) -> str:
    """Number the ids that are referred to and drop the rest: a page may hold several figures."""
    names = {name: f"{prefix}-{i}" for i, name in enumerate(dict.fromkeys(
        re.findall(r'(?:url\(#|href="#)([^)"]+)', svg)))}  # fmt: skip
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{names[m[1]]}"' if m[1] in names else "", svg)
    return re.sub(r'(url\(#|href="#)([^)"]+)', lambda m: m[1] + names[m[2]], svg)
