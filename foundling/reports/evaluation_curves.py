"""Draws curves of several models: accuracy by number of examples, reliability, loss by position."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator

from foundling.reports import style
from foundling.reports.names import cut
from foundling.reports.plot_keys import Key, Model, legend_above, legend_height, model_key
from foundling.reports.style import DOTTED, INK, MUTED, PAPER

Values = Mapping[str, Any]

# What is learned from the examples is solid; what shows how much of it is their form is not.
DASHES: tuple[Any, ...] = (
    "solid", (0, (5, 2)), (0, (1.2, 1.6)), (0, (6, 2, 1.2, 2)), (0, (3, 1, 1, 1, 1, 1)),
)  # fmt: skip
LEVELS = {"chance": DOTTED, "majority": (0, (6, 3))}  # what a curve is held against
MOST_LINES = 4  # in one frame, where each model has several; above it each has its own


def curves_plot(title: str, curves: Sequence[Values], models: Mapping[str, Model]) -> Figure:
    """The `drawable` curves of a figure: a colour per model, a dash per name, bars of intervals."""
    if not curves:
        return style.empty(*style.new_figure(title, "", ""), "nothing measured yet")
    names = list(dict.fromkeys(curve["name"] for curve in curves))
    subjects = list(dict.fromkeys(curve["subject"] for curve in curves))
    is_split = len(curves) > MOST_LINES and len(subjects) > 1 and len(names) > 1
    panels = [[s] for s in subjects] if is_split else [subjects]
    num_columns = 3 if len(panels) == 3 or len(panels) > 4 else min(2, len(panels))
    num_rows = -(-len(panels) // num_columns)
    keys = [] if is_split else [model_key(models[subject]) for subject in subjects]
    if len(names) > 1 or not keys:
        keys += [_name_key(name, names) for name in names]
    for name, dashes in LEVELS.items():
        if _levels(curves, name):
            keys.append((Line2D([], [], color=MUTED, linestyle=dashes, linewidth=1.3), name))
    if _kind(curves[0]) == "confidence":
        keys.append((Line2D([], [], color=MUTED, linewidth=1.1), "as sure as right"))
    each = 2.75 if is_split else 3.4
    top = 0.45 + legend_height(keys)
    figure, whole = style.new_figure(title, "", "", height=top + num_rows * each)
    whole.set_axis_off()
    legend_above(figure, keys)
    y_label = textwrap.fill(curves[0]["y_label"], 26)
    edge = 0.105 + 0.024 * y_label.count("\n")
    height, width = figure.get_figheight(), (0.97 - edge) / num_columns
    for place, of in enumerate(panels):
        row, column = divmod(place, num_columns)
        left = edge + column * (width + 0.012)
        floor = height - top - (row + 1) * each
        head = 0.3 if is_split else 0.04
        axes = figure.add_axes(
            (left, (floor + 0.6) / height, width - 0.02, (each - 0.6 - head) / height),
            facecolor="none",
        )
        style.frame(axes, label_size=10.5)
        _x_axis(axes, curves, num_columns)
        _y_axis(axes, curves)
        for name, dashes in LEVELS.items():
            for share in _levels(curves, name):
                style.level(axes, share, linewidth=1.3, linestyle=dashes, zorder=2)
        if _kind(curves[0]) == "confidence":
            axes.plot((0, 1), (0, 1), color=MUTED, linewidth=1.1, zorder=1)
        for curve in curves:
            if curve["subject"] in of:
                _line(axes, curve, models[curve["subject"]], names)
        if is_split:
            model = models[of[0]]
            axes.set_title(
                cut(model.name, 18), color=model.colour, fontsize=11.5, fontweight="bold",
                loc="left", pad=4, parse_math=False,
            )  # fmt: skip
        if column:
            axes.tick_params(axis="y", labelleft=False)
        else:
            axes.set_ylabel(y_label, color=MUTED, fontsize=11.5, parse_math=False)
    return figure


def _kind(curve: Values) -> str:
    """The kind of x axis, which decides how it is drawn."""
    words = curve["x_label"].lower()
    kinds = ("example", "shots", "confidence", "position", "share")
    return next((kind for kind in kinds if kind in words), "")


def drawable(curve: Values) -> bool:
    """Whether it has points; perfect calibration is drawn as the diagonal anyway."""
    is_diagonal = all(p["x"] == p["y"] == p["low"] == p["high"] for p in curve["points"])
    return bool(curve["points"]) and not (_kind(curve) == "confidence" and is_diagonal)


def is_share(curve: Values) -> bool:
    """Whether it is shown in per cent."""
    return any(word in curve["y_label"].lower() for word in ("accuracy", "share", "rate", "%"))


def _line(axes: Axes, curve: Values, model: Model, names: Sequence[str]) -> None:
    points = sorted(curve["points"], key=lambda point: float(point["x"]))
    x, y, low, high = (
        np.array([point[key] for point in points], dtype=np.float64)
        for key in ("x", "y", "low", "high")
    )
    x = _places(x, curve)
    is_long = len(points) > 40
    low, high = (np.where(np.isfinite(end), end, y) for end in (low, high))
    if curve["name"] == names[0]:  # bands of more than one name would hide each other
        axes.fill_between(x, low, high, color=model.colour, alpha=0.11, linewidth=0)
    if not is_long:
        axes.vlines(x, low, high, color=model.colour, alpha=0.4, linewidth=1.1, zorder=3)
    axes.plot(
        x, y, color=model.colour, linestyle=_dash(curve["name"], names),
        linewidth=_width(curve["name"], names), marker=None if is_long else model.marker,
        markersize=5.5, markeredgecolor=PAPER, markeredgewidth=0.6, zorder=4,
    )  # fmt: skip


def _places(x: Any, curve: Values) -> Any:
    """Positions on the axis: 0, 1, 2, 4 and 8 examples are evenly spaced."""
    return np.log2(np.maximum(x, 0.5)) if _kind(curve) in ("example", "shots") else x


def _x_axis(axes: Axes, curves: Sequence[Values], num_columns: int) -> None:
    """Examples evenly spaced, positions on a log scale, shares in per cent."""
    x_label = textwrap.shorten(curves[0]["x_label"], 72 // num_columns, placeholder="…")
    axes.set_xlabel(x_label, color=MUTED, fontsize=11.5, parse_math=False)
    xs = sorted({float(point["x"]) for curve in curves for point in curve["points"]})
    kind = _kind(curves[0])
    if kind in ("example", "shots"):
        at = _places(np.array(xs), curves[0])
        axes.set_xlim(at[0] - 0.25, at[-1] + 0.25)
        axes.set_xticks(list(at), [f"{x:,g}" for x in xs])
        return
    if kind == "position" and xs[-1] > 20:
        style.log_x(axes, max(1, xs[0]), xs[-1])
        if num_columns > 1:
            axes.xaxis.set_major_locator(FixedLocator(list(axes.get_xticks()[::3])))
        return
    axes.xaxis.set_major_locator(MaxNLocator(6 // num_columns))
    style.show(axes.xaxis, style.per_cent if kind in ("confidence", "share") else style.compact)
    if kind == "confidence":
        axes.set_xlim(0, 1)
        if num_columns > 1:
            axes.xaxis.set_major_locator(FixedLocator([0.25, 0.5, 0.75]))


def _y_axis(axes: Axes, curves: Sequence[Values]) -> None:
    """High enough for the intervals and chance; shares in per cent, between 0 and 100."""
    ends = [point[key] for of in curves for point in of["points"] for key in ("y", "low", "high")]
    ends += [share for name in LEVELS for share in _levels(curves, name)]
    held = np.array([end for end in ends if end is not None and np.isfinite(end)])
    low, high = style.padded(held) if len(held) else (0.0, 1.0)
    if is_share(curves[0]):
        low, high = max(min(0.0, *held, 0.0), low), min(max(1.0, *held, 1.0) + 0.02, high)
        style.show(axes.yaxis, style.per_cent)
    axes.set_ylim(*((0.0, 1.02) if _kind(curves[0]) == "confidence" else (low, high)))
    axes.yaxis.set_major_locator(MaxNLocator(5))


def _levels(curves: Sequence[Values], name: str) -> set[float]:
    return {curve[name] for curve in curves if curve.get(name) is not None}


def _dash(name: str, names: Sequence[str]) -> Any:
    return DASHES[names.index(name) % len(DASHES)]


def _width(name: str, names: Sequence[str]) -> float:
    return 2.1 if names.index(name) < 3 else 1.1


def _name_key(name: str, names: Sequence[str]) -> Key:
    line = Line2D([], [], color=INK, linestyle=_dash(name, names), linewidth=_width(name, names))
    return line, name[:48]
