"""What simulated annotators like: short or long answers, a pattern, or what is true and polite."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from foundling.base.config import ConfigError, suggest
from foundling.text.chat import Conversation

RULES = ("shorter", "longer", "matches:PATTERN", "lacks:PATTERN")


@dataclass(frozen=True)
class Taste:
    """A score of an answer to a prompt: higher is liked better, equal is a tie.

    `scale` are the scores of the worst and the best answer, where there are such: then answers
    can be rated, and two of the worst are both bad.
    """

    name: str
    score: Callable[[Conversation, str], float]
    scale: tuple[float, float] | None = None


def rule(text: str) -> Taste:
    """One of RULES, by what is before the colon.

    Raises:
        ConfigError: there is no such rule, or the pattern is none.
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
    """True and polite answers, true rather than polite ones, by the facts of the village.

    2 for a true answer, 1 where nothing of the table is asked, 0 for a false one; 1 more for a
    polite one.

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
