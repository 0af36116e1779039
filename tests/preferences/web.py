"""Servers for the tests, on the loopback address and in threads of their own."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from foundling.base.config import ConfigError
from foundling.preferences import queries
from foundling.preferences.checks import Conflict
from foundling.preferences.leasing import Leasing
from foundling.preferences.records import Verdict, Vote
from foundling.preferences.store import PreferenceStore

Reply = tuple[int, Any]
Handle = Callable[[str, Mapping[str, Any] | None, Mapping[str, str]], Reply]


@contextmanager
def serve(handle: Handle) -> Iterator[str]:
    """The URL of a server that answers with `handle(path, body, headers)`: status and JSON."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one piece: in two the second waits for an answer

        def do_GET(self) -> None:
            self._reply(None)

        def do_POST(self) -> None:
            self._reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _reply(self, body: Any) -> None:
            status, content = handle(self.path, body, self.headers)
            text = content if isinstance(content, str) else json.dumps(content)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = False  # they are joined: nothing is left open

        def process_request(self, request: Any, client_address: Any) -> None:
            request.settimeout(5)
            super().process_request(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class VotingServer:
    """The comparison page's interface over a store, with nothing of the page.

    The first `preparing` requests for an item are told to wait.
    """

    def __init__(
        self, store: PreferenceStore, settings: Leasing | None = None, preparing: int = 0
    ) -> None:
        self.store, self.settings = store, settings or Leasing()
        self.preparing = preparing

    def __call__(
        self, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> Reply:
        assert body is not None
        try:
            if path == "/api/annotators":
                self.store.add_annotator(body["name"], simulated=body["simulated"])
                return 200, {"name": body["name"], "token": self.store.issue_token(body["name"])}
            token = headers.get("Authorization", "").removeprefix("Bearer ")
            name = self.store.annotator_of(token)
            if name is None:
                return 401, {"detail": "unknown token"}
            return 200, self._next(name, body) if path == "/api/next" else self._vote(name, body)
        except Conflict as error:
            return 409, {"detail": str(error)}
        except ConfigError as error:
            return 422, {"detail": str(error)}

    def _next(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        rubric = self.store.rubric()
        found = {
            "item": None,
            "state": "done",
            "progress": asdict(self.store.progress(name, self.settings, kind=body["kind"])),
            "rubric_version": rubric and rubric.version,
        }
        if self.preparing:
            self.preparing -= 1
            return {**found, "state": "preparing"}
        item = self.store.lease_next(
            name, self.settings, kind=body["kind"], holding=body["holding"]
        )
        if item is None:
            return found
        shown = {
            "key": item.key,
            "kind": item.kind,
            "prompt": [asdict(message) for message in item.pair.prompt],
            "left": item.answer(item.left).text,
            "right": item.answer(item.right).text,
        }
        return {**found, "item": shown, "state": "item"}

    def _vote(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        with self.store._database.read() as connection:
            item = queries.item(connection, body["key"])
        sides: dict[str, Verdict] = {"left": item.left, "right": item.right}
        ratings = body["ratings"]
        if ratings is not None:
            order = ("left", "right") if item.left == "A" else ("right", "left")
            ratings = (ratings[order[0]], ratings[order[1]])
        verdict = body["verdict"]
        return asdict(
            self.store.record(
                Vote(
                    body["key"],
                    name,
                    sides.get(verdict, verdict),
                    ratings,
                    body["strength"],
                    body["reason"],
                    body["milliseconds"],
                    body["rubric_version"],
                )
            )
        )


def chat_server(
    answer: Callable[[Mapping[str, Any]], str], models: tuple[str, ...] = ("m",)
) -> Handle:
    """An OpenAI-compatible server of these models that says `answer(body)`."""

    def handle(path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> Reply:
        if path == "/v1/models":
            return 200, {"data": [{"id": name} for name in models]}
        if path != "/v1/chat/completions" or body is None:
            return 404, {"detail": "Not Found"}
        if body["model"] not in models:
            return 404, {"error": {"message": f"no model {body['model']}"}}
        message = {"role": "assistant", "content": answer(body)}
        return 200, {"choices": [{"index": 0, "message": message}]}

    return handle
