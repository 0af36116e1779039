"""Means of what was measured item by item, with intervals, and differences between runs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from foundling.statistics.wilson import Interval, wilson

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` items in `num_groups` independent groups."""

    value: float
    standard_error: float
    interval: Interval
    n: int
    num_groups: int
    p_value: float | None = None
    """Two-sided, that the mean is 0, where draws and items are crossed."""


@dataclass(frozen=True)
class Difference:
    """How much higher one run's mean is than another's on the items that both have.

    `p_value` is two-sided: how often the difference is as large when, of each group, the two runs
    are swapped by chance.
    """

    value: float
    interval: Interval
    p_value: float
    n: int


def estimate(
    outcomes: Mapping[str, float],
    groups: Mapping[str, str] | None = None,
    weights: Mapping[str, float] | None = None,
    *,
    are_gains: bool = False,
) -> Estimate | None:
    """The mean of the outcomes with a 95% interval; None if there are none.

    With `weights` it is Σ w x / Σ w: of bits per byte and bytes of passages, that of their text.

    Items of one group (near copies, a sentence and its twin) are not independent: the standard
    error is robust to clusters and the interval Student's with `num_groups - 1` degrees of freedom.
    Shares of independent items have Wilson's interval, and so do shares that are 0 or 1, on the
    number of groups. Gains are differences of shares, from -1 to 1: one that happens to be never
    below 0 is no share, and Wilson's interval, which then would not hold 0, says nothing of it.
    Where all gains are alike it reaches as far to both sides as that of a share of 0.

    Source: Miller 2024, Adding Error Bars to Evals, sections 2.1 and 2.2; Wilson 1927.
    """
    if not outcomes:
        return None
    n, mean = len(outcomes), _mean(outcomes, weights)
    sums = _by_group({item: x - mean for item, x in outcomes.items()}, groups, weights)
    num_groups = len(sums)
    if are_gains and len(set(outcomes.values())) == 1:
        none = wilson(0, num_groups)
        assert none is not None
        around = max(-1.0, mean - none[1]), min(1.0, mean + none[1])
        return Estimate(mean, 0.0, around, n, num_groups)
    is_share = not are_gains and weights is None and set(outcomes.values()) <= {0.0, 1.0}
    if is_share and (num_groups == n or mean in (0.0, 1.0)):
        found = wilson(round(mean * num_groups), num_groups)
        assert found is not None
        return Estimate(mean, math.sqrt(mean * (1 - mean) / n), found, n, num_groups)
    error = _error(sums, _total(outcomes, weights))
    return Estimate(mean, error, _student(mean, error, num_groups), n, num_groups)


def crossed(table: npt.NDArray[np.float64], *, are_gains: bool = False) -> Estimate:
    """The mean where draws (rows) and items (columns) are both drawn anew, with a 95% interval.

    Its variance is that of the items' means, and that of the draws', less what is in both; the
    degrees of freedom are Satterthwaite's, so that few draws that differ make it wide. Of one draw
    nothing is known of draws, and the interval is that of its items.

    Source: Cameron, Gelbach and Miller 2011, Robust Inference With Multiway Clustering, equation
    2.11; Satterthwaite 1946.
    """
    draws, items = table.shape
    mean, by_item, by_draw = float(table.mean()), table.mean(axis=0), table.mean(axis=1)
    if draws == 1 or items == 1 or np.ptp(table) == 0:
        items_alone = {str(index): float(x) for index, x in enumerate(by_item)}
        found = estimate(items_alone, are_gains=are_gains)
        assert found is not None
        return found
    of_items, of_draws = by_item.var(ddof=1) / items, by_draw.var(ddof=1) / draws
    rest = table - by_item - by_draw[:, None] + mean
    of_both = float(np.square(rest).sum()) / ((draws - 1) * (items - 1)) / table.size
    variance = max(of_items, of_draws, of_items + of_draws - of_both)
    if of_items + of_draws == 0:  # all means are alike, though not all outcomes
        variance, degrees = of_both, (draws - 1) * (items - 1)
    else:
        spread = of_items**2 / (items - 1) + of_draws**2 / (draws - 1)
        degrees = (of_items + of_draws) ** 2 / spread
    error = math.sqrt(variance)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees)) * error
    p_value = 2 * float(stats.t.sf(abs(mean) / error, degrees))
    return Estimate(mean, error, (mean - reach, mean + reach), items, items, p_value)


def difference(
    first: Mapping[str, float],
    second: Mapping[str, float],
    groups: Mapping[str, str] | None = None,
    weights: Mapping[str, float] | None = None,
    *,
    most: float = math.inf,
    draws: int = 10_000,
    seed: int = 0,
) -> Difference | None:
    """The mean of `second` less that of `first` over their common items; None if there are none.

    Where no difference can be farther from 0 than `most` (1 between shares), neither can an end of
    the interval; and where the differences of all groups are alike, it reaches as far to both sides
    as Wilson's interval of a share of 0, `most` times.

    Source: a paired permutation test: Fisher 1935; of groups as in `estimate`.
    """
    common = {item: second[item] - first[item] for item in first if item in second}
    if not common:
        return None
    mean = _mean(common, weights)
    about_mean = _by_group({item: x - mean for item, x in common.items()}, groups, weights)
    error = _error(about_mean, _total(common, weights))
    totals = np.array(_by_group(common, groups, weights), dtype=np.float64)
    random = np.random.default_rng(seed)
    least = abs(float(totals.sum())) - 1e-9 * (1 + float(np.abs(totals).sum()))
    as_large = 0
    for start in range(0, draws, 1000):
        signs = random.choice((-1.0, 1.0), size=(min(1000, draws - start), len(totals)))
        as_large += int((np.abs(signs @ totals) >= least).sum())
    low, high = _student(mean, error, len(totals))
    none = wilson(0, len(totals))
    if math.isfinite(most) and np.ptp(totals) == 0 and none is not None:
        low, high = mean - most * none[1], mean + most * none[1]
    interval = max(-most, low), min(most, high)
    return Difference(mean, interval, (as_large + 1) / (draws + 1), len(common))


def _total(outcomes: Mapping[str, float], weights: Mapping[str, float] | None) -> float:
    return len(outcomes) if weights is None else sum(weights[item] for item in outcomes)


def _mean(outcomes: Mapping[str, float], weights: Mapping[str, float] | None) -> float:
    whole = sum(x if weights is None else weights[item] * x for item, x in outcomes.items())
    return whole / _total(outcomes, weights)


def _by_group(
    values: Mapping[str, float],
    groups: Mapping[str, str] | None,
    weights: Mapping[str, float] | None,
) -> list[float]:
    """The sum of each group's values, times their weights."""
    sums: dict[str, float] = {}
    for item, value in values.items():
        group = item if groups is None else groups[item]
        sums[group] = sums.get(group, 0.0) + (value if weights is None else weights[item] * value)
    return list(sums.values())


def _error(sums: Sequence[float], total: float) -> float:
    """The standard error of a mean over `total` whose groups have these sums of deviations."""
    if len(sums) < 2:
        return math.inf
    small = len(sums) / (len(sums) - 1)
    return math.sqrt(small * float(np.square(sums).sum())) / total


def _student(mean: float, error: float, num_groups: int) -> Interval:
    if num_groups < 2:
        return -math.inf, math.inf
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, num_groups - 1)) * error
    return mean - reach, mean + reach
