"""Whether a model answers consistently when a fact is rephrased, negated, or asked again."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from foundling.base.config import ConfigError
from foundling.evaluation.choices import Choice, Chosen, accuracy, choose
from foundling.evaluation.columns import read_columns, text_in
from foundling.evaluation.few_shot import normalised
from foundling.evaluation.findings import Findings, Metric, Shown
from foundling.evaluation.probes.consistency.contradictions import Rate, agreement
from foundling.evaluation.probes.consistency.village_questions import AskedFact
from foundling.evaluation.scorer import Question, Scorer, Writing, said
from foundling.generation.sampling import Sampling
from foundling.hamlet.english import finish

NEGATIONS = "bench/negation.jsonl"
ONE_VALUE = frozenset(
    ("home", "age", "hair", "food", "season", "birthday", "friend", "spouse", "mother", "father",
     "job", "workplace", "kind", "colour", "made_of", "door")
)  # fmt: skip
"""Relations of which a subject has one value, so that two cannot both be true."""
SHORT_ANSWER = 16
SHOWN = 3
TRUE = 0


def paraphrases(scorer: Scorer, facts: Sequence[AskedFact], findings: Findings) -> None:
    """Compare every two phrasings of a fact: different answers contradict each other."""
    items = [fact.choice(index) for fact in facts for index in range(len(fact.questions))]
    chosen = choose(scorer, items)
    findings.unread(chosen, items, "questions of the village")
    found = {one.item.id: one for one in chosen}
    rate = Rate()
    for fact in facts:
        own = [found[item.id] for item in map(fact.choice, range(len(fact.questions)))
               if item.id in found]  # fmt: skip
        for one, other in combinations(own, 2):
            differ = 1 - agreement(one, other)
            id = f"{one.item.id}+{other.item.id}"
            rate.add(id, fact.fact.id, differ, 1 - 1 / len(one.item.pairs))
            if differ == 1 and len(findings.shown) < SHOWN:
                findings.shown.append(Shown(_said(one), _said(other), "two answers to one fact"))
    rate.report(
        findings,
        "paraphrase.contradiction",
        "One fact asked in two ways, answered in two ways",
        headline=True,
        note="a model that always takes the same candidate does not contradict itself",
    )
    if chosen:
        findings.metrics.append(
            accuracy("paraphrase.accuracy", "Those questions answered correctly", chosen)
        )


def _said(chosen: Chosen) -> str:
    prompt, answer = chosen.item.pairs[chosen.best()]
    return f"{said(prompt)} {answer}"


# ---------------------------------------------------------------------- negation


def verdict(id: str, statement: str, is_true: bool = True, group: str = "") -> Choice:
    """A statement to be called true or false."""
    asked = Question(f"True or false? {statement}")
    return Choice(id, ((asked, "True"), (asked, "False")), 0 if is_true else 1, group)


def negations(scorer: Scorer, facts: Sequence[AskedFact], findings: Findings) -> None:
    """A true and a false statement of each fact, and "It is not true that ..." of both."""
    items = []
    for asked in facts:
        for name, fact in (("true", asked.fact), ("false", asked.falsehood)):
            clause, id = fact.clauses[0], f"{asked.fact.id}/{name}"
            denied = finish(f"it is not true that {clause}") + "."
            is_true = name == "true"
            items += [
                verdict(id, finish(clause) + ".", is_true, asked.fact.id),
                verdict(f"{id}/not", denied, not is_true, asked.fact.id),
            ]
    chosen = choose(scorer, items)
    findings.unread(chosen, items, "statements and negations")
    found = {one.item.id: one for one in chosen}
    both, values, says_true = Rate(), Rate(), Rate()
    for one in chosen:
        says_true.add(one.item.id, one.item.group, one.drawn()[TRUE], 1 / 2)
        denial = found.get(f"{one.item.id}/not")
        if denial is not None:
            both.add(one.item.id, one.item.group, agreement(one, denial), 1 / 2)
    for asked in facts:
        id = asked.fact.id
        pair = [found.get(f"{id}/true"), found.get(f"{id}/false")]
        beliefs = [one.drawn()[TRUE] for one in pair if one is not None]
        if asked.fact.relation in ONE_VALUE and len(beliefs) == 2:
            values.add(id, id, beliefs[0] * beliefs[1], 1 / 4)
    both.report(
        findings,
        "negation.village.contradiction",
        "A statement and its negation both called true, or both false",
        note='asked "True or false?" of a true and a false statement of each fact',
    )
    values.report(
        findings,
        "negation.village.both_values",
        "Two values that exclude each other both called true",
        note="both called false is not counted: neither need be known",
    )
    says_true.report(
        findings,
        "negation.village.says_true",
        "Called true, of as many true as false statements",
        good="neither",
        note="a bias to one word shows here and makes contradictions above",
    )
    if chosen:
        findings.metrics.append(
            accuracy("negation.village.accuracy", "Statements and negations judged rightly", chosen)
        )


def read_negations(path: Path) -> list[tuple[Choice, Choice]]:
    """Rows of `statement` and `negation`. Raises ConfigError where one has not both."""
    pairs: list[tuple[Choice, Choice]] = []
    for where, row in read_columns(path):
        if set(row) != {"statement", "negation"}:
            has = ", ".join(row) or "no key"
            raise ConfigError(f"{where}: has {has}; expected statement and negation.")
        id = f"negation/{len(pairs)}"
        statement, negation = (text_in(where, row, key) for key in ("statement", "negation"))
        pairs.append((verdict(id, statement), verdict(f"{id}/not", negation, False)))
    return pairs


def general_negations(
    scorer: Scorer, pairs: Sequence[tuple[Choice, Choice]], findings: Findings
) -> None:
    """Statements of a file and their negations; which of the two is true is not said there."""
    chosen = choose(scorer, [item for pair in pairs for item in pair])
    found = {one.item.id: one for one in chosen}
    rate = Rate()
    for one, other in pairs:
        if one.id in found and other.id in found:
            same = agreement(found[one.id], found[other.id])
            rate.add(one.id, one.id, same, 1 / 2)
    findings.unread(rate.outcomes, pairs, "negations")
    rate.report(
        findings,
        "negation.general.contradiction",
        f"A statement and its negation of {NEGATIONS} both called true, or both false",
    )


# ---------------------------------------------------------------------- samples


def samples(
    scorer: Scorer, facts: Sequence[AskedFact], num_samples: int, seed: int, findings: Findings
) -> None:
    """How often two answers sampled at temperature 1 differ."""
    if num_samples < 2:
        findings.notes.append("not measured: self-agreement needs two samples or more")
        return
    writing = Writing(
        max_tokens=SHORT_ANSWER,
        num_samples=num_samples,
        sampling=Sampling(temperature=1.0, seed=seed),
        stop=("\n",),
    )
    written = scorer.generate([Question(fact.questions[0]) for fact in facts], writing)
    outcomes = {}
    for asked, texts in zip(facts, written, strict=True):
        if texts is not None:
            counts = Counter(normalised(text) for text in texts).values()
            same = sum(n * (n - 1) for n in counts) / (len(texts) * (len(texts) - 1))
            outcomes[asked.fact.id] = 1 - same
    findings.unread(outcomes, facts, "questions to be sampled")
    if outcomes:
        findings.metrics.append(
            Metric(
                "samples.contradiction",
                f"Two of {num_samples} answers sampled at temperature 1 differ",
                outcomes,
                good="low",
                note="no chance level: free answers have no number of alternatives; answers of "
                f"{SHORT_ANSWER} tokens or to the end of the line, but for case and full stop",
            )
        )
