"""When a checkpoint is written: at once, or from a copy while training goes on."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

from foundling.base.group import ALONE, Group
from foundling.runs import checkpoint as checkpoints
from foundling.runs.checkpoint import CheckpointSettings
from foundling.runs.run import Run
from foundling.runs.stored_run import StoredRun
from foundling.training.state import TrainingState

logger = logging.getLogger(__name__)


class Saver:
    """Writes checkpoints of a state into its run, one at a time, and deletes older ones.

    Args:
        group: of its own, since its thread works beside the one that trains.
    """

    def __init__(
        self,
        state: TrainingState,
        run: Run,
        settings: CheckpointSettings,
        group: Group = ALONE,
    ) -> None:
        self.state, self.run, self.settings, self.group = state, run, settings, group
        beside = settings.asynchronous
        self.is_asynchronous = group.size > 1 if beside is None else beside
        self.waiting: Callable[[], None] = lambda: None
        """Called each second while a checkpoint is waited for."""
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None
        self._stored = None if settings.store is None else StoredRun(settings.store)
        self._healthy_step: int | None = None

    def save(self, facts: Mapping[str, Any], healthy_step: int | None = None) -> None:
        """Write the state as it is now; all processes have to call this at the same step.

        Args:
            healthy_step: the newest checkpoint up to this step is kept in any case.

        Raises:
            OSError: this one could not be written, or the one before it.
        """
        self.settle()
        write = self.state.stage(self.group, copy=self.is_asynchronous)
        work = partial(self._write, self.state.progress.step, write, dict(facts), healthy_step)
        if self.group.size == 1 and not self.is_asynchronous:
            work()
            return
        self._pending = self._thread.submit(work)
        if not self.is_asynchronous:
            self.settle()

    def settle(self) -> None:
        """Wait until what is being written is committed.

        Raises:
            OSError: it could not be written; the same on all processes.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        while wait([pending], timeout=1.0).not_done:
            self.waiting()
        pending.result()

    def finish(self) -> None:
        """Wait until all is committed and stored, the end of the run.

        Raises:
            OSError: it could not be written or stored; the same on all processes.
        """
        self.settle()
        if self._stored is not None:
            # Even where this process wrote none: an earlier one may have failed to store it.
            self._pending = self._thread.submit(self._store)
            self.settle()

    def store_drawings(self) -> None:
        """Store the report and the plots, or warn; the first process calls this."""
        if self._stored is None:
            return
        try:
            self._stored.finish(self.run)
        except OSError as error:
            logger.warning(f"the report is not stored: {error}; resume with --resume to try again.")

    def _write(
        self,
        step: int,
        write: Callable[[Path], None],
        facts: Mapping[str, Any],
        healthy_step: int | None,
    ) -> None:
        self._healthy_step = healthy_step
        checkpoints.commit(self.run.checkpoints, step, write, facts, self.group)
        prune = partial(checkpoints.prune, self.run.checkpoints, self.settings, healthy_step)
        self.group.first(prune)
        try:
            self._store()
        except OSError as error:
            # The checkpoint is on the disk: training goes on, and the next one stores both.
            logger.warning(f"step {step}: not stored: {error}; the next checkpoint tries again.")

    def _store(self) -> None:
        if self._stored is not None:
            self._stored.update(self.run, self.settings, self._healthy_step, self.group)
