"""Intervals hold the truth as often as they say, also of items that come in groups."""

import numpy as np
import pytest
from scipy import stats

from foundling.evaluation.estimates import difference, estimate
from foundling.evaluation.results import holm


def test_a_worked_share() -> None:
    found = estimate({"a": 1.0, "b": 1.0, "c": 0.0, "d": 1.0})
    assert found is not None
    assert (found.value, found.n, found.num_groups) == (0.75, 4, 4)
    assert found.interval == pytest.approx((0.3006, 0.9544), abs=1e-4)  # Wilson
    assert estimate({}) is None


def test_a_worked_mean_of_groups() -> None:
    outcomes = {"a": 1.0, "b": 3.0, "c": 5.0, "d": 7.0}
    found = estimate(outcomes, {"a": "x", "b": "x", "c": "y", "d": "y"})
    assert found is not None
    # Deviations -3 -1 | 1 3 sum to -4 and 4: √(2/1 · 32) / 4.
    assert found.standard_error == pytest.approx(2.0)
    assert found.interval == pytest.approx((4 - 12.706 * 2, 4 + 12.706 * 2), rel=1e-4)
    alone = estimate(outcomes)
    assert alone is not None
    assert alone.standard_error == pytest.approx(stats.sem(list(outcomes.values())))


def test_a_worked_weighted_mean() -> None:
    found = estimate({"a": 2.0, "b": 5.0}, weights={"a": 2.0, "b": 1.0})
    assert found is not None
    assert found.value == 3.0
    assert found.standard_error == pytest.approx(np.sqrt(2 * (4 + 4)) / 3)


def test_all_alike_is_not_certain() -> None:
    groups = {str(i): str(i // 5) for i in range(20)}
    found = estimate(dict.fromkeys(groups, 1.0), groups)
    assert found is not None
    assert found.interval == pytest.approx((0.5101, 1.0), abs=1e-4)  # Wilson of 4 of 4
    lonely = estimate({"a": 0.2, "b": 0.4}, {"a": "x", "b": "x"})
    assert lonely is not None
    assert lonely.interval == (-np.inf, np.inf)


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("share", [0.5, 0.85])
def test_intervals_cover(share: float, size: int) -> None:
    """95% in simulation, of items whose groups have much in common."""
    random, covered, trials = np.random.default_rng(5), 0, 1000
    for _ in range(trials):
        of_group = random.beta(share * 3, (1 - share) * 3, size=60)
        hits = random.random((60, size)) < of_group[:, None]
        outcomes = {f"{g}.{i}": float(hits[g, i]) for g in range(60) for i in range(size)}
        groups = {item: item.split(".")[0] for item in outcomes}
        found = estimate(outcomes, groups if size > 1 else None)
        assert found is not None
        covered += found.interval[0] <= share <= found.interval[1]
    assert 0.93 <= covered / trials <= 0.97


def test_a_difference_of_pairs_is_seen_where_the_means_alone_hide_it() -> None:
    random = np.random.default_rng(0)
    hardness = random.normal(size=200)
    first = {str(i): float(h) for i, h in enumerate(hardness)}
    second = {i: v + 0.1 + 0.1 * random.normal() for i, v in first.items()}
    found = difference(first, second)
    assert found is not None
    assert found.value == pytest.approx(0.1, abs=0.03)
    assert found.interval[0] > 0
    assert found.p_value == pytest.approx(1 / 10_001)
    ends = [estimate(side) for side in (first, second)]
    assert ends[0] is not None and ends[1] is not None  # noqa: PT018
    assert ends[0].interval[1] > ends[1].interval[0]


def test_p_values_are_uniform_where_there_is_no_difference() -> None:
    random = np.random.default_rng(1)
    small = 0
    for _ in range(400):
        sides = [
            {str(i): float(hit) for i, hit in enumerate(random.random(40) < 0.5)} for _ in range(2)
        ]
        found = difference(*sides, draws=400, seed=int(random.integers(2**32)))
        assert found is not None
        small += found.p_value <= 0.05
    assert small / 400 <= 0.08


def test_only_common_items_are_compared() -> None:
    found = difference({"a": 0.0, "b": 1.0}, {"b": 1.0, "c": 0.0})
    assert found is not None
    assert (found.value, found.n) == (0.0, 1)
    assert difference({"a": 0.0}, {"b": 1.0}) is None


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]
