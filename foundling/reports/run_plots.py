"""Draws the figures of runs and ladders."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from foundling.reports import style
from foundling.reports.style import BLUE, DOTTED, INK, MUTED, PALETTE, PAPER, PURPLE, VERMILLION

Floats = NDArray[np.float64]

UNDONE = "#cf5563"  # a red that reads on light and on dark pages
# Acts stand on the axis in purple; what was only noted hangs from the top in grey.
EVENT_MARKERS = {
    "skip": ("v", PURPLE, 0), "rewind": ("D", PURPLE, 0), "replay": ("o", PURPLE, 0),
    "stop": ("s", PURPLE, 0), "transient": ("P", MUTED, 1), "hard data": ("X", MUTED, 1),
}  # fmt: skip
MAX_EVENT_LINES = 40
LEGEND_COLUMNS, LEGEND_ROW = 4, 0.24  # above the axes; a row's height in inches
HEADROOM = 0.35  # of the axis, at most, for what was undone to be seen to leave it
SHORTEST_ARROW = 0.012  # of the axis: a shorter one has no room between its mark and its head
ARROW_LEVELS = (0.035, 0.07, 0.105, 0.14)  # of the axes' height; arrows that overlap lie apart
EXACT = 8  # positions at the start that are shown as they are
BUCKETS = 700  # twice as many points as this are as fine as the plot's pixels


@dataclass(frozen=True)
class Curve:
    """A named line; values that are not finite are left out."""

    x: Sequence[int | float | None]
    y: Sequence[int | float | None]
    name: str = ""

    @staticmethod
    def of(
        records: Sequence[Mapping[str, Any]], key: str, name: str = "", *, x: str = "step"
    ) -> "Curve":
        """The values that the records have under a key."""
        return Curve([r.get(x) for r in records], [r.get(key) for r in records], name)

    def finite(self) -> tuple[Floats, Floats]:
        x, y = np.asarray(self.x, np.float64), np.asarray(self.y, np.float64)
        keep = np.isfinite(x) & np.isfinite(y)
        return x[keep], y[keep]


def downsample(x: Floats, y: Floats, buckets: int = BUCKETS) -> tuple[Floats, Floats]:
    """The lowest and the highest point of each of `buckets`, so that every spike is kept."""
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
    undone: Sequence[Curve] = (),
    *,
    bits_per_nat: int | float | None = None,
    title: str = "Loss",
    unit: str = "nats per token",
) -> Figure:
    """Training loss with its trend, validation as points, undone steps, a mark for each event.

    `bits_per_nat` (bits per byte for one nat per token) adds the right-hand scale.
    """
    guarded = bool(events or undone)
    figure, axes = style.new_figure(
        title, "step", unit, height=4.3 if guarded else 4.0,
        right=0.905 if bits_per_nat else 0.97,
    )  # fmt: skip
    x, y = train.finite()
    held_x, held_y = validation.finite()
    if not len(x) and not len(held_x):
        return style.empty(figure, axes, "no losses yet")
    low, high = _with_headroom(*_loss_range(y, held_y), undone)
    _draw_trace(axes, x, y, "training")
    if len(held_x):
        points = len(held_x)
        axes.plot(
            held_x,
            held_y,
            color=VERMILLION,
            linewidth=1,
            alpha=0.45 if points > 1 else 0,
            zorder=4,
        )
        axes.plot(
            held_x, held_y, "o", color=VERMILLION, markersize=6 if points < 60 else 3.5,
            markeredgecolor=PAPER, markeredgewidth=0.8, label="validation", zorder=5, clip_on=False,
        )  # fmt: skip
    _draw_undone(axes, undone, high)
    axes.set_ylim(low, high)
    marked = [event["step"] for event in events]
    style.from_start(axes, *x[-1:], *held_x[-1:], *marked)
    _mark_clipped(axes, train, low, high)
    _mark_events(axes, events)
    if bits_per_nat:
        ratio = bits_per_nat
        right = axes.secondary_yaxis(
            "right",
            functions=(lambda nats: np.multiply(nats, ratio), lambda bits: np.divide(bits, ratio)),
        )
        style.right_scale(right, "bits per byte")
    style.legend(axes, "above" if guarded else "upper right")
    if guarded:
        _make_room_for_legend(figure, axes)
    return figure


def learning_rate_plot(curves: Sequence[Curve], *, title: str = "Learning rate") -> Figure:
    """The learning rate of each optimizer against the step."""
    figure, axes = style.new_figure(title, "step", "learning rate", height=2.9, left=0.15)
    drawn = [(curve, *curve.finite()) for curve in curves]
    drawn = [(curve, x, y) for curve, x, y in drawn if len(x)]
    if not drawn:
        return style.empty(figure, axes, "no learning rates yet")
    for (curve, x, y), colour in zip(drawn, PALETTE, strict=False):
        axes.plot(*downsample(x, y), color=colour, linewidth=2, label=curve.name)
    style.from_start(axes, *(float(x[-1]) for _, x, _ in drawn))
    axes.set_ylim(0, 1.08 * max(float(y.max()) for _, _, y in drawn) or 1.0)
    style.show(axes.yaxis, ".3g")
    if len(drawn) > 1:
        style.legend(axes, "above")
    return figure


def loss_by_position_plot(
    curves: Mapping[str, Sequence[int | float | None]],
    *,
    title: str = "Loss by position in the context",
) -> Figure:
    """The mean loss of a target by the number of tokens before it."""
    several = len(curves) > 1
    figure, axes = style.new_figure(
        title, "position in the context (tokens, log scale)", "nats per token",
        right=0.79 if several else 0.97,
    )  # fmt: skip
    drawn = {name: np.asarray(values, np.float64) for name, values in curves.items()}
    drawn = {name: y for name, y in drawn.items() if np.isfinite(y).any()}
    if not drawn:
        return style.empty(figure, axes, "no losses by position yet")
    ends, lines = [], []
    for (name, y), colour in zip(drawn.items(), style.colours(list(drawn)), strict=True):
        x, y = Curve(range(1, len(y) + 1), y.tolist()).finite()
        trend = smooth_positions(y)
        axes.plot(*downsample(x, y), color=colour, linewidth=0.7, alpha=0.28)
        axes.plot(x, trend, color=colour, linewidth=2.1)
        ends.append((name, float(trend[-1]), colour))
        lines += [trend, np.quantile(y[EXACT:], [0.01, 0.99])] if len(y) > EXACT else [y]
    longest = max(len(y) for y in drawn.values())
    axes.set_ylim(*style.padded(np.concatenate(lines)))
    style.log_x(axes, 1, max(longest, 2))
    if several:
        style.end_labels(axes, ends)
    return figure


def ladder_bars(
    values: Mapping[str, int | float], unit: str, *, title: str = "Loss by rung"
) -> Figure:
    """One bar per rung, from zero, with its value at the end; `unit` labels the axis."""
    figure, axes = style.new_figure(
        title, unit, "", height=1.35 + 0.42 * max(len(values), 1), left=0.2, right=0.93
    )
    if not values:
        return style.empty(figure, axes, "no rungs yet")
    names = list(values)
    places = range(len(names))
    bars = axes.barh(places, list(values.values()), color=style.colours(names), height=0.66)
    axes.set_yticks(places, names, parse_math=False)
    axes.bar_label(bars, fmt="%.3f", padding=5, color=INK, fontsize=11.5, fontweight="bold")
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1 * max([*(v for v in values.values() if np.isfinite(v)), 0.1]))
    style.horizontal(axes)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    style.show(axes.xaxis, "g")
    return figure


def validation_curves(
    curves: Sequence[Curve],
    unit: str,
    *,
    title: str = "Validation loss by rung",
    over: str = "tokens trained on",
) -> Figure:
    """The validation curves of several rungs, or of several texts, against `over`."""
    figure, axes = style.new_figure(title, over, unit, right=0.79)
    drawn = {curve.name: curve.finite() for curve in curves}
    drawn = {name: (x, y) for name, (x, y) in drawn.items() if len(x)}
    if not drawn:
        return style.empty(figure, axes, "no validation losses yet")
    every_x = np.concatenate([x[x > 0] for x, _ in drawn.values()])
    logarithmic = bool(len(every_x)) and every_x.max() >= 8 * every_x.min()
    ends, shown = [], []
    for (name, (x, y)), colour in zip(drawn.items(), style.colours(list(drawn)), strict=True):
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
    axes.set_ylim(*style.padded(np.concatenate(shown)))
    if logarithmic:
        style.log_x(axes, float(every_x.min()), float(every_x.max()), base=10)
        axes.set_xlabel(f"{over} (log scale)")
    style.end_labels(axes, ends)
    return figure


def _loss_range(train: Floats, validation: Floats) -> tuple[float, float]:
    """Limits that include the trend and nearly all of the raw trace, but no lone spike."""
    values = np.concatenate([train, validation])
    low, high = float(values.min()), float(np.quantile(values, 0.985))
    if len(train) < 200:  # the fall at the start is the picture
        head = train[: max(1, len(train) // 20)]
        high = max([high, *head[head <= low + 3 * max(high - low, 1e-9)]])
    air = 0.06 * (high - low) or 0.05 * abs(high) or 0.1
    return low - air, high + 2 * air


def _make_room_for_legend(figure: Figure, axes: Axes) -> None:
    """Lower the top of the axes by the legend's rows; no corner inside is free of lines."""
    rows = math.ceil(len(axes.get_legend_handles_labels()[0]) / LEGEND_COLUMNS)
    box = axes.get_position()
    height = box.height - rows * LEGEND_ROW / figure.get_figheight()
    axes.set_position((box.x0, box.y0, box.width, height))


def _with_headroom(low: float, high: float, undone: Sequence[Curve]) -> tuple[float, float]:
    """Room above for what was undone, within reason."""
    peak = max([high, *(float(_up_to(np.inf, curve)[1].max(initial=high)) for curve in undone)])
    return low, high + min(1.06 * (peak - high), HEADROOM * (high - low))


def _up_to(top: float, curve: Curve) -> tuple[Floats, Floats]:
    """The curve clipped at `top`, which also replaces values that are not finite."""
    x, y = np.asarray(curve.x, np.float64), np.asarray(curve.y, np.float64)
    return x, np.minimum(np.where(np.isfinite(y), y, np.inf), top)


def _draw_undone(axes: Axes, undone: Sequence[Curve], high: float) -> None:
    """Thin lines, one per stretch, that leave the axes where they exceed the scale."""
    for index, curve in enumerate(undone):
        axes.plot(
            *downsample(*_up_to(2 * abs(high) + 1, curve)), color=UNDONE, linewidth=0.9,
            alpha=0.9, zorder=2.5, label="" if index else "undone", solid_joinstyle="round",
        )  # fmt: skip


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
    """A mark on the step axis for each event, one shape per kind, and an arrow for each rewind."""
    kinds: dict[str, list[float]] = {}
    for event in events:
        kinds.setdefault(event["kind"], []).append(float(event["step"]))
    lines = len(events) <= MAX_EVENT_LINES
    for kind, (marker, colour, height) in EVENT_MARKERS.items():
        steps = kinds.get(kind, [])
        for step in steps if lines else ():
            axes.axvline(step, color=MUTED, linewidth=0.8, linestyle=DOTTED, zorder=1)
        if steps:
            axes.plot(
                steps, np.full(len(steps), height), marker, transform=axes.get_xaxis_transform(),
                color=colour, markersize=7, markeredgecolor=PAPER, markeredgewidth=0.7,
                clip_on=False, zorder=6, label=f"{kind} ({len(steps)})" if steps[1:] else kind,
            )  # fmt: skip
    _draw_ways_back(axes, [(e["step"], e["to"]) for e in events if "to" in e])


def _draw_ways_back(axes: Axes, ways: Sequence[tuple[float, float]]) -> None:
    """An arrow just above the step axis from each step to the one it was rewound to."""
    low, high = axes.get_xlim()
    reached = [-np.inf] * len(ARROW_LEVELS)  # how far to the right each level is taken
    for start, to in sorted(ways, key=lambda way: way[1]):
        if start - to < SHORTEST_ARROW * (high - low):
            continue
        level = next((i for i, end in enumerate(reached) if end <= to), len(reached) - 1)
        reached[level] = max(reached[level], start)
        axes.annotate(
            "", (to, ARROW_LEVELS[level]), (start, ARROW_LEVELS[level]),
            xycoords=axes.get_xaxis_transform(), zorder=5,
            arrowprops={
                "arrowstyle": "-|>,head_length=0.45,head_width=0.2", "color": PURPLE,
                "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0,
            },
        )  # fmt: skip
