"""Draws the figures of runs and ladders, all in one look that also fits a dark page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from foundling.evaluation.plot_style import (
    BLUE,
    GRID,
    INK,
    MUTED,
    PALETTE,
    PAPER,
    PURPLE,
    VERMILLION,
    colours,
    empty,
    end_labels,
    legend,
    log_x,
    new_figure,
    padded,
)

Floats = NDArray[np.float64]

EVENT_MARKERS = "vDsPXo"
MAX_EVENT_LINES = 40
EXACT = 8  # positions at the start that are shown as they are
BUCKETS = 700  # twice as many points as this are as fine as the plot's pixels


@dataclass(frozen=True)
class Curve:
    """One named line; values that are not finite are left out of it."""

    x: Sequence[int | float | None]
    y: Sequence[int | float | None]
    name: str = ""

    def finite(self) -> tuple[Floats, Floats]:
        x, y = np.asarray(self.x, np.float64), np.asarray(self.y, np.float64)
        keep = np.isfinite(x) & np.isfinite(y)
        return x[keep], y[keep]


def downsample(x: Floats, y: Floats, buckets: int = BUCKETS) -> tuple[Floats, Floats]:
    """At most the lowest and the highest point of each of `buckets`, so that every spike stays."""
    if len(x) <= 2 * buckets:
        return x, y
    edges = np.linspace(0, len(x), buckets + 1).astype(int)
    kept = {0, len(x) - 1}
    for start, end in pairwise(edges):
        kept |= {start + int(y[start:end].argmin()), start + int(y[start:end].argmax())}
    order = np.array(sorted(kept))
    return x[order], y[order]


def smooth(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The trend: medians of up to 240 buckets, which no spike moves, then a Gaussian over them.

    The Gaussian is narrow at the start, where the loss falls fast.
    """
    parts = min(len(x), 240)
    if parts < 3:
        return x, y
    xs = np.array([part.mean() for part in np.array_split(x, parts)])
    ys = np.array([np.median(part) for part in np.array_split(y, parts)])
    index = np.arange(parts)
    width = np.minimum(0.3 + 0.08 * index, max(parts / 60, 0.3))
    weights = np.exp(-0.5 * ((index[:, None] - index[None, :]) / width[:, None]) ** 2)
    return xs, np.asarray(weights @ ys / weights.sum(axis=1), np.float64)


def smooth_positions(y: Floats) -> Floats:
    """The mean over each position and its neighbours within 12%; the first eight stay exact."""
    position = np.arange(1, len(y) + 1)
    half = (0.12 * position).astype(int)
    low, high = position - 1 - half, np.minimum(position + half, len(y))
    total = np.concatenate([[0.0], np.cumsum(y)])
    return np.asarray((total[high] - total[low]) / (high - low), np.float64)


def loss_plot(
    train: Curve,
    validation: Curve,
    events: Sequence[Mapping[str, Any]] = (),
    *,
    bits_per_nat: int | float | None = None,
    title: str = "Loss",
) -> Figure:
    """Training loss with its trend, validation as points, and a mark for each event.

    `bits_per_nat`, the bits per byte that one nat per token is, adds the right-hand scale.
    """
    figure, axes = new_figure(
        title, "step", "nats per token", right=0.905 if bits_per_nat else 0.97
    )
    x, y = train.finite()
    held_x, held_y = validation.finite()
    if not len(x) and not len(held_x):
        return empty(figure, axes, "no losses yet")
    low, high = _loss_range(y, held_y)
    _draw_trace(axes, x, y, "training")
    if len(held_x):
        points = len(held_x)
        axes.plot(
            held_x, held_y, color=VERMILLION, linewidth=1, alpha=0.45 if points > 1 else 0, zorder=4
        )
        axes.plot(
            held_x, held_y, "o", color=VERMILLION, markersize=6 if points < 60 else 3.5,
            markeredgecolor=PAPER, markeredgewidth=0.8, label="validation", zorder=5, clip_on=False,
        )  # fmt: skip
    axes.set_ylim(low, high)
    axes.set_xlim(0, 1.012 * max([1.0, *x[-1:], *held_x[-1:]]))
    _mark_clipped(axes, train, low, high)
    _mark_events(axes, events)
    if bits_per_nat:
        ratio = bits_per_nat
        right = axes.secondary_yaxis(
            "right",
            functions=(lambda nats: np.multiply(nats, ratio), lambda bits: np.divide(bits, ratio)),
        )
        right.set_ylabel("bits per byte", color=MUTED, fontsize=11.5, labelpad=6)
        right.tick_params(colors=MUTED, labelsize=11, length=0)
        right.spines["right"].set_visible(False)
    legend(axes)
    return figure


def learning_rate_plot(curves: Sequence[Curve], *, title: str = "Learning rate") -> Figure:
    """The learning rate of each optimizer against the step."""
    figure, axes = new_figure(title, "step", "learning rate", height=2.9, left=0.125)
    drawn = [(curve, *curve.finite()) for curve in curves]
    drawn = [(curve, x, y) for curve, x, y in drawn if len(x)]
    if not drawn:
        return empty(figure, axes, "no learning rates yet")
    for (curve, x, y), colour in zip(drawn, PALETTE, strict=False):
        axes.plot(*downsample(x, y), color=colour, linewidth=2, label=curve.name)
    axes.set_xlim(0, 1.012 * max(1.0, *(float(x[-1]) for _, x, _ in drawn)))
    axes.set_ylim(0, 1.08 * max(float(y.max()) for _, _, y in drawn) or 1.0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    if len(drawn) > 1:
        legend(axes, above=True)
    return figure


def loss_by_position_plot(
    curves: Mapping[str, Sequence[int | float | None]],
    *,
    title: str = "Loss by position in the context",
) -> Figure:
    """The mean loss of each target by how many tokens the model has seen before it."""
    several = len(curves) > 1
    figure, axes = new_figure(
        title, "position in the context (tokens, log scale)", "nats per token",
        right=0.79 if several else 0.97,
    )  # fmt: skip
    drawn = {name: np.asarray(values, np.float64) for name, values in curves.items()}
    drawn = {name: y for name, y in drawn.items() if np.isfinite(y).any()}
    if not drawn:
        return empty(figure, axes, "no losses by position yet")
    ends, lines = [], []
    for (name, y), colour in zip(drawn.items(), colours(list(drawn)), strict=True):
        x, y = Curve(range(1, len(y) + 1), y.tolist()).finite()
        trend = smooth_positions(y)
        axes.plot(*downsample(x, y), color=colour, linewidth=0.7, alpha=0.28)
        axes.plot(x, trend, color=colour, linewidth=2.1)
        ends.append((name, float(trend[-1]), colour))
        lines += [trend, np.quantile(y[EXACT:], [0.01, 0.99])] if len(y) > EXACT else [y]
    longest = max(len(y) for y in drawn.values())
    axes.set_ylim(*padded(np.concatenate(lines)))
    log_x(axes, 1, max(longest, 2))
    if several:
        end_labels(axes, ends)
    return figure


def ladder_bars(
    values: Mapping[str, int | float], unit: str, *, title: str = "Loss by rung"
) -> Figure:
    """One bar a rung, from zero, with its figure at the end; `unit` labels the axis."""
    figure, axes = new_figure(
        title, unit, "", height=1.35 + 0.42 * max(len(values), 1), left=0.2, right=0.93
    )
    if not values:
        return empty(figure, axes, "no rungs yet")
    names = list(values)
    bars = axes.barh(names, list(values.values()), color=colours(names), height=0.66)
    axes.bar_label(bars, fmt="%.3f", padding=5, color=INK, fontsize=11.5, fontweight="bold")
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1 * max([*(v for v in values.values() if np.isfinite(v)), 0.1]))
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.tick_params(axis="y", labelsize=11.5, labelcolor=INK)
    axes.spines["bottom"].set_visible(False)
    return figure


def ladder_curves(
    curves: Sequence[Curve], unit: str, *, title: str = "Validation loss by rung"
) -> Figure:
    """The validation curve of each rung against the tokens it has been trained on."""
    figure, axes = new_figure(title, "tokens trained on", unit, right=0.79)
    drawn = {curve.name: curve.finite() for curve in curves}
    drawn = {name: (x, y) for name, (x, y) in drawn.items() if len(x)}
    if not drawn:
        return empty(figure, axes, "no validation losses yet")
    every_x = np.concatenate([x[x > 0] for x, _ in drawn.values()])
    logarithmic = bool(len(every_x)) and every_x.max() >= 8 * every_x.min()
    ends, shown = [], []
    for (name, (x, y)), colour in zip(drawn.items(), colours(list(drawn)), strict=True):
        if logarithmic:
            x, y = x[x > 0], y[x > 0]
        if not len(x):
            continue
        axes.plot(
            x, y, color=colour, linewidth=2, marker="o", markersize=4.5 if len(x) < 40 else 0,
            markeredgecolor=PAPER, markeredgewidth=0.6,
        )  # fmt: skip
        ends.append((name, float(y[-1]), colour))
        shown.append(y)
    axes.set_ylim(*padded(np.concatenate(shown)))
    if logarithmic:
        log_x(axes, float(every_x.min()), float(every_x.max()), base=10)
        axes.set_xlabel("tokens trained on (log scale)")
    end_labels(axes, ends)
    return figure


def _loss_range(train: Floats, validation: Floats) -> tuple[float, float]:
    """Limits that hold the trend and nearly all of the raw trace, but no lone spike."""
    values = np.concatenate([train, validation])
    low, high = float(values.min()), float(np.quantile(values, 0.985))
    if len(train) < 200:  # the fall at the start is the picture
        head = train[: max(1, len(train) // 20)]
        high = max([high, *head[head <= low + 3 * max(high - low, 1e-9)]])
    air = 0.06 * (high - low) or 0.05 * abs(high) or 0.1
    return low - air, high + 2 * air


def _draw_trace(axes: Axes, x: Floats, y: Floats, name: str) -> None:
    if not len(x):
        return
    dense = len(x) > 12
    axes.plot(*downsample(x, y), color=BLUE, linewidth=0.7, alpha=0.32 if dense else 1.0)
    if dense:
        axes.plot(*smooth(x, y), color=BLUE, linewidth=2.2, label=name, zorder=3)
    else:
        axes.lines[-1].set(label=name, linewidth=2.2)


def _mark_clipped(axes: Axes, train: Curve, low: float, high: float) -> None:
    """An arrow at the top for each spike above the axis, but not for the fall at the start."""
    x, y = np.asarray(train.x, np.float64), np.asarray(train.y, np.float64)
    trend_x, trend = smooth(*train.finite())
    inside = np.flatnonzero(trend <= high)
    fallen = trend_x[inside[0]] if len(inside) else -1.0
    above = ~(y <= high + 0.1 * (high - low)) & (x > fallen)  # not finite counts as above
    if above.any():
        bins = np.round(120 * x[above] / max(float(x[-1]), 1.0))
        arrows = x[above][np.unique(bins, return_index=True)[1]]  # spikes side by side: one arrow
        axes.plot(
            arrows, np.full(len(arrows), 0.985), "^", transform=axes.get_xaxis_transform(),
            color=BLUE, markersize=6, label=f"off the scale ({int(above.sum())})", clip_on=False,
        )  # fmt: skip


def _mark_events(axes: Axes, events: Sequence[Mapping[str, Any]]) -> None:
    """A mark on the step axis for each event, one shape a kind."""
    kinds: dict[str, list[float]] = {}
    for event in events:
        if isinstance(event.get("step"), int | float):
            kinds.setdefault(str(event.get("kind", "event")), []).append(float(event["step"]))
    lines = sum(map(len, kinds.values())) <= MAX_EVENT_LINES
    for index, (kind, steps) in enumerate(kinds.items()):
        for step in steps if lines else ():
            axes.axvline(step, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)), zorder=1)
        axes.plot(
            steps, np.zeros(len(steps)), EVENT_MARKERS[index % len(EVENT_MARKERS)],
            transform=axes.get_xaxis_transform(), color=PURPLE, markersize=7,
            markeredgecolor=PAPER, markeredgewidth=0.7, clip_on=False, zorder=6,
            label=f"{kind} ({len(steps)})" if len(steps) > 1 else kind,
        )  # fmt: skip
