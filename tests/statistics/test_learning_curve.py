"""Curves of accuracy: intervals that cover, means by hand, and where ways cross."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import norm

from foundling.statistics.learning_curve import (
    Point,
    best_in_context,
    crossing,
    curves_of,
    gaps,
    hit_of,
    interval,
    right_of,
    verdict,
)


def point(number: int, mean: float, half: float = 0.05) -> Point:
    return Point(number, mean, mean - half, mean + half, 3)


def table(*rows: str) -> npt.NDArray[np.float64]:
    return np.array([[float(hit) for hit in row] for row in rows])


def test_means_are_over_seeds_and_points_in_order() -> None:
    rows = [("full", 8, "1100"), ("full", 8, "1110"), ("full", 2, "0000"), ("in_context", 0, "11")]
    curves = curves_of({"way": way, "number": n, "hits": hits} for way, n, hits in rows)
    assert list(curves) == ["in_context", "full"]
    assert [(p.number, p.mean, p.num_seeds) for p in curves["full"]] == [(2, 0, 1), (8, 0.625, 2)]


def test_equal_answers_count_as_drawn() -> None:
    rights = [0.0, 1.0, 0.5, 1 / 3, 1 / 40]
    hits = "".join(map(hit_of, rights))
    assert hits[:4] == "0123"
    assert [right_of(hit) for hit in hits] == rights
    (point,) = curves_of([{"way": "full", "number": 8, "hits": "0122"}])["full"]
    assert point.mean == 0.5


def test_an_interval_is_that_of_a_proportion_where_there_is_one_seed() -> None:
    low, high = interval(table("10" * 50))
    assert low == pytest.approx(0.5 - 1.96 * 0.05, abs=0.015)
    assert high == pytest.approx(0.5 + 1.96 * 0.05, abs=0.015)
    low, high = interval(table("111", "111", "111"))  # Wilson's, of 3 items
    assert low == pytest.approx(0.4385, abs=1e-3)
    assert high == 1


def test_seeds_that_disagree_widen_the_interval() -> None:
    items = np.random.default_rng(0).random((3, 200))
    alike = np.tile(items[:1] < 0.6, (3, 1)).astype(np.float64)
    apart = (items < np.array([[0.3], [0.6], [0.9]])).astype(np.float64)
    widths = [high - low for low, high in (interval(alike), interval(apart))]
    assert widths[1] > 2 * widths[0]


@pytest.mark.parametrize("items", [20, 200])
@pytest.mark.parametrize("draws", [3, 5, 10])
@pytest.mark.parametrize("spread", [0.0, 0.1, 0.3, 0.6])
def test_what_the_interval_covers(draws: int, items: int, spread: float) -> None:
    """95% or somewhat more, however much draws differ; `spread` is of draws, in probits.

    An accuracy's deviation between draws is 0, 3, 8 and 15 points.
    """
    random, covered, trials = np.random.default_rng(3), 0, 400
    truth = float(norm.cdf(0.3 / np.sqrt(2 + spread**2)))
    for _ in range(trials):
        hardness = 0.3 + random.normal(size=items) + spread * random.normal(size=(draws, 1))
        hits = (random.random((draws, items)) < norm.cdf(hardness)).astype(np.float64)
        low, high = interval(hits)
        covered += low <= truth <= high
    assert 0.95 - 4 * (0.95 * 0.05 / trials) ** 0.5 < covered / trials


def test_the_best_in_context_is_passed_where_the_whole_interval_lies_above() -> None:
    curves = {
        "in_context": [point(0, 0.5), point(4, 0.7)],
        "calibrated": [point(0, 0.6), point(2, 0.7)],
        "full": [point(8, 0.6), point(32, 0.72), point(128, 0.8)],
        "lora": [point(8, 0.6), point(32, 0.7)],
    }
    assert best_in_context(curves) == ("calibrated", curves["calibrated"][1])
    assert crossing(curves["full"], 0.7) == 128
    assert crossing(curves["lora"], 0.7) is None
    said = verdict(curves, majority=0.5)
    assert said == [
        "The best accuracy in context is 70.0% (65.0% to 75.0%), in the prompt, calibrated, k = 2.",
        "Fine-tuned: above it from n = 128 examples on.",
        "Fine-tuned, LoRA: they do not cross here, up to n = 32 examples.",
    ]
    alike = verdict(curves, majority=0.68, template="{text}: {answer}")[1]
    assert "no better than always" in alike
    assert "not shown with the template '{text}: {answer}'" in alike
    assert verdict({}, 0.5) == ["Nothing was measured with examples in the prompt."]


def test_ways_are_compared_on_the_same_examples() -> None:
    measurements = [
        {"way": "in_context", "number": 8, "seed": 1, "hits": "0011"},
        {"way": "in_context", "number": 8, "seed": 2, "hits": "0011"},
        {"way": "full", "number": 8, "seed": 1, "hits": "1111"},
        {"way": "full", "number": 8, "seed": 2, "hits": "0111"},
        {"way": "full", "number": 8, "seed": 3, "hits": "0000"},
        {"way": "full", "number": 32, "seed": 1, "hits": "1111"},
        {"way": "lora", "number": 8, "seed": 1, "hits": "0011"},
    ]
    full, lora = gaps(measurements)
    assert (full.way, full.number, full.value) == ("full", 8, 0.375)
    assert full.low < 0 < full.high <= 1
    assert full.sentence.startswith("Fine-tuned on the same 8 examples: 37.5 points above the")
    assert full.sentence.endswith("no difference shown.")
    assert lora.value == 0
    assert lora.low == -lora.high < 0
    assert verdict({"in_context": [point(8, 0.5)]}, 0.2, apart=[full])[-1] == full.sentence
