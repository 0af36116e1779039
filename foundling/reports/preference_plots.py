"""Draws the figures of preferences: estimates with their intervals, and ratings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from foundling.reports import style
from foundling.reports.names import cut
from foundling.reports.style import BLUE, DOTTED, INK, MUTED, PALETTE


@dataclass(frozen=True)
class Estimate:
    """An estimate with its interval, from `n` items; None where it is not determined.

    The name may have two lines.
    """

    name: str
    value: float | None
    interval: Sequence[float] | None
    n: int | None = None


def estimates_plot(
    title: str,
    label: str,
    estimates: Sequence[Estimate],
    *,
    limits: tuple[float, float] | None = None,
    reference: float | None = None,
    percent: bool = False,
) -> Figure:
    """One row per estimate: a point on its interval, the value at the right.

    `reference` is the value without any effect; `limits` are those of the axis, by default wide
    enough for every interval.
    """
    known = [estimate for estimate in estimates if estimate.value is not None]
    lines = max((estimate.name.count("\n") + 1 for estimate in known), default=1)
    figure, axes = style.new_figure(
        title,
        label,
        "",
        height=1.45 + (0.18 + 0.22 * lines) * max(len(known), 1),
        left=0.32,
        right=0.76,
    )
    if not known:
        return style.empty(figure, axes, "nothing measured yet")
    for row, estimate in enumerate(known):
        assert estimate.value is not None
        if estimate.interval is not None:
            low, high = estimate.interval
            axes.hlines(row, low, high, color=BLUE, linewidth=3, alpha=0.4, zorder=3)
        axes.plot(estimate.value, row, "o", color=BLUE, markersize=8, zorder=4, clip_on=False)
        counted = "" if estimate.n is None else f"n = {estimate.n:,}"
        for place, text, (weight, colour) in (
            (1.03, format(estimate.value, ".0%" if percent else ".2f"), ("bold", INK)),
            (1.22, counted, ("normal", MUTED)),
        ):
            axes.text(
                place, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=11.5,
                fontweight=weight, color=colour,
            )  # fmt: skip
    if reference is not None:
        axes.axvline(reference, color=MUTED, linewidth=1.2, linestyle=DOTTED, zorder=2)
    ends = [x for e in known for x in (e.value, *(e.interval or ())) if x is not None]
    if reference is not None:
        ends.append(reference)
    air = 0.06 * (max(ends) - min(ends)) or 0.1
    low, high = limits or (min(ends) - air, max(ends) + air)
    axes.set_xlim(min(low, *ends), max(high, *ends))
    axes.set_ylim(len(known) - 0.5, -0.5)
    axes.yaxis.set_major_locator(FixedLocator(list(range(len(known)))))
    axes.set_yticklabels([estimate.name for estimate in known], parse_math=False)
    style.horizontal(axes)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    style.show(axes.xaxis, ".0%" if percent else "g")
    return figure


def ratings_plot(counts: Mapping[str, Mapping[int, int]], numbers: Sequence[int]) -> Figure:
    """How often each source's answers were given each number, as shares of its ratings."""
    figure, axes = style.new_figure("How the answers were rated", "rating", "share", height=3.4)
    drawn = {name: given for name, given in counts.items() if sum(given.values())}
    if not drawn:
        return style.empty(figure, axes, "nothing rated yet")
    width = 0.8 / len(drawn)
    for place, (name, given) in enumerate(drawn.items()):
        shares = [given.get(number, 0) / sum(given.values()) for number in numbers]
        middles = np.array(numbers) + (place - (len(drawn) - 1) / 2) * width
        colour = PALETTE[place % len(PALETTE)]
        axes.bar(middles, shares, width=0.92 * width, color=colour, label=cut(name))
    axes.set_xticks(list(numbers))
    style.show(axes.yaxis, ".0%")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (1.12 + 0.09 * len(drawn)))  # the legend stands in it
    style.legend(axes)
    return figure
