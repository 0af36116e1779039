"""What a probe finds of a model: figures with their intervals, chance levels and baselines."""

import math
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from foundling.evaluation.scorer import Prompt
from foundling.statistics.estimates import Estimate, crossed, estimate

Good = Literal["high", "low", "neither"]
Unit = Literal["share", "number"]


UNREADABLE = "too long for the model's context, or with characters that it has no token for"
"""The reason why a scorer answers None."""


@dataclass(frozen=True)
class Baseline:
    """The figure of a rule without a model, and the rule."""

    value: float
    rule: str


@dataclass(frozen=True)
class Metric:
    """A mean over items. `outcomes` has each item's, so that runs can be compared item by item.

    `key` is the same for every run; `chance` what guessing gives; `groups` says which items are
    not independent, None where all are; with `weights` it is a weighted mean. Where all items
    share something that was drawn, such as examples, `draws` has each draw's outcomes of them.
    """

    key: str
    title: str
    outcomes: Mapping[str, float]
    groups: Mapping[str, str] | None = None
    weights: Mapping[str, float] | None = None
    draws: Sequence[Sequence[float]] = ()
    chance: float | None = None
    baseline: Baseline | None = None
    good: Good = "high"
    unit: Unit = "share"
    are_gains: bool = False
    """Whether the outcomes are differences of shares, which may be below 0."""
    headline: bool = False
    """Whether the summary shows it."""
    note: str = ""

    @property
    def most_apart(self) -> float:
        """The largest difference that there can be between two runs."""
        if self.unit != "share":
            return math.inf
        return 2.0 if self.are_gains else 1.0

    @property
    def estimate(self) -> Estimate | None:
        """The mean, with an interval clipped to what a share, or a gain of shares, can be."""
        if len(self.draws) > 1:
            found: Estimate | None = crossed(np.array(self.draws), are_gains=self.are_gains)
        else:
            found = estimate(self.outcomes, self.groups, self.weights, are_gains=self.are_gains)
        if found is None or self.unit != "share" or not math.isfinite(found.standard_error):
            return found
        low, high = found.interval
        least = -1.0 if self.are_gains else 0.0
        return replace(found, interval=(max(least, low), min(1.0, high)))


@dataclass(frozen=True)
class Point:
    """A point of a curve, with the ends of its interval."""

    x: float
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """One quantity against another, such as accuracy against the number of examples.

    Curves of one `figure` are drawn together; `chance` is drawn as a line.
    """

    figure: str
    name: str
    points: tuple[Point, ...]
    x_label: str
    y_label: str
    chance: float | None = None


@dataclass(frozen=True)
class Shown:
    """An item to look at: what was given, what came, and the verdict."""

    given: str
    came: str
    verdict: str = ""


@dataclass(frozen=True)
class Answered:
    """An item of one set with what came of it, for the file of items.

    A choice has continuations, each behind its prompt or all behind one, their scores by each way
    and the index of the chosen and of the right one; a text that was written has `answer` alone.
    `outcome` is what the metric counts.
    """

    set: str
    id: str
    prompts: tuple[Prompt, ...]
    outcome: float | None
    choices: tuple[str, ...] = ()
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)
    chosen: int | None = None
    gold: int | None = None
    answer: str = ""


@dataclass
class Findings:
    """All that a probe found; `notes` say what was left out and how far figures can be trusted."""

    metrics: list[Metric] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    items: list[Answered] = field(default_factory=list)

    def left_out(self, count: int, of: int, what: str, why: str) -> None:
        """Note that so many were not measured."""
        if count:
            self.notes.append(f"left out {count:,} of {of:,} {what}: {why}")

    def unread(self, found: Sized, of: Sized, what: str) -> None:
        """Note how many of them a scorer could not answer."""
        self.left_out(len(of) - len(found), len(of), what, UNREADABLE)

    def not_there(self, file: str) -> None:
        """Note that a file of the data root is missing and was not measured."""
        self.notes.append(f"not measured: {file} is not below --data-root")
