"""The texts of one HTTP request while the engine writes them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from foundling.generation.request import Chunk, Finish, Request, Stream
from foundling.serving.errors import ApiError
from foundling.serving.metrics import Record
from foundling.serving.registry import Served
from foundling.serving.service import Service

UNREAD = 4096
"""The most chunks of one stream that wait for a client which reads too slowly."""

FINISH_REASONS: dict[Finish, str] = {"end": "stop", "stop": "stop", "length": "length"}


@dataclass(frozen=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int

    def as_json(self) -> dict[str, Any]:
        """As completions and chat completions say it."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


class Generation:
    """Chunks of several requests to one model, each with the place of its request.

    It holds the model from `started` to `close`, which ends whatever is not finished.
    """

    def __init__(self, service: Service, served: Served, record: Record) -> None:
        self.served, self._service, self._record = served, service, record
        self._begun, self._deadline = record.begun, service.deadline(record)
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Queue[tuple[int, Chunk]] = asyncio.Queue()
        self._is_open, self._too_slow = True, False
        self.streams: list[Stream] = []
        self._made: list[int] = []
        self._unread: list[int] = []
        self._last: list[float] = []

    @classmethod
    async def started(
        cls, service: Service, served: Served, requests: Sequence[Request], record: Record
    ) -> "Generation":
        """Hand the requests to the engine of a model that has been taken of the registry.

        Raises:
            ApiError: there are more than the engine ever takes.
            ConfigError: one cannot be served.
            QueueFull: too many wait.
        """
        made = cls(service, served, record)
        record.model, record.generates = served.name, True
        try:
            await asyncio.to_thread(made._submit, requests)
        except BaseException:
            made.close()
            raise
        return made

    async def __aiter__(self) -> AsyncIterator[tuple[int, Chunk]]:
        """All chunks as they come; the last one of each request has a `finish`.

        Raises:
            ApiError: the time is up, the client reads too slowly, or the engine failed.
        """
        unfinished = len(self.streams)
        while unfinished:
            try:
                async with asyncio.timeout(self._deadline - time.monotonic()):
                    index, chunk = await self._news.get()
            except TimeoutError:
                raise self._service.too_late() from None
            self._unread[index] -= 1
            if self._too_slow:
                raise ApiError(408, "The client reads too slowly.")
            if chunk.finish in ("error", "cancelled"):
                raise _failure(self.streams[index])
            unfinished -= chunk.finish is not None
            self._measure(index, chunk)
            yield index, chunk

    async def collected(self) -> list[list[Chunk]]:
        """All chunks of each request."""
        found: list[list[Chunk]] = [[] for _ in self.streams]
        async for index, chunk in self:
            found[index].append(chunk)
        return found

    @property
    def usage(self) -> Usage:
        """The tokens so far; a prompt of several samples counts once."""
        firsts = [stream for stream in self.streams if stream.request.sample == 0]
        return Usage(
            sum(stream.prompt_tokens for stream in firsts),
            sum(self._made),
            sum(stream.cached_tokens for stream in firsts),
        )

    def close(self) -> None:
        """End what is not finished and give the model back."""
        if not self._is_open:
            return
        self._is_open = False
        for stream in self.streams:
            stream.cancel()
        usage = self.usage
        self._record.prompt_tokens = usage.prompt_tokens
        self._record.completion_tokens = usage.completion_tokens
        self._record.cached_tokens = usage.cached_tokens
        self._service.registry.give_back(self.served)

    # ------------------------------------------------------------------ inside

    def _submit(self, requests: Sequence[Request]) -> None:
        if len(requests) > (most := self.served.engine.capacity):
            raise ApiError(
                400,
                f"{len(requests)} texts are asked for (prompts times n): this server takes at most "
                f"{most} at a time; ask for fewer in one request.",
            )
        for index, request in enumerate(requests):
            self._made.append(0)
            self._unread.append(0)
            self._last.append(self._begun)
            stream = self.served.engine.submit(request, self._receiver(index))
            self.streams.append(stream)
            if not self._is_open:  # the client went away meanwhile
                stream.cancel()

    def _receiver(self, index: int) -> Callable[[Chunk], None]:
        def receive(chunk: Chunk) -> None:  # on the engine's thread
            self._loop.call_soon_threadsafe(self._put, index, chunk)

        return receive

    def _put(self, index: int, chunk: Chunk) -> None:
        if not self._is_open:
            return
        self._made[index] = chunk.num_tokens
        self._unread[index] += 1
        self._news.put_nowait((index, chunk))
        is_unread = self._record.stream and self._unread[index] > UNREAD
        if is_unread and not self._too_slow:
            self._too_slow = True
            for stream in self.streams:
                stream.cancel()

    def _measure(self, index: int, chunk: Chunk) -> None:
        now, metrics, name = time.monotonic(), self._service.metrics, self.served.name
        if self._record.first_token_seconds is None:
            self._record.first_token_seconds = now - self._begun
            metrics.first_token_seconds.labels(name).observe(now - self._begun)
        elif chunk.tokens and self._last[index] > self._begun:
            each = (now - self._last[index]) / len(chunk.tokens)
            metrics.between_tokens_seconds.labels(name).observe(each)
        self._last[index] = now
        if chunk.finish is not None:
            self._record.finish = chunk.finish


def _failure(stream: Stream) -> Exception:
    if stream.error is not None:
        return stream.error
    return ApiError(503, "The server is shutting down.", headers={"Retry-After": "5"})
