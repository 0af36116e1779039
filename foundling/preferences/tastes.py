"""Preferences of simulated annotators: by length, by a pattern, or for true and polite answers."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from foundling.base.config import ConfigError, suggest
from foundling.text.chat import Conversation

RULES = ("shorter", "longer", "matches:PATTERN", "lacks:PATTERN")


@dataclass(frozen=True)
class Taste:
    """A score of an answer to a prompt: the higher is preferred, equal is a tie.

    `scale` holds the lowest and the highest score, where the scores are bounded: only then can
    answers be rated, and two of the lowest are "both bad".
    """

    name: str
    score: Callable[[Conversation, str], float]
    scale: tuple[float, float] | None = None


def rule(text: str) -> Taste:
    """The taste named by one of RULES.

    Raises:
        ConfigError: there is no such rule, or the pattern is not a regular expression.
    """
    name, colon, source = text.partition(":")
    if name in ("shorter", "longer") and not colon:
        sign = -1 if name == "shorter" else 1
        return Taste(text, lambda _, answer: sign * len(answer))
    if name not in ("matches", "lacks") or not source:
        raise ConfigError(f'rule = "{text}": no such rule {suggest(text, RULES)}')
    try:
        pattern = re.compile(source)
    except re.error as error:
        raise ConfigError(f'rule = "{text}": not a regular expression: {error}.') from None
    wanted = name == "matches"
    return Taste(text, lambda _, answer: float(bool(pattern.search(answer)) == wanted))


def hamlet_taste(village: int = 0) -> Taste:
    """Prefers true answers first and polite ones second, by the facts of the village.

    Scores 2 for a true answer, 1 where the table says nothing of it, 0 for a false one, and 1
    more for a polite one.

    Args:
        village: the seed of `hamlet.World`.
    """
    from foundling import hamlet

    world = hamlet.World(village)

    def score(prompt: Conversation, answer: str) -> float:
        verdict = hamlet.judge(hamlet.recognise(prompt[-1].content, world), answer, world)
        truth = {True: 2.0, None: 1.0, False: 0.0}[verdict.true]
        return truth + verdict.polite

    return Taste(f"hamlet {village}", score, (0.0, 3.0))
