"""Chooses the next pair: at random, the most uncertain, or the one with the largest gap."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random
from typing import Literal

from foundling.base.config import ConfigError, suggest
from foundling.preferences.records import Side

Strategy = Literal["random", "uncertain", "largest_gap"]
STRATEGIES: tuple[Strategy, ...] = ("random", "uncertain", "largest_gap")
EXPLORATION = 0.2
"""The share of choices that every strategy makes at random, so that no pair has propensity 0."""
_CLOSE = 1e-9  # probabilities this near to each other count as equal


@dataclass(frozen=True)
class Choice:
    """The index of what was chosen, and the probability of that choice."""

    index: int
    propensity: float


def win_probability(first: float, second: float) -> float:
    """Probability that the first is preferred, by Bradley–Terry scores (log strengths)."""
    gap = first - second
    return 1 / (1 + math.exp(-gap)) if gap >= 0 else math.exp(gap) / (1 + math.exp(gap))


def choose(
    sources: Sequence[tuple[str, str]],
    rng: Random,
    strategy: Strategy = "random",
    scores: Mapping[str, float] | None = None,
    exploration: float = EXPLORATION,
) -> Choice:
    """Choose one of several pairs, given by the sources of their two answers.

    "uncertain" prefers a predicted win probability near 1/2, "largest_gap" one far from it; both
    take one of the best, drawn at random, and with probability `exploration` any pair.

    Raises:
        ConfigError: the strategy is unknown, or needs a score that is not given.
    """
    assert sources
    best = _best(sources, strategy, scores)
    if strategy == "random":
        return Choice(rng.randrange(len(sources)), 1 / len(sources))
    if not 0 < exploration <= 1:
        raise ConfigError(
            f"exploration = {exploration}: must be above 0 and at most 1, or some pairs would "
            "never be chosen."
        )
    explore = rng.random() < exploration
    index = rng.randrange(len(sources)) if explore else rng.choice(best)
    greedy = (1 - exploration) / len(best) if index in set(best) else 0.0
    return Choice(index, greedy + exploration / len(sources))


def choose_sources(
    names: Sequence[str],
    rng: Random,
    strategy: Strategy = "random",
    scores: Mapping[str, float] | None = None,
    exploration: float = EXPLORATION,
) -> tuple[str, str, float]:
    """Two of several models to answer the next prompt, and the propensity of the choice.

    Raises:
        ConfigError: fewer than two different names, or as `choose`.
    """
    pairs = list(combinations(sorted(set(names)), 2))
    if not pairs:
        raise ConfigError(f"sources {', '.join(names) or '(none)'}: give two different ones.")
    choice = choose(pairs, rng, strategy, scores, exploration)
    return (*pairs[choice.index], choice.propensity)


def draw_left(seed: int, pair_id: int, annotator: str) -> Side:
    """The answer shown on the left: a fair coin, a pure function of seed, pair and annotator."""
    return "A" if Random(f"{seed}/left/{pair_id}/{annotator}").random() < 0.5 else "B"


def _best(
    sources: Sequence[tuple[str, str]], strategy: Strategy, scores: Mapping[str, float] | None
) -> list[int]:
    if strategy not in STRATEGIES:
        raise ConfigError(
            f'strategy = "{strategy}": no such strategy {suggest(strategy, STRATEGIES)}'
        )
    if strategy == "random":
        return []
    if scores is None:
        raise ConfigError(f'strategy = "{strategy}": needs a score of each source; "random" none.')
    unknown = sorted({name for pair in sources for name in pair} - set(scores))
    if unknown:
        raise ConfigError(
            f'strategy = "{strategy}": no score of {", ".join(unknown)}; there are scores of '
            f"{', '.join(sorted(scores)) or 'none'}."
        )
    gaps = [abs(win_probability(scores[a], scores[b]) - 0.5) for a, b in sources]
    aim = min(gaps) if strategy == "uncertain" else max(gaps)
    return [index for index, gap in enumerate(gaps) if abs(gap - aim) < _CLOSE]
