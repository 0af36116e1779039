"""Servers for the tests, on the loopback address and in threads of their own."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, Any]
Handle = Callable[[str, Mapping[str, Any] | None, Mapping[str, str]], Reply]


@contextmanager
def serve(handle: Handle) -> Iterator[str]:
    """The URL of a server that answers with `handle(path, body, headers)`: status and JSON."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

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
