"""Games of names: what a new word is called follows from the examples before it, and only so.

In a game all fruits have one made-up name and all tools another; a word that no example holds has
the name of its group. The names are drawn anew for each game, so that nothing but its examples
tells them.
"""

from dataclasses import dataclass
from random import Random

from foundling.data.hamlet.chance import pick, sample, shuffled
from foundling.data.hamlet.pages import LAYOUTS, MADE_UP, WORDS

GROUPS = 2


@dataclass(frozen=True)
class Game:
    """A word that is asked, examples in an order that takes the groups by turns, and names.

    A text is `opening` and then lines, each `front.format(word)` and `" " + name`, `between` them.
    """

    opening: str
    front: str
    between: str
    word: str
    names: tuple[str, ...]
    gold: int
    examples: tuple[tuple[str, int], ...]
    """Words, and the number of each one's name."""


def games(seed: int, n: int) -> list[Game]:
    """n games of two groups with eight examples of each, where they have so many words."""
    rng = Random(f"hamlet games {seed}")
    return [_game(rng) for _ in range(n)]


def _game(rng: Random) -> Game:
    plain = [layout for layout in LAYOUTS if layout[1].endswith(" {1}")]
    opening, line, between, _ = pick(rng, plain)
    groups = sample(rng, list(WORDS), GROUPS)
    words = [shuffled(rng, WORDS[group]) for group in groups]
    gold = int(rng.random() * GROUPS)
    asked = words[gold].pop()
    examples = []
    for turn in range(min(map(len, words))):
        for group in shuffled(rng, range(GROUPS)):
            examples.append((words[group][turn], group))
    return Game(
        opening=opening,
        front=line.removesuffix(" {1}"),
        between=between,
        word=asked,
        names=tuple(sample(rng, MADE_UP, GROUPS)),
        gold=gold,
        examples=tuple(examples),
    )
