"""Adds pairs to the store while they are being made, on a thread of its own."""

import logging
import threading
import time
from collections.abc import Iterator
from typing import Protocol

from foundling.base.config import ConfigError
from foundling.preferences.client import HttpError
from foundling.preferences.records import Pair
from foundling.preferences.store import PreferenceStore

logger = logging.getLogger(__name__)

EVERY = 10.0  # seconds between two words about how far it is


class Report(Protocol):
    """How many prompts gave a pair so far, and why others did not."""

    def lines(self) -> list[str]: ...


class Producer(Protocol):
    """Where pairs come from, such as `foundling.preferences.producing.Producer`."""

    @property
    def report(self) -> Report: ...

    def __iter__(self) -> Iterator[Pair]: ...

    def close(self) -> None: ...


class Production:
    """Runs a producer and stores its pairs; a failure is logged and stops nothing else.

    A pair that the store has is not added twice, so a production may be started again.
    """

    def __init__(self, store: PreferenceStore, producer: Producer) -> None:
        self._store, self._producer = store, producer
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="production", daemon=True)
        self.failed = False

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def wait(self, patience: float) -> None:
        """Wait until it has finished, at most so many seconds."""
        if self.running:
            self._thread.join(patience)

    def stop(self, patience: float = 5.0) -> None:
        """Stop after the next pair, and wait at most so many seconds for it."""
        self._stopping.set()
        self.wait(patience)

    def _run(self) -> None:
        count, told = 0, time.monotonic()
        try:
            for pair in self._producer:
                self._store.add_pair(pair)
                count += 1
                if time.monotonic() - told > EVERY:
                    logger.info(f"{count:,} pairs of answers so far")
                    told = time.monotonic()
                if self._stopping.is_set():
                    return
        except (ConfigError, HttpError) as error:
            self._fail(count, str(error))
        except Exception as error:
            self._fail(count, f"{type(error).__name__}: {error}", error)
        else:
            for line in self._producer.report.lines():
                logger.info(line)
        finally:
            self._producer.close()

    def _fail(self, count: int, why: str, unexpected: Exception | None = None) -> None:
        self.failed = True
        message = f"preparing answers stopped after {count:,} pairs: {why}"
        logger.error(message, exc_info=unexpected)
