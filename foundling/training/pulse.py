"""Where a run's process is, phase by phase, and how long each phase took."""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple


class Place(NamedTuple):
    """Where a process is; those of one run pass the same places in the same order."""

    number: int
    """How many places it has passed."""
    step: int
    phase: str
    since: float
    """On this process's monotonic clock, in seconds."""


class Pulse:
    """Told of each phase as it begins; cheap, and read by other threads.

    Args:
        clock: gives seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.place = Place(0, 0, "start", clock())
        self._began = self.place.since
        self.seconds: defaultdict[str, float] = defaultdict(float)
        """How long the phases took since `taken` was called last."""
        self.first_step: int | None = None

    def at(self, phase: str, step: int | None = None) -> None:
        """A phase begins."""
        now, before = self.clock(), self.place
        self.seconds[before.phase] += now - self._began
        self._began = now
        step = before.step if step is None else step
        if self.first_step is None and phase != "start":
            self.first_step = step
        self.place = Place(before.number + 1, step, phase, now)

    def goes_on(self) -> None:
        """The phase lasts long, and nothing hangs."""
        self.place = self.place._replace(since=self.clock())

    def idle_seconds(self) -> float:
        """How long this phase has lasted."""
        return self.clock() - self.place.since

    def is_first_step(self) -> bool:
        """Whether the first step since the start is not over: it also compiles."""
        return self.first_step in (None, self.place.step)

    def taken(self) -> dict[str, float]:
        """The seconds of each phase, which begin from zero again."""
        seconds, self.seconds = self.seconds, defaultdict(float)
        return seconds
