"""Examination: questions that instruction data never asks, with all right answers."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from foundling.hamlet.chance import sample
from foundling.hamlet.coverage import Coverage, coverage
from foundling.hamlet.english import number
from foundling.hamlet.facts import Fact
from foundling.hamlet.world import World

SETS = ("phrasing", "wording", "unasked", "held_out_fact", "control")

_DIGITS = {number(n): str(n) for n in range(100)}


def held_out_questions(
    world: World | None = None, seed: int = 0, limit: int | None = None
) -> list[dict[str, Any]]:
    """The questions of every set, at most `limit` of each, in an order drawn by the seed.

    `phrasing`: asked facts in phrasings that instruction data uses for other facts only;
    `wording`: asked facts in wordings that occur nowhere else; `unasked`: facts that
    the corpus told and instruction data never asked; `held_out_fact`: facts that follow from told
    ones; `control`: facts that nothing implies, so that a model can only guess. All have exactly
    one right answer. A row has `messages` (the question alone), `question`, `answer`, `accepted`,
    `set`, `kind`, `fact` and `relation`.
    """
    asked = coverage(world)
    rng = Random(f"hamlet examination {asked.world.seed} {seed}")
    rows = []
    for name in SETS:
        found = list(_questions(asked, name))
        rows += sample(rng, found, len(found) if limit is None else limit)
    return rows


def _questions(asked: Coverage, name: str) -> Iterator[dict[str, Any]]:
    for fact in _facts(asked, name):
        kept_back = asked.withheld(fact) if name == "phrasing" else None
        for question, answer in kept_back or asked.certain(fact, held_out=name == "wording"):
            yield {
                "messages": [{"role": "user", "content": question}],
                "question": question,
                "answer": answer + ".",
                "accepted": accepted(fact, answer),
                "set": name,
                "kind": "question",
                "fact": fact.id,
                "relation": fact.relation,
            }


def _facts(asked: Coverage, name: str) -> tuple[Fact, ...]:
    if name == "phrasing":
        return tuple(fact for fact in asked.facts if asked.withheld(fact))
    if name == "wording":
        return asked.facts
    if name == "unasked":
        return asked.unasked
    held_out = tuple(fact for fact in asked.world.facts if fact.held_out)
    return tuple(f for f in held_out if bool(f.derived_from) == (name == "held_out_fact"))


def accepted(fact: Fact, answer: str) -> list[str]:
    """The right answers to a question of the fact: short ones, the bare name, whole sentences."""
    phrasings = fact.phrasings()
    asks_subject = answer == fact.subject
    answers = [answer]
    for _, other in (*phrasings.questions, *phrasings.held_out_questions):
        if (other == fact.subject) == asks_subject:
            answers.append(other)
    if not asks_subject:
        answers.append(fact.value)
        answers.append(fact.slots.get("v.third", fact.value))
        if fact.relation == "age":
            answers += [fact.value + " years old", _DIGITS[fact.value]]
    answers += phrasings.statements
    answers += [clause + "." for clause in fact.pronoun_clauses if not asks_subject]
    different: dict[str, str] = {}
    for text in answers:
        different.setdefault(_bare(text), text)
    return list(different.values())


def exact_match(answer: str, accepted: Sequence[str]) -> bool:
    """Whether the answer is accepted, ignoring case, blanks, full stop and leading article."""
    return _bare(answer) in {_bare(right) for right in accepted}


def _bare(text: str) -> str:
    words = text.strip().removesuffix(".").lower().split()
    return " ".join(words[1:] if words[:1] in (["a"], ["an"], ["the"]) else words)
