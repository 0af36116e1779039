"""Checks of a request before its body is read: Host, Origin and size."""

import ipaddress
from urllib.parse import urlsplit

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LIMIT = 2**20  # bytes of a body; the longest rubric, all of it escaped, takes 240,000


class Door:
    """Refuses what another website can make a browser send, and bodies that are too long.

    A site can point its own name at this machine (DNS rebinding); the browser then sends that
    name as Host. So only IP addresses, "localhost", `host` and the host of `base` are served. A
    request from another site's page carries that site as Origin.

    Args:
        base: the address that people open; behind a proxy, the proxy's.
        host: the name that the server was told to listen at.
    """

    def __init__(self, app: ASGIApp, base: str, host: str = "localhost") -> None:
        self._app, self._origin = app, base
        self._hosts = {"localhost", host.lower(), urlsplit(base).hostname}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(Headers(scope=scope))
        if refusal is None:
            await self._app(scope, _limited(receive), send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            status, detail = refusal
            await JSONResponse({"detail": detail}, status)(scope, receive, send)

    def _refusal(self, headers: Headers) -> tuple[int, str] | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return 421, "this server is not the host that was asked for; see --public-url."
        origin = headers.get("origin")
        if origin not in (None, self._origin, f"http://{hosts[0]}", f"https://{hosts[0]}"):
            return 403, "pages of other sites may not use this server."
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > LIMIT:
            return 413, f"the body is longer than {LIMIT:,} bytes."
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._hosts or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _limited(receive: Receive) -> Receive:
    """Stops reading a body without Content-Length once it is too long."""
    length = 0

    async def counted() -> Message:
        nonlocal length
        message = await receive()
        length += len(message.get("body", b"")) if message["type"] == "http.request" else 0
        if length > LIMIT:
            raise HTTPException(413, f"the body is longer than {LIMIT:,} bytes.")
        return message

    return counted
