"""Draws an evaluation: each metric of every model on its interval, and curves of several models."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from foundling.evaluation.names import cut
from foundling.evaluation.plot_style import (
    GRID,
    INK,
    MUTED,
    PALETTE,
    PAPER,
    WIDTH,
    compact,
    log_x,
    new_figure,
    padded,
)
from foundling.evaluation.wording import decimals, number, value_text

Values = Mapping[str, Any]
MARKERS = ("o", "s", "^", "D", "v", "P")
DOTTED = (0, (2, 3))
LINE = 0.19  # inches: what a line of text takes


@dataclass(frozen=True)
class Model:
    """How a model is drawn everywhere: its short name, colour and marker."""

    name: str
    colour: str
    marker: str


def drawn_models(short: Mapping[str, str]) -> dict[str, Model]:
    """A colour and a marker a model, by its full name."""
    return {
        name: Model(text, PALETTE[place % len(PALETTE)], MARKERS[place % len(MARKERS)])
        for place, (name, text) in enumerate(short.items())
    }


# ------------------------------------------------------------------------------- metrics


def metrics_plot(title: str, metrics: Sequence[Values], models: Mapping[str, Model]) -> Figure:
    """A row a metric, in it a point a model on its interval, with chance and baseline.

    Shares have one axis in common; of numbers each has its own.
    """
    rows = [[name for name in models if _is_drawn(metric, name)] for metric in metrics]
    labels = ["\n".join(_wrapped(metric["title"])) for metric in metrics]
    in_common = all(metric["unit"] == "share" for metric in metrics)
    heights = [
        max(len(of) * LINE, (label.count("\n") + 1) * LINE) + (0.16 if in_common else 0.44)
        for of, label in zip(rows, labels, strict=True)
    ]
    keys = _keys(metrics, [models[name] for name in models if any(name in of for of in rows)])
    top, bottom = 0.48 + _legend_height(keys), 0.5 if in_common else 0.1
    figure, whole = new_figure(title, "", "", height=top + bottom + sum(heights))
    whole.set_axis_off()
    height = figure.get_figheight()
    _legend_above(figure, keys)
    edge = height - top
    limits = _share_limits(metrics)
    for metric, of, label, high in zip(metrics, rows, labels, heights, strict=True):
        own = high if in_common else high - 0.26
        axes = figure.add_axes((0.375, (edge - own) / height, 0.475, own / height), facecolor="none")
        edge -= high
        _row(axes, metric, of, models, own)
        is_last = metric is metrics[-1]
        _row_axis(axes, metric, limits if in_common else None, with_ticks=is_last or not in_common)
        axes.text(
            -0.03, 0.5, label, transform=axes.transAxes, ha="right", va="center", fontsize=10.5,
            color=INK, parse_math=False, linespacing=1.15,
            fontweight="bold" if metric["headline"] else "normal",
        )  # fmt: skip
    return figure


def _row(
    axes: Axes, metric: Values, names: Sequence[str], models: Mapping[str, Model], height: float
) -> None:
    """One metric; the models stand below one another in the middle of `height` inches."""
    axes.set_ylim(height / 2, -height / 2)
    for place, name in enumerate(names):
        values, model = metric["values"][name], models[name]
        y = (place - (len(names) - 1) / 2) * LINE
        low, high = values["low"], values["high"]
        if low is not None and high is not None:
            axes.hlines(y, low, high, color=model.colour, linewidth=3, alpha=0.42, zorder=3)
        axes.plot(
            values["value"], y, model.marker, color=model.colour, markersize=6.5, zorder=5,
            markeredgecolor=PAPER, markeredgewidth=0.7, clip_on=False,
        )  # fmt: skip
        axes.text(
            1.03, y, value_text(values, metric["unit"]), transform=axes.get_yaxis_transform(),
            va="center", fontsize=10, color=model.colour, fontweight="bold",
        )  # fmt: skip
    reach = max(len(names), 1) * LINE / 2 + 0.01
    chance, baseline = _level(metric, "chance"), _level(metric, "baseline")
    if chance is not None:
        axes.vlines(chance, -reach, reach, color=MUTED, linewidth=1.8, zorder=2)
    if baseline is not None:
        axes.plot(
            baseline, 0, "D", markersize=8.5, markerfacecolor="none", markeredgecolor=INK,
            markeredgewidth=1.1, zorder=4, clip_on=False,
        )  # fmt: skip


def _row_axis(
    axes: Axes, metric: Values, limits: tuple[float, float] | None, *, with_ticks: bool
) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.spines["top"].set_visible(True)
    axes.spines["top"].set_color(GRID)
    axes.yaxis.set_major_locator(FixedLocator([]))
    axes.tick_params(axis="x", colors=MUTED, labelsize=10, length=0, pad=4)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    if limits is None:
        ends = _ends(metric)
        limits = padded(np.array(ends)) if ends else (0.0, 1.0)
    axes.set_xlim(*limits)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    digits = decimals(*limits)
    unit = metric["unit"]
    axes.xaxis.set_major_formatter(
        FuncFormatter(
            lambda x, _: f"{100 * x:g}%" if unit == "share" else number(float(x), unit, digits)
        )
    )
    if not with_ticks:
        axes.tick_params(axis="x", labelbottom=False)


def _is_drawn(metric: Values, name: str) -> bool:
    value = metric["values"].get(name, {}).get("value")
    return value is not None and bool(np.isfinite(value))


def _level(metric: Values, of: str) -> float | None:
    """Chance or baseline, of the first model that has one."""
    for values in metric["values"].values():
        if values[of] is not None:
            found: float = values[of]["value"] if of == "baseline" else values[of]
            return found
    return None


def _ends(metric: Values) -> list[float]:
    """All that a metric's axis must hold."""
    ends = [v[key] for v in metric["values"].values() for key in ("value", "low", "high")]
    ends += [_level(metric, "chance"), _level(metric, "baseline")]
    return [end for end in ends if end is not None and np.isfinite(end)]


def _share_limits(metrics: Sequence[Values]) -> tuple[float, float]:
    """0 to 1, or what else the shares need."""
    ends = [end for metric in metrics for end in _ends(metric)]
    return min(0.0, *ends, 0.0), max(1.0, *ends, 1.0)


def _wrapped(title: str, width: int = 35, most: int = 3) -> list[str]:
    lines = textwrap.wrap(title, width) or [""]
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1][: width - 1] + "…"]


# -------------------------------------------------------------------------------- curves

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
    keys = [] if is_split else [_model_key(models[subject]) for subject in subjects]
    if len(names) > 1 or not keys:
        keys += [_name_key(name, names) for name in names]
    if any(curve["chance"] is not None for curve in curves):
        keys.append((Line2D([], [], color=MUTED, linestyle=DOTTED, linewidth=1.3), "chance"))
    if curves and _kind(curves[0]) == "confidence":
        keys.append((Line2D([], [], color=MUTED, linewidth=1.1), "as sure as right"))
    each = 2.75 if is_split else 3.4
    top = 0.45 + _legend_height(keys)
    figure, whole = new_figure(title, "", "", height=top + num_rows * each)
    whole.set_axis_off()
    _legend_above(figure, keys)
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


# ------------------------------------------------------------------------------- legends

Key = tuple[Line2D, str]


def _model_key(model: Model) -> Key:
    line = Line2D([], [], color=model.colour, marker=model.marker, linewidth=2.1, markersize=6.5)
    return line, cut(model.name, 30)


def _name_key(name: str, names: Sequence[str]) -> Key:
    return Line2D([], [], color=INK, linestyle=_dash(name, names), linewidth=_width(name)), name


def _keys(metrics: Sequence[Values], models: Sequence[Model]) -> list[Key]:
    keys = [_model_key(model) for model in models]
    if any(_level(metric, "chance") is not None for metric in metrics):
        tick = Line2D([], [], color=MUTED, marker="|", linestyle="none", markersize=11)
        tick.set_markeredgewidth(1.8)
        keys.append((tick, "chance"))
    if any(_level(metric, "baseline") is not None for metric in metrics):
        hollow = Line2D([], [], color=INK, marker="D", linestyle="none", markersize=7.5)
        hollow.set_markerfacecolor("none")
        keys.append((hollow, "baseline"))
    return keys


def _key_rows(keys: Sequence[Key]) -> list[list[Key]]:
    """As many keys in a row as there is room for."""
    rows: list[list[Key]] = []
    used = 0.0
    for key in keys:
        width = _key_width(key)
        if not rows or used + width > WIDTH - 0.2:
            rows.append([])
            used = 0.0
        rows[-1].append(key)
        used += width
    return rows


def _key_width(key: Key) -> float:
    return 0.6 + 0.088 * len(key[1])


def _legend_height(keys: Sequence[Key]) -> float:
    return 0.25 * len(_key_rows(keys)) + 0.06


def _legend_above(figure: Figure, keys: Sequence[Key]) -> None:
    """The keys below the title; written out, since a legend leaves out names such as _a."""
    height = figure.get_figheight()
    axes = figure.add_axes((0, 0, 1, 1), facecolor="none")
    axes.set_axis_off()
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(0, height)
    for row, keys_of in enumerate(_key_rows(keys)):
        x, y = 0.14, height - 0.56 - 0.25 * row
        for line, text in keys_of:
            line.set_data((x + 0.02, x + 0.17, x + 0.32), (y, y, y))
            if line.get_linestyle() == "None":
                line.set_data((x + 0.17,), (y,))
            else:
                line.set_markevery([1])
            axes.add_line(line)
            axes.text(
                x + 0.4, y, text, fontsize=11, color=INK, va="center", parse_math=False
            )
            x += _key_width((line, text))


