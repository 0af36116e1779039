"""The server process: from its models to its end."""

import logging
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from types import FrameType

from foundling.base.config import ConfigError
from foundling.preferences.store import PreferenceStore
from foundling.serving.app import create_app
from foundling.serving.opening import opener
from foundling.serving.registry import Registry, find_sources
from foundling.serving.service import Service
from foundling.serving.settings import ServingSettings
from foundling.web.listening import base_url, bind, is_loopback
from foundling.web.server import Server

logger = logging.getLogger(__name__)


def serve(
    runs: Sequence[str],
    settings: ServingSettings,
    ready: Callable[[str, Sequence[str]], None],
    *,
    names: Sequence[str] = (),
    keys: Iterable[str] = (),
) -> None:
    """Serve models until the process is told to stop.

    Args:
        ready: is called with the address and the names of the models once the first one is in
            memory.
        names: of the runs, in their order; by default the names of their folders.
        keys: who gives one of these may use the server; none: everybody may.

    Raises:
        ConfigError: a setting is at fault, or the first model cannot be opened.
    """
    keys = frozenset(keys)
    check_access(settings, keys)
    open_engine = opener(settings)
    sources = find_sources(runs, names, settings.template)
    votes = PreferenceStore.open(settings.votes) if settings.votes else None
    with bind(settings.host, settings.port) as listening, votes or nullcontext():
        base = base_url(listening, settings.public_url)
        registry = Registry(sources, open_engine, settings.max_loaded)
        registry.open_now(sources[0])
        app = create_app(registry, settings, keys=keys, base=base, votes=votes)
        DrainingServer(app, lambda: ready(base, list(registry.sources)), app.state.service).run(
            sockets=[listening]
        )


def check_access(settings: ServingSettings, keys: frozenset[str]) -> None:
    """Refuse to serve everybody by accident.

    Raises:
        ConfigError: a key is none, or the server would be open to other machines without a key.
    """
    for key in keys:
        if not key.isascii() or not key.isprintable() or not key.strip() or " " in key:
            raise ConfigError("--api-key: a key has letters, digits and signs, and no spaces.")
    if not (is_loopback(settings.host) or keys or settings.allow_unauthenticated):
        raise ConfigError(
            f"--host {settings.host}: other machines could use the server without a key; give "
            "--api-key-file FILE, or --allow-unauthenticated if that is meant."
        )


class DrainingServer(Server):
    """Ends at SIGTERM once all requests are answered, or their time is up; at once at the second.

    Meanwhile new requests are refused. Ctrl-C ends it as soon as the answers in flight are cut.
    """

    def __init__(self, app: object, ready: Callable[[], object], service: Service) -> None:
        super().__init__(app, ready)  # type: ignore[arg-type]
        self._service, self._until = service, 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGINT or self._service.draining:
            self.should_exit = True
            return
        self._until = time.monotonic() + self._service.settings.drain
        self._service.draining = True
        logger.info(f"ends: {self._service.active} requests are finished first")

    async def on_tick(self, counter: int) -> bool:
        if self._service.draining:
            if time.monotonic() > self._until:
                await self._service.registry.close()  # which ends what is being answered
                self.should_exit = True
            self.should_exit |= not self._service.active
        return await super().on_tick(counter)
