"""Streams are kept alive while nothing comes: comments that clients pass over."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from foundling.serving.answering import KEEP_ALIVE, kept_alive

LONG = {"prompt": "the mill " * 9, "max_tokens": 24, "ignore_eos": True, "seed": 1}


def test_comments_fill_the_time_until_something_comes() -> None:
    async def read() -> list[bytes]:
        may_come = asyncio.Event()

        async def events() -> AsyncIterator[bytes]:
            yield b"first"
            await may_come.wait()
            yield b"second"

        found = []
        async for one in kept_alive(events(), 1e-4):
            found.append(one)
            if found.count(KEEP_ALIVE) == 3:
                may_come.set()
        return found

    found = asyncio.run(read())
    assert [one for one in found if one != KEEP_ALIVE] == [b"first", b"second"]
    assert found[1:4] == [KEEP_ALIVE] * 3


def test_an_error_comes_through_and_who_leaves_ends_what_is_awaited() -> None:
    async def read() -> None:
        async def failing() -> AsyncIterator[bytes]:
            yield b"first"
            raise ValueError("no more")

        with pytest.raises(ValueError, match="no more"):
            async for _ in kept_alive(failing(), 60):
                pass
        ended = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            try:
                await asyncio.Event().wait()
                yield b""
            finally:
                ended.set()

        stream = kept_alive(endless(), 1e-4)
        assert await anext(stream) == KEEP_ALIVE
        await stream.aclose()  # type: ignore[attr-defined]
        assert ended.is_set()

    asyncio.run(read())


def test_a_stream_with_comments_says_the_same(
    open_client: Callable[..., TestClient], long_model: Path
) -> None:
    client = open_client([long_model], keep_alive=1e-6)
    whole = client.post("/v1/completions", json=LONG).json()["choices"][0]["text"]
    streamed = client.post("/v1/completions", json={**LONG, "stream": True}).text
    parts = streamed.split("\n\n")
    assert KEEP_ALIVE.decode().strip() in parts
    told = [part.removeprefix("data: ") for part in parts if part.startswith("data: ")]
    assert told.pop() == "[DONE]"
    assert "".join(json.loads(one)["choices"][0]["text"] for one in told) == whole
