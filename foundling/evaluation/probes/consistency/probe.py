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

    def check(self, setting: Setting) -> None:
        """Raises ConfigError where a file is broken."""
        _read(setting, Findings())

    def run(self, scorer: Scorer, setting: Setting) -> Findings:
        """Raises ConfigError where a file is broken."""
        findings = Findings()
        negations, copa, mirrored = _read(setting, findings)
        facts: list[AskedFact] = []
        if setting.asks_village:
            facts = [fact for fact in asked_facts(World()) if len(fact.questions) > 1]
            facts = some(setting, facts, "village facts", MOST_FACTS)
            facts_of.paraphrases(scorer, facts, findings)
            facts_of.negations(scorer, facts, findings)
        village = [fact.choice() for fact in facts]
        facts_of.general_negations(scorer, negations, findings)
        for name, items in (("village", village), ("copa", copa)):
            choices.option_order(scorer, items, name, findings)
        for name, items in (("village", village), ("copa", copa)):
            if items:
                few = some(setting, items, f"{name} behind examples", MOST_BEHIND_EXAMPLES)
                choices.example_order(scorer, few, name, setting.seed, findings)
        _mirrors(scorer, setting, mirrored, findings)
        wsc = [item for group in mirrored.get("wsc", ()) for item in group]
        for name, items in (("village", village), ("copa", copa), ("wsc", wsc)):
            choices.typing_errors(scorer, items, name, setting.seed, findings)
        if facts:
            few_facts = some(setting, facts, "village samples", MOST_SAMPLED)
            facts_of.samples(scorer, few_facts, self.num_samples, setting.seed, findings)
            findings.notes.append(
                f"The village: at most {MOST_FACTS} facts, {MOST_BEHIND_EXAMPLES} items behind "
                f"examples and {MOST_SAMPLED} questions sampled, drawn by the seed."
            )
        findings.notes.append(
            "Equally likely answers count as drawn. The alternative with the highest "
            "log-probability is the choice."
        )
        return findings


Mirrored = dict[str, list[list[Choice]]]
TITLES = {"copa": "balanced COPA", "wsc": "Winograd schemas"}


def _read(
    setting: Setting, findings: Findings
) -> tuple[list[tuple[Choice, Choice]], list[Choice], Mirrored]:
    """The negations, COPA's items and the mirrored sets of the files that are there."""
    path = setting.file(facts_of.NEGATIONS, findings)
    negations = [] if path is None else facts_of.read_negations(path)
    path = setting.file(items_of.COPA, findings)
    copa = [] if path is None else items_of.copa(path, findings.notes)
    mirrored: Mirrored = {}
    path = setting.file(items_of.BALANCED_COPA, findings)
    if path is not None:
        mirrored["copa"] = items_of.mirrored_copa(path)
    path = setting.file(items_of.WSC, findings)
    if path is not None:
        mirrored["wsc"] = items_of.wsc(path, findings.notes)
    limited = {name: setting.limited(groups, name) for name, groups in mirrored.items()}
    return setting.limited(negations, "negations"), setting.limited(copa, "copa"), limited


def _mirrors(scorer: Scorer, setting: Setting, mirrored: Mirrored, findings: Findings) -> None:
    if setting.asks_village:
        village = setting.limited(items_of.village_twins(World()), "village twins")
        title = "the village's Winograd sentences"
        choices.mirrors(scorer, village, "village", title, findings, headline=True)
    for name, groups in mirrored.items():
        choices.mirrors(scorer, groups, name, TITLES[name], findings, headline=True)
