"""Finds the process that the others of a run wait for."""

import time
from collections.abc import Mapping, Sequence
from statistics import median_low
from typing import Any

import torch

from foundling.base import ranks
from foundling.training.pulse import Pulse

EVERY = 50
"""Steps between two looks, each of which takes a few milliseconds."""
BEHIND = 0.1
"""The share of their time that the others must have waited before it is reported."""
SIZE, REPEATS = 384, 4  # of the product of matrices that is timed


class Stragglers:
    """Compares how long each process takes for what it does by itself.

    How long a step takes says nothing, as all wait for the slowest. Compared are the time that
    reading batches took since the last look, and the time of one product of matrices, which each
    process makes without the others: it tells of a device that is hot, throttled or shared.
    """

    def __init__(self, pulse: Pulse, device: torch.device) -> None:
        self.pulse, self.device = pulse, device

    def look(self, step: int) -> dict[str, Any] | None:
        """The record of the slowest process, if it is time and the others waited for it."""
        if ranks.world() == 1 or step % EVERY:
            return None
        taken = self.pulse.taken()
        mine = {phase: taken[phase] for phase in ("data", "passes", "waiting", "update")}
        found = ranks.gathered({**mine, "product": self._product(), "all": sum(taken.values())})
        record = slowest(found)
        return record and {"split": "straggler", "step": step, **record}

    def _product(self) -> float:
        """The seconds of a product of matrices here, the best of a few."""
        matrix, best = torch.ones(SIZE, SIZE, device=self.device), float("inf")
        for _ in range(REPEATS):
            self._finish()
            start = time.perf_counter()
            matrix @ matrix
            self._finish()
            best = min(best, time.perf_counter() - start)
        return best

    def _finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def slowest(found: Sequence[Mapping[str, float]]) -> dict[str, Any] | None:
    """The process whose data or device cost the others most, from the seconds of each process.

    None: the others lost less than a tenth of their time.
    """
    seconds = {name: [figures[name] for figures in found] for name in found[0]}
    usual = {name: median_low(values) for name, values in seconds.items()}
    # A pass takes everyone as long as the slowest computes.
    working = usual["passes"] + usual["waiting"]
    lost = {
        "data": max(seconds["data"]) - usual["data"],
        "product": working * (1 - usual["product"] / max(seconds["product"])),
    }
    worst = max(lost, key=lambda name: lost[name])
    share = lost[worst] / usual["all"]
    if share < BEHIND:
        return None
    return {
        "process": seconds[worst].index(max(seconds[worst])),
        "what": {"data": "reading data", "product": "computing"}[worst],
        "times_usual": max(seconds[worst]) / usual[worst],
        "share_lost": share,
        "seconds": seconds,
    }
