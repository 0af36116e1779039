"""Draws the metrics of an evaluation: every model's value on its interval."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator

from foundling.reports import style
from foundling.reports.in_words import decimals, number, value_text
from foundling.reports.plot_keys import Key, Model, legend_above, legend_height, model_key
from foundling.reports.style import GRID, INK, MUTED, PAPER

Values = Mapping[str, Any]
LINE = 0.19  # inches: what a line of text takes


def metrics_plot(title: str, metrics: Sequence[Values], models: Mapping[str, Model]) -> Figure:
    """A row per metric, with a point on its interval per model, chance and baseline.

    Shares have one common axis; each number has its own.
    """
    rows = [[name for name in models if _is_drawn(metric, name)] for metric in metrics]
    labels = ["\n".join(_wrapped(metric)) for metric in metrics]
    in_common = all(metric["unit"] == "share" for metric in metrics)
    heights = [
        max(len(of) * LINE, (label.count("\n") + 1) * LINE) + (0.16 if in_common else 0.44)
        for of, label in zip(rows, labels, strict=True)
    ]
    keys = _keys(metrics, [models[name] for name in models if any(name in of for of in rows)])
    top, bottom = 0.48 + legend_height(keys), 0.36 if in_common else 0.1
    figure, whole = style.new_figure(title, "", "", height=top + bottom + sum(heights))
    whole.set_axis_off()
    height = figure.get_figheight()
    legend_above(figure, keys)
    edge = height - top
    limits = _share_limits(metrics)
    for metric, of, label, high in zip(metrics, rows, labels, heights, strict=True):
        own = high if in_common else high - 0.26
        axes = figure.add_axes(
            (0.375, (edge - own) / height, 0.475, own / height), facecolor="none"
        )
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
    """One metric; the models are stacked in the middle of `height` inches."""
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
        limits = style.padded(np.array(ends)) if ends else (0.0, 1.0)
    axes.set_xlim(*limits)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    digits = decimals(*limits)
    unit = metric["unit"]
    style.show(
        axes.xaxis, style.per_cent if unit == "share" else lambda x: number(float(x), unit, digits)
    )
    if not with_ticks:
        axes.tick_params(axis="x", labelbottom=False)


def _is_drawn(metric: Values, name: str) -> bool:
    value = metric["values"].get(name, {}).get("value")
    return value is not None and bool(np.isfinite(value))


def _level(metric: Values, of: str) -> float | None:
    """Chance or baseline of the first model that has one."""
    for values in metric["values"].values():
        if values[of] is not None:
            found: float = values[of]["value"] if of == "baseline" else values[of]
            return found
    return None


def _ends(metric: Values) -> list[float]:
    """All values that a metric's axis must include."""
    ends = [v[key] for v in metric["values"].values() for key in ("value", "low", "high")]
    ends += [_level(metric, "chance"), _level(metric, "baseline")]
    return [end for end in ends if end is not None and np.isfinite(end)]


def _share_limits(metrics: Sequence[Values]) -> tuple[float, float]:
    """0 to 1, or wider if the shares need it."""
    ends = [end for metric in metrics for end in _ends(metric)]
    return min(0.0, *ends, 0.0), max(1.0, *ends, 1.0)


def _wrapped(metric: Values, most: int = 3) -> list[str]:
    """The title in lines that fit beside the axes; headlines are bold and wider."""
    width = 28 if metric["headline"] else 31
    lines = textwrap.wrap(metric["title"], width) or [""]
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1][: width - 1] + "…"]


def _keys(metrics: Sequence[Values], models: Sequence[Model]) -> list[Key]:
    keys = [model_key(model) for model in models]
    if any(_level(metric, "chance") is not None for metric in metrics):
        tick = Line2D([], [], color=MUTED, marker="|", linestyle="none", markersize=11)
        tick.set_markeredgewidth(1.8)
        keys.append((tick, "chance"))
    if any(_level(metric, "baseline") is not None for metric in metrics):
        hollow = Line2D([], [], color=INK, marker="D", linestyle="none", markersize=7.5)
        hollow.set_markerfacecolor("none")
        keys.append((hollow, "baseline"))
    return keys
