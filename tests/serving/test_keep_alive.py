"""Streams are kept alive while nothing comes: comments that clients pass over."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest
from live import running

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


def test_a_request_that_waits_is_sent_comments_and_then_its_answer(long_model: Path) -> None:
    with running([long_model], keep_alive=1e-3) as live:
        url = f"{live.base}/v1/completions"
        whole = httpx2.post(url, json=LONG, timeout=60).json()["choices"][0]["text"]
        live.settle()
        with ExitStack() as held, httpx2.Client(timeout=60) as client:
            held.enter_context(live.engine._stepping)  # nothing is read or written meanwhile
            with client.stream("POST", url, json={**LONG, "stream": True}) as answer:
                lines, told = answer.iter_lines(), list[str]()
                while told.count(KEEP_ALIVE.decode().strip()) < 3:
                    told.append(next(lines))
                assert not any(line.startswith("data: ") for line in told)
                held.close()
                told += lines
        found = [line.removeprefix("data: ") for line in told if line.startswith("data: ")]
        assert found.pop() == "[DONE]"
        assert "".join(json.loads(one)["choices"][0]["text"] for one in found) == whole
