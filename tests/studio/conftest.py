"""Desks, clients and servers for the tests of the studio."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from annotating import Script, Server, pair_of
from fastapi.testclient import TestClient
from visiting import Visitor

from foundling.preferences.leasing import Leasing
from foundling.preferences.records import Pair
from foundling.preferences.store import PreferenceStore
from foundling.studio.api import create_app
from foundling.studio.desk import Desk


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PreferenceStore]:
    with PreferenceStore.open(tmp_path / "votes.db") as opened:
        opened.add_pairs(pair_of(n) for n in range(12))
        yield opened


@pytest.fixture
def desk(store: PreferenceStore) -> Desk:
    return Desk(store, Leasing(repeat_share=0), ("comparison", "rating"))


@pytest.fixture
def client(desk: Desk) -> Iterator[TestClient]:
    with TestClient(create_app(desk)) as opened:
        yield opened


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts a server over a store with so many pairs."""
    started: list[Server] = []

    def start(
        num_pairs: int, *options: str, fixed: tuple[str, ...] = (), pairs: Sequence[Pair] = ()
    ) -> Server:
        server = Server(tmp_path, ("--repeat-share", "0", *fixed))
        with server.store() as store:
            store.add_pairs([*pairs, *(pair_of(n) for n in range(num_pairs))])
        started.append(server)
        server.start(*options)
        return server

    yield start
    for server in started:
        if server.process is not None:
            server.stop()


@pytest.fixture
def ann(client: TestClient) -> Script:
    return Script(client, "ann")


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visitor]]:
    visitors: list[Visitor] = []

    def open_page(link: str, **context: Any) -> Visitor:
        visitors.append(Visitor(browser, link, **context))
        return visitors[-1]

    yield open_page
    for visitor in visitors:
        visitor.close()
