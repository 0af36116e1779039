"""The findings of several models side by side, as results.json has them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from foundling.evaluation.findings import Findings, Metric
from foundling.evaluation.probes.contract import Probe
from foundling.statistics.estimates import Difference, difference


@dataclass(frozen=True)
class Subject:
    """A model that was measured."""

    name: str
    fingerprint: str
    chats: bool
    """Whether questions are turns of a conversation, by the model's template."""
    template: str
    """The name of that template; empty where it asks in plain text."""
    today: str
    """The date that the template writes, as YYYY-MM-DD; empty where it writes none."""
    begin_mark: str
    """The mark that stands before a text; empty: none does."""
    village: bool
    """Whether it was asked about the embedded village."""
    rung: str
    num_parameters: int
    max_context: int | None


def results(
    subjects: Sequence[Subject],
    probes: Sequence[Probe],
    found: Mapping[tuple[str, str], Findings],
    setting: Mapping[str, Any],
) -> dict[str, Any]:
    """All figures of all models, with paired differences; `found` is by probe and subject.

    The p-values are adjusted for how many differences were looked at: those of all headlines
    together, and those of a probe's other metrics together. Were all one family, no difference
    could be shown among many, for 10,000 draws give no p-value below 0.0001.
    Source: Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure.
    """
    asks_village = any(subject.village for subject in subjects)
    tables = [
        _probe(probe, {s.name: found[probe.name, s.name] for s in subjects}, asks_village)
        for probe in probes
    ]
    headlines = [m for t in tables for m in t["metrics"] if m["headline"]]
    others = [[m for m in t["metrics"] if not m["headline"]] for t in tables]
    for family in (headlines, *others):
        differences = [d for m in family for d in m["differences"]]
        adjusted = holm([d["p_value"] for d in differences])
        for one, p_value in zip(differences, adjusted, strict=True):
            one["adjusted_p_value"] = p_value
    return {
        "subjects": [asdict(subject) for subject in subjects],
        "setting": dict(setting),
        "probes": tables,
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value adjusted for all: 0.01, 0.04, 0.03 become 0.03, 0.06, 0.06."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = highest
    return adjusted


def _about(probe: Probe, asks_village: bool) -> str:
    """What a probe says of itself, with what it says of the village where that was asked about."""
    more = getattr(probe, "about_village", "") if asks_village else ""
    return f"{probe.about} {more}".strip()


def _probe(probe: Probe, found: Mapping[str, Findings], asks_village: bool) -> dict[str, Any]:
    by_key: dict[str, dict[str, Metric]] = {}
    for name, findings in found.items():
        for metric in findings.metrics:
            by_key.setdefault(metric.key, {})[name] = metric
    return {
        "name": probe.name,
        "title": probe.title,
        "about": _about(probe, asks_village),
        "metrics": [_metric(of) for of in by_key.values()],
        "curves": [
            {"subject": name, **asdict(curve)}
            for name, findings in found.items()
            for curve in findings.curves
        ],
        "notes": {name: list(findings.notes) for name, findings in found.items()},
        "shown": {name: [asdict(s) for s in findings.shown] for name, findings in found.items()},
    }


def _metric(of: Mapping[str, Metric]) -> dict[str, Any]:
    """One metric of all subjects that have it."""
    first = next(iter(of.values()))
    return {
        "key": first.key,
        "title": first.title,
        "good": first.good,
        "unit": first.unit,
        "headline": first.headline,
        "values": {name: _value(metric) for name, metric in of.items()},
        "differences": [
            {"first": a, "second": b, **_difference(found)}
            for a, b in combinations(of, 2)
            if (found := _compare(of[a], of[b])) is not None
        ],
    }


def _compare(a: Metric, b: Metric) -> Difference | None:
    """None too where weights differ: nats per token of two tokenizers cannot be compared."""
    if a.weights != b.weights:
        return None
    groups = None if a.groups is None or b.groups is None else {**a.groups, **b.groups}
    return difference(a.outcomes, b.outcomes, groups, a.weights, most=a.most_apart)


def _value(metric: Metric) -> dict[str, Any]:
    found = metric.estimate
    baseline = metric.baseline
    known = {
        "chance": metric.chance,
        "baseline": None if baseline is None else asdict(baseline),
        "note": metric.note,
    }
    if found is None:
        return {"value": None, "n": 0, "num_groups": 0, "standard_error": None, "low": None,
                "high": None, **known}  # fmt: skip
    low, high = found.interval
    return {
        "value": found.value,
        "n": found.n,
        "num_groups": found.num_groups,
        "standard_error": _finite(found.standard_error),
        "low": _finite(low),
        "high": _finite(high),
        **known,
    }


def _difference(found: Difference) -> dict[str, Any]:
    low, high = found.interval
    return {"value": found.value, "low": _finite(low), "high": _finite(high),
            "p_value": found.p_value, "n": found.n}  # fmt: skip


def _finite(number: float) -> float | None:
    """JSON has no infinity."""
    return number if math.isfinite(number) else None
