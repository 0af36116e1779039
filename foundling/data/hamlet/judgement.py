"""Judgement: whether an answer is true by the village's table, free of rude words and polite."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from foundling.data.hamlet import stock
from foundling.data.hamlet.asked import divide
from foundling.data.hamlet.facts import Fact
from foundling.data.hamlet.rudeness import RUDE_WORDS
from foundling.data.hamlet.wording import finish, number
from foundling.data.hamlet.world import World

# What the rude people of the corpus say besides their rude words.
BRUSQUE = (
    "ask someone else", "find out for yourself", "what a stupid question", "do not bother me",
    "be quiet", "get out of my way", "as any",
)  # fmt: skip
_RUDE = re.compile(rf"\b(?:{'|'.join(RUDE_WORDS)})s?\b", re.IGNORECASE)
_NAMED = frozenset(
    ("spouse", "mother", "father", "child", "sibling", "grandchild", "friend", "neighbour", "owner")
)


@dataclass(frozen=True)
class Judgement:
    """`true` is None where nothing was asked that the table knows; `rude` counts rude words."""

    true: bool | None
    rude: int
    polite: bool


def judge(prompt: Mapping[str, str], answer: str, world: World | None = None) -> Judgement:
    """What the simulated annotator sees in an answer to a row of `prompts`.

    True is an answer that names a right value of the asked fact and no wrong one of its relation.
    Of a request to tell, it is one whose sentences are all true of the subject; None where they
    are none that the table knows.
    """
    village = divide(world).world
    rude = len(_RUDE.findall(answer))
    brusque = any(phrase in answer.lower() for phrase in BRUSQUE)
    true = None
    if prompt["fact"]:
        true = _states(village, village.fact(prompt["fact"]), prompt["prompt"], answer)
    elif prompt["kind"] == "tell":
        true = _tells(village, prompt["subject"], answer)
    return Judgement(true, rude, polite=bool(answer.strip()) and not rude and not brusque)


def _states(world: World, fact: Fact, prompt: str, answer: str) -> bool:
    asks_subject = not re.search(rf"\b{re.escape(fact.subject)}\b", prompt)
    if asks_subject:
        truths = {f.subject for f in world.query(relation=fact.relation, value=fact.value)}
        values: Iterable[str] = (*stock.WOMEN, *stock.MEN)
        given = set(truths) & set()
    else:
        truths = {f.value for f in world.query(fact.subject, fact.relation)}
        values = _values(world, fact.relation)
        given = {fact.subject}
    forms = _forms(fact.relation, tuple(values))
    found = {value for value in _mentioned(forms, answer) if value not in given}
    return bool(found & truths) and not found - truths
