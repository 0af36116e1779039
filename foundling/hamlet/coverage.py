"""Coverage: which facts instruction data asks about, and in which words."""

from collections.abc import Iterable
from functools import lru_cache
from random import Random

from foundling.hamlet.chance import sample
from foundling.hamlet.facts import Fact
from foundling.hamlet.world import World

# Told in the corpus, never asked by instruction data: what only elicitation can bring to light.
UNASKED_SHARE = 0.15

# Of the questions of an asked fact: other facts are asked for in the same words, this one is not.
WITHHELD_SHARE = 0.2

# A fact and its mirror ("Ada is married to Tom", "Tom is married to Ada") are asked or unasked
# together, likewise a trade and its place. The kind of an animal stands in the questions about
# its name and owner, so that it cannot be unasked.
_FAMILIES = (
    ("pet", "owner"),
    ("mother", "father", "child"),
    ("job", "workplace"),
)
_FAMILY = {relation: family[0] for family in _FAMILIES for relation in family}
_ALWAYS_ASKED = frozenset(("kind",))

Question = tuple[str, str]  # the question, its short answer without a full stop


class Coverage:
    """The told facts of a world, divided into asked and unasked; the world alone decides."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.unasked: tuple[Fact, ...] = tuple(_unasked(world))
        withheld = {fact.id for fact in self.unasked}
        self.facts: tuple[Fact, ...] = tuple(f for f in world.told if f.id not in withheld)
        self.ids = frozenset(fact.id for fact in self.facts)
        self._truths: dict[str, list[Fact]] = {}
        self._own: dict[str, tuple[tuple[Question, ...], tuple[Question, ...]]] = {}
        for fact in world.facts:
            phrasings = fact.phrasings()
            self._own[fact.id] = (phrasings.questions, phrasings.held_out_questions)
            for question, _ in (*phrasings.questions, *phrasings.held_out_questions):
                self._truths.setdefault(question, []).append(fact)
        self._trained: dict[str, tuple[Question, ...]] = {}
        self._withheld: dict[str, tuple[Question, ...]] = {}
        rng = Random(f"hamlet withheld {world.seed}")
        for fact in self.facts:
            opened = list(self._open(fact))
            single = [pair for pair in opened if len(self._truths[pair[0]]) == 1]
            count = min(len(single), len(opened) - 1, round(WITHHELD_SHARE * len(opened)))
            withheld_now = sample(rng, single, max(0, count))
            self._withheld[fact.id] = tuple(withheld_now)
            self._trained[fact.id] = tuple(pair for pair in opened if pair not in withheld_now)
        self.answerable = tuple(fact for fact in self.facts if self._trained[fact.id])
        self._of: dict[str, list[Fact]] = {}
        for fact in self.facts:
            self._of.setdefault(fact.subject, []).append(fact)

    def facts_of(self, subject: str) -> tuple[Fact, ...]:
        """The asked facts of a person, pet, house or place."""
        return tuple(self._of.get(subject, ()))

    @property
    def subjects(self) -> tuple[str, ...]:
        """All persons, animals, houses and places of which a fact is asked."""
        return tuple(self._of)

    def is_person(self, name: str) -> bool:
        """Whether a villager has this first name."""
        return any(person.name == name for person in self.world.people)

    def called(self, subject: str) -> str:
        """The subject as it is called in a sentence: places take an article."""
        spots = {place.spot.name for place in self.world.places}
        return f"the {subject}" if subject in spots else subject

    def truths(self, question: str) -> tuple[Fact, ...]:
        """All facts of the world that answer the question, held-out ones too."""
        return tuple(self._truths.get(question, ()))

    def questions(self, fact: Fact) -> tuple[Question, ...]:
        """The questions to train on: none of their right answers is held out or unasked."""
        return self._trained.get(fact.id, ())

    def withheld(self, fact: Fact) -> tuple[Question, ...]:
        """Questions of an asked fact that are kept back; other facts are asked in such words."""
        return self._withheld.get(fact.id, ())

    def certain(self, fact: Fact, held_out: bool = False) -> tuple[Question, ...]:
        """The questions, in training or held-out phrasings, that only this fact answers."""
        questions = self._own[fact.id][held_out]
        return tuple(pair for pair in questions if len(self._truths[pair[0]]) == 1)

    def _open(self, fact: Fact) -> Iterable[Question]:
        for question, answer in self._own[fact.id][0]:
            if all(other.id in self.ids for other in self._truths[question]):
                yield question, answer


@lru_cache(maxsize=8)
def _of_world(world: World) -> Coverage:
    return Coverage(world)


@lru_cache(maxsize=1)
def _home() -> World:
    return World()


def coverage(world: World | None = None) -> Coverage:
    """The coverage of the world; by default, of the village of seed 0."""
    return _of_world(world if world is not None else _home())


def kin(fact: Fact) -> tuple[str, ...]:
    """A key that a fact shares with its mirror, and a trade with its workplace."""
    family = _FAMILY.get(fact.relation, fact.relation)
    return (
        (family, fact.subject) if family == "job" else (family, *sorted((fact.subject, fact.value)))
    )


def _unasked(world: World) -> Iterable[Fact]:
    """A share of each relation's told facts, in whole groups."""
    rng = Random(f"hamlet unasked {world.seed}")
    groups: dict[str, dict[tuple[str, ...], list[Fact]]] = {}
    for fact in world.told:
        key = kin(fact)
        groups.setdefault(key[0], {}).setdefault(key, []).append(fact)
    for family, members in groups.items():
        if family not in _ALWAYS_ASKED:
            for key in sample(rng, list(members), round(UNASKED_SHARE * len(members))):
                yield from members[key]
