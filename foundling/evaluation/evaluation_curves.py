"""Draws curves of several models: accuracy by examples, reliability, loss by position."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from foundling.evaluation.names import cut
from foundling.evaluation.plot_keys import Key, Model, legend_above, legend_height, model_key
from foundling.evaluation.plot_style import (
    GRID,
    INK,
    MUTED,
    PAPER,
    compact,
    log_x,
    new_figure,
    padded,
)

Values = Mapping[str, Any]
DOTTED = (0, (2, 3))

# What is learned from the examples is solid; what shows how much of it is their form is not.
DASHES: dict[str, Any] = {
    "real": "solid", "shuffled": (0, (5, 2)), "unrelated": (0, (1.2, 1.6)),
    "calibrated": "solid",
}  # fmt: skip
SPARE_DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1.2, 1.6)), (0, (6, 2, 1.2, 2)))
MOST_LINES = 6  # in one frame; above it each model has its own


def curves_plot(title: str, curves: Sequence[Values], models: Mapping[str, Model]) -> Figure:
    """The curves of one figure: a colour a model, a dash a name, a band an interval."""
    curves = [curve for curve in curves if curve["points"] and not _is_diagonal(curve)]
    names = list(dict.fromkeys(curve["name"] for curve in curves))
    subjects = list(dict.fromkeys(curve["subject"] for curve in curves))
    is_split = len(curves) > MOST_LINES and len(subjects) > 1
    panels = [[s] for s in subjects] if is_split else [subjects]
    num_columns = min(2, len(panels))
    num_rows = -(-len(panels) // num_columns)
    keys = [] if is_split else [model_key(models[subject]) for subject in subjects]
    if len(names) > 1 or not keys:
        keys += [_name_key(name, names) for name in names]
    if any(curve["chance"] is not None for curve in curves):
        keys.append((Line2D([], [], color=MUTED, linestyle=DOTTED, linewidth=1.3), "chance"))
    if curves and _kind(curves[0]) == "confidence":
        keys.append((Line2D([], [], color=MUTED, linewidth=1.1), "as sure as right"))
    each = 2.75 if is_split else 3.4
    top = 0.45 + legend_height(keys)
    figure, whole = new_figure(title, "", "", height=top + num_rows * each)
    whole.set_axis_off()
    legend_above(figure, keys)
    height, width = figure.get_figheight(), 0.865 / num_columns
    for place, of in enumerate(panels):
        row, column = divmod(place, num_columns)
        left = 0.105 + column * (width + 0.012)
        floor = height - top - (row + 1) * each
        head = 0.3 if is_split else 0.04
        axes = figure.add_axes(
            (left, (floor + 0.6) / height, width - 0.02, (each - 0.6 - head) / height),
            facecolor="none",
        )
        _frame(axes, curves)
        _levels(axes, curves)
        for curve in curves:
            if curve["subject"] in of:
                _line(axes, curve, models[curve["subject"]], names)
        if is_split:
            model = models[of[0]]
            axes.set_title(
                cut(model.name), color=model.colour, fontsize=11.5, fontweight="bold", loc="left",
                pad=4, parse_math=False,
            )  # fmt: skip
        if column:
            axes.tick_params(axis="y", labelleft=False)
        else:
            axes.set_ylabel(curves[0]["y_label"], color=MUTED, fontsize=11.5, parse_math=False)
    return figure


def _kind(curve: Values) -> str:
    """What is on the x axis, which says how it is drawn."""
    words = curve["x_label"].lower()
    return next((k for k in ("example", "shots", "confidence", "position") if k in words), "")


def _is_diagonal(curve: Values) -> bool:
    """Drawn for all anyway: what a calibrated model's reliability is."""
    same = all(p["x"] == p["y"] == p["low"] == p["high"] for p in curve["points"])
    return _kind(curve) == "confidence" and same


def _line(axes: Axes, curve: Values, model: Model, names: Sequence[str]) -> None:
    points = sorted(curve["points"], key=lambda point: float(point["x"]))
    x, y, low, high = (
        np.array([point[key] for point in points], dtype=np.float64)
        for key in ("x", "y", "low", "high")
    )
    x = _places(x, curve)
    is_long = len(points) > 40
    low, high = (np.where(np.isfinite(end), end, y) for end in (low, high))
    axes.fill_between(x, low, high, color=model.colour, alpha=0.11, linewidth=0)
    if not is_long:
        axes.vlines(x, low, high, color=model.colour, alpha=0.4, linewidth=1.1, zorder=3)
    axes.plot(
        x, y, color=model.colour, linestyle=_dash(curve["name"], names),
        linewidth=_width(curve["name"]), marker=None if is_long else model.marker,
        markersize=5.5, markeredgecolor=PAPER, markeredgewidth=0.6, zorder=4,
    )  # fmt: skip


def _places(x: Any, curve: Values) -> Any:
    """0, 1, 2, 4 and 8 examples stand evenly."""
    return np.log2(np.maximum(x, 0.5)) if _kind(curve) in ("example", "shots") else x


def _frame(axes: Axes, curves: Sequence[Values]) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelsize=10.5, length=0, pad=5)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(curves[0]["x_label"], color=MUTED, fontsize=11.5, parse_math=False)
    points = [point for curve in curves for point in curve["points"]]
    xs = sorted({float(point["x"]) for point in points})
    kind = _kind(curves[0])
    if kind in ("example", "shots"):
        at = _places(np.array(xs), curves[0])
        axes.set_xlim(at[0] - 0.25, at[-1] + 0.25)
        axes.xaxis.set_major_locator(FixedLocator(list(at)))
        axes.set_xticks(list(at), [f"{x:,g}" for x in xs])
    elif kind == "position" and xs[-1] > 20:
        log_x(axes, max(1, xs[0]), xs[-1])
    elif kind == "confidence":
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))
    ends = [point[key] for point in points for key in ("y", "low", "high")]
    ends += [curve["chance"] for curve in curves if curve["chance"] is not None]
    held = np.array([end for end in ends if end is not None and np.isfinite(end)])
    low, high = padded(held) if len(held) else (0.0, 1.0)
    is_share = len(held) > 0 and held.min() >= 0 and held.max() <= 1 and _is_share(curves[0])
    if is_share:
        low, high = max(0.0, low), min(1.02, high)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axes.set_ylim(*((0.0, 1.02) if kind == "confidence" else (low, high)))
    axes.yaxis.set_major_locator(MaxNLocator(5))


def _is_share(curve: Values) -> bool:
    return any(word in curve["y_label"].lower() for word in ("accuracy", "share", "rate", "%"))


def _levels(axes: Axes, curves: Sequence[Values]) -> None:
    for chance in {curve["chance"] for curve in curves if curve["chance"] is not None}:
        axes.axhline(chance, color=MUTED, linewidth=1.3, linestyle=DOTTED, zorder=2)
    if _kind(curves[0]) == "confidence":
        axes.plot((0, 1), (0, 1), color=MUTED, linewidth=1.1, zorder=1)


def _dash(name: str, names: Sequence[str]) -> Any:
    for word, dash in DASHES.items():
        if word in name.lower():
            return dash
    return SPARE_DASHES[names.index(name) % len(SPARE_DASHES)]


def _width(name: str) -> float:
    return 1.0 if "calibrated" in name.lower() else 2.1


def _name_key(name: str, names: Sequence[str]) -> Key:
    return Line2D([], [], color=INK, linestyle=_dash(name, names), linewidth=_width(name)), name
