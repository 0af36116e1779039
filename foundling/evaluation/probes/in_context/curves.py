"""How right a model is by the number of examples in its prompt, with controls."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from foundling.evaluation.choices import By, Choice, Chosen, choose, ways_of
from foundling.evaluation.probes.in_context.shots import Asked, Shot, ShotTask, behind, first_others
from foundling.evaluation.scorer import Scorer
from foundling.hamlet.chance import shuffled

ORDERS = 2
FITTING = 0.9
"""The share of items whose prompts must fit a context for so many examples to be measured."""
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
    """What a task's items are by the number of examples.

    `right[kind, way][number]` has draws × orders × items, from 0 to 1; `nats[number]` likewise the
    log-probability of a completion behind right examples. `shown` are items behind the most.
    """

    items: tuple[Choice, ...]
    right: dict[tuple[str, By], dict[int, Table]] = field(default_factory=dict)
    nats: dict[int, Table] = field(default_factory=dict)
    shown: list[Chosen] = field(default_factory=list)

    @property
    def most(self) -> int:
        """The largest number of examples."""
        return max(self.right[REAL, "sum"])


def shot_curves(
    scorer: Scorer,
    task: ShotTask,
    others: Sequence[Shot],
    shots: Sequence[int],
    *,
    draws: int,
    seed: int,
) -> ShotCurves | None:
    """Measure a task behind as many examples as the context allows; None if not even alone.

    Every number of examples and every control is measured on the same items: those that fit
    behind the most. A draw is the same for all items, so that they share it as a prefix; items
    that bring their own examples differ in them, and only their orders are drawn.

    Args:
        others: examples of another task, for a control.
    """
    numbers = [n for n in sorted({0, *shots}) if n <= task.most_shots]
    shown = {
        showing: _behind(task, others, showing, seed)
        for number in numbers
        for showing in _showings(task, number, draws)
    }
    while numbers:
        kept = _fitting(scorer, [of for s, of in shown.items() if s.number == numbers[-1]])
        if sum(kept) >= FITTING * len(kept) or (numbers == [0] and any(kept)):
            asked = {
                showing: [choice for choice, fits in zip(of, kept, strict=True) if fits]
                for showing, of in shown.items()
                if showing.number <= numbers[-1]
            }
            return _measured(scorer, asked, task.has_choices)
        numbers.pop()
    return None


def _showings(task: ShotTask, number: int, draws: int) -> list[Showing]:
    if number == 0:
        return [Showing(REAL, 0, 0, 0)]
    return [
        Showing(kind, number, draw, order)
        for kind in (REAL, *CONTROLS)
        for draw in range(1 if task.has_own_pools else draws)
        for order in range(ORDERS)
    ]


def _behind(task: ShotTask, others: Sequence[Shot], showing: Showing, seed: int) -> list[Choice]:
    kind, number, draw, order = showing
    if not task.has_own_pools:
        of = others if kind == OTHERS else task.items[0].pool
        common = shuffled(Random(f"draw {task.name} {kind == OTHERS} {draw} {seed}"), of)
    result = []
    for place, item in enumerate(task.items):
        if not task.has_own_pools:
            pool = common
        else:
            pool = list(item.pool)
            if kind == OTHERS:
                next_one = task.items[(place + 1) % len(task.items)]
                pool = list(others if next_one is item else next_one.pool)
        shots = first_others(item, pool, number)
        if order:
            shots = shuffled(Random(f"order {task.name} {number} {draw} {order} {seed}"), shots)
        told = [
            _mistold(shot, item, task, pool, f"{draw} {seed}") if kind == LABELS else shot.told
            for shot in shots
        ]
        result.append(behind(item, told, task.separator))
    return result


def _mistold(shot: Shot, item: Asked, task: ShotTask, pool: Sequence[Shot], seed: str) -> str:
    """With an answer by chance: of a draw that all items share the same one before all."""
    of = item.id if task.has_own_pools else task.name
    return shot.mistold(Random(f"answer {of} {shot.key} {seed}"), pool)


def _fitting(scorer: Scorer, shown: Sequence[Sequence[Choice]]) -> list[bool]:
    """Which items fit behind all that is shown."""
    kept = [True] * len(shown[0])
    for choices in shown:
        pairs = [(*choice.pairs, *choice.neutral) for choice in choices]
        fits = iter(scorer.fits([pair for some in pairs for pair in some]))
        for place, some in enumerate(pairs):
            kept[place] &= min(islice(fits, len(some)))
    return kept


def _measured(
    scorer: Scorer,
    asked: Mapping[Showing, Sequence[Choice]],
    has_choices: bool,
) -> ShotCurves:
    curves = ShotCurves(tuple(asked[Showing(REAL, 0, 0, 0)]))
    for (kind, number), of in _by_kind_and_number(asked).items():
        shape = (1 + max(s.draw for s in of), 1 + max(s.order for s in of), len(curves.items))
        if has_choices:
            chosen = [choose(scorer, asked[showing]) for showing in of]
            ways = ways_of(chosen[0])  # controls by the first alone, the sum
            if kind == REAL:
                curves.shown[:] = chosen[0]
            for way in ways if kind == REAL else ways[:1]:
                hits = [[one.is_right(way) for one in some] for some in chosen]
                curves.right.setdefault((kind, way), {})[number] = np.array(hits).reshape(shape)
        else:
            pairs = [[choice.pairs[0] for choice in asked[showing]] for showing in of]
            scored = [[one for one in scorer.score(some) if one is not None] for some in pairs]
            greedy = [[float(one.is_greedy) for one in some] for some in scored]
            curves.right.setdefault((kind, "sum"), {})[number] = np.array(greedy).reshape(shape)
            if kind == REAL:
                nats = [[one.log_prob for one in some] for some in scored]
                curves.nats[number] = np.array(nats).reshape(shape)
    return curves


def _by_kind_and_number(asked: Iterable[Showing]) -> dict[tuple[str, int], list[Showing]]:
    found: dict[tuple[str, int], list[Showing]] = {}
    for showing in asked:
        found.setdefault((showing.kind, showing.number), []).append(showing)
    return found
