"""Checks of a request before its body is read: Host, Origin and size."""

import ipaddress
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LIMIT = 2**20  # bytes of a body; the longest rubric, all of it escaped, takes 240,000


def _plain(status: int, detail: str, path: str) -> Response:
    return JSONResponse({"detail": detail}, status)


class Door:
    """Refuses what another website can make a browser send, and bodies that are too long.

    A site can point its own name at this machine (DNS rebinding); the browser then sends that
    name as Host. So only IP addresses, "localhost", `host` and the host of `base` are served. A
    request from another site's page carries that site as Origin.

    Args:
        base: the address that people open; behind a proxy, the proxy's.
        host: the name that the server was told to listen at.
        limit: bytes of the longest body.
        origins: other sites whose pages may ask; "*" is every site.
        refuse: makes the answer to a request that is refused, of its status, why, and its path.
    """

    def __init__(
        self,
        app: ASGIApp,
        base: str,
        host: str = "localhost",
        *,
        limit: int = LIMIT,
        origins: Sequence[str] = (),
        refuse: Callable[[int, str, str], Response] = _plain,
    ) -> None:
        self._app, self._limit, self._refuse = app, limit, refuse
        self._hosts = {"localhost", host.lower(), urlsplit(base).hostname}
        self._origins = {base, *origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(Headers(scope=scope))
        if refusal is None:
            await self._app(scope, self._limited(receive), send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._refuse(*refusal, scope["path"])(scope, receive, send)

    def _refusal(self, headers: Headers) -> tuple[int, str] | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return 421, "this server is not the host that was asked for; see --public-url."
        origin = headers.get("origin")
        own = {f"http://{hosts[0]}", f"https://{hosts[0]}"}
        if not (origin is None or origin in self._origins | own or "*" in self._origins):
            return 403, "pages of other sites may not use this server."
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._limit:
            return 413, self._too_long
        return None

    @property
    def _too_long(self) -> str:
        return f"the body is longer than {self._limit:,} bytes."

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._hosts or _is_address(name)

    def _limited(self, receive: Receive) -> Receive:
        """Stops reading a body without Content-Length once it is too long."""
        length = 0

        async def counted() -> Message:
            nonlocal length
            message = await receive()
            length += len(message.get("body", b"")) if message["type"] == "http.request" else 0
            if length > self._limit:
                raise HTTPException(413, self._too_long)
            return message

        return counted


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
