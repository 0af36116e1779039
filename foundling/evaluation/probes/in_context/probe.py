"""Learning in context: accuracy by the number of examples in the prompt, with controls."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from foundling.base.config import Section
from foundling.evaluation.choices import BY_WAY, By, answered, blind, chance, text_of
from foundling.evaluation.few_shot import Shot, ShotTask
from foundling.evaluation.findings import Curve, Findings, Metric, Point, Shown
from foundling.evaluation.probes.contract import Setting
from foundling.evaluation.probes.in_context.curves import (
    CONTROLS,
    LABELS,
    ORDERS,
    OTHERS,
    REAL,
    ShotCurves,
    Table,
    shot_curves,
)
from foundling.evaluation.probes.in_context.tasks import benchmark, task_of, village_games
from foundling.evaluation.scorer import Scorer, said
from foundling.statistics.learning_curve import interval

logger = logging.getLogger(__name__)

MOST_ITEMS = 200
"""The most items without --limit: each is asked behind dozens of sets of examples."""
FILES = {
    "copa": "COPA",
    "piqa": "PIQA",
    "winograd_wsc": "Winograd schemas",
    "lambada_openai": "LAMBADA: the last word",
}
X, Y = "examples in the prompt", "accuracy"


class InContext(Section):
    """Games of names, benchmark files, and the user's tasks."""

    name: ClassVar = "in_context"
    title: ClassVar = "Learning in context"
    about: ClassVar = (
        "Accuracy by the number of examples in the prompt, without any gradient. Two controls say "
        "what the examples teach: the same ones with labels drawn by chance, and examples of "
        "another task. In a game of names the rule must be learned from the examples; in a "
        "register they only show which of several known relations is meant, and in other tasks "
        "often only the form (Pan et al. 2023 part the two)."
    )

    tasks: tuple[Path, ...] = ()
    """Files and folders of examples to learn from."""
    only_tasks: bool = False
    """Whether these alone are measured, without the village's games and the benchmark files."""
    shots: tuple[Annotated[int, Field(ge=0)], ...] = (0, 1, 2, 4, 8, 16)
    """Numbers of examples in the prompt."""
    draws: int = Field(3, gt=0)
    """Draws of the examples, where all items share them."""
    chat: bool = False
    """Whether a model that is asked in turns reads each example as two of them, by its own chat
    template; all others read plain text in any case."""

    @model_validator(mode="after")
    def _has_tasks(self) -> "InContext":
        if self.only_tasks and not self.tasks:
            raise ValueError("only_tasks: give tasks too")
        return self

    def check(self, setting: Setting) -> None:
        """Raises ConfigError where a task's file is broken."""
        self._read(setting, Findings())

    def run(self, scorer: Scorer, setting: Setting) -> Findings:
        """Raises ConfigError where a task's file is broken."""
        findings = Findings()
        in_turns = self.chat and scorer.chats
        tasks = [replace(task, in_turns=in_turns) for task in self._read(setting, findings)]
        for index, task in enumerate(tasks):
            others = _others(tasks, index, min(task.most_shots, max(self.shots)))
            curves = shot_curves(
                scorer, task, others, self.shots, draws=self.draws, seed=setting.seed
            )
            if curves is None:
                findings.notes.append(f"not measured: {task.title}: no item fits the context")
            else:
                is_named = task.is_given or not self.tasks
                _report(findings, task, curves, self.shots, is_named)
        findings.notes.append(
            f"Where all items share their examples, {self.draws} draws of them in {ORDERS} "
            "orders each; a game and a register have their own, in two orders. Intervals draw "
            "examples and items anew; differences between models hold for these draws. "
            + (
                "Examples and items are turns of a conversation, by the model's chat template."
                if in_turns
                else "All is asked in plain text, not in turns."
            )
        )
        return findings

    def _read(self, setting: Setting, findings: Findings) -> list[ShotTask]:
        """The user's tasks first, then the village's games and the benchmark files."""
        most = setting.limit or MOST_ITEMS
        own = [replace(task_of(path, setting.seed, most), is_given=True) for path in self.tasks]
        games: list[ShotTask] = []
        files: list[ShotTask] = []
        if not self.only_tasks:
            files = _benchmarks(setting, findings)
            if setting.asks_village:
                games = village_games(setting.seed, setting.limit or 2 * MOST_ITEMS)
        names = [task.name for task in (*own, *games, *files)]
        named = [
            task if names.count(task.name) == 1 else replace(task, name=str(path), title=str(path))
            for path, task in zip(self.tasks, own, strict=True)
        ]
        mine, others = (
            [_limited(task, most, setting, findings) for task in of] for of in (named, files)
        )
        return [*mine, *games, *others]


def _benchmarks(setting: Setting, findings: Findings) -> list[ShotTask]:
    """The benchmark files below the data root."""
    files = []
    for name, title in FILES.items():
        path = setting.file(f"bench/{name}.jsonl", findings)
        if path is not None:
            files.append(replace(benchmark(path), title=title))
    return files


def _limited(task: ShotTask, most: int, setting: Setting, findings: Findings) -> ShotTask:
    items = setting.limited(task.items, task.name, most)
    findings.notes += [f"{task.title}: {note}" for note in task.notes]
    if setting.limit is None:
        findings.left_out(
            len(task.items) - len(items), len(task.items), f"items of {task.title}",
            f"drawn by the seed; without --limit {most:,} are asked",
        )  # fmt: skip
    return replace(task, items=tuple(items))


def _others(tasks: Sequence[ShotTask], index: int, count: int) -> Sequence[Shot]:
    """The examples of the next task that has so many, or else of one with the most.

    Where one task is measured alone they are those of a game of the village.
    """
    pools = [task.items[0].pool for task in (*tasks[index + 1 :], *tasks[:index])]
    pools = pools or [game.items[0].pool for game in village_games(0, 1)]
    return max(pools, key=lambda pool: min(len(pool), count))


# ---------------------------------------------------------------------- figures


def _report(
    findings: Findings, task: ShotTask, curves: ShotCurves, shots: Sequence[int], is_named: bool
) -> None:
    count, most = len(curves.items), curves.most
    findings.left_out(
        len(task.items) - count, len(task.items), f"items of {task.title}",
        "do not fit the context",
    )  # fmt: skip
    for number, (long, asked) in curves.shortened.items():
        findings.notes.append(
            f"{task.title}: {long:,} of {asked:,} prompts are longer than the context with "
            f"{number} examples, and hold as many as fit"
        )
    more = [number for number in shots if number > most]
    if more:
        why = "there are no more" if min(more) > task.most_shots else "more do not fit the context"
        findings.notes.append(f"{task.title}: at most {most} examples: {why}")
    level = chance(curves.items) if task.has_choices else 0.0
    for (kind, way), tables in sorted(curves.right.items(), key=_drawn_first):
        findings.curves.append(_curve(task, kind + BY_WAY[way], tables, curves, level))
    found = _metrics(task, curves, level)
    findings.metrics += found if is_named else [replace(one, headline=False) for one in found]
    if task.has_choices:
        findings.shown += [_shown(task, curves)]
        findings.items += answered(f"{task.name}, {curves.most} examples", curves.shown)


def _curve(
    task: ShotTask, name: str, tables: dict[int, Table], curves: ShotCurves, level: float
) -> Curve:
    points = []
    for number, table in sorted({0: curves.right[REAL, "sum"][0], **tables}.items()):
        by_draw = table.mean(axis=1)
        low, high = interval(by_draw)
        points.append(Point(number, float(by_draw.mean()), low, high))
    return Curve(task.title, name, tuple(points), X, Y, level)


def _drawn_first(entry: tuple[tuple[str, By], object]) -> tuple[bool, int]:
    """Right examples and their controls, then other ways to score."""
    (kind, way), _ = entry
    return way != "sum", (REAL, *CONTROLS).index(kind)


def _metrics(task: ShotTask, curves: ShotCurves, level: float) -> list[Metric]:
    """The accuracies without examples and with the most, and what the examples gain."""

    def metric(key: str, title: str, table: Table, **more: Any) -> Metric:
        by_item = table.reshape(-1, len(curves.items)).mean(axis=0).tolist()
        outcomes = dict(zip(groups, by_item, strict=True))
        draws = _by_group(table.mean(axis=1), list(groups.values()))  # over the draws' orders
        name, title = f"{task.name}.{key}", f"{task.title}{title}"
        return Metric(name, title, outcomes, groups, draws=draws.tolist(), **more)

    keys = {item.id: item.shot.key for item in task.items}
    groups = {one.id: one.id if task.has_own_pools else keys[one.id] for one in curves.items}
    metrics = []
    baseline = blind(curves.items) if task.has_choices else None
    for way in [way for kind, way in curves.right if kind == REAL]:
        for number in sorted({0, curves.most}):
            table = curves.right[REAL, way][number]
            found = metric(
                ("most" if number else "none") + ("" if way == "sum" else f".{way}"),
                (", with the most examples that fit" if number else ", without examples")
                + BY_WAY[way],
                table,
                chance=level,
                baseline=baseline,
                headline=task.is_given and number == curves.most and way == "sum",
                note=_spread(number, table) if number else "",
            )
            metrics.append(found)
    most = curves.most
    if not most:
        return metrics
    right = curves.right[REAL, "sum"]
    for key, title, less in (
        ("gain", "examples over none", right[0]),
        ("over_labels", f"right labels over {LABELS}", curves.right[LABELS, "sum"][most]),
        ("over_others", f"examples over {OTHERS}", curves.right[OTHERS, "sum"][most]),
    ):
        headline = task.has_own_pools and key != "over_others"
        found = metric(
            key, f": gain of {title}", right[most] - less,
            chance=0.0, are_gains=True, headline=headline, note=f"k = {most}",
        )  # fmt: skip
        estimate = found.estimate
        if estimate is not None and (p_value := estimate.p_value) is not None:
            found = replace(found, note=f"{found.note}; p = {p_value:.2g}")
            if task.is_given:
                logger.info(f"{found.title}: {estimate.value:+.1%} (p = {p_value:.2g})")
        metrics.append(found)
    if curves.nats:
        title = ": gain of examples over none in the completion's log-probability"
        gained, note = curves.nats[most] - curves.nats[0], f"k = {most}; nats"
        metrics.append(metric("nats", title, gained, chance=0.0, unit="number", note=note))
    return metrics


def _by_group(table: Table, groups: Sequence[str]) -> Table:
    """Draws × items as draws × groups, such as copies of a text, with the same mean."""
    order = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    owners = np.array([order[group] for group in groups])
    sums = np.stack([np.bincount(owners, row, len(order)) for row in table])
    found: Table = sums * len(order) / len(groups)
    return found


def _spread(number: int, table: Table) -> str:
    """The standard deviations of the accuracy over draws and over orders of a draw, in points."""
    by_order = table.mean(axis=2)
    said = [f"k = {number}"]
    if len(by_order) > 1:
        said.append(f"{100 * np.std(by_order.mean(axis=1), ddof=1):.1f} points over draws")
    over_orders = np.sqrt(by_order.var(axis=1, ddof=1).mean())
    said.append(f"{100 * over_orders:.1f} points over orders")
    return said[0] + "; standard deviation " + " and ".join(said[1:])


def _shown(task: ShotTask, curves: ShotCurves) -> Shown:
    one = curves.shown[0]
    pairs = one.item.pairs
    verdict = "right" if one.is_right() == 1 else f"wrong: {text_of(pairs[one.item.gold])[-60:]}"
    given, came = pairs[one.best()]
    return Shown(f"{task.title}: {said(given)}", came.strip() or "(nothing)", verdict)
