"""Intervals hold the truth as often as they say, also of items that come in groups."""

import numpy as np
import pytest
from scipy import stats

from foundling.evaluation.findings import Metric
from foundling.evaluation.results import holm
from foundling.statistics.estimates import crossed, difference, estimate


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


def test_gains_that_happen_to_be_never_negative_are_no_shares() -> None:
    one_of_many = {str(n): float(n == 0) for n in range(20)}
    share, gain = estimate(one_of_many), estimate(one_of_many, are_gains=True)
    assert share is not None
    assert gain is not None
    assert share.interval[0] > 0
    assert gain.interval[0] < 0 < gain.value < gain.interval[1]
    none = estimate(dict.fromkeys("abcde", 0.0), are_gains=True)
    assert none is not None
    assert none.interval[0] == -none.interval[1] < 0
    table = np.array([list(one_of_many.values())])
    assert crossed(table, are_gains=True).interval == gain.interval
    assert crossed(np.repeat(table, 3, axis=0)[:, :1], are_gains=True).value == 1


def test_draws_and_items_whose_means_are_alike_have_an_interval() -> None:
    found = crossed(np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert found.value == 0.5
    assert found.interval[0] < 0.5 < found.interval[1]


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


TRIALS = 500
TOLERANCE = 4 * (0.95 * 0.05 / TRIALS) ** 0.5


@pytest.mark.parametrize("shape", ["normal", "skewed", "weighted", "groups", "few groups"])
def test_intervals_of_means_cover(shape: str) -> None:
    """95% in simulation, but for the binomial error of the simulation itself."""
    random, covered = np.random.default_rng(7), 0
    for _ in range(TRIALS):
        groups, weights = None, None
        if shape in ("groups", "few groups"):
            count = 8 if shape == "few groups" else 40
            sizes = random.integers(1, 6, size=count)
            common = random.normal(size=count)
            values = {
                f"{g}.{i}": float(common[g] + 0.5 * random.normal())
                for g in range(count)
                for i in range(sizes[g])
            }
            groups, truth = {item: item.split(".")[0] for item in values}, 0.0
        elif shape == "weighted":  # bits per byte of passages of different lengths
            sizes = random.integers(800, 1600, size=80)
            values = {str(i): float(random.gamma(20, 0.1)) for i in range(80)}
            weights, truth = {str(i): float(size) for i, size in enumerate(sizes)}, 2.0
        else:
            drawn = random.normal(size=60) if shape == "normal" else random.gamma(2, size=80) - 2
            values, truth = {str(i): float(x) for i, x in enumerate(drawn)}, 0.0
        found = estimate(values, groups, weights)
        assert found is not None
        covered += found.interval[0] <= truth <= found.interval[1]
    assert covered / TRIALS == pytest.approx(0.95, abs=TOLERANCE)


@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize("kind", ["numbers", "shares"])
def test_intervals_of_differences_cover(size: int, kind: str) -> None:
    """Of runs that find the same items hard, and of items of one group."""
    random, covered = np.random.default_rng(8), 0
    for _ in range(TRIALS):
        hard = np.repeat(random.normal(size=50), size)
        gain = np.repeat(0.3 + 0.5 * random.normal(size=50), size)
        sides = np.stack([hard, hard + gain]) + 0.5 * random.normal(size=(2, 50 * size))
        truth = 0.3
        if kind == "shares":
            sides = sides > 0
            # Variances: 1 + 0.25, and 1 + 0.25 + 0.25 about a mean of 0.3.
            truth = float(stats.norm.cdf(0.3 / np.sqrt(1.5)) - 0.5)
        first, second = ({str(i): float(x) for i, x in enumerate(side)} for side in sides)
        groups = {item: str(int(item) // size) for item in first} if size > 1 else None
        found = difference(first, second, groups, draws=1)
        assert found is not None
        covered += found.interval[0] <= truth <= found.interval[1]
    assert covered / TRIALS == pytest.approx(0.95, abs=TOLERANCE)


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


def test_p_values_of_groups_are_uniform_where_there_is_no_difference() -> None:
    """Were the items taken for independent, 5% would become 30% or more."""
    random, small, naive = np.random.default_rng(2), 0, 0
    for _ in range(400):
        gain = np.repeat(random.normal(size=20), 6) + 0.3 * random.normal(size=120)
        first = {str(i): 0.0 for i in range(120)}
        second = {str(i): float(x) for i, x in enumerate(gain)}
        groups = {item: str(int(item) // 6) for item in first}
        seed = int(random.integers(2**32))
        for of in (groups, None):
            found = difference(first, second, of, draws=400, seed=seed)
            assert found is not None
            if of is None:
                naive += found.p_value <= 0.05
            else:
                small += found.p_value <= 0.05
    assert small / 400 == pytest.approx(0.05, abs=4 * (0.05 * 0.95 / 400) ** 0.5)
    assert naive / 400 > 0.3


def test_only_common_items_are_compared() -> None:
    found = difference({"a": 0.0, "b": 1.0}, {"b": 1.0, "c": 0.0})
    assert found is not None
    assert (found.value, found.n) == (0.0, 1)
    assert difference({"a": 0.0}, {"b": 1.0}) is None


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_the_interval_of_a_share_stays_where_shares_are() -> None:
    halves = {str(place): 1.0 for place in range(9)} | {"9": 0.5}
    groups = {item: str(int(item) // 2) for item in halves}
    found = Metric("a", "A", halves, groups).estimate
    plain = estimate(halves, groups)
    assert found is not None
    assert plain is not None
    assert found.interval == (plain.interval[0], 1.0)
    assert plain.interval[1] > 1
    gains = {item: 2 * (x - 1) for item, x in halves.items()}
    found = Metric("a", "A", gains, groups, are_gains=True).estimate
    assert found is not None
    assert found.interval[0] < found.value < 0
    number = Metric("a", "A", halves, groups, unit="number").estimate
    assert number == plain


def test_the_interval_of_a_difference_stays_where_differences_of_shares_are() -> None:
    """Ten items that one run has wrong and the other right; a few groups that differ much."""
    zeros, ones = ({str(n): x for n in range(10)} for x in (0.0, 1.0))
    found = difference(zeros, ones, most=1.0)
    assert found is not None
    assert found.value == 1
    assert found.interval == pytest.approx((1 - 0.2775, 1.0), abs=1e-4)  # Wilson of 0 of 10
    same = difference(ones, ones, most=1.0)
    assert same is not None
    assert same.interval == pytest.approx((-0.2775, 0.2775), abs=1e-4)
    lost = {str(n): float(n == 0) for n in range(3)}
    grouped = difference(dict.fromkeys("012", 1.0), lost, most=1.0)
    assert grouped is not None
    assert grouped.interval[0] == -1
    assert grouped.interval[1] > grouped.value
    unbounded = difference(dict.fromkeys("012", 1.0), lost)
    assert unbounded is not None
    assert unbounded.interval[0] < -1
    lonely = difference(zeros, ones, dict.fromkeys(zeros, "x"), most=1.0)
    assert lonely is not None
    assert lonely.interval[1] == 1
    assert Metric("a", "A", ones).most_apart == 1
    assert Metric("a", "A", ones, are_gains=True).most_apart == 2
    assert Metric("a", "A", ones, unit="number").most_apart == np.inf
