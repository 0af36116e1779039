"""Made-up findings of several models, run through `results`: eight probes as they come."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from foundling.evaluation.findings import (
    Baseline,
    Curve,
    Findings,
    Good,
    Metric,
    Point,
    Shown,
    Unit,
)
from foundling.evaluation.results import Subject, results
from foundling.evaluation.scorer import Scorer

SHARES: dict[str, list[tuple[str, float, Good, float | None]]] = {
    "Common sense": [
        ("The village's Winograd sentences, forms that its corpus has", 0.80, "high", 0.5),
        ("The village's Winograd sentences, forms that its corpus has not", 0.62, "high", 0.5),
        ("Winograd schemas", 0.53, "high", 0.5),
        ("COPA: causes and effects", 0.58, "high", 0.5),
        ("COPA: causes and effects, by length", 0.60, "high", 0.5),
        ("PIQA: how things are done", 0.56, "high", 0.5),
    ],
    "Consistency": [
        ("Another answer to another phrasing", 0.31, "low", 0.75),
        ("A statement and its negation both preferred", 0.45, "low", 0.5),
        ("Another choice in another order of options", 0.60, "low", 0.5),
        ("Both of two mirrored sentences right", 0.24, "high", 0.25),
    ],
    "Truthfulness": [
        ("TruthfulQA, one right answer (MC1)", 0.24, "high", 0.22),
        ("True statement likelier: told facts", 0.93, "high", 0.5),
        ("True statement likelier: derived facts", 0.71, "high", 0.5),
        ("True statement likelier: controls", 0.50, "high", 0.5),
        ("Verdict turned by a false claim", 0.38, "low", None),
    ],
    "Bias": [
        ("Stereotype likelier", 0.57, "neither", 0.5),
        *((f"Stereotype likelier: kind {n}", 0.5 + n / 60, "neither", 0.5) for n in range(1, 12)),
    ],
    "Toxicity": [
        ("Rude answer among 8, provoked", 0.22, "low", None),
        ("Rude answer among 8, plain", 0.03, "low", None),
    ],
    "Refusal": [
        ("Refused what is to be refused", 0.7, "high", None),
        ("Refused what is harmless", 0.06, "low", None),
    ],
}


@dataclass
class Made:
    """A probe whose findings are given, not measured."""

    name: str
    title: str
    about: str = "What is measured here, in a sentence or two, and what it cannot show."
    findings: Findings = field(default_factory=Findings)

    def run(self, scorer: Scorer, setting: Any) -> Findings:
        return self.findings


def subject(name: str, place: int = 0) -> Subject:
    return Subject(
        name, f"{place:064x}", place > 0, "chatml" if place else "", "", "<|begin|>",
        True, "transformer", 30_000_000, 512,
    )  # fmt: skip


def evaluated(names: Sequence[str], *, num_items: int = 120) -> dict[str, Any]:
    """The results of these models, each a little better than the one before it."""
    probes = [Made("language", "Language modelling")]
    probes += [Made(title.lower().replace(" ", "_"), title) for title in SHARES]
    probes.append(Made("in_context", "Learning in context"))
    found = {}
    for place, name in enumerate(names):
        found["language", name] = _language(place)
        found["in_context", name] = _in_context(place)
        for title, shares in SHARES.items():
            found[title.lower().replace(" ", "_"), name] = _shares(title, shares, place, num_items)
    subjects = [subject(name, place) for place, name in enumerate(names)]
    return results(subjects, probes, found, {"seed": 1, "limit": None, "shots": (0, 1, 2, 4, 8)})


def metric(title: str, values: Sequence[float], **options: Any) -> Metric:
    key = title.lower().replace(" ", "_")
    return Metric(key, title, {str(n): float(x) for n, x in enumerate(values)}, **options)


def _shares(
    title: str, shares: Sequence[tuple[str, float, Good, float | None]], place: int, num_items: int
) -> Findings:
    findings = Findings()
    for nth, (of, mean, good, chance) in enumerate(shares):
        lifts = 0.07 * place * (1 if good == "high" else -1) * (chance != mean)
        random = Random(f"{of}")
        hits = [float(random.random() < mean + lifts) for _ in range(num_items * (nth + 1))]
        baseline = Baseline(chance + 0.04, "always the longest") if chance and nth % 2 else None
        options = {"good": good, "chance": chance, "baseline": baseline, "headline": nth < 1}
        findings.metrics.append(metric(of, hits, **options))
    findings.left_out(3 + place, 120, "items", "longer than the context")
    findings.notes.append("not measured: bench/piqa.jsonl is not below --data-root")
    for nth in range(3):
        findings.shown.append(
            Shown(f"Item {nth} of {title}: who was too tired?", f"the dog, says {place}", "right")
        )
    if title == "Truthfulness":
        for of, tilt in (("TruthfulQA", 0.5), ("questions of the village", 0.2)):
            points = [
                Point(x / 10, 0.5 + (x / 10 - 0.5) * (1 - tilt / (place + 1)), x / 10 - 0.2, x / 10)
                for x in range(3, 10)
            ]
            spread = tuple(Point(p.x, p.y, p.y - 0.08, p.y + 0.06) for p in points)
            findings.curves.append(Curve("Reliability", of, spread, "confidence", "accuracy"))
        ends = tuple(Point(x, x, x, x) for x in (0.0, 1.0))
        findings.curves.append(Curve("Reliability", "calibrated", ends, "confidence", "accuracy"))
    return findings


def _language(place: int) -> Findings:
    random, unit = Random(place), "number"
    findings = Findings()
    for title, mean in (("Bits per byte", 1.21), ("Bits per byte of the village", 0.62)):
        values = [mean - 0.03 * place + random.gauss(0, 0.2) for _ in range(200)]
        findings.metrics.append(_number(title, values, unit, headline=title == "Bits per byte"))
    points = tuple(
        Point(x, y, y - 0.1, y + 0.1)
        for x in range(1, 513)
        for y in (2.2 + 4 / x**0.5 - 0.1 * place + 0.02 * random.random(),)
    )
    label = "position in the context"
    findings.curves.append(
        Curve("Loss by position", "held-out text", points, label, "nats per token")
    )
    return findings


def _number(title: str, values: Sequence[float], unit: Unit, *, headline: bool) -> Metric:
    return metric(title, values, good="low", unit=unit, headline=headline)


def _in_context(place: int) -> Findings:
    findings = Findings()
    for task, start in (("SST-2", 0.5), ("Kinds of questions", 0.2)):
        for name, gain in (
            ("real examples", 0.3), ("shuffled labels", 0.12), ("unrelated examples", 0.02),
            ("calibrated", 0.33),
        ):  # fmt: skip
            points = tuple(
                Point(k, y, y - 0.05, y + 0.05)
                for k in (0, 1, 2, 4, 8, 16)
                for y in (start + gain * (1 - 0.8 ** (k * (place + 1) / 3)) + 0.01 * place,)
            )
            findings.curves.append(Curve(task, name, points, "examples", "accuracy", start))
        hits = [float(n % 10 < 10 * start + place) for n in range(200)]
        findings.metrics.append(metric(f"{task}, 16 examples", hits, chance=start, headline=True))
    return findings
