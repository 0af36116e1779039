"""Ends a process of a run in which nothing moves any more, and says which one the others wait for.

A collective operation waits very long for a process that hangs. So a thread of each process watches
how far it has come and publishes it through the store. Where a process stands still for too long,
the thread reads there which of them is behind. A process that fails says so there too, and the
others end with it.
"""

import faulthandler
import json
import logging
import math
import os
import signal
import sys
import threading
import time
from datetime import timedelta
from types import TracebackType
from typing import Self

import torch.distributed as dist

from foundling.base import ranks
from foundling.base.process import INTERRUPTED
from foundling.training.interrupt import Interrupted
from foundling.training.pulse import Place, Pulse
from foundling.training.rewind import TrainingStopped

logger = logging.getLogger(__name__)

HUNG = 4
"""The exit code of a process that the watchdog ended; a launcher starts the run again."""
FIRST_STEP = 3
"""How many times as long the first step may take, in which models are compiled."""
LONGEST = 3 * FIRST_STEP
"""How many times as long a collective operation may take, which says less when it fails."""
STOP_SECONDS = 120.0
"""How long a part of a step may still take after a signal that asks the run to stop."""
FAILED = "failed"


class ProcessFailed(Exception):
    """Another process of the run failed; nothing is wrong with this one."""


class Watchdog:
    """While entered, this process ends where it, or another, makes no progress.

    Nothing is watched where there is one process.

    Args:
        limit: how long, in seconds, any part of a step may take.
    """

    def __init__(self, pulse: Pulse, limit: float) -> None:
        self.pulse, self.limit = pulse, limit
        self._interval = min(2.0, limit / 10)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._stop_asked_at = math.inf

    def __enter__(self) -> Self:
        self._world = ranks.world()  # which is 1 while the first process works alone
        if self._world > 1:
            self._store, self._threads_store = ranks.store(), ranks.store()
            self._threads_store.set_timeout(timedelta(seconds=30))
            self._hear_signals()
            self._publish()
            ranks.barrier()  # now all have
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._thread.ident:
            return
        try:
            if isinstance(error, Exception) and not _is_agreed(error):
                self._tell(error)
        finally:
            self._ended.set()
            self._thread.join()
            faulthandler.cancel_dump_traceback_later()
            if self._hears:
                signal.set_wakeup_fd(self._wakeup_before)
            os.close(self._signals)
            os.close(self._signalled)

    def _tell(self, error: Exception) -> None:
        """Tell the others that this process ends, and why.

        Raises:
            ProcessFailed: another one ended before, and this one's error is what became of it.
        """
        is_echo = isinstance(error, RuntimeError)  # how a broken connection shows, for one
        if is_echo:
            time.sleep(2 * self._interval)  # the other one comes first
        mine = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        words = f"process {ranks.rank()} failed at step {self.pulse.place.step}: {mine}"
        try:
            first = self._store.compare_set(FAILED, "", words).decode()
        except dist.DistError:  # the store has gone with the process that kept it
            return
        if ranks.is_first():
            time.sleep(2 * self._interval)  # it may keep the store, where the others read this
        if is_echo and first != words:
            raise ProcessFailed(first) from None

    def _hear_signals(self) -> None:
        """Python's own handlers wait until the main thread comes back from a collective."""
        self._signals, self._signalled = os.pipe()
        os.set_blocking(self._signals, False)
        os.set_blocking(self._signalled, False)
        self._hears = threading.current_thread() is threading.main_thread()
        if self._hears:
            self._wakeup_before = signal.set_wakeup_fd(self._signalled, warn_on_full_buffer=False)

    def _watch(self) -> None:
        while not self._ended.wait(self._interval):
            words = ""
            try:
                self._publish()
                if self._threads_store.check([FAILED]):
                    words = self._threads_store.get(FAILED).decode()
            except Exception:  # the store has gone with the process that kept it
                pass
            if words and not self._ended.wait(5 * self._interval):
                self._leave(f"{words}; this process ends with it", 1)
            if self._stop_was_asked():
                self._stop_asked_at = min(self._stop_asked_at, time.monotonic())
            place = self.pulse.place
            allowed = allowed_seconds(
                place, self.limit, is_first_step=self.pulse.is_first_step(),
                stop_asked_at=self._stop_asked_at,
            )  # fmt: skip
            if time.monotonic() - place.since > allowed and not self._first_works_alone():
                self._end()

    def _first_works_alone(self) -> bool:
        """Whether the first process makes progress while the others wait for it to finish."""
        try:
            *_, idle, told, is_alone = json.loads(self._threads_store.get("place 0"))
        except Exception:  # the store has gone with the process that kept it
            return False
        return bool(is_alone) and max(idle, time.time() - told) < self.limit

    def _publish(self) -> None:
        place, idle = self.pulse.place, self.pulse.idle_seconds()
        here = [place.number, place.step, place.phase, idle, time.time(), ranks.is_alone()]
        self._threads_store.set(f"place {ranks.rank()}", json.dumps(here))
        # Where no thread of Python gets to run, C code ends the process.
        faulthandler.dump_traceback_later(LONGEST * self.limit, exit=True)

    def _stop_was_asked(self) -> bool:
        try:
            numbers = os.read(self._signals, 64)
        except BlockingIOError:
            return False
        return not {signal.SIGINT, signal.SIGTERM}.isdisjoint(numbers)

    def _end(self) -> None:
        """Say who is behind, and end this process."""
        place, idle = self.pulse.place, self.pulse.idle_seconds()
        try:
            self._publish()
            who = self._who_is_behind()
        except Exception as error:
            who = f"how far the others are cannot be read ({error})"
        faulthandler.dump_traceback(all_threads=True)
        self._leave(
            f"no progress for {idle:.0f} seconds at step {place.step} ({place.phase}): {who}. "
            "The last checkpoint is intact",
            HUNG if self._stop_asked_at == math.inf else INTERRUPTED,
        )

    def _who_is_behind(self) -> str:
        keys = [f"place {other}" for other in range(self._world)]
        places = [json.loads(value) for value in self._threads_store.multi_get(keys)]
        # One that works alone stays at a place where the others wait for it.
        ways = [(number, not alone) for number, *_, alone in places]
        least, now = min(ways), time.time()
        behind = [
            f"process {other}, {idle:.0f} seconds at step {step} ({phase})"
            + (f" and silent for {now - told:.0f}" if now - told > 5 * self._interval else "")
            for other, (_, step, phase, idle, told, _) in enumerate(places)
            if ways[other] == least
        ]
        if len(behind) == len(places):
            return "all processes are at the same place"
        return f"the others wait for {'; '.join(behind)}"

    def _leave(self, words: str, code: int) -> None:
        logger.error(f"process {ranks.rank()}: {words}.")
        for handler in logging.getLogger("foundling").handlers:
            handler.flush()
        sys.stderr.flush()
        os._exit(code)


def _is_agreed(error: Exception) -> bool:
    """Whether all processes end so, each in its time: the first may still be saving."""
    is_own = isinstance(error.__cause__, OSError)  # a disk that one of them cannot read
    return isinstance(error, Interrupted) or (isinstance(error, TrainingStopped) and not is_own)


def allowed_seconds(
    place: Place, limit: float, *, is_first_step: bool, stop_asked_at: float = math.inf
) -> float:
    """How long the part of a step that began at `place` may last in all.

    Args:
        stop_asked_at: when a signal asked the run to stop, on the clock of `place`.
    """
    usual = limit * (FIRST_STEP if is_first_step else 1)
    if place.phase == "checkpoint":
        return limit * FIRST_STEP
    return min(usual, max(0.0, stop_asked_at - place.since) + STOP_SECONDS)
