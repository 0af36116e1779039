"""The pages' server: its links, its start and its end."""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlencode

from foundling.base.config import ConfigError
from foundling.studio.api import create_app
from foundling.studio.desk import Desk
from foundling.studio.pages import add_pages
from foundling.web.door import Door
from foundling.web.listening import base_url, bind
from foundling.web.server import Server


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


@contextmanager
def in_background(desk: Desk) -> Iterator[str]:
    """Serve the HTTP interface, without pages, from a thread while the block runs; its address."""
    listening, ready = bind("127.0.0.1", 0), threading.Event()
    server = Server(Door(create_app(desk), base_url(listening)), ready.set)
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
    server = Server(Door(app, base, host), lambda: ready(server.stop))
    if desk.production is not None:
        desk.production.start()
    try:
        server.run(sockets=[listening])
    finally:
        if desk.production is not None:
            desk.production.stop()
