"""Draws what tuning gains and costs: answers against forgetting, and drift from the parent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from foundling.reports.plot_style import (
    BLUE,
    INK,
    MUTED,
    PALETTE,
    PAPER,
    VERMILLION,
    empty,
    legend,
    new_figure,
    padded,
)
from foundling.reports.plots import Curve


@dataclass(frozen=True)
class Tuned:
    """One run: what it forgot and how well it answers, validation by validation."""

    name: str
    forgotten: Sequence[float]
    loss_nats: Sequence[float]
    chosen: int
    """Which validation the kept model is of."""


def frontier_plot(runs: Sequence[Tuned], unit: str) -> Figure:
    """Answer loss against forgetting; a faint path a run, a point for the model that is kept."""
    figure, axes = new_figure(
        "What the answers cost", f"forgotten: rise of the pretraining loss ({unit})",
        "answer loss (nats per token)", height=4.6, left=0.11,
    )  # fmt: skip
    if not runs:
        return empty(figure, axes, "no runs yet")
    colours = [PALETTE[index % len(PALETTE)] for index in range(len(runs))]
    points = [(run.forgotten[run.chosen], run.loss_nats[run.chosen]) for run in runs]
    axes.plot(*zip(*sorted(points), strict=True), color=MUTED, linewidth=1.2, zorder=2)
    for run, (x, y), colour in zip(runs, points, colours, strict=True):
        axes.plot(run.forgotten, run.loss_nats, color=colour, linewidth=1.0, alpha=0.35, zorder=1)
        axes.plot(
            x, y, "o", color=colour, markersize=9, markeredgecolor=PAPER, label=run.name, zorder=5,
        )  # fmt: skip
    every_x = np.array([x for x, _ in points])
    every_y = np.array([y for _, y in points])
    axes.set_xlim(*padded(np.append(every_x, 0.0)))
    low, high = padded(every_y)
    axes.set_ylim(low, high + 0.25 * (high - low))
    axes.axvline(0, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
    axes.xaxis.set_major_locator(MaxNLocator(7))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    legend(axes)
    return figure


def drift_plot(kl: Curve, pretraining: Curve, unit: str) -> Figure:
    """How far a run has gone from its parent, and what that does to the pretraining text."""
    figure, axes = new_figure(
        "Drift from the parent", "step", "KL, nats per token", height=3.4, right=0.9
    )
    x, y = kl.finite()
    if not len(x):
        return empty(figure, axes, "not measured")
    axes.plot(x, y, color=BLUE, linewidth=2, marker="o", markersize=4.5, label="KL to the parent")
    axes.set_ylim(0, 1.15 * max(float(y.max()), 1e-3))
    axes.set_xlim(0, 1.012 * max(1.0, float(x[-1])))
    other_x, other_y = pretraining.finite()
    if len(other_x):
        right = axes.twinx()
        right.plot(
            other_x, other_y, color=VERMILLION, linewidth=2, marker="s", markersize=4.5,
            label="pretraining text",
        )  # fmt: skip
        axes.plot([], [], color=VERMILLION, linewidth=2, marker="s", label="pretraining text")
        right.set_ylabel(unit, color=MUTED, fontsize=11.5, labelpad=6)
        right.tick_params(colors=MUTED, labelsize=11, length=0)
        right.set_ylim(*padded(np.append(other_y, 1.02 * other_y[0])))
        for spine in right.spines.values():
            spine.set_visible(False)
    axes.legend(
        loc="lower right", fontsize=11, labelcolor=INK, facecolor=PAPER, edgecolor="none",
        framealpha=0.85,
    )  # fmt: skip
    return figure


def preferred_plot(validation: Sequence[Mapping[str, Any]]) -> Figure:
    """The share of held-out pairs told rightly, its interval, and what length alone would tell."""
    figure, axes = new_figure("Told rightly", "step", "held-out pairs", height=3.4, left=0.12)
    told = [record for record in validation if record["step"]]
    if not told:
        return empty(figure, axes, "not yet")
    steps = [record["step"] for record in told]
    low, high = zip(*(record["accuracy_interval"] for record in told), strict=True)
    axes.fill_between(steps, low, high, color=BLUE, alpha=0.13, linewidth=0)
    axes.vlines(steps, low, high, color=BLUE, alpha=0.45, linewidth=1.2)
    accuracy = [record["accuracy"] for record in told]
    axes.plot(steps, accuracy, color=BLUE, linewidth=2, marker="o", markersize=4.5, label="gained")
    likelier = [record["ranking_accuracy"] for record in validation]
    axes.plot(
        [record["step"] for record in validation], likelier, color=VERMILLION, linewidth=1.5,
        marker="s", markersize=4, label="likelier",
    )  # fmt: skip
    longer = told[-1]["longer_accuracy"]
    axes.axhline(longer, color=INK, linewidth=1.2, linestyle=(0, (2, 3)), label="longer")
    axes.axhline(1 - longer, color=MUTED, linewidth=1.2, linestyle=(0, (2, 3)), label="shorter")
    axes.set_xlim(0, 1.012 * steps[-1])
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.legend(
        loc="lower right", ncols=4, fontsize=11, labelcolor=INK, facecolor=PAPER,
        edgecolor="none", framealpha=0.85,
    )  # fmt: skip
    return figure


def changes_plot(validation: Sequence[Mapping[str, Any]]) -> Figure:
    """How much likelier chosen and rejected answers have become since the parent."""
    figure, axes = new_figure("Either answer", "step", "change, nats an answer", height=3.2)
    known = [record for record in validation if record.get("chosen_change") is not None]
    if not known:
        return empty(figure, axes, "this loss has no reference")
    steps = [record["step"] for record in known]
    for name, colour, marker in (("chosen", BLUE, "o"), ("rejected", VERMILLION, "s")):
        values = [record[f"{name}_change"] for record in known]
        axes.plot(
            steps, values, color=colour, linewidth=2, marker=marker, markersize=4.5, label=name
        )
    axes.axhline(0, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
    axes.set_xlim(0, 1.012 * max(1, steps[-1]))
    axes.legend(
        loc="lower left", fontsize=11, labelcolor=INK, facecolor=PAPER, edgecolor="none",
        framealpha=0.85,
    )  # fmt: skip
    return figure


MARKERS = ("o", "^", "s", "D", "v", "P")


def learning_plot(
    curves: Mapping[str, Sequence[tuple[float, float, float, float]]],
    *,
    chance: float | None,
    majority: float | None = None,
    title: str,
) -> Figure:
    """Accuracy against the number of examples: (number, mean, low, high) by way of learning."""
    figure, axes = new_figure(title, "examples", "accuracy", height=5.2, right=0.96)
    left, bottom, width, height = axes.get_position().bounds
    axes.set_position((left, bottom, width, height - 0.11))  # the legend stands above
    if not any(curves.values()):
        return empty(figure, axes, "nothing measured yet")
    for (name, points), colour, marker in zip(curves.items(), PALETTE, MARKERS, strict=False):
        x, mean, low, high = (np.array(column) for column in zip(*sorted(points), strict=True))
        axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
        axes.vlines(x, low, high, color=colour, alpha=0.45, linewidth=1.2, zorder=3)
        axes.plot(
            x, mean, color=colour, linewidth=2, marker=marker, markersize=7, label=name,
            markeredgecolor=PAPER, zorder=4,
        )  # fmt: skip
    numbers = sorted({point[0] for points in curves.values() for point in points})
    axes.set_xscale("symlog", base=2, linthresh=1)
    axes.set_xlim(-0.25, 1.15 * max(1.0, numbers[-1]))
    axes.set_xticks(numbers, [f"{number:,g}" for number in numbers])
    axes.minorticks_off()
    every = [value for points in curves.values() for point in points for value in point[2:]]
    lines = [(chance, "chance", (0, (2, 3))), (majority, "majority", (0, (6, 3)))]
    levels = [level for level, _, _ in lines if level is not None]
    low_end, high_end = padded(np.array([*every, *levels]))
    axes.set_ylim(max(0.0, low_end), min(1.02, high_end))
    for level, name, dashes in lines:
        if level is not None:
            axes.axhline(level, color=MUTED, linewidth=1.2, linestyle=dashes, label=name, zorder=1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.01, 1.01), ncols=3, fontsize=11, labelcolor=INK,
        frameon=False, handlelength=2.2, columnspacing=1.6, borderaxespad=0,
    )  # fmt: skip
    return figure
