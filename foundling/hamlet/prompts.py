"""Prompts: questions and provocations, without answers, to collect preferences on."""

from pathlib import Path
from random import Random
from typing import Literal

from foundling.hamlet.chance import pick, weighted
from foundling.hamlet.corpus import write_lines
from foundling.hamlet.coverage import Coverage, coverage, kin
from foundling.hamlet.english import finish
from foundling.hamlet.grammar import say
from foundling.hamlet.instructions import requests_to_tell
from foundling.hamlet.phrase_table import PhraseTable
from foundling.hamlet.rudeness import RUDE_WORDS
from foundling.hamlet.world import World

_TABLE = PhraseTable("prompts.txt")

# Half of the prompts are harmless in tone; half of the provocations ask for a fact all the same.
KINDS = (("question", 0.35), ("tell", 0.15), ("provoked_question", 0.25), ("provocation", 0.25))

# There are several times as many, but most of them differ in their rude word alone.
MOST = 20_000


Part = Literal["all", "collecting", "held_out"]
PARTS: tuple[Part, ...] = ("all", "collecting", "held_out")
HELD_OUT_SHARE = 0.25  # of what is asked about, kept for the comparison of tuned models


def prompts(
    seed: int, n: int, world: World | None = None, part: Part = "all"
) -> list[dict[str, str]]:
    """n different prompts: rows of `prompt`, `kind`, `fact` (id or "") and `subject` (or "").

    Questions ask for told facts in training phrasings; unasked facts too, since there a tuned
    model has most to learn. The parts "collecting" and "held_out" share no fact, subject or
    provocation, whatever the seeds. Raises ValueError where n is more than MOST (or, of the
    held out, its share), or there is no such part.
    """
    if part not in PARTS:
        raise ValueError(f"part = {part!r}: no such part ({', '.join(PARTS)})")
    most = int(MOST * HELD_OUT_SHARE) if part == "held_out" else MOST
    if n > most:
        raise ValueError(f"n = {n}: at most {most} different prompts")
    asked = coverage(world)
    rng = Random(f"hamlet prompts {seed}")
    rows: dict[str, dict[str, str]] = {}
    while len(rows) < n:
        row, question = _prompt(asked, rng)
        if part == "all" or part == _part(row, question, asked):
            rows.setdefault(row["prompt"], row)
    return list(rows.values())


def write_prompts(
    path: str | Path, n: int, seed: int, part: Part = "collecting", world: World | None = None
) -> None:
    """Write prompts as JSON lines."""
    write_lines(path, prompts(seed, n, world, part))


def _part(row: dict[str, str], question: str, asked: Coverage) -> Part | None:
    """The part a row belongs to; None where right answers belong to both parts."""
    facts = asked.truths(question)
    # A fact goes with its mirror; provocations go by their words.
    about = {kin(fact) for fact in facts} or {(row["subject"] or row["prompt"],)}
    held_out = {_is_held_out("/".join(words), asked.world) for words in about}
    if len(held_out) > 1:
        return None
    return "held_out" if held_out.pop() else "collecting"


def _is_held_out(words: str, world: World) -> bool:
    return Random(f"hamlet held-out prompts {world.seed} {words}").random() < HELD_OUT_SHARE


def _prompt(asked: Coverage, rng: Random) -> tuple[dict[str, str], str]:
    """A row, and the finished question in it, if there is one."""
    kind, _ = weighted(rng, KINDS, [share for _, share in KINDS])
    slots = {"rude": pick(rng, RUDE_WORDS)}
    if kind == "tell":
        subject = pick(rng, asked.subjects)
        text = say(rng, pick(rng, requests_to_tell()), {"x": asked.called(subject)})
        return {"prompt": finish(text), "kind": kind, "fact": "", "subject": subject}, ""
    if kind == "provocation":
        one = pick(rng, asked.world.people).name
        other = pick(rng, [p.name for p in asked.world.people if p.name != one])
        text = _TABLE.say(rng, "provocations", {**slots, "x": one, "y": other})
        return {"prompt": finish(text), "kind": kind, "fact": "", "subject": ""}, ""
    fact = pick(rng, asked.world.told)
    question, _ = pick(rng, fact.questions)
    text = question
    if kind == "provoked_question":
        text = _TABLE.say(rng, "tones", {**slots, "q": question})
    row = {"prompt": finish(text), "kind": kind, "fact": fact.id, "subject": fact.subject}
    return row, finish(question)
