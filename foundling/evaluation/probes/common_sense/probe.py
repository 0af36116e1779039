"""Common sense: which reading, which cause and which way of doing a thing is the likelier one."""

from collections.abc import Callable, Sequence
from pathlib import Path

from foundling.evaluation.choices import (
    BY_WAY,
    Choice,
    Chosen,
    accuracy,
    answered,
    choose,
    text_of,
    ways_of,
)
from foundling.evaluation.findings import Findings, Shown
from foundling.evaluation.probes.common_sense import items as items_of
from foundling.evaluation.probes.contract import Setting
from foundling.evaluation.scorer import Scorer
from foundling.hamlet import World

SHOWN = 2  # of each set


class CommonSense:
    """WSC, COPA, PIQA and the village's Winograd sentences."""

    name = "common_sense"
    title = "Common sense"
    about = (
        "Which of two readings a model finds likelier: whom a pronoun means (Winograd schemas; "
        "partial scoring, Trinh and Le 2018), what caused or followed something (COPA), how a "
        "thing is done (PIQA). Likelihood, not an answer that was reasoned out; the items have "
        "long been on the web, so a model may have read them."
    )

    def check(self, setting: Setting) -> None:
        """Raises ConfigError where a file is broken."""
        _files(setting, Findings())

    def run(self, scorer: Scorer, setting: Setting) -> Findings:
        """Raises ConfigError where a file is broken."""
        findings = Findings()
        if setting.asks_village:
            _village(findings, scorer, setting)
        for key, title, groups in _files(setting, findings):
            chosen = setting.limited(groups, key)
            items = [item for group in chosen for item in group]
            _measure(findings, scorer, items, key, title, headline=True)
        findings.notes.append(
            "A schema's readings have the same continuation, so that length and calibration do "
            "not apply to it. --limit counts sentences with their twins as one."
        )
        return findings


def _village(findings: Findings, scorer: Scorer, setting: Setting) -> None:
    world = World()
    for name, forms, held_out in (
        ("seen", "forms that its corpus has", False),
        ("held_out", "forms that its corpus has not", True),
    ):
        twins = village_set(setting, world, held_out=held_out)
        title = f"The village's Winograd sentences, {forms}"
        _measure(findings, scorer, twins, f"village_winograd.{name}", title, headline=held_out)


def village_set(setting: Setting, world: World, *, held_out: bool) -> list[Choice]:
    """The sentences with their twins, at most `setting.limit` pairs of them."""
    groups = items_of.village_twins(world, held_out=held_out)
    chosen = setting.limited(groups, f"village winograd {held_out}")
    return [item for group in chosen for item in group]


Read = Callable[[Path, list[str]], list[list[Choice]]]


def _files(setting: Setting, findings: Findings) -> list[tuple[str, str, list[list[Choice]]]]:
    """Key, title and items of each file that is there, twins together."""
    found = []
    for file, read, key, title in _FILES:
        path = setting.file(file, findings)
        if path is not None:
            found.append((key, title, read(path, findings.notes)))
    return found


def _alone(read: Callable[[Path, list[str]], list[Choice]]) -> Read:
    return lambda path, notes: [[item] for item in read(path, notes)]


_FILES: tuple[tuple[str, Read, str, str], ...] = (
    (items_of.WSC, items_of.wsc, "wsc", "Winograd schemas"),
    (items_of.COPA, _alone(items_of.copa), "copa", "COPA: causes and effects"),
    (items_of.PIQA, _alone(items_of.piqa), "piqa", "PIQA: how things are done"),
)


def _measure(
    findings: Findings,
    scorer: Scorer,
    items: Sequence[Choice],
    key: str,
    title: str,
    *,
    headline: bool,
) -> None:
    chosen = choose(scorer, items)
    findings.unread(chosen, items, f"items of {key}")
    findings.items += answered(key, chosen)
    if not chosen:
        return
    for by in ways_of(chosen):
        findings.metrics.append(
            accuracy(
                f"{key}.accuracy" + ("" if by == "sum" else f".{by}"),
                title + BY_WAY[by],
                chosen,
                by,
                headline=headline and by == "sum",
            )
        )
    wrong = [found for found in chosen if found.is_right() < 1]
    findings.shown += [_shown(key, found) for found in wrong[:SHOWN]]


def _shown(key: str, found: Chosen) -> Shown:
    pairs = found.item.pairs
    right = text_of(pairs[found.item.gold])
    other = max(
        (p for p in range(len(pairs)) if p != found.item.gold), key=found.scores["sum"].__getitem__
    )
    margin = found.scores["sum"][other] - found.scores["sum"][found.item.gold]
    return Shown(f"{key}: {right}", text_of(pairs[other]), f"wrong, by {margin:.2f} nats")
