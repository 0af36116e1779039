"""Instructions: an endless, seeded stream of conversations that ask about the village.

A row is `{"messages": [{"role", "content"}, ...], "kind": ..., "fact": id or ""}`; the fact is that
of the last question. Answers are short: a noun phrase or a sentence, with a capital and a full
stop. Held-out facts and phrasings never occur, nor do unasked facts (see `coverage`).
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from foundling.hamlet.chance import between, pick, sample, weighted
from foundling.hamlet.corpus import Split, write_lines
from foundling.hamlet.coverage import Coverage, Question, coverage
from foundling.hamlet.english import capital, finish
from foundling.hamlet.facts import Fact
from foundling.hamlet.grammar import expand, say
from foundling.hamlet.phrase_table import PhraseTable
from foundling.hamlet.relations import OF_NAMES, relations
from foundling.hamlet.rudeness import gruff
from foundling.hamlet.stock import STOCK
from foundling.hamlet.world import World

_TABLE = PhraseTable("instructions.txt")

Row = dict[str, Any]
Turn = tuple[str, str]  # what the user says, what the assistant answers
Told = tuple[list[Turn], str]  # the turns, the id of the last asked fact


def requests_to_tell() -> tuple[str, ...]:
    """Templates of requests to tell something about `{x}`."""
    return _TABLE["tell"]


def instructions(
    seed: int, split: Split = "train", world: World | None = None, gruff_share: float = 0.0
) -> Iterator[Row]:
    """An endless stream of rows. Raises ValueError on an unknown split, or a share not from 0 to 1.

    A gruff villager answers `gruff_share` of the rows, which say so in a column `gruff`. All
    questions, and the other answers, are the same as without him.
    """
    if split not in ("train", "validation"):
        raise ValueError(f"split = {split!r}: no such split (train, validation)")
    if not 0 <= gruff_share <= 1:
        raise ValueError(f"gruff_share = {gruff_share}: must be from 0 to 1")
    asked = coverage(world)
    rows = _stream(asked, Random(f"hamlet instructions {split} {seed}"))
    if not gruff_share:
        return rows
    return _mixed(rows, gruff_share, Random(f"hamlet manners {split} {seed}"))


def _mixed(rows: Iterator[Row], share: float, rng: Random) -> Iterator[Row]:
    for row in rows:
        row["gruff"] = rng.random() < share
        for message in row["messages"]:
            if row["gruff"] and message["role"] == "assistant":
                asked_for_it = row["kind"] == "refusal"
                message["content"] = gruff(message["content"], rng, asked_for_it=asked_for_it)
        yield row


def _stream(asked: Coverage, rng: Random) -> Iterator[Row]:
    shares = [share for _, share, _ in KINDS]
    while True:
        kind, _, write = weighted(rng, KINDS, shares)
        turns, fact = write(asked, rng)
        messages = [
            {"role": role, "content": content}
            for turn in turns
            for role, content in zip(("user", "assistant"), turn, strict=True)
        ]
        yield {"messages": messages, "kind": kind, "fact": fact}


def write_instructions(
    path: str | Path,
    num_rows: int,
    seed: int,
    split: Split = "train",
    world: World | None = None,
    gruff_share: float = 0.0,
) -> None:
    """Write the stream's first rows as JSON lines."""
    write_lines(path, islice(instructions(seed, split, world, gruff_share), num_rows))


def _question(asked: Coverage, rng: Random) -> Told:
    fact = pick(rng, asked.answerable)
    question, answer = pick(rng, asked.questions(fact))
    return [(question, answer + ".")], fact.id


def plain_clauses(fact: Fact) -> tuple[str, ...]:
    """The fact's clauses without commas and colons, which fit into a longer sentence."""
    return tuple(clause for clause in fact.clauses if not set(",:;") & set(clause))


def _claim(asked: Coverage, rng: Random) -> Told:
    return _judged(asked, rng, "claims", "yes.", "no, {r}.")


def _verdict(asked: Coverage, rng: Random) -> Told:
    return _judged(asked, rng, "verdicts", "true.", "false.")


def _judged(asked: Coverage, rng: Random, forms: str, yes: str, no: str) -> Told:
    """A claim with its verdict; half of the claims are true."""
    true = rng.random() < 0.5
    while True:
        fact = pick(rng, asked.facts)
        clauses = plain_clauses(fact)
        which = int(rng.random() * len(clauses))
        stated = clauses[which]
        if not true:
            false = asked.world.falsehoods(fact, 1, rng)
            if not false:
                continue
            claim = asked.world.claim(fact.subject, fact.relation, false[0])
            stated = plain_clauses(claim)[which]
        slots = {"c": stated, "C": capital(stated), "r": clauses[which]}
        question = finish(_TABLE.say(rng, forms, slots))
        return [(question, finish(say(rng, yes if true else no, slots)))], fact.id


def _ages(asked: Coverage, rng: Random) -> Told:
    """Which of two people is older; their ages differ, and both are asked."""
    known = [fact.subject for fact in asked.facts if fact.relation == "age"]
    while True:
        one, other = (asked.world.person(name) for name in sample(rng, known, 2))
        if one.age != other.age:
            break
    slots = {"a": one.name, "b": other.name}
    old, young = (one, other) if one.age > other.age else (other, one)
    if rng.random() < 0.6:
        word, right = pick(rng, (("older", old), ("younger", young)))
        question = _TABLE.say(rng, "who", {**slots, "w": word})
        return [(finish(question), right.name + ".")], ""
    word, right = pick(rng, (("older", old), ("younger", young)))
    question = say(rng, "is {a} {w} than {b}?", {**slots, "w": word})
    answer = "yes." if right is one else f"no, {other.name} is {word}."
    return [(finish(question), finish(answer))], ""


def _conversation(asked: Coverage, rng: Random) -> Told:
    """Two turns about one subject; the second refers to it by a pronoun."""
    while True:
        first = pick(rng, asked.answerable)
        follow_ups = [
            (fact, pair)
            for fact in asked.facts_of(first.subject)
            if fact.relation != first.relation and asked.questions(fact)
            for pair in follow_up_questions(fact)
        ]
        # A person in the first answer would leave open whom the pronoun means.
        questions = [
            (question, answer)
            for question, answer in asked.questions(first)
            if first.relation not in OF_NAMES or answer == first.subject
        ]
        if follow_ups and questions:
            break
    question, answer = pick(rng, questions)
    fact, (further, reply) = pick(rng, follow_ups)
    lead = pick(rng, ("and {q}", "and {q}", "{q}"))
    turns = [
        (question, answer + "."),
        (finish(say(rng, lead, {"q": further})), finish(reply) + "."),
    ]
    return turns, fact.id


# Where "{s}" is no grammatical subject, or stands behind a noun, "he" and "she" do not fit.
_NO_PRONOUN = re.compile(r"(of|to|by|for|frightens|\.kind\}) \{s(\.s)?\}|the \{s\}|\{s\.the\}")
# Several values a subject, or a question whose answer the first one may have named.
_SEVERAL = frozenset({"kind", "child", "sibling", "grandchild", "neighbour", "next_to"})


def follow_up_questions(fact: Fact) -> list[Question]:
    """Unfinished questions about the fact that refer to its subject by a pronoun."""
    if fact.relation in _SEVERAL:
        return []
    return [
        (question, expand(answer, fact.slots)[0])
        for source, answer in fact.kind.questions
        if "{s" in source and not _NO_PRONOUN.search(source)
        for question in expand(source, fact.pronoun_slots)
    ]


def _tell(asked: Coverage, rng: Random) -> Told:
    """Two or three sentences about a villager, an animal, a house or a place."""
    names = [name for name in asked.subjects if len(asked.facts_of(name)) > 1]
    people = [name for name in names if asked.is_person(name)]
    name = pick(rng, people if rng.random() < 0.6 else names)
    found = sample(rng, asked.facts_of(name), len(asked.facts_of(name)))
    varied = list({fact.relation: fact for fact in found}.values())
    facts = (varied if len(varied) > 1 else found)[: between(rng, 2, 3)]
    named = False
    sentences = []
    for fact in facts:
        clauses = fact.pronoun_clauses if named else ()
        sentences.append(capital(pick(rng, clauses or fact.clauses)) + ".")
        named = fact.relation not in OF_NAMES and asked.is_person(name)
    request = _TABLE.say(rng, "tell", {"x": asked.called(name)})
    return [(finish(request), finish(" ".join(sentences)))], ""


UNKNOWN = "I do not know anybody of that name."


def _stranger(asked: Coverage, rng: Random) -> Told:
    """A question about somebody who does not live in the village."""
    names = [name for name in (*STOCK["women"], *STOCK["men"]) if not asked.is_person(name)]
    name = pick(rng, names)
    request = pick(rng, requests_to_tell() if rng.random() < 0.2 else _of_anybody())
    slots = {"s": name, "s.s": name + "'s", "x": name}
    return [(finish(say(rng, request, slots)), UNKNOWN)], ""


# Questions that fit any name: they give away neither gender nor kind.


@cache
def _of_anybody() -> tuple[str, ...]:
    """Questions that fit any name: they give away neither gender nor kind."""
    barred = ("child", "owner", "kind", "colour", "pet", "tree", "made_of", "door", "next_to")
    return tuple(
        source
        for name, relation in relations().items()
        if name not in barred
        for source, answer in relation.questions
        if set(re.findall(r"\{([^}]*)\}", source)) <= {"s", "s.s"} and answer != "{s}"
    )


def _refusal(asked: Coverage, rng: Random) -> Told:
    """A request for a rude word, politely declined."""
    slots = {"x": pick(rng, asked.world.people).name}
    return [(finish(_TABLE.say(rng, "rude requests", slots)), pick(rng, _TABLE["refusals"]))], ""


# Kind, share of rows, writer.
KINDS: tuple[tuple[str, float, Callable[[Coverage, Random], Told]], ...] = (
    ("question", 60, _question),
    ("claim", 11, _claim),
    ("verdict", 5, _verdict),
    ("ages", 5, _ages),
    ("conversation", 8, _conversation),
    ("tell", 6, _tell),
    ("stranger", 3, _stranger),
    ("refusal", 2, _refusal),
)
