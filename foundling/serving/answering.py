"""How an answer is sent: as one body or piece by piece, for as long as the client is there."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from foundling.serving.errors import ClientGone, api_error, error_body
from foundling.serving.metrics import Record

logger = logging.getLogger(__name__)
Made = TypeVar("Made")


def record_of(request: Request) -> Record:
    """What is noted of this request."""
    found: Record = request.state.record
    return found


async def while_connected(request: Request, work: Coroutine[Any, Any, Made]) -> Made:
    """What `work` returns; it is cancelled once the client closes the connection.

    The body of the request has been read before: the next message says that the client is gone.

    Raises:
        ClientGone: it has.
    """
    task = asyncio.create_task(work)
    watch = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        record_of(request).is_gone = True
        raise ClientGone
    finally:
        watch.cancel()
        task.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def event(values: Any, name: str | None = None) -> bytes:
    """One server-sent event.

    It is ASCII: many clients end a line at U+0085 or U+2028 too.
    """
    kind = f"event: {name}\n" if name else ""
    return f"{kind}data: {json.dumps(values)}\n\n".encode()


READING_SECONDS = 60
"""What a client is given to read the rest of a stream once the time for its request is up."""
DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
"""A comment, which clients pass over."""


async def kept_alive(events: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    """The events, and a comment whenever none has come for so long: in the queue, or while a long
    prompt is read."""
    coming: asyncio.Future[bytes] | None = None
    try:
        while True:
            coming = asyncio.ensure_future(anext(events))
            while not (await asyncio.wait({coming}, timeout=seconds))[0]:
                yield KEEP_ALIVE
            try:
                one = coming.result()
            except StopAsyncIteration:
                return
            yield one
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


class EventStream(StreamingResponse):
    """Server-sent events; `close` is called however the stream ends, or if it never begins.

    An error in mid-stream becomes an event of its own, the last one.

    Args:
        failed: how the interface says an error; None: as OpenAI does.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        request: Request,
        events: AsyncIterator[bytes],
        close: Callable[[], None],
        failed: Callable[[Exception], bytes] | None = None,
    ) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(self._guarded(events), headers=headers)
        self._record, self._path, self._is_complete = record_of(request), request.url.path, False
        self._close, self._failed = close, failed or self._error
        self._record.stream = True
        settings = request.app.state.service.settings
        self._limit = settings.timeout + READING_SECONDS
        self._keep_alive = settings.keep_alive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(self._limit):
                await super().__call__(scope, receive, send)
        except TimeoutError:
            logger.warning(f"{self._path}: the client does not read; its connection is closed")
        finally:
            self._record.is_gone = not self._is_complete
            self._close()

    async def _guarded(self, events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for one in kept_alive(events, self._keep_alive):
                yield one
        except Exception as error:
            if api_error(error).status == 500:
                logger.exception(f"{self._path}: failed in mid-stream")
            self._record.finish = "error"
            yield self._failed(error)
        self._is_complete = True

    def _error(self, error: Exception) -> bytes:
        return event(error_body(api_error(error), self._path)) + DONE


class Sent(Protocol):
    """An answer as an interface says it, in pieces or whole."""

    def events(self) -> AsyncIterator[bytes]: ...
    async def whole(self) -> dict[str, Any]: ...


async def sent_as(
    request: Request,
    sent: Sent,
    close: Callable[[], None],
    *,
    stream: bool | None,
    failed: Callable[[Exception], bytes] | None = None,
) -> Response:
    """Events as they come, or one body; `close` and `failed` as of EventStream."""
    if stream:
        return EventStream(request, sent.events(), close, failed)
    try:
        return JSONResponse(await while_connected(request, sent.whole()))
    finally:
        close()
