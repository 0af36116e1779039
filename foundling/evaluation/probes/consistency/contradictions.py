"""Rates of contradiction: how often two answers that belong together do not agree."""

from dataclasses import dataclass, field

from foundling.evaluation.choices import Chosen
from foundling.evaluation.findings import Findings, Good, Metric


def agreement(one: Chosen, other: Chosen, *, turned: bool = False) -> float:
    """How likely two answers are the same; `turned`: the alternatives stand in reverse order."""
    theirs = other.drawn()[::-1] if turned else other.drawn()
    return sum(p * q for p, q in zip(one.drawn(), theirs, strict=True))


@dataclass
class Rate:
    """A mean that grows item by item, with the chance level of each item."""

    outcomes: dict[str, float] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    chances: list[float] = field(default_factory=list)

    def add(self, item: str, group: str, value: float, chance: float) -> None:
        self.outcomes[item] = value
        self.groups[item] = group or item
        self.chances.append(chance)

    def report(
        self,
        findings: Findings,
        key: str,
        title: str,
        *,
        good: Good = "low",
        headline: bool = False,
        note: str = "",
    ) -> None:
        """Put the rate among the findings, if anything was counted."""
        if self.outcomes:
            chance = sum(self.chances) / len(self.chances)
            findings.metrics.append(
                Metric(
                    key,
                    title,
                    self.outcomes,
                    self.groups,
                    chance=chance,
                    good=good,
                    headline=headline,
                    note=note,
                )
            )
