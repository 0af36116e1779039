"""SIGINT and SIGTERM as a wish that the loop grants at the next safe moment."""

import signal
import threading
from types import FrameType
from typing import Any, Self


class Interrupted(Exception):
    """The user asked to stop; everything is saved."""


class Interrupt:
    """While entered, the first signal only sets `requested`; a second one acts as it always did."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
