"""Tells an anomalous step from a healthy one by what the steps before it were like."""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

FIRST = 24
"""Accepted values before a signal's own spread is known."""
RECENT = 9
# Measured on recorded runs: half as much again never happens at a start that goes well.
EARLY_MARGIN = math.log(1.5)
# Above the lowest yet, of a loss whose model is shaken at every step. Measured on five rungs: up to
# 1.07 where the learning rate is high and suits, 1.18 and more where it is 30 times too high.
SHAKEN_MARGIN = math.log(1.12)
MAD_TO_SIGMA = 1.4826  # of a Gaussian
REFIT = 4  # accepted values between two fits
SCORES = 2048
MAX_TAIL = 4.0
TINY = 1e-12  # where a logarithm is wanted of a loss of 0


@dataclass(frozen=True)
class Expectation:
    """Where the logarithm of a signal's next value is expected, and how far it may be above."""

    center: float
    sigma: float
    margin: float

    @property
    def limit(self) -> float:
        return self.center + self.margin


@dataclass
class Stream:
    """One signal's accepted values, as logarithms.

    `floor` is the smallest rise of the logarithm that counts, however quiet the signal is.
    """

    window: int
    threshold: float
    floor: float
    values: deque[float] = field(default_factory=deque)
    slope: float = 0.0
    base: float = 0.0
    sigma: float = 0.0
    age: int = 0
    """Values accepted since the line was fitted."""
    scores: deque[float] = field(default_factory=deque)
    """How many sigmas above what was expected the last accepted values were."""

    @property
    def known(self) -> bool:
        """Whether there are enough values to know what is usual."""
        return len(self.values) >= FIRST

    def expectation(self, *, shaken: bool = False) -> Expectation | None:
        """None: nothing is known yet.

        The centre is never below the last few values, for a loss falls ever more slowly.
        """
        if not self.values:
            return None
        center = self._center()
        if not self.known:
            if shaken:
                return Expectation(min(self.values), 0.0, SHAKEN_MARGIN)
            return Expectation(center, 0.0, EARLY_MARGIN + self.floor)
        margin = self.threshold * self._tail() * self.sigma
        return Expectation(center, self.sigma, max(self.floor, margin))

    def exceeds(self, value: float, *, shaken: bool = False) -> Expectation | None:
        """The expectation that `value` is above; None: it is not."""
        if self.known and value <= median(list(self.values)[-RECENT:]) + self.floor:
            return None  # below every limit: spares the rest at nearly all steps
        expected = self.expectation(shaken=shaken)
        return expected if expected is not None and value > expected.limit else None

    def accept(self, value: float) -> None:
        if self.sigma:  # against the centre, so that a curved fall is not mistaken for a heavy tail
            self.scores.append((value - self._center()) / self.sigma)
            if len(self.scores) > SCORES:
                self.scores.popleft()
        self.values.append(value)
        if len(self.values) > self.window:
            self.values.popleft()
        self.age += 1
        if self.known and (self.age >= REFIT or not self.sigma):
            self._fit()

    def _center(self) -> float:
        recent = median(list(self.values)[-RECENT:])
        if not self.sigma:
            return recent
        return max(recent, self.base + self.slope * self.age)

    def state(self) -> dict[str, Any]:
        """In plain types; what the values alone do not give back is part of it."""
        plain = {"values": list(self.values), "scores": list(self.scores)}
        return {name: getattr(self, name) for name in ("slope", "base", "sigma", "age")} | plain

    def load_state(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self.values, self.scores = deque(state["values"]), deque(state["scores"])

    def _fit(self) -> None:
        """The median and the median deviation around a line that falls or is level.

        Only a fall counts as the trend: a rise would hide the next one.
        """
        logs = list(self.values)
        half = len(logs) // 2
        fall = (median(logs[-half:]) - median(logs[:half])) / (len(logs) - half)
        self.slope = min(0.0, fall)
        flat = [value - self.slope * index for index, value in enumerate(logs, 1 - len(logs))]
        self.base = median(flat)
        self.sigma = MAD_TO_SIGMA * median([abs(value - self.base) for value in flat])
        self.age = 0

    def _tail(self) -> float:
        """How much further than 1 the limit must be, as this signal's tail is heavier than normal.

        A high rank of the scores is compared with a Gaussian's; it is no extreme, so that a few
        anomalies that were let in do not move it.
        """
        count = len(self.scores)
        if count < 2 * FIRST:
            return 1.0
        rank = max(2, count // 200)
        found = sorted(self.scores)[-rank]
        gaussian = NormalDist().inv_cdf(1 - rank / (count + 1))
        tail: float = min(MAX_TAIL, max(1.0, found / gaussian / 1.2) ** 4)
        return tail


class Drift:
    """A cumulative sum that finds a slow rise above the best level, which no single step shows.

    Source: Page 1954, Continuous Inspection Schemes.
    """

    ALLOWANCE = 1.0  # standard deviations above the best level that add nothing
    LIMIT = 25.0
    CLIP = 4.0  # a single value adds at most this much, so that heavy tails do not add up
    EVERY, LEVELS = 8, 64  # the best of the levels of the last 512 accepted steps

    def __init__(self) -> None:
        self.sum = 0.0
        self.rising_for = 0
        self.accepted = 0
        self.levels: deque[float] = deque(maxlen=self.LEVELS)
        self.sigmas: deque[float] = deque(maxlen=self.LEVELS)

    def next_sum(self, value: float, sigma: float) -> float:
        if not self.levels or sigma <= 0:
            return 0.0
        sigma = max(sigma, median(self.sigmas))  # one fit's alone is too often too small
        score = (value - min(self.levels)) / sigma
        return max(0.0, self.sum + max(-self.CLIP, min(self.CLIP, score)) - self.ALLOWANCE)

    def accept(self, value: float, stream: Stream) -> None:
        self.sum = self.next_sum(value, stream.sigma)
        self.rising_for = self.rising_for + 1 if self.sum else 0
        self.accepted += 1
        if self.accepted % self.EVERY == 0 and stream.sigma:
            self.levels.append(median(list(stream.values)[-4 * RECENT :]))
            self.sigmas.append(stream.sigma)

    def state(self) -> dict[str, Any]:
        return {**vars(self), "levels": list(self.levels), "sigmas": list(self.sigmas)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self.levels = deque(state["levels"], self.LEVELS)
        self.sigmas = deque(state["sigmas"], self.LEVELS)

    def rebase(self) -> None:
        """Take the present level for the best."""
        self.sum, self.rising_for = 0.0, 0
        self.levels = deque([self.levels[-1]] if self.levels else [], self.LEVELS)


LOSS_FLOOR = 1.08
FLOORS = {
    "loss": math.log(LOSS_FLOOR),
    "max_loss": math.log(1.3),
    "gradient_norm": math.log(8),
    "update_norm": math.log(4),
}
"""The smallest rise of each signal that counts, above what healthy steps of recorded runs do."""


class Detector:
    """The signals' histories. Only accepted steps enter them, so no anomaly hides the next.

    The loss, and that of a micro-batch, may always rise to `loss_floor` times what is expected.
    """

    def __init__(self, window: int, threshold: float, loss_floor: float = LOSS_FLOOR) -> None:
        rise = math.log(loss_floor)
        floors = FLOORS | {"loss": rise, "max_loss": max(rise, FLOORS["max_loss"])}
        self.streams = {name: Stream(window, threshold, floor) for name, floor in floors.items()}
        self.drift = Drift()

    def objection(self, values: Mapping[str, float], *, shaken: bool = False) -> str | None:
        """What is out of line in a step's signals by name, in words; None: nothing.

        `shaken`: the last updates changed a large part of the model.
        """
        for name, value in values.items():
            words = name.replace("_", " ")
            if not math.isfinite(value):
                return f"the {words} is {value}"
            if (expected := self._exceeds(name, value, shaken)) is not None:
                return (
                    f"the {words} is {value:.4g}, where {math.exp(expected.center):.4g} was "
                    f"expected and at most {math.exp(expected.limit):.4g} allowed"
                )
        return None

    def _exceeds(self, name: str, value: float, shaken: bool) -> Expectation | None:
        return self.streams[name].exceeds(log(value), shaken=shaken and name == "loss")

    def rising_for(self, loss: float) -> int | None:
        """Since how many steps the loss has been drifting upwards; None: it has not."""
        sigma = self.streams["loss"].sigma
        if self.drift.next_sum(log(loss), sigma) <= Drift.LIMIT:
            return None
        return self.drift.rising_for + 1

    def accept(self, values: Mapping[str, float]) -> None:
        """Take a step's signals for healthy."""
        for name, value in values.items():
            self.streams[name].accept(log(value))
        if "loss" in values:
            self.drift.accept(log(values["loss"]), self.streams["loss"])

    def state(self) -> dict[str, Any]:
        """In plain types, for a checkpoint."""
        return {
            "streams": {name: stream.state() for name, stream in self.streams.items()},
            "drift": self.drift.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        for name, stream in state["streams"].items():
            self.streams[name].load_state(stream)
        self.drift.load_state(state["drift"])


def median(values: Iterable[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def log(value: float) -> float:
    return math.log(max(value, TINY))
