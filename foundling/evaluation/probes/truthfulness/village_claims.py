"""True statements and answers about the village, each beside plausible falsehoods."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from foundling.evaluation.choices import Choice
from foundling.evaluation.findings import Baseline
from foundling.evaluation.scorer import Question
from foundling.hamlet import Fact, World
from foundling.hamlet.coverage import kin

NUM_FALSEHOODS = 3


@dataclass(frozen=True)
class Claim:
    """A fact and a falsehood that differ in the value alone.

    `number` counts the falsehoods of one fact; `told` is whether text of the village states it,
    `derived` whether it follows from facts that are told. Neither: nothing but a guess.
    """

    fact: Fact
    falsehood: Fact
    number: int

    @property
    def id(self) -> str:
        return f"{self.fact.id}/{self.number}"

    @property
    def group(self) -> str:
        """The same for a fact and its mirror ("Ada is married to Tom" and vice versa)."""
        return "/".join(kin(self.fact))

    @property
    def part(self) -> str:
        if not self.fact.held_out:
            return "told"
        return "derived" if self.fact.derived_from else "control"

    def statements(self) -> tuple[str, str]:
        """Fact and falsehood as sentences of one frame."""
        return (
            self.fact.phrasings().statements[0],
            self.falsehood.phrasings().statements[0],
        )

    def choice(self) -> Choice:
        """Both as whole sentences, without a prompt."""
        true, false = self.statements()
        return Choice(self.id, (("", true), ("", false)), gold=0, group=self.group).in_drawn_order()


def claims(world: World, seed: int, num_falsehoods: int = NUM_FALSEHOODS) -> list[list[Claim]]:
    """Some falsehoods of each fact of the village, in the table's order."""
    return [
        [
            Claim(fact, world.claim(fact.subject, fact.relation, value), number)
            for number, value in enumerate(_falsehoods(world, fact, seed, num_falsehoods))
        ]
        for fact in world.facts
    ]


def _falsehoods(world: World, fact: Fact, seed: int, count: int) -> tuple[str, ...]:
    return world.falsehoods(fact, count, Random(f"falsehoods {fact.id} {seed}"))


def commoner(world: World, given: Sequence[Claim]) -> Baseline:
    """How often the true value is that of more told facts of its relation: no reading needed."""
    right = 0.0
    for claim in given:
        relation = [f.value for f in world.query(relation=claim.fact.relation) if not f.held_out]
        true, false = (relation.count(f.value) for f in (claim.fact, claim.falsehood))
        right += 1.0 if true > false else 0.5 * (true == false)
    return Baseline(right / len(given), "the value that more facts have")


def question_choice(world: World, row: dict[str, Any], seed: int) -> Choice:
    """A row of `held_out_questions` as a choice between its answer and three that are false."""
    fact = world.fact(row["fact"])
    right = str(row["answer"])
    asks_value = False
    wrong: list[str] = []
    for value in _falsehoods(world, fact, seed, NUM_FALSEHOODS):
        answer = _answer(fact, world.claim(fact.subject, fact.relation, value), row["question"])
        asks_value |= answer != right
        wrong.append(answer)
    if not asks_value:  # "Who is the baker?" asks for the subject
        others = [
            other.subject
            for other in world.query(relation=fact.relation)
            if other.subject != fact.value
            and not world.is_true(other.subject, fact.relation, fact.value)
        ]
        random = Random(f"subjects {fact.id} {seed}")
        known = list(dict.fromkeys(others))
        chosen = random.sample(known, min(len(known), NUM_FALSEHOODS))
        claimed = [world.claim(other, fact.relation, fact.value) for other in chosen]
        wrong = [_answer(fact, claim, row["question"]) for claim in claimed]
    answers = [right, *(answer for answer in dict.fromkeys(wrong) if answer != right)]
    prompt = Question(row["question"])
    pairs = tuple((prompt, answer) for answer in answers)
    group = "/".join(kin(fact))
    return Choice(f"{fact.id}/{row['question']}", pairs, gold=0, group=group).in_drawn_order()


def _answer(fact: Fact, claim: Fact, question: str) -> str:
    """The answer to a question about the fact if the claim were true instead."""
    own, other = fact.phrasings(), claim.phrasings()
    asked = [q for q, _ in (*own.questions, *own.held_out_questions)]
    answers = [a for _, a in (*other.questions, *other.held_out_questions)]
    return answers[asked.index(question)] + "."
