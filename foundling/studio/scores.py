"""The strength of each source by the votes so far, for strategies that choose by it."""

import threading
import time
from collections.abc import Mapping

from foundling.preferences.statistics import statistics
from foundling.preferences.store import PreferenceStore

FRESH_SECONDS = 10.0  # how long computed scores are reused


class Scores:
    """Bradley–Terry scores of every source in the store; 0, the mean, for one without votes."""

    def __init__(self, store: PreferenceStore) -> None:
        self._store, self._turn = store, threading.Lock()
        self._scores: dict[str, float] = {}
        self._until = float("-inf")

    def now(self) -> Mapping[str, float]:
        with self._turn:
            if time.monotonic() >= self._until:
                ranking = statistics(self._store, bootstrap=0)["ranking"]
                self._scores = dict.fromkeys(self._sources(), 0.0) | ranking["scores"]
                self._until = time.monotonic() + FRESH_SECONDS
            elif missing := self._sources() - set(self._scores):
                self._scores |= dict.fromkeys(missing, 0.0)
            return dict(self._scores)

    def _sources(self) -> set[str]:
        pairs = self._store.pairs().values()
        return {answer.source for pair in pairs for answer in (pair.a, pair.b)}
