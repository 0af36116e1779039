"""Games: lists whose next entry follows from the entries before it alone.

In a game of names all fruits have one made-up name and all tools another, drawn anew for each
game: the mapping must be learned from the list. In a register every villager is listed with a value
of one relation, such as a favourite food: the relation must be recognised.

Source: Pan et al. 2023, What In-Context Learning "Learns" In-Context: task learning, recognition.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from foundling.hamlet.chance import pick, sample, shuffled
from foundling.hamlet.pair_lists import LAYOUTS, MADE_UP, word_groups
from foundling.hamlet.world import World

GROUPS = 2
MOST_EXAMPLES = 16
RELATIONS = ("food", "hair", "season", "birthday", "fear", "hobby", "belonging", "friend", "age")
ASKED = 3


@dataclass(frozen=True)
class Entry:
    """A word, the answers that might follow it, and the index of the one that does."""

    word: str
    answers: tuple[str, ...]
    gold: int


@dataclass(frozen=True)
class Game:
    """A list and one more entry to be answered.

    Its text is `opening` and then entries, each `front.format(word)` and `" " + answer`, with
    `between` after each.
    """

    opening: str
    front: str
    between: str
    asked: Entry
    examples: tuple[Entry, ...]


def games_of_names(seed: int, n: int) -> list[Game]:
    """n games of two groups; the examples are balanced, at least eight from each group."""
    rng = Random(f"hamlet games {seed}")
    return [_game_of_names(rng) for _ in range(n)]


def registers(world: World, seed: int, n: int) -> list[Game]:
    """n registers; each candidate answer is true of the villager, in one of three relations.

    The corpus states all three for the villager who is asked.
    """
    rng = Random(f"hamlet registers {seed}")
    return [_register(world, rng) for _ in range(n)]


def _game_of_names(rng: Random) -> Game:
    large = [group for group in word_groups().values() if len(group) > MOST_EXAMPLES // GROUPS]
    words = [shuffled(rng, group) for group in sample(rng, large, GROUPS)]
    names = tuple(sample(rng, MADE_UP, GROUPS))
    gold = int(rng.random() * GROUPS)
    asked = Entry(words[gold].pop(), names, gold)
    examples = [
        Entry(words[group][turn], names, group)
        for turn in range(MOST_EXAMPLES // GROUPS)
        for group in shuffled(rng, range(GROUPS))
    ]
    return _laid_out(rng, asked, examples)


def _register(world: World, rng: Random) -> Game:
    relations = sample(rng, RELATIONS, ASKED)
    gold = int(rng.random() * ASKED)
    values = [{f.subject: f for f in world.facts if f.relation == name} for name in relations]
    people = shuffled(rng, [p.name for p in world.people if all(p.name in of for of in values)])
    told = [name for name in people if not any(of[name].held_out for of in values)]
    asked = pick(rng, told)
    entries = [
        Entry(name, tuple(of[name].value for of in values), gold)
        for name in [asked, *(name for name in people if name != asked)]
    ]
    return _laid_out(rng, entries[0], entries[1 : MOST_EXAMPLES + 1])


def _laid_out(rng: Random, asked: Entry, examples: Sequence[Entry]) -> Game:
    plain = [layout for layout in LAYOUTS if layout[1].endswith(" {1}")]
    opening, line, between, _ = pick(rng, plain)
    return Game(opening, line.removesuffix(" {1}"), between, asked, tuple(examples))
