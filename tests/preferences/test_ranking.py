"""Win rates and strengths: closed forms, known strengths found again, honest intervals."""

import math

import numpy as np
import pytest

from foundling.preferences.ranking import Outcome, rank, win_rates
from foundling.statistics.wilson import wilson

SCORES = [-0.8, -0.1, 0.3, 0.6]
TIE = 0.5


def simulated(seed: int, n: int) -> list[Outcome]:
    rng = np.random.default_rng(seed)
    outcomes = []
    for item in range(n):
        i, j = rng.choice(len(SCORES), 2, replace=False)
        first, second = math.exp(SCORES[i]), math.exp(SCORES[j])
        odds = np.array([first, TIE * math.sqrt(first * second), second])
        score = rng.choice([1, 0.5, 0], p=odds / odds.sum())
        outcomes.append(Outcome(f"model {i}", f"model {j}", float(score), item))
    return outcomes


def played(wins: int, ties: int, losses: int) -> list[Outcome]:
    scores = [1.0] * wins + [0.5] * ties + [0.0] * losses
    return [Outcome("x", "y", score, item) for item, score in enumerate(scores)]


@pytest.mark.parametrize(("wins", "ties", "losses"), [(30, 8, 10), (3, 1, 3), (500, 0, 20)])
def test_two_players_have_a_closed_form(wins: int, ties: int, losses: int) -> None:
    """Two free parameters, two free frequencies: π₁/π₂ = wins/losses, ν = ties/√(wins·losses)."""
    ranking = rank(played(wins, ties, losses), bootstrap=0)
    assert ranking.determined
    gap = ranking.scores["x"] - ranking.scores["y"]
    assert gap == pytest.approx(math.log(wins / losses), abs=1e-6)
    assert ranking.tie == pytest.approx(ties / math.sqrt(wins * losses), abs=1e-6)
    assert sum(ranking.scores.values()) == pytest.approx(0, abs=1e-12)


def test_known_strengths_are_found_again() -> None:
    ranking = rank(simulated(0, 20_000), bootstrap=0)
    found = [ranking.scores[f"model {i}"] for i in range(4)]
    assert found == pytest.approx(SCORES, abs=0.05)
    assert ranking.tie == pytest.approx(TIE, abs=0.03)


@pytest.mark.slow
def test_intervals_cover_what_they_promise() -> None:
    """90% intervals of 40 simulations: by chance fewer than 82% once in thousands of times."""
    hits = []
    for seed in range(40):
        ranking = rank(simulated(seed, 150), bootstrap=60, seed=seed, confidence=0.9)
        intervals = [ranking.intervals[f"model {i}"] for i in range(4)]
        hits += [low <= s <= high for s, (low, high) in zip(SCORES, intervals, strict=True)]
    assert 0.82 < np.mean(hits) < 0.97


def test_votes_on_one_item_are_drawn_together() -> None:
    alone = played(20, 5, 10)
    copies = [outcome for outcome in alone for _ in range(4)]
    assert rank(copies, bootstrap=50).intervals["x"] == pytest.approx(
        rank(alone, bootstrap=50).intervals["x"], abs=1e-4
    )


def test_who_never_lost_has_no_finite_strength() -> None:
    ranking = rank(played(9, 0, 0))
    assert (ranking.determined, ranking.intervals) == (False, {})
    assert ranking.scores["x"] > 1
    apart = [*played(3, 1, 2), Outcome("v", "w", 1, 9), Outcome("v", "w", 0, 10)]
    assert not rank(apart).determined
    assert not rank(played(0, 4, 0)).determined
    assert rank([]).scores == {}


def test_the_order_of_names_and_sides_does_not_matter() -> None:
    outcomes = simulated(3, 200)
    turned = [Outcome(o.second, o.first, 1 - o.score, o.item) for o in reversed(outcomes)]
    one, two = rank(outcomes, bootstrap=0), rank(turned, bootstrap=0)
    assert one.scores == pytest.approx(two.scores, abs=1e-6)


def test_an_item_counts_once_in_a_win_rate() -> None:
    outcomes = [
        Outcome("x", "y", 1, 1),
        Outcome("y", "x", 0, 1),  # the same said with the names turned
        Outcome("x", "y", 0, 1),
        Outcome("x", "y", 1, 2),
        Outcome("x", "y", 0, 2),
        Outcome("x", "y", 0, 3),
    ]
    (rate,) = win_rates(outcomes)
    assert (rate.first, rate.second) == ("x", "y")
    assert (rate.wins, rate.losses, rate.ties, rate.rate) == (1, 1, 1, 0.5)
    assert rate.interval == wilson(1, 2)
