"""A server on a socket of this machine, as clients meet it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundling.generation.engine import Engine
from foundling.preferences.store import PreferenceStore
from foundling.serving.app import create_app
from foundling.serving.opening import opener
from foundling.serving.process import DrainingServer
from foundling.serving.registry import Registry, find_sources
from foundling.serving.service import Service
from foundling.serving.settings import ServingSettings
from foundling.web.listening import base_url, bind


@dataclass(frozen=True)
class Live:
    """A server that runs; `base` is its address."""

    base: str
    service: Service

    @property
    def api(self) -> str:
        return f"{self.base}/v1"

    @property
    def engine(self) -> Engine:
        """That of the first model."""
        registry = self.service.registry
        return registry.in_memory[registry.first].engine

    def settle(self) -> dict[str, int]:
        """The engine's figures once nothing runs or waits and every request has been answered."""
        until(lambda: not (self.service.active or self.busy))
        return self.engine.stats()

    @property
    def busy(self) -> int:
        stats = self.engine.stats()
        return stats["running"] + stats["waiting"]

    def answered(self, status: int) -> int:
        """How many requests were answered with this status; 499: their clients were gone."""
        samples = next(iter(self.service.metrics.requests.collect())).samples
        return sum(
            int(sample.value)
            for sample in samples
            if sample.name.endswith("_total") and sample.labels["status"] == str(status)
        )


def until(holds: Callable[[], object], seconds: float = 120) -> None:
    """Wait for what comes soon; fails if it does not come at all."""
    last, pause = time.monotonic() + seconds, threading.Event()
    while not holds():
        assert time.monotonic() < last, "it does not come"
        pause.wait(0.005)


@contextmanager
def running(
    folders: Sequence[Path], *, keys: Sequence[str] = (), **settings: Any
) -> Iterator[Live]:
    """Serves these models on a free port."""
    parsed = ServingSettings.parse({"device": "cpu", "port": 0, **settings})
    sources = find_sources([str(folder) for folder in folders])
    registry = Registry(sources, opener(parsed), parsed.max_loaded)
    registry.open_now(sources[0])  # compiles the kernels, where that is to be done
    listens = threading.Event()
    with ExitStack() as stack:
        votes = parsed.votes and stack.enter_context(PreferenceStore.open(parsed.votes))
        listening = stack.enter_context(bind(parsed.host, parsed.port))
        base = base_url(listening)
        app = create_app(registry, parsed, keys=keys, base=base, votes=votes or None)
        server = DrainingServer(app, listens.set, app.state.service)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        assert listens.wait(60)
        try:
            yield Live(base, app.state.service)
        finally:
            server.stop()
            thread.join()
