"""Judgement: whether an answer is true, by the fact table, and polite."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from foundling.hamlet import stock
from foundling.hamlet.coverage import coverage
from foundling.hamlet.english import finish, number
from foundling.hamlet.facts import Fact
from foundling.hamlet.relations import OF_PEOPLE
from foundling.hamlet.rudeness import RUDE_WORDS
from foundling.hamlet.stock import STOCK
from foundling.hamlet.world import World

# What the rude people of the corpus say besides their rude words.
BRUSQUE = (
    "ask someone else", "find out for yourself", "what a stupid question", "do not bother me",
    "be quiet", "get out of my way", "as any",
)  # fmt: skip
_RUDE = re.compile(rf"\b(?:{'|'.join(RUDE_WORDS)})s?\b", re.IGNORECASE)


@dataclass(frozen=True)
class Judgement:
    """`true` is None where no fact was asked for; `rude` counts rude words."""

    true: bool | None
    rude: int
    polite: bool


def judge(prompt: Mapping[str, str], answer: str, world: World | None = None) -> Judgement:
    """Judge an answer to a row of `prompts`, as the simulated annotator does.

    An answer to a question is true if it names a right value and no wrong value of the relation.
    An answer to a request to tell is true if it states something true of the subject and nothing
    false, in phrasings of the corpus; None if it states neither.
    """
    village = coverage(world).world
    rude = len(_RUDE.findall(answer))
    brusque = any(phrase in answer.lower() for phrase in BRUSQUE)
    true = None
    if prompt["fact"]:
        true = _states(village, village.fact(prompt["fact"]), prompt["prompt"], answer)
    elif prompt["kind"] == "tell":
        true = _tells(village, prompt["subject"], answer)
    return Judgement(true, rude, polite=bool(answer.strip()) and not rude and not brusque)


def _states(world: World, fact: Fact, prompt: str, answer: str) -> bool:
    if re.search(rf"\b{re.escape(fact.subject)}\b", prompt):
        truths = {f.value for f in world.query(fact.subject, fact.relation)}
        found = set(_mentioned(_forms(world, fact.relation), answer)) - {fact.subject}
    else:  # "Who is the baker?" asks for the subject.
        truths = {f.subject for f in world.query(relation=fact.relation, value=fact.value)}
        found = set(_mentioned(_forms(world, "owner"), answer))
    return bool(found & truths) and not found - truths


def _values(world: World, relation: str) -> tuple[str, ...]:
    """All possible values of the relation."""
    known = tuple(dict.fromkeys(fact.value for fact in world.query(relation=relation)))
    spots = tuple(place.spot.name for place in world.places)
    return {
        "age": tuple(number(n) for n in range(1, 100)),
        "home": STOCK["homes"],
        "workplace": spots,
        "next_to": (*spots, *STOCK["homes"]),
        "pet": tuple(name for names in stock.pets().values() for name in names),
        **dict.fromkeys(OF_PEOPLE, tuple(person.name for person in world.people)),
    }.get(relation, known)


@lru_cache(maxsize=64)
def _forms(world: World, relation: str) -> tuple[re.Pattern[str], Mapping[str, str]]:
    """A pattern of every form of every value, longest first; the value of each form."""
    values = _values(world, relation)
    if relation in OF_PEOPLE:
        values = tuple(dict.fromkeys((*values, *STOCK["women"], *STOCK["men"])))
    forms = {value: value for value in values}
    if relation == "age":
        forms |= {str(n): number(n) for n in range(1, 100)}
    for base, habit in stock.habits().get(relation, {}).items():
        forms[habit.third] = base
    # Names keep their capital ("may" is no month); other words may begin a sentence.
    parts = [
        re.escape(form) if form[0].isupper() else f"(?i:{re.escape(form)})"
        for form in sorted(forms, key=len, reverse=True)
    ]
    pattern = re.compile(rf"(?<![\w-])(?:{'|'.join(parts)})(?![\w-])")
    return pattern, {form.lower(): value for form, value in forms.items()}


def _mentioned(forms: tuple[re.Pattern[str], Mapping[str, str]], answer: str) -> Iterable[str]:
    pattern, values = forms
    return (values[found.lower()] for found in pattern.findall(answer))


def _tells(world: World, subject: str, answer: str) -> bool | None:
    true, false = _clauses(world, subject)
    text = answer.lower()
    if any(_said(clause, text) for clause in false):
        return False
    return True if any(_said(clause, text) for clause in true) else None


def _said(clause: str, text: str) -> bool:
    start = text.find(clause)
    if start < 0:
        return False
    before, after = text[:start][-1:], text[start + len(clause) :][:1]
    return not (before.isalnum() or after.isalnum() or after == "-")


@lru_cache(maxsize=128)
def _clauses(world: World, subject: str) -> tuple[frozenset[str], frozenset[str]]:
    """All true and all false clauses of a subject, by name and by pronoun, in lower case."""
    true: set[str] = set()
    false: set[str] = set()
    for relation in dict.fromkeys(fact.relation for fact in world.facts_of(subject)):
        for value in _values(world, relation):
            if value != subject:
                claim = world.claim(subject, relation, value)
                kept = true if world.is_true(subject, relation, value) else false
                clauses = (*claim.clauses, *claim.pronoun_clauses)
                kept.update(finish(clause).lower() for clause in clauses)
    return frozenset(true), frozenset(false - true)
