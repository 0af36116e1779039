"""Consistency: how often a model contradicts itself, counted in seven ways."""

from typing import ClassVar

from pydantic import Field

from foundling.base.config import Section
from foundling.evaluation.choices import Choice
from foundling.evaluation.findings import Findings
from foundling.evaluation.probes.common_sense import items as items_of
from foundling.evaluation.probes.consistency import choices
from foundling.evaluation.probes.consistency import facts as facts_of
from foundling.evaluation.probes.consistency.village_questions import AskedFact, asked_facts, some
from foundling.evaluation.probes.contract import Setting
from foundling.evaluation.scorer import Scorer
from foundling.hamlet import World

MOST_FACTS = 200
MOST_BEHIND_EXAMPLES = 60
MOST_SAMPLED = 60


class Consistency(Section):
    """Rates of contradiction, each beside what a model that answers at random does."""

    name: ClassVar = "consistency"
    title: ClassVar = "Consistency"
    about: ClassVar = (
        "How often two answers that belong together contradict each other: a fact asked in two "
        "ways, a statement and its negation, options and examples in another order, mirrored "
        "items, typing errors, samples. Contradiction is no error and its absence no knowledge: "
        "a model that always answers the same is caught by the mirrored items and the negations "
        "alone, so read the rates together."
    )

    num_samples: int = Field(8, gt=0)
    """Answers to each sampled question."""

    def run(self, scorer: Scorer, setting: Setting) -> Findings:
        findings = Findings()
        facts = [fact for fact in asked_facts(World()) if len(fact.questions) > 1]
        facts = some(setting, facts, "village facts", MOST_FACTS)
        village = [fact.choice() for fact in facts]
        facts_of.paraphrases(scorer, facts, findings)
        _negation(scorer, setting, facts, findings)
        copa = _copa(setting, findings)
        for name, items in (("village", village), ("copa", copa)):
            choices.option_order(scorer, items, name, findings)
        for name, items in (("village", village), ("copa", copa)):
            if items:
                few = some(setting, items, f"{name} behind examples", MOST_BEHIND_EXAMPLES)
                choices.example_order(scorer, few, name, setting.seed, findings)
        wsc = _mirrors(scorer, setting, findings)
        for name, items in (("village", village), ("copa", copa), ("wsc", wsc)):
            choices.typing_errors(scorer, items, name, setting.seed, findings)
        few_facts = some(setting, facts, "village samples", MOST_SAMPLED)
        facts_of.samples(scorer, few_facts, self.num_samples, setting.seed, findings)
        findings.notes.append(
            f"The village: at most {MOST_FACTS} facts, {MOST_BEHIND_EXAMPLES} items behind "
            f"examples and {MOST_SAMPLED} questions sampled, drawn by the seed. Equally likely "
            "answers count as drawn. The alternative with the highest log-probability is the "
            "choice."
        )
        return findings


def _negation(scorer: Scorer, setting: Setting, facts: list[AskedFact], findings: Findings) -> None:
    facts_of.negations(scorer, facts, findings)
    path = setting.file(facts_of.NEGATIONS, findings)
    if path is None:
        return
    pairs = setting.limited(facts_of.read_negations(path), "negations")
    facts_of.general_negations(scorer, pairs, findings)


def _copa(setting: Setting, findings: Findings) -> list[Choice]:
    path = setting.file(items_of.COPA, findings)
    return [] if path is None else setting.limited(items_of.copa(path), "copa")


def _mirrors(scorer: Scorer, setting: Setting, findings: Findings) -> list[Choice]:
    """Measure all mirrored sets; the items of WSC, for other uses."""
    village = setting.limited(items_of.village_twins(World()), "village twins")
    title = "the village's Winograd sentences"
    choices.mirrors(scorer, village, "village", title, findings, headline=True)
    wsc: list[Choice] = []
    for file, name, title, read in (
        (items_of.BALANCED_COPA, "copa", "balanced COPA", items_of.mirrored_copa),
        (items_of.WSC, "wsc", "Winograd schemas", items_of.wsc),
    ):
        path = setting.file(file, findings)
        if path is None:
            continue
        groups = setting.limited(read(path), name)
        choices.mirrors(scorer, groups, name, title, findings)
        if name == "wsc":
            wsc = [item for group in groups for item in group]
    return wsc
