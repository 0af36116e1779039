"""Winograd pairs: sentences in which one word decides whom the pronoun means.

Example: "The dog did not cross the lane because it was too tired" (the dog) and "... too wide"
(the lane).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from random import Random

from foundling.hamlet.chance import pick, sample
from foundling.hamlet.english import finish
from foundling.hamlet.grammar import say
from foundling.hamlet.phrase_table import PhraseTable
from foundling.hamlet.world import World

_TABLE = PhraseTable("schemas.txt")
_THINGS = PhraseTable("things.txt")


@dataclass(frozen=True)
class Schema:
    """A sentence form with its two words, each with a consequence that resolves the pronoun.

    `things` names the pools of the two candidates; it is empty where they are people.
    """

    name: str
    sentence: str
    words: tuple[str, ...]
    follow: tuple[str, ...]
    things: tuple[str, ...]
    held_out: bool  # never used by the corpus


@cache
def _schemas() -> tuple[Schema, ...]:
    schemas = []
    for name, section in _TABLE.sections.items():
        if [len(row) for row in section.rows] != [1, 2, 2]:
            what = "a schema is a sentence and two lines, each a word and its consequence"
            raise _TABLE.fault(section.lines[0], what)
        (sentence,), *ends = section.rows
        words, follow = zip(*ends, strict=True)
        things = tuple(note for note in section.notes if note != "held-out")
        schemas.append(Schema(name, sentence, words, follow, things, things != section.notes))
    return tuple(schemas)


@dataclass(frozen=True)
class WinogradPair:
    """A sentence and its twin, which differ in the special word and in the pronoun's referent.

    `before` and `after` are the sentence around the pronoun, so that
    `before + candidate + after` states the reading of a candidate.
    """

    schema: str
    sentence: str
    pronoun: str
    candidates: tuple[str, str]
    answer: str
    twin: str
    twin_answer: str
    special: tuple[str, str]
    question: str
    held_out: bool

    @property
    def before(self) -> str:
        """The sentence up to the pronoun."""
        return self.sentence[: self._position]

    @property
    def after(self) -> str:
        """The sentence after the pronoun."""
        return self.sentence[self._position + len(self.pronoun) :]

    @property
    def _position(self) -> int:
        return self.sentence.index(f" {self.pronoun} ", self.sentence.index(" because ")) + 1


def winograd_pairs(world: World, per_schema: int = 6) -> tuple[WinogradPair, ...]:
    """Pairs of every schema, each sentence of a pair once as `sentence`; always the same."""
    rng = Random(f"hamlet winograd {world.seed}")
    pairs = []
    for schema in _schemas():
        seen = set()
        for _ in range(per_schema):
            slots = _cast(world, rng, schema)
            if (slots["a"], slots["b"]) in seen:
                continue
            seen.add((slots["a"], slots["b"]))
            pairs += [_pair(schema, slots, which) for which in (0, 1)]
    return tuple(pairs)


def _cast(world: World, rng: Random, schema: Schema) -> dict[str, str]:
    if not schema.things:
        one = pick(rng, world.people)
        alike = [p for p in world.people if p.woman == one.woman and p.child == one.child]
        other = pick(rng, [p for p in alike if p is not one])
        return {**one.slots("a"), "b": other.name, "he": one.slots("a")["a.he"]}
    pools = [_THINGS.groups("pools")[name] for name in schema.things]
    a = pick(rng, pools[0])
    b = pick(rng, [thing for thing in pools[1] if thing != a])
    return {"a": "the " + a, "b": "the " + b, "he": "it"}


def _sentence(schema: Schema, slots: Mapping[str, str], which: int) -> str:
    return finish(schema.sentence.format_map({**slots, "w": schema.words[which]}) + ".")


def _pair(schema: Schema, slots: Mapping[str, str], which: int) -> WinogradPair:
    candidates = (slots["a"], slots["b"])
    word = schema.words[which]
    return WinogradPair(
        schema=schema.name,
        sentence=_sentence(schema, slots, which),
        pronoun=slots["he"],
        candidates=candidates,
        answer=candidates[which],
        twin=_sentence(schema, slots, 1 - which),
        twin_answer=candidates[1 - which],
        special=(word, schema.words[1 - which]),
        question=_question(schema, word),
        held_out=schema.held_out,
    )


def _question(schema: Schema, word: str) -> str:
    asked = "who" if not schema.things else "what"
    predicate = schema.sentence.split(" because {he} ")[1].format(w=word)
    return finish(f"{asked} {predicate}?")


@cache
def _told() -> tuple[Schema, ...]:
    return tuple(schema for schema in _schemas() if not schema.held_out)


def incident(world: World, rng: Random) -> str:
    """One such sentence, often with the consequence or question that resolves it."""
    schema = pick(rng, _told())
    slots = _cast(world, rng, schema)
    which = int(rng.random() * 2)
    text = _sentence(schema, slots, which)
    draw = rng.random()
    if draw < 0.55:
        return finish(f"{text} {say(rng, schema.follow[which], slots)}")
    answer = slots["ab"[which]]
    if draw < 0.8:
        return finish(f"{text} {_question(schema, schema.words[which])} {answer}.")
    if draw < 0.9:
        predicate = schema.sentence.split(" because {he} ")[1].format(w=schema.words[which])
        return finish(f"{text} {answer} {predicate}.")
    return text


def incidents(world: World, rng: Random) -> str:
    """One to four such sentences, or a sentence with its twin."""
    if rng.random() < 0.35:
        schema = pick(rng, _told())
        slots = _cast(world, rng, schema)
        order = sample(rng, (0, 1), 2)
        parts = []
        for which in order:
            question = _question(schema, schema.words[which])
            parts.append(
                f"{_sentence(schema, slots, which)} {question} {slots['ab'[which]]}."
                if rng.random() < 0.6
                else f"{_sentence(schema, slots, which)} {say(rng, schema.follow[which], slots)}"
            )
        return finish(pick(rng, ("\n", "\n", " ")).join(parts))
    parts = [incident(world, rng) for _ in range(1 + int(rng.random() * 4))]
    return finish("\n".join(parts))
