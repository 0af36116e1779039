"""How far annotators agree: with each other, with themselves, and beyond side and length."""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import krippendorff
import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from foundling.statistics.wilson import Interval, wilson

Label = Hashable


@dataclass(frozen=True)
class Share:
    """`count` of `n`, with Wilson's interval; share and interval are None if n is 0."""

    count: int
    n: int
    share: float | None
    interval: Interval | None

    @classmethod
    def of(cls, count: int, n: int, confidence: float = 0.95) -> "Share":
        return cls(count, n, count / n if n else None, wilson(count, n, confidence))


@dataclass(frozen=True)
class Coefficient:
    """A coefficient over `n` items; None where it is not defined, as when all votes are equal."""

    value: float | None
    interval: Interval | None
    n: int


@dataclass(frozen=True)
class Slope:
    """By how much a doubling of length raises the log-odds of winning.

    None with the reason in `problem` where the answers do not determine it.
    """

    value: float | None
    interval: Interval | None
    n: int
    problem: str | None = None


def cohen_kappa(first: Sequence[Label], second: Sequence[Label]) -> float | None:
    """Agreement of two annotators on the same items beyond chance; None if chance alone is 1.

    Source: Cohen (1960), A coefficient of agreement for nominal scales.
    """
    assert len(first) == len(second)
    n = len(first)
    if n == 0:
        return None
    seen = sum(a == b for a, b in zip(first, second, strict=True)) / n
    left, right = Counter(first), Counter(second)
    chance = sum(left[label] * right[label] for label in left) / (n * n)
    return None if chance == 1 else (seen - chance) / (1 - chance)


def krippendorff_alpha(
    table: Mapping[int, Mapping[str, Label]],
    *,
    bootstrap: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Coefficient:
    """Krippendorff's nominal alpha, with an interval from a bootstrap over items.

    Items with fewer than two opinions say nothing of agreement and are left out of n.
    """
    labels = sorted({label for said in table.values() for label in said.values()}, key=str)
    several = [Counter(said.values()) for said in table.values() if len(said) > 1]
    counts = np.array([[said[label] for label in labels] for said in several], dtype=np.int64)
    value = _alpha(counts)
    if value is None or bootstrap == 0:
        return Coefficient(value, None, len(several))
    rng = np.random.default_rng(seed)
    drawn = (_alpha(counts[rng.integers(len(counts), size=len(counts))]) for _ in range(bootstrap))
    defined = [alpha for alpha in drawn if alpha is not None]
    if not defined:
        return Coefficient(value, None, len(several))
    low, high = np.percentile(defined, [50 * (1 - confidence), 50 * (1 + confidence)])
    return Coefficient(value, (float(low), float(high)), len(several))


def kappa_of_two(
    table: Mapping[int, Mapping[str, Label]],
    *,
    bootstrap: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[tuple[str, str], Coefficient]:
    """Cohen's kappa of each pair of annotators who share items, bootstrapped over items."""
    names = sorted({name for said in table.values() for name in said})
    found = {}
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            both = [(s[first], s[second]) for s in table.values() if first in s and second in s]
            if not both:
                continue
            rng = np.random.default_rng(seed)
            drawn = [
                cohen_kappa(*zip(*(both[i] for i in draw), strict=True))
                for draw in rng.integers(len(both), size=(bootstrap, len(both)))
            ]
            defined = [kappa for kappa in drawn if kappa is not None]
            edges = [50 * (1 - confidence), 50 * (1 + confidence)]
            interval = None
            if defined:
                low, high = np.percentile(defined, edges)
                interval = (float(low), float(high))
            value = cohen_kappa(*zip(*both, strict=True))
            found[first, second] = Coefficient(value, interval, len(both))
    return found


def self_consistency(repeats: Sequence[tuple[Label, Label]], confidence: float = 0.95) -> Share:
    """How often an annotator repeats the verdict on an item shown again with sides flipped."""
    return Share.of(sum(a == b for a, b in repeats), len(repeats), confidence)


def position_bias(left_won: Sequence[bool], confidence: float = 0.95) -> tuple[Share, float | None]:
    """How often the left side won, with the two-sided binomial p-value against one half."""
    n, count = len(left_won), sum(left_won)
    p_value = float(stats.binomtest(count, n).pvalue) if n else None
    return Share.of(count, n, confidence), p_value


def longer_wins(decided: Sequence[tuple[int, int, bool]], confidence: float = 0.95) -> Share:
    """How often the longer answer won; `decided` are length of A, length of B, whether A won."""
    unequal = [(a > b) == a_won for a, b, a_won in decided if a != b]
    return Share.of(sum(unequal), len(unequal), confidence)


def length_slope(decided: Sequence[tuple[int, int, bool]], confidence: float = 0.95) -> Slope:
    """Logistic regression of "A won" on log₂ of the ratio of lengths, with an intercept."""
    n = len(decided)
    ratios = np.array([math.log2((a + 1) / (b + 1)) for a, b, _ in decided])
    won = np.array([a_won for _, _, a_won in decided], dtype=np.float64)
    if n < 3 or len(set(won)) < 2 or np.ptp(ratios) == 0:
        return Slope(None, None, n, "too few different lengths or verdicts")
    winners, losers = ratios[won == 1], ratios[won == 0]
    if winners.min() >= losers.max() or losers.min() >= winners.max():
        return Slope(None, None, n, "length alone tells every verdict")
    design = np.stack([np.ones(n), ratios], axis=1)

    def loss(x: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        logits = design @ x
        chances = 1 / (1 + np.exp(-logits))
        return float(np.logaddexp(0, logits).sum() - won @ logits), design.T @ (chances - won)

    best = optimize.minimize(loss, np.zeros(2), jac=True, method="BFGS").x
    chances = 1 / (1 + np.exp(-design @ best))
    information = (design * (chances * (1 - chances))[:, None]).T @ design
    error = math.sqrt(np.linalg.inv(information)[1, 1])
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    slope = float(best[1])
    return Slope(slope, (slope - z * error, slope + z * error), n)


def _alpha(counts: npt.NDArray[np.int64]) -> float | None:
    if len(counts) == 0 or np.count_nonzero(counts.sum(0)) < 2:
        return None
    return float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))
