"""One process that serves the comparison: its links, its port, its life and its end."""

import errno
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlencode

import uvicorn
from fastapi import FastAPI

from foundling.base.config import ConfigError
from foundling.studio.api import create_app
from foundling.studio.desk import Desk

PATIENCE_SECONDS = 3  # for answers on their way when the server ends


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int) -> socket.socket:
    """The socket that the server will listen on; port 0 takes a free one.

    Raises:
        ConfigError: the address is no address, or the port is taken.
    """
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port {port}: give one from 1 to 65535, or 0 for any.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
    except OSError:
        raise ConfigError(f"--host {host} --port {port}: no such address.") from None
    found = socket.socket(family, kind, protocol)
    # A port that a killed server left is free at once; one that is listened on is not.
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(address)
        found.listen(128)
    except OSError as error:
        found.close()
        in_use = error.errno == errno.EADDRINUSE
        why = "is in use" if in_use else f"cannot be listened on: {error.strerror}"
        raise ConfigError(f"--port {port}: {why}; give another one, or --port 0 for any.") from None
    return found


def links(desk: Desk, base: str, names: Sequence[str], *, renew: bool) -> dict[str, str | None]:
    """A new link for each name, or None for one who has a link: pages that are open go on.

    Args:
        renew: a link for everybody; the earlier ones end.
    """
    made: dict[str, str | None] = {}
    for name in names:
        if not desk.is_known(name):
            desk.store.add_annotator(name)
        if desk.store.has_token(name) and not renew:
            made[name] = None
        else:
            made[name] = f"{base}/compare?{urlencode({'token': desk.store.issue_token(name)})}"
    return made


def base_url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


@contextmanager
def in_background(desk: Desk) -> Iterator[str]:
    """Serve the HTTP interface, without pages, from a thread while the block runs; its address."""
    listening, ready = bind("127.0.0.1", 0), threading.Event()
    server = _Server(_config(create_app(desk)), ready.set)
    thread = threading.Thread(target=server.run, args=([listening],), name="server", daemon=True)
    if desk.production is not None:
        desk.production.start()
    thread.start()
    try:
        while not ready.wait(0.1):
            if not thread.is_alive():
                raise ConfigError("the server did not start; its error stands above.")
        yield base_url(listening)
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
        if desk.production is not None:
            desk.production.stop()


def serve(desk: Desk, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until interrupted; `ready` is called once pages can be opened."""
    # Imported only now: the pages' library takes seconds, and the interface alone needs none.
    from foundling.studio.pages import add_pages

    app = create_app(desk)
    add_pages(app, desk)
    server = _Server(_config(app), ready)
    if desk.production is not None:
        desk.production.start()
    try:
        server.run(sockets=[listening])
    finally:
        if desk.production is not None:
            desk.production.stop()


def _config(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_level="warning",
        timeout_graceful_shutdown=PATIENCE_SECONDS,
        server_header=False,
    )


class _Server(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()
