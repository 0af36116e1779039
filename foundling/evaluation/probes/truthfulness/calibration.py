"""Calibration: whether a model that is 70% sure is right in 70% of the cases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foundling.evaluation.choices import Chosen
from foundling.evaluation.findings import Baseline, Curve, Metric, Point
from foundling.statistics.wilson import wilson

NUM_BINS = 10


@dataclass(frozen=True)
class Judged:
    """The probabilities that a model gives an item's alternatives, and which one is right."""

    id: str
    probabilities: tuple[float, ...]
    gold: int
    group: str

    @property
    def confidence(self) -> float:
        """The probability of the alternative that is chosen."""
        return max(self.probabilities)

    @property
    def is_right(self) -> float:
        """1 where the right one alone is chosen; among n equals 1/n, as if drawn."""
        best = [n for n, p in enumerate(self.probabilities) if p == self.confidence]
        return 1 / len(best) if self.gold in best else 0.0

    @property
    def brier(self) -> float:
        """The squared distance from the right answer, summed over the alternatives: 0 to 2."""
        return sum((p - (n == self.gold)) ** 2 for n, p in enumerate(self.probabilities))


def judged(chosen: Sequence[Chosen]) -> list[Judged]:
    """Choices with the softmax of their alternatives' summed log-probabilities."""
    return [
        Judged(
            found.item.id,
            tuple(map(float, softmax(found.scores["sum"]))),
            found.item.gold,
            found.item.group or found.item.id,
        )
        for found in chosen
    ]


def softmax(scores: Sequence[float]) -> npt.NDArray[np.float64]:
    """Log-probabilities as shares that add up to 1."""
    values = np.exp(np.array(scores, dtype=np.float64) - max(scores))
    shares: npt.NDArray[np.float64] = values / values.sum()
    return shares


def calibration(key: str, what: str, items: Sequence[Judged]) -> tuple[list[Metric], list[Curve]]:
    """The calibration error and the Brier score of some items, and their reliability curve.

    The expected calibration error is Σ over bins of (n_bin / n) · |accuracy − confidence|. That is
    a mean over items of ±(confidence − right), with the sign of the item's bin, and so it has an
    interval and can be compared between runs; chance is what noise alone leaves of a model that
    is calibrated perfectly, with the confidences of this one. A Brier score's chance is that of a
    model to which all alternatives are alike.

    Source: Naeini et al. 2015, Obtaining Well Calibrated Probabilities; Brier 1950.
    """
    if not items:
        return [], []
    groups = {item.id: item.group for item in items}
    bins = bins_of([item.confidence for item in items])
    over = np.array([item.confidence - item.is_right for item in items])
    errors = dict(zip(groups, map(float, signed(over, bins)), strict=True))
    by_noise = Baseline(noise([item.confidence for item in items]), "calibrated, but for noise")
    metrics = [
        Metric(
            f"{key}.calibration_error",
            f"Expected calibration error, {what}",
            errors,
            groups,
            chance=by_noise.value,
            baseline=by_noise,
            good="low",
            unit="number",
            note=f"{NUM_BINS} bins of equal width; of few items it lies above 0 by noise alone. "
            "The interval takes the bins' signs as known.",
        ),
        Metric(
            f"{key}.brier",
            f"Brier score, {what}",
            {item.id: item.brier for item in items},
            groups,
            chance=sum(1 - 1 / len(item.probabilities) for item in items) / len(items),
            good="low",
            unit="number",
            note="squared error summed over the alternatives, 0 to 2",
        ),
    ]
    return metrics, [reliability(what, items, bins)]


def bins_of(confidences: Sequence[float]) -> npt.NDArray[np.int64]:
    """The number of the bin of equal width, 0 to 9, of each confidence."""
    indices: npt.NDArray[np.int64] = np.minimum(
        (np.array(confidences) * NUM_BINS).astype(np.int64), NUM_BINS - 1
    )
    return indices


def signed(over: npt.NDArray[np.float64], bins: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Overconfidences with the sign of their bin's sum; their mean is the calibration error."""
    signs = np.sign(np.bincount(bins, over, NUM_BINS))
    result: npt.NDArray[np.float64] = over * signs[bins]
    return result


def noise(confidences: Sequence[float], draws: int = 500, seed: int = 0) -> float:
    """The calibration error expected of a model that is right exactly as often as it says."""
    sure, bins = np.array(confidences), bins_of(confidences)
    random = np.random.default_rng(seed)
    errors = [
        float(signed(sure - (random.random(len(sure)) < sure), bins).mean()) for _ in range(draws)
    ]
    return sum(errors) / draws


def reliability(what: str, items: Sequence[Judged], bins: npt.NDArray[np.int64]) -> Curve:
    """Accuracy by confidence, bin by bin; a calibrated model's lies on the diagonal."""
    by_bin: Mapping[int, list[Judged]] = {
        index: [item for item, at in zip(items, bins, strict=True) if at == index]
        for index in sorted(set(bins.tolist()))
    }
    points = []
    for members in by_bin.values():
        right = sum(item.is_right for item in members)
        interval = wilson(round(right), len(members))
        assert interval is not None
        sure = sum(item.confidence for item in members) / len(members)
        points.append(Point(sure, right / len(members), *interval))
    return Curve("Reliability", what, tuple(points), "confidence", "accuracy")


def diagonal() -> Curve:
    """What the reliability curve of a calibrated model is."""
    ends = tuple(Point(x, x, x, x) for x in (0.0, 1.0))
    return Curve("Reliability", "calibrated", ends, "confidence", "accuracy")
