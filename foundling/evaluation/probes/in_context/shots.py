"""An item behind examples: right ones, ones with labels drawn by chance, ones of another task."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random

from foundling.evaluation.choices import Choice
from foundling.hamlet.chance import pick


@dataclass(frozen=True)
class Shot:
    """An example with all its possible answers, of which `gold` is right.

    `pairs` are prompt and continuation of each; `neutral` the same continuations where nothing is
    asked, empty where that makes no sense. `key` tells texts apart, but for case and white space.
    """

    pairs: tuple[tuple[str, str], ...]
    gold: int
    key: str
    neutral: tuple[tuple[str, str], ...] = ()

    @property
    def told(self) -> str:
        """The example with its right answer."""
        return "".join(self.pairs[self.gold])

    def mistold(self, rng: Random, pool: Sequence["Shot"]) -> str:
        """The example with an answer by chance, as often as each is right in the pool.

        So a mind that only repeats the commonest answer gains nothing over it. Where examples have
        no answers in common, as in a multiple choice, each of its own is drawn as often.

        Source: Min et al. 2022, Rethinking the Role of Demonstrations, section 4, who draw
        labels evenly.
        """
        other = pick(rng, pool)
        if len(self.pairs) == 1:
            return self.pairs[0][0] + other.pairs[0][1]
        if [after for _, after in self.pairs] == [after for _, after in other.pairs]:
            return "".join(self.pairs[other.gold])
        return "".join(pick(rng, self.pairs))


@dataclass(frozen=True)
class Asked:
    """An item to be asked behind `opening` and examples of the pool."""

    id: str
    shot: Shot
    pool: Sequence[Shot]
    opening: str = ""


@dataclass(frozen=True)
class ShotTask:
    """Items of one kind. `has_own_pools`: each item brings examples of its own, in an order;
    `is_given`: the user named it; `notes`: what was left out of the file, in words."""

    name: str
    title: str
    items: tuple[Asked, ...]
    separator: str
    has_own_pools: bool = False
    is_given: bool = False
    notes: tuple[str, ...] = ()

    @property
    def has_choices(self) -> bool:
        """Whether there is something to choose from; else the likeliest text must be the answer."""
        return len(self.items[0].shot.pairs) > 1

    @property
    def most_shots(self) -> int:
        """How many examples every item can have: none of them its own text."""
        return min(sum(shot.key != item.shot.key for shot in item.pool) for item in self.items)


def behind(item: Asked, told: Sequence[str], separator: str) -> Choice:
    """The item behind these texts of examples."""
    front = item.opening + "".join(text + separator for text in told)
    shot = item.shot
    return Choice(
        item.id,
        tuple((front + prompt, after) for prompt, after in shot.pairs),
        shot.gold,
        neutral=tuple((front + prompt, after) for prompt, after in shot.neutral),
    )


def first_others(item: Asked, pool: Sequence[Shot], count: int) -> list[Shot]:
    """The first `count` examples of the pool whose text is not the item's own."""
    return list(islice((shot for shot in pool if shot.key != item.shot.key), count))
