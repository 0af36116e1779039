"""The server process: its port, its address, its links, its start and its end."""

import errno
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlencode, urlsplit

import uvicorn
from fastapi import FastAPI

from foundling.base.config import ConfigError
from foundling.studio.api import create_app
from foundling.studio.desk import Desk
from foundling.studio.door import Door
from foundling.studio.pages import add_pages

PATIENCE_SECONDS = 3  # for responses in flight when the server stops


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bind(host: str, port: int) -> socket.socket:
    """The socket that the server will listen on; port 0 takes a free one.

    Raises:
        ConfigError: there is no such address, or the port is taken.
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
    # A port that a killed server left can be bound at once; one in use cannot.
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
    """A new link for each name, or None for one who has a link, so that open pages keep working.

    Args:
        renew: make new links for everybody; the earlier ones stop working.
    """
    made: dict[str, str | None] = {}
    for name in names:
        desk.store.add_annotator(name)
        if desk.store.has_token(name) and not renew:
            made[name] = None
        else:
            made[name] = f"{base}/compare?{urlencode({'token': desk.store.issue_token(name)})}"
    return made


def base_url(listening: socket.socket, public_url: str | None = None) -> str:
    """The address that people open: `public_url`, or one that reaches the socket.

    Raises:
        ConfigError: `public_url` is not the address of a server.
    """
    if public_url is not None:
        parts = urlsplit(public_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise ConfigError(f"--public-url {public_url}: give one such as https://HOST:PORT.")
        return f"{parts.scheme}://{parts.netloc}"
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = _own_address()
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


def _own_address() -> str:
    """The address of this machine on its network; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation: RFC 5737
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])


@contextmanager
def in_background(desk: Desk) -> Iterator[str]:
    """Serve the HTTP interface, without pages, from a thread while the block runs; its address."""
    listening, ready = bind("127.0.0.1", 0), threading.Event()
    server = _Server(_config(create_app(desk), base_url(listening)), ready.set)
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
        server.stop()
        thread.join()
        listening.close()
        if desk.production is not None:
            desk.production.stop()


def serve(
    desk: Desk,
    listening: socket.socket,
    base: str,
    host: str,
    ready: Callable[[Callable[[], None]], None],
) -> None:
    """Serve at the address `base` until interrupted.

    Args:
        host: the address or name that `listening` is bound to.
        ready: is called once pages open, with what ends the server from another thread.
    """
    app = create_app(desk)
    add_pages(app, invited=desk.invited)
    server = _Server(_config(app, base, host), lambda: ready(server.stop))
    if desk.production is not None:
        desk.production.start()
    try:
        server.run(sockets=[listening])
    finally:
        if desk.production is not None:
            desk.production.stop()


def _config(app: FastAPI, base: str, host: str = "localhost") -> uvicorn.Config:
    return uvicorn.Config(
        Door(app, base, host),
        log_level="warning",
        timeout_graceful_shutdown=PATIENCE_SECONDS,
        server_header=False,
    )


class _Server(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    def stop(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()
