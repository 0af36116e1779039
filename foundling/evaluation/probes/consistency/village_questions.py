"""The village's facts as questions: several phrasings of one fact, the same candidate answers."""

from dataclasses import dataclass
from random import Random
from typing import TypeVar

from foundling.evaluation.choices import Choice
from foundling.evaluation.probes.contract import Setting
from foundling.evaluation.scorer import Question
from foundling.hamlet import Fact, World

NUM_CANDIDATES = 4
Item = TypeVar("Item")


@dataclass(frozen=True)
class AskedFact:
    """A fact that the corpus tells, asked in every phrasing that all candidates can answer.

    `answers[q][c]` is candidate c as question q is answered: "At Meadow Farm", "Meadow Farm".
    """

    fact: Fact
    questions: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...]
    gold: int
    falsehood: Fact
    """One of the wrong candidates as a claim."""

    def choice(self, phrasing: int = 0) -> Choice:
        """A phrasing as a multiple choice."""
        question = Question(self.questions[phrasing])
        pairs = tuple((question, answer) for answer in self.answers[phrasing])
        return Choice(f"{self.fact.id}/{phrasing}", pairs, self.gold, group=self.fact.id)


def asked_facts(world: World, num_candidates: int = NUM_CANDIDATES) -> list[AskedFact]:
    """The told facts that have a falsehood and can be asked; candidates in an order by chance.

    Of what a subject has several of, such as neighbours, one is asked for. Questions that name
    the value ("Who is the baker?") are none: they ask for the subject.
    """
    asked: dict[tuple[str, str], AskedFact] = {}
    for fact in world.told:
        rng = Random(f"candidates {world.seed} {fact.id}")
        wrong = [
            world.claim(fact.subject, fact.relation, value)
            for value in world.falsehoods(fact, num_candidates - 1, rng)
        ]
        if not wrong or (fact.subject, fact.relation) in asked:
            continue
        claims = [fact, *wrong]
        rng.shuffle(claims)
        each = [claim.phrasings().questions for claim in claims]
        columns = [
            column
            for column in zip(*each, strict=True)
            if len({question for question, _ in column}) == 1
            and len({answer for _, answer in column}) == len(claims)
        ]
        if columns:
            asked[fact.subject, fact.relation] = AskedFact(
                fact,
                tuple(column[0][0] for column in columns),
                tuple(tuple(answer for _, answer in column) for column in columns),
                claims.index(fact),
                wrong[0],
            )
    return list(asked.values())


def some(setting: Setting, items: list[Item], what: str, most: int) -> list[Item]:
    """At most `most` of the items, or fewer where the setting has a limit."""
    return setting.limited(items, what, min(most, setting.limit or most))
