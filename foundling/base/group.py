"""Processes that act together: what fails on one fails on all."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch.distributed as dist

from foundling.base.ranks import picklable

Value = TypeVar("Value")


@dataclass(frozen=True)
class Group:
    """All processes of a run, for a thread beside the one that trains.

    Two threads must not share a process group: what one sends the other would receive.
    """

    handle: "dist.ProcessGroup | None" = None
    """None: this process alone."""

    @classmethod
    def of_all(cls, timeout_seconds: float) -> "Group":
        """A new one of all processes, which all of them have to make; gloo carries it."""
        if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
            return ALONE
        timeout = timedelta(seconds=timeout_seconds)
        return cls(dist.new_group(backend="gloo", timeout=timeout))

    @property
    def rank(self) -> int:
        return 0 if self.handle is None else self.handle.rank()

    @property
    def size(self) -> int:
        return 1 if self.handle is None else self.handle.size()

    def gathered(self, value: Value) -> list[Value]:
        """The value of each rank in order; every rank has to call this, as all that follows."""
        if self.handle is None:
            return [value]
        values: list[Value] = [value] * self.size
        dist.all_gather_object(values, value, group=self.handle)
        return values

    def together(self, act: Callable[[], Value]) -> Value:
        """What `act` gives on this rank, once it has succeeded on all.

        Whatever it raises on one rank all raise.

        Raises:
            OSError: it raised one here, or on another rank, which is named.
        """
        if self.handle is None:
            return act()
        done: list[Value] = []
        error = None
        try:
            done.append(act())
        except Exception as failed:
            error = failed
        failures = self.gathered(error and picklable(error))
        if error is not None:
            raise error
        for rank, failure in enumerate(failures):
            if isinstance(failure, OSError):
                raise OSError(f"rank {rank}: {failure.strerror or failure}")
            if failure is not None:
                raise failure
        return done[0]

    def first(self, act: Callable[[], None]) -> None:
        """Let the first rank act.

        Raises:
            OSError: it raised one; on all ranks.
        """
        self.together(act if self.rank == 0 else lambda: None)


ALONE = Group()
