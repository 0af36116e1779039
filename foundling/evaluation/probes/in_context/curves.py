"""Accuracy by the number of examples in the prompt, with controls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress, islice
from random import Random
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from foundling.evaluation.choices import By, Choice, Chosen
from foundling.evaluation.few_shot import (
    SHORTENED,
    Answers,
    Asked,
    Learner,
    Prompts,
    Shot,
    ShotTask,
)
from foundling.evaluation.scorer import Scorer
from foundling.evaluation.tasks import drawn
from foundling.hamlet.chance import shuffled

ORDERS = 2
REAL = "right examples"
LABELS = "labels drawn by chance"
OTHERS = "examples of another task"
CONTROLS = (LABELS, OTHERS)

Table = npt.NDArray[np.float64]


class Showing(NamedTuple):
    """Which examples stand before the items: so many of a kind, of one draw, in one order."""

    kind: str
    number: int
    draw: int
    order: int


@dataclass(frozen=True)
class ShotCurves:
    """The measurements of a task by the number of examples.

    `right[kind, way][number]` has draws × orders × items, from 0 to 1; `nats[number]` likewise the
    log-probability of a completion behind right examples. `shown` are items behind the most, and
    `shortened[number]` says how many prompts of how many hold fewer examples.
    """

    items: tuple[Choice, ...]
    right: dict[tuple[str, By], dict[int, Table]] = field(default_factory=dict)
    nats: dict[int, Table] = field(default_factory=dict)
    shown: list[Chosen] = field(default_factory=list)
    shortened: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def most(self) -> int:
        """The largest number of examples."""
        return max(self.right[REAL, "sum"])


def shot_curves(
    scorer: Scorer,
    task: ShotTask,
    others: Sequence[Shot],
    numbers: Sequence[int],
    *,
    draws: int,
    seed: int,
) -> ShotCurves | None:
    """Measure a task behind as many examples as the context allows; None if not even alone.

    Every number of examples and every control is measured on the same items: those that fit
    alone. A draw is the same for all items, so that they share it as a prefix; items that bring
    their own examples differ in them, and only their orders are drawn.

    Args:
        others: examples of another task, for a control.
    """
    alone = Learner(scorer, task).behind([()] * len(task.items)).items
    task = replace(task, items=tuple(compress(task.items, [one is not None for one in alone])))
    if not task.items:
        return None
    learner = Learner(scorer, task)
    curves = ShotCurves(tuple(one for one in alone if one is not None))
    for number in sorted({0, *numbers}):
        if number > task.most_shots:
            break
        prompts = {
            showing: learner.behind(_shots(task, others, showing, seed))
            for showing in _showings(task, number, draws)
        }
        num_long = sum(of.num_shortened for of in prompts.values())
        num_asked = len(prompts) * len(task.items)
        if num_long > SHORTENED * num_asked:
            break  # more would not fit either: the first ones are the same
        if num_long:
            curves.shortened[number] = num_long, num_asked
        _measure(curves, learner, prompts)
    return curves


def _showings(task: ShotTask, number: int, draws: int) -> list[Showing]:
    if number == 0:
        return [Showing(REAL, 0, 0, 0)]
    return [
        Showing(kind, number, draw, order)
        for kind in (REAL, *CONTROLS)
        for draw in range(1 if task.has_own_pools else draws)
        for order in range(ORDERS)
    ]


def _shots(task: ShotTask, others: Sequence[Shot], showing: Showing, seed: int) -> list[list[Shot]]:
    """The examples of each item."""
    kind, number, draw, order = showing
    if not task.has_own_pools:
        common = drawn(others if kind == OTHERS else task.items[0].pool, seed, draw + 1)
    result = []
    for index, item in enumerate(task.items):
        if not task.has_own_pools:
            pool = common
        else:
            pool = list(item.pool)
            if kind == OTHERS:
                next_one = task.items[(index + 1) % len(task.items)]
                pool = list(others if next_one is item else next_one.pool)
        shots = list(islice((shot for shot in pool if shot.key != item.shot.key), number))
        if order:
            shots = shuffled(Random(f"order {task.name} {number} {draw} {order} {seed}"), shots)
        if kind == LABELS:
            shots = [
                _with_random_answer(shot, item, task, pool, f"{draw} {seed}") for shot in shots
            ]
        result.append(shots)
    return result


def _with_random_answer(
    shot: Shot, item: Asked, task: ShotTask, pool: Sequence[Shot], seed: str
) -> Shot:
    """With a random answer, the same before all items where they share their examples."""
    of = item.id if task.has_own_pools else task.name
    return shot.with_random_answer(Random(f"answer {of} {shot.key} {seed}"), pool)


def _measure(curves: ShotCurves, learner: Learner, prompts: Mapping[Showing, Prompts]) -> None:
    """Measure one number of examples, and add it to the curves."""
    found: dict[str, list[Answers]] = {}
    for showing, of in prompts.items():
        items = [item for item in of.items if item is not None]
        found.setdefault(showing.kind, []).append(learner.ask(items))
    number = next(iter(prompts)).number

    def table(values: Sequence[Sequence[float]]) -> Table:
        return np.array(values).reshape(-1, ORDERS if number else 1, len(curves.items))

    for kind, answers in found.items():
        # Controls by the sum alone.
        ways: list[By] = list(answers[0].right) if kind == REAL else ["sum"]
        for way in ways:
            right = table([one.right[way] for one in answers])
            curves.right.setdefault((kind, way), {})[number] = right
    if found[REAL][0].nats:
        curves.nats[number] = table([one.nats for one in found[REAL]])
    curves.shown[:] = found[REAL][0].chosen
