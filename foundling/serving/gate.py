"""What stands before all routes: the key, the end of the server, and the log."""

import hmac
import logging
import time
from collections.abc import Iterable
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foundling.serving.errors import CLOSED, ApiError, error_response, too_busy
from foundling.serving.metrics import Record
from foundling.serving.service import Service

logger = logging.getLogger("foundling.serving.requests")

UNTOLD = ("begun", "is_gone", "generates")
"""What the log does not tell of a record."""
OPEN = ("/", "/health", "/favicon.ico")
FILES = ("/assets/",)
"""What needs no key: a browser opens the page, which asks for the key, without one."""


class Gate:
    """Asks for the key, and refuses what comes once the server ends."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service
        self._keys = [key.encode() for key in service.keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope["path"], Headers(scope=scope))
        if refusal is not None:
            await error_response(refusal, scope["path"])(scope, receive, send)
            return
        self._service.active += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._service.active -= 1

    def _refusal(self, path: str, headers: Headers) -> ApiError | None:
        if path in OPEN or path.startswith(FILES):
            return None
        if self._keys and not _is_one_of(_given_key(headers), self._keys):
            return ApiError(
                401,
                "Give a key of this server: Authorization: Bearer KEY.",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if self._service.draining and path != "/metrics":
            return too_busy("The server is shutting down.", 503)
        return None


def _given_key(headers: Headers) -> bytes:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    given = key if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    return given.strip().encode()


def _is_one_of(given: bytes, keys: Iterable[bytes]) -> bool:
    """Takes as long whichever key it is, and however much of one is right."""
    return sum(hmac.compare_digest(given, key) for key in keys) > 0


class Journal:
    """Logs and counts every request: what was asked, what became of it, never a text."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record, status = Record(), 500
        scope.setdefault("state", {})["record"] = record

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            shown = CLOSED if record.is_gone else status
            self._note(scope, record, shown, time.monotonic() - record.begun)

    def _note(self, scope: Scope, record: Record, status: int, seconds: float) -> None:
        route = scope.get("route")
        path = getattr(route, "path", "other")
        self._service.metrics.count(record, path, status, seconds)
        facts = {"method": scope["method"], "path": scope["path"], "status": status}
        facts["seconds"] = round(seconds, 4)
        if record.model:
            facts |= {key: value for key, value in vars(record).items() if key not in UNTOLD}
        level = logging.DEBUG if scope["path"] in OPEN else logging.INFO
        words = f"{scope['method']} {quote(scope['path'])} {status} {seconds:.2f}s"
        if record.model:
            words += f" {record.model}"
        if record.prompt_tokens or record.generates:
            words += f": {record.prompt_tokens} tokens read"
        if record.generates:
            words += (
                f" ({record.cached_tokens} cached), {record.completion_tokens} written, "
                f"{record.finish or 'unfinished'}"
            )
        logger.log(level, words, extra={"request": facts})
