"""Agreement: published worked examples, and what each measure must see."""

import math

import numpy as np
import pytest
from scipy import stats

from foundling.preferences.agreement import (
    cohen_kappa,
    kappa_of_two,
    krippendorff_alpha,
    length_slope,
    longer_wins,
    position_bias,
    self_consistency,
)

# Krippendorff (2011), Computing Krippendorff's alpha-reliability, section C: nominal, 0.743.
PUBLISHED = {
    "a": [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    "b": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    "c": [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    "d": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
}


def test_alpha_of_the_published_example() -> None:
    table = {
        item: {name: said[item] for name, said in PUBLISHED.items() if said[item] is not None}
        for item in range(12)
    }
    alpha = krippendorff_alpha(table, bootstrap=200)
    assert alpha.value == pytest.approx(0.743, abs=5e-4)
    assert alpha.n == 11  # the last item has one opinion
    assert alpha.interval is not None
    assert alpha.interval[0] < 0.743 < alpha.interval[1]


def test_alpha_where_there_is_none() -> None:
    assert krippendorff_alpha({}).value is None
    assert krippendorff_alpha({1: {"a": "A", "b": "A"}, 2: {"a": "A", "b": "A"}}).value is None
    assert krippendorff_alpha({1: {"a": "A"}, 2: {"b": "B"}}).n == 0


def test_kappa_of_a_worked_example() -> None:
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: (0.7 − 0.5) / (1 − 0.5)."""
    first = ["y"] * 25 + ["n"] * 25
    second = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    table = {i: {"ann": a, "bob": b} for i, (a, b) in enumerate(zip(first, second, strict=True))}
    (found,) = kappa_of_two({**table, 99: {"cid": "y"}}, bootstrap=200).items()
    assert (found[0], found[1].n) == (("ann", "bob"), 50)
    assert found[1].value == pytest.approx(0.4)
    assert found[1].interval is not None
    assert found[1].interval[0] < 0.4 < found[1].interval[1]


def test_kappa_where_there_is_none() -> None:
    assert cohen_kappa([], []) is None
    assert cohen_kappa(["A", "A"], ["A", "A"]) is None


def test_self_consistency_and_position() -> None:
    share = self_consistency([("A", "A"), ("A", "B"), ("tie", "tie"), ("B", "B")])
    assert (share.count, share.n, share.share) == (3, 4, 0.75)
    left, p_value = position_bias([True] * 18 + [False] * 2)
    assert left.share == 0.9
    assert p_value == pytest.approx(2 * stats.binom.cdf(2, 20, 0.5))
    assert position_bias([]) == (left.of(0, 0), None)


def test_the_longer_answer() -> None:
    share = longer_wins([(9, 1, True), (1, 9, False), (9, 1, False), (5, 5, True)])
    assert (share.count, share.n) == (2, 3)


def test_the_slope_of_length_is_found_again() -> None:
    rng = np.random.default_rng(0)
    decided = []
    for _ in range(4000):
        a, b = (int(length) for length in rng.integers(10, 400, 2))
        logit = 0.3 + 0.7 * math.log2((a + 1) / (b + 1))
        decided.append((a, b, bool(rng.random() < 1 / (1 + math.exp(-logit)))))
    slope = length_slope(decided)
    assert slope.value == pytest.approx(0.7, abs=0.1)
    assert slope.interval is not None
    assert slope.interval[0] < 0.7 < slope.interval[1]
    assert slope.interval[1] - slope.interval[0] < 0.2


def test_a_slope_that_nothing_determines() -> None:
    assert length_slope([(5, 5, True)] * 9).value is None
    assert "tells every verdict" in str(length_slope([(9, 1, True), (8, 1, True), (1, 9, False)]))
