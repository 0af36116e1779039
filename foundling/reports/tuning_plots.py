"""Draws what tuning gains and costs: answer loss, forgetting, drift, preference accuracy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from foundling.reports import style
from foundling.reports.run_plots import Curve
from foundling.reports.style import BLUE, DOTTED, INK, MUTED, PALETTE, PAPER, VERMILLION


@dataclass(frozen=True)
class Tuned:
    """One run: its forgetting and its answer loss, at each validation."""

    name: str
    forgotten: Sequence[float]
    loss_nats: Sequence[float]
    chosen: int
    """The index of the validation whose model was kept."""


def frontier_plot(runs: Sequence[Tuned], unit: str) -> Figure:
    """Answer loss against forgetting; a faint path per run, a point for the model kept."""
    figure, axes = style.new_figure(
        "Answer loss against forgetting", f"forgotten: rise of the pretraining loss ({unit})",
        "answer loss (nats per token)", height=4.6, left=0.11,
    )  # fmt: skip
    if not runs:
        return style.empty(figure, axes, "no runs yet")
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
    axes.set_xlim(*style.padded(np.append(every_x, 0.0)))
    low, high = style.padded(every_y)
    axes.set_ylim(low, high + 0.25 * (high - low))
    axes.axvline(0, color=MUTED, linewidth=0.8, linestyle=DOTTED)
    axes.xaxis.set_major_locator(MaxNLocator(7))
    style.show(axes.xaxis, "g")
    style.legend(axes)
    return figure


def drift_plot(kl: Curve, pretraining: Curve, unit: str) -> Figure:
    """KL to the parent, and the loss on pretraining text."""
    figure, axes = style.new_figure(
        "Drift from the parent", "step", "KL, nats per token", height=3.4, left=0.12, right=0.9
    )
    x, y = kl.finite()
    if not len(x):
        return style.empty(figure, axes, "not measured")
    axes.plot(x, y, color=BLUE, linewidth=2, marker="o", markersize=4.5, label="KL to the parent")
    axes.set_ylim(0, 1.15 * max(float(y.max()), 1e-3))
    style.from_start(axes, float(x[-1]))
    other_x, other_y = pretraining.finite()
    if len(other_x):
        right = axes.twinx()
        right.plot(
            other_x, other_y, color=VERMILLION, linewidth=2, marker="s", markersize=4.5,
            label="pretraining text",
        )  # fmt: skip
        axes.plot([], [], color=VERMILLION, linewidth=2, marker="s", label="pretraining text")
        style.right_scale(right, unit)
        right.set_ylim(*style.padded(np.append(other_y, 1.02 * other_y[0])))
    style.legend(axes, "lower right")
    return figure


def preferred_plot(validation: Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy on held-out pairs with its interval, and the accuracy of length alone."""
    figure, axes = style.new_figure(
        "Preference accuracy", "step", "accuracy on held-out pairs", height=3.4, left=0.12
    )
    told = [record for record in validation if record["step"]]
    if not told:
        return style.empty(figure, axes, "not yet")
    steps = [record["step"] for record in told]
    low, high = zip(*(record["accuracy_interval"] for record in told), strict=True)
    accuracy = [record["accuracy"] for record in told]
    style.with_intervals(
        axes,
        steps,
        accuracy,
        low,
        high,
        color=BLUE,
        marker="o",
        markersize=4.5,
        label="gained",
    )
    likelier = [record["ranking_accuracy"] for record in validation]
    axes.plot(
        [record["step"] for record in validation], likelier, color=VERMILLION, linewidth=1.5,
        marker="s", markersize=4, label="likelier",
    )  # fmt: skip
    longer = told[-1]["longer_accuracy"]
    style.level(axes, longer, color=INK, label="longer")
    style.level(axes, 1 - longer, label="shorter")
    style.from_start(axes, steps[-1])
    axes.set_ylim(0, 1.02)
    style.show(axes.yaxis, ".0%")
    style.legend(axes, "lower right", ncols=4)
    return figure


def changes_plot(validation: Sequence[Mapping[str, Any]]) -> Figure:
    """The change of the log-probability of chosen and rejected answers since the parent."""
    figure, axes = style.new_figure(
        "Change of the log-probability", "step", "nats per answer", height=3.2
    )
    known = [record for record in validation if record.get("chosen_change") is not None]
    if not known:
        return style.empty(figure, axes, "this loss has no reference")
    steps = [record["step"] for record in known]
    for name, colour, marker in (("chosen", BLUE, "o"), ("rejected", VERMILLION, "s")):
        values = [record[f"{name}_change"] for record in known]
        axes.plot(
            steps, values, color=colour, linewidth=2, marker=marker, markersize=4.5, label=name
        )
    style.level(axes, 0, linewidth=0.8)
    style.from_start(axes, steps[-1])
    style.legend(axes, "lower left")
    return figure
