"""What is refused before it is read: other hosts, other sites' pages, long bodies."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from foundling.studio.api import create_app
from foundling.studio.desk import Desk
from foundling.web.door import LIMIT, Door

BASE = "https://votes.example"


@pytest.fixture
def served(desk: Desk) -> Iterator[TestClient]:
    with TestClient(Door(create_app(desk), BASE), "http://127.0.0.1:8420") as opened:
        yield opened


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8420", 200), ("localhost:8420", 200), ("LOCALHOST", 200), ("[::1]:8420", 200),
        ("192.168.0.7:8420", 200), ("votes.example", 200), ("evil.example", 421),
        ("evil.example:8420", 421), ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("votes.example.evil.example", 421), ("[::1", 421), ("", 421),
    ],
)  # fmt: skip
def test_only_its_own_hosts_are_served(
    served: TestClient, desk: Desk, host: str, status: int
) -> None:
    for method, path in (("POST", "/api/annotators"), ("GET", "/openapi.json")):
        content = {"json": {"name": "eve"}} if method == "POST" else {}
        answer = served.request(method, path, headers={"Host": host}, **content)
        assert answer.status_code == status
    assert ("eve" in desk.store.annotators()) == (status == 200)


def test_the_name_it_listens_at_is_served(desk: Desk) -> None:
    with TestClient(Door(create_app(desk), "http://192.168.0.7:8420", "Mill.lan")) as client:
        for host, status in (("mill.lan:8420", 200), ("MILL.lan", 200), ("evil.example", 421)):
            assert client.get("/openapi.json", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200), ("http://127.0.0.1:8420", 200), (BASE, 200), ("http://evil.example", 403),
        ("null", 403), ("http://127.0.0.1:3000", 403), ("http://localhost:8420", 403),
    ],
)  # fmt: skip
def test_pages_of_other_sites_are_refused(
    served: TestClient, origin: str | None, status: int
) -> None:
    headers = {} if origin is None else {"Origin": origin}
    answer = served.post("/api/annotators", json={"name": "eve"}, headers=headers)
    assert answer.status_code == status


def test_websockets_are_checked_too() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close"})

    client = TestClient(Door(app, BASE), "http://127.0.0.1")
    with client.websocket_connect("ws://127.0.0.1/ws"):
        pass
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        with (
            pytest.raises(WebSocketDisconnect),
            client.websocket_connect("ws://127.0.0.1/ws", headers=headers),
        ):
            pass


def test_a_long_body_is_not_read() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("nothing of the request may come here")

    client = TestClient(Door(app, BASE), "http://127.0.0.1")
    answer = client.post("/api/votes", content=b"x", headers={"Content-Length": str(LIMIT + 1)})
    assert (answer.status_code, "longer than" in answer.text) == (413, True)


def test_a_body_that_hides_its_length_is_given_up(served: TestClient) -> None:
    parts = (b" " * 2**16 for _ in range(LIMIT // 2**16 + 1))
    answer = served.post("/api/votes", content=parts)  # sent in chunks, and without a token
    assert (answer.status_code, "longer than" in answer.text) == (413, True)
