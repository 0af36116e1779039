"""Which pair next: what each strategy prefers, and that its propensities are true."""

from collections import Counter
from random import Random

import pytest

from foundling.base.config import ConfigError
from foundling.preferences.pairing import (
    STRATEGIES,
    Strategy,
    choose,
    choose_sources,
    draw_left,
    win_probability,
)

SOURCES = [("a", "b"), ("a", "c"), ("b", "c"), ("a", "b")]
SCORES = {"a": 0.0, "b": 0.1, "c": 3.0}


def test_win_probability() -> None:
    assert win_probability(1, 1) == 0.5
    assert win_probability(1.0986122886681098, 0) == pytest.approx(0.75)
    assert win_probability(0, 1000) == 0
    assert win_probability(1000, 0) == 1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_propensities_are_the_frequencies(strategy: Strategy) -> None:
    rng, n = Random(1), 20_000
    choices = [choose(SOURCES, rng, strategy, SCORES, exploration=0.4) for _ in range(n)]
    counts = Counter(choice.index for choice in choices)
    stated = {choice.index: choice.propensity for choice in choices}
    assert sum(stated.values()) == pytest.approx(1)
    for index, propensity in stated.items():
        assert counts[index] / n == pytest.approx(propensity, abs=0.015)
    expected = {
        "random": [0.25, 0.25, 0.25, 0.25],
        "uncertain": [0.4, 0.1, 0.1, 0.4],  # 0.6 shared by the two most even ones
        "largest_gap": [0.1, 0.7, 0.1, 0.1],
    }[strategy]
    assert [stated[index] for index in range(4)] == pytest.approx(expected)


def test_two_of_several_models() -> None:
    a, b, propensity = choose_sources(["c", "a", "b"], Random(0), "largest_gap", SCORES, 0.3)
    assert (a, b) in [("a", "b"), ("a", "c"), ("b", "c")]
    assert propensity == pytest.approx(0.8 if (a, b) == ("a", "c") else 0.1)
    with pytest.raises(ConfigError, match="give two different ones"):
        choose_sources(["a", "a"], Random(0))


def test_what_cannot_be_chosen() -> None:
    with pytest.raises(ConfigError, match="no such strategy"):
        choose(SOURCES, Random(0), "greedy")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="some pairs would never be chosen"):
        choose(SOURCES, Random(0), "uncertain", SCORES, exploration=0)


def test_sides_are_drawn_once_for_each_item_and_annotator() -> None:
    sides = [draw_left(0, pair, name) for pair in range(500) for name in ("ann", "bob")]
    assert sides == [draw_left(0, pair, name) for pair in range(500) for name in ("ann", "bob")]
    assert 430 < sides.count("A") < 570
    same = sum(one == two for one, two in zip(sides[::2], sides[1::2], strict=True))
    assert 200 < same < 300
