"""Accuracy by the number of examples: means, intervals, and where ways of learning cross."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from foundling.statistics.estimates import crossed

WAYS = {
    "in_context": "in the prompt",
    "calibrated": "in the prompt, calibrated",
    "full": "fine-tuned",
    "lora": "fine-tuned, LoRA",
}
"""Ways to learn a task, and what they are called."""
TUNED = ("full", "lora")


@dataclass(frozen=True)
class Point:
    """The accuracy after `number` examples: the mean over seeds, with a 95% interval."""

    number: int
    mean: float
    low: float
    high: float
    num_seeds: int

    def values(self) -> dict[str, Any]:
        return asdict(self)


Curves = Mapping[str, Sequence[Point]]


def interval(table: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The 95% interval of an accuracy where draws of examples and test items are drawn anew.

    Args:
        table: of each draw of examples (rows), how right each test item is (columns).
    """
    low, high = crossed(table).interval
    return max(0.0, low), min(1.0, high)


def curves_of(measurements: Iterable[Mapping[str, Any]]) -> dict[str, list[Point]]:
    """The points of each way, in the order of the number of examples."""
    found: dict[str, dict[int, list[str]]] = {}
    for one in measurements:
        found.setdefault(one["way"], {}).setdefault(one["number"], []).append(one["hits"])
    return {
        way: [_point(way, number, hits) for number, hits in sorted(found[way].items())]
        for way in WAYS
        if way in found
    }


def hit_of(right: float) -> str:
    """An item in a string of hits: 0 for wrong, 1 for right, 2 for one of two equal answers, …"""
    return chr(ord("0") + round(1 / right)) if right else "0"


def right_of(hit: str) -> float:
    """The accuracy of the item: 1/n for one of n equally likely answers."""
    return 1 / (ord(hit) - ord("0")) if hit != "0" else 0.0


def _point(way: str, number: int, hits: Sequence[str]) -> Point:
    table = np.array([[right_of(hit) for hit in of_seed] for of_seed in hits])
    low, high = interval(table)
    return Point(number, float(table.mean()), low, high, len(hits))


def best_in_context(curves: Curves) -> tuple[str, Point] | None:
    """The most accurate point of learning from the prompt alone; of equals the fewest examples."""
    points = [(way, p) for way, of in curves.items() if way not in TUNED for p in of]
    return max(points, key=lambda found: (found[1].mean, -found[1].number), default=None)


def crossing(points: Sequence[Point], accuracy: float) -> int | None:
    """The smallest number of examples from which the interval lies above `accuracy`."""
    return next((point.number for point in points if point.low > accuracy), None)


@dataclass(frozen=True)
class Gap:
    """How much more accurate a way is than the prompt after the same `number` of examples.

    Item by item on the same draws, with a 95% interval over draws and test items.
    """

    way: str
    number: int
    value: float
    low: float
    high: float

    def values(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def sentence(self) -> str:
        points, ends = 100 * abs(self.value), sorted((100 * self.low, 100 * self.high))
        side = "above" if self.value > 0 else "below"
        shown = "" if self.low > 0 or self.high < 0 else ": no difference shown"
        return (
            f"{_title(WAYS[self.way])} on the same {self.number:,} examples: {points:.1f} points "
            f"{side} the prompt ({ends[0]:+.1f} to {ends[1]:+.1f}){shown}."
        )


def gaps(measurements: Iterable[Mapping[str, Any]]) -> list[Gap]:
    """Fine-tuning less the prompt, where both had the same number of examples and draws."""
    hits = {(m["way"], m["number"], m["seed"]): m["hits"] for m in measurements}
    found = []
    for way in TUNED:
        for number in sorted({n for w, n, _ in hits if w == way}):
            seeds = [s for w, n, s in hits if (w, n) == (way, number)]
            both = [s for s in sorted(seeds) if ("in_context", number, s) in hits]
            if not both:
                continue
            tuned, shown = (
                np.array([[right_of(hit) for hit in hits[one, number, s]] for s in both])
                for one in (way, "in_context")
            )
            gap = crossed(tuned - shown, are_gains=True)
            low, high = gap.interval
            found.append(Gap(way, number, gap.value, max(-1.0, low), min(1.0, high)))
    return found


def verdict(
    curves: Curves, majority: float, template: str = "", apart: Sequence[Gap] = ()
) -> list[str]:
    """The curves in sentences: how good learning in context is, and what exceeds it."""
    best = best_in_context(curves)
    if best is None:
        return ["Nothing was measured with examples in the prompt."]
    way, point = best
    which = (
        f"{point.mean:.1%} ({point.low:.1%} to {point.high:.1%}), {WAYS[way]}, k = {point.number}"
    )
    sentences = [f"The best accuracy in context is {which}."]
    if point.low <= majority:
        sentences.append(
            f"That is no better than always giving the most common answer ({majority:.1%}): "
            f"learning from the prompt is not shown with the template {template!r}; another one "
            "may show it."
        )
    for name in TUNED:
        if name not in curves:
            continue
        at, label = crossing(curves[name], point.mean), _title(WAYS[name])
        if at is None:
            most = curves[name][-1].number
            sentences.append(f"{label}: they do not cross here, up to n = {most:,} examples.")
        else:
            sentences.append(f"{label}: above it from n = {at:,} examples on.")
    return [*sentences, *(gap.sentence for gap in apart)]


def _title(text: str) -> str:
    return text[0].upper() + text[1:]
