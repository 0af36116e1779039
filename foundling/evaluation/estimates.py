"""Means of what was measured item by item, with intervals, and differences between runs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from foundling.wilson import Interval, wilson

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` items in `num_groups` independent groups."""

    value: float
    standard_error: float
    interval: Interval
    n: int
    num_groups: int


@dataclass(frozen=True)
class Difference:
    """How much higher one run's mean is than another's on the items that both have.

    `p_value` is two-sided: how often the difference is as large when, of each group, the two runs
    change places by chance.
    """

    value: float
    interval: Interval
    p_value: float
    n: int


def estimate(
    outcomes: Mapping[str, float], groups: Mapping[str, str] | None = None
) -> Estimate | None:
    """The mean of the outcomes with a 95% interval; None if there are none.

    Items of one group (near copies, a sentence and its twin) are not independent: the standard
    error is robust to clusters and the interval Student's with `num_groups - 1` degrees of freedom.
    Shares of independent items have Wilson's interval, and so do shares that are 0 or 1, on the
    number of groups.

    Source: Miller 2024, Adding Error Bars to Evals, sections 2.1 and 2.2; Wilson 1927.
    """
    if not outcomes:
        return None
    values = np.array(list(outcomes.values()), dtype=np.float64)
    sums = _by_group(outcomes, float(values.mean()), groups)
    n, num_groups = len(values), len(sums)
    mean = float(values.mean())
    shares = bool(np.isin(values, (0.0, 1.0)).all())
    error = _clustered_error(sums, n)
    if shares and (num_groups == n or mean in (0.0, 1.0)):
        found = wilson(round(mean * num_groups), num_groups)
        assert found is not None
        return Estimate(mean, math.sqrt(mean * (1 - mean) / n), found, n, num_groups)
    return Estimate(mean, error, _student(mean, error, num_groups), n, num_groups)


def difference(
    first: Mapping[str, float],
    second: Mapping[str, float],
    groups: Mapping[str, str] | None = None,
    *,
    draws: int = 10_000,
    seed: int = 0,
) -> Difference | None:
    """The mean of `second` less that of `first` over their common items; None if there are none.

    Source: a paired permutation test: Fisher 1935; of groups as in `estimate`.
    """
    common = {item: second[item] - first[item] for item in first if item in second}
    if not common:
        return None
    n = len(common)
    mean = sum(common.values()) / n
    totals = np.array(list(_by_group(common, 0.0, groups)), dtype=np.float64)
    error = _clustered_error(_by_group(common, mean, groups), n)
    random = np.random.default_rng(seed)
    tolerance = 1e-9 * (1 + float(np.abs(totals).sum()))
    least = abs(float(totals.sum())) - tolerance
    as_large = 0
    for start in range(0, draws, 1000):
        signs = random.choice((-1.0, 1.0), size=(min(1000, draws - start), len(totals)))
        as_large += int((np.abs(signs @ totals) >= least).sum())
    return Difference(mean, _student(mean, error, len(totals)), (as_large + 1) / (draws + 1), n)


def _by_group(
    outcomes: Mapping[str, float], mean: float, groups: Mapping[str, str] | None
) -> Sequence[float]:
    """Of each group the sum of what its items are above the mean."""
    sums: dict[str, float] = {}
    for item, value in outcomes.items():
        group = item if groups is None else groups[item]
        sums[group] = sums.get(group, 0.0) + value - mean
    return list(sums.values())


def _clustered_error(sums: Sequence[float], n: int) -> float:
    """The standard error of a mean over n items whose groups have these sums of deviations."""
    if len(sums) < 2:
        return math.inf
    small = len(sums) / (len(sums) - 1)
    return math.sqrt(small * float(np.square(sums).sum())) / n


def _student(mean: float, error: float, num_groups: int) -> Interval:
    if num_groups < 2:
        return -math.inf, math.inf
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, num_groups - 1)) * error
    return mean - reach, mean + reach
