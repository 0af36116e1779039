"""A crowd with random cancels: afterwards all memory is free, and each answer is its solo run's."""

import json
import random
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from live import Live, running

CLIENTS = 64
WORDS = ("the miller", "met the baker", "by the bridge", "naïve café", "林", "🦆", "and", "—")
PATH = "/v1/chat/completions"


def random_body(chance: random.Random) -> dict[str, Any]:
    """A request of its own settings; some begin alike, so that they share what was read."""
    shared = "the miller met the baker by the bridge " * chance.choice((0, 2, 4))
    content = shared + " ".join(chance.choices(WORDS, k=chance.randint(1, 6)))
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": content}],
        "max_tokens": chance.choice((1, 4, 16, 48)),
        "seed": chance.randrange(1000),
        "temperature": chance.choice((0, 0.7, 1, 1.5)),
    }
    extras: list[dict[str, Any]] = [
        {}, {"top_k": 20}, {"top_p": 0.9}, {"min_p": 0.05}, {"stop": ["e", "th"]}, {"n": 2},
        {"repetition_penalty": 1.3}, {"presence_penalty": 1}, {"logit_bias": {"70": 3}},
        {"ignore_eos": True}, {"response_format": {"type": "json_object"}},
    ]  # fmt: skip
    return {**body, **chance.choice(extras)}


@dataclass
class Seen:
    """What one client saw."""

    answers: list[tuple[dict[str, Any], list[str]]] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)
    cancelled: int = 0


def visit(base: str, number: int, until: float) -> Seen:
    """Ask one thing after another; a third of the answers is not waited for."""
    chance, seen = random.Random(number), Seen()
    with httpx2.Client(base_url=base, timeout=300) as client:
        while time.monotonic() < until:
            body = random_body(chance)
            if chance.random() < 0.5:
                patience = chance.randint(0, 6) if chance.random() < 0.3 else None
                _streamed(client, body, patience, seen)
            elif chance.random() < 0.3:
                with suppress(httpx2.TimeoutException):
                    client.post(PATH, json=body, timeout=chance.random() / 10)
                seen.cancelled += 1
            else:
                answer = client.post(PATH, json=body)
                assert answer.status_code == 200, answer.text
                texts = [one["message"]["content"] for one in answer.json()["choices"]]
                seen.answers.append((body, texts))
    return seen


def _streamed(
    client: httpx2.Client, body: dict[str, Any], patience: int | None, seen: Seen
) -> None:
    """Read a stream, or leave after `patience` pieces."""
    texts, last = [""] * body.get("n", 1), time.monotonic()
    with client.stream("POST", PATH, json={**body, "stream": True}) as answer:
        assert answer.status_code == 200
        for count, line in enumerate(line for line in answer.iter_lines() if line):
            if count == patience:
                seen.cancelled += 1
                return
            if line == "data: [DONE]":
                seen.answers.append((body, texts))
                return
            chunk = json.loads(line.removeprefix("data: "))
            for choice in chunk["choices"]:
                piece = choice["delta"].get("content", "")
                if piece:
                    now = time.monotonic()
                    (seen.between if any(texts) else seen.first).append(now - last)
                    last = now
                texts[choice["index"]] += piece
    raise AssertionError("the stream ended without [DONE]")


def memory() -> int:
    """Bytes that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def shown(name: str, seconds: list[float]) -> str:
    parts = statistics.quantiles(seconds, n=20)
    return f"{name} p50 {parts[9] * 1000:.1f} ms, p95 {parts[18] * 1000:.1f} ms"


@pytest.fixture
def server(long_model: Path) -> Iterator[Live]:
    """One whose cache is small, so that blocks are used again and again."""
    with running([long_model], engine={"max_batch": 16, "cache_bytes": 2**22}) as live:
        yield live


def crowd(server: Live, seconds: float) -> list[Seen]:
    until = time.monotonic() + seconds
    with ThreadPoolExecutor(CLIENTS) as threads:
        visits = [threads.submit(visit, server.base, n, until) for n in range(CLIENTS)]
        found = [one.result() for one in visits]
    server.settle()
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_a_crowd_leaves_nothing_and_changes_nothing(
    server: Live, long_model: Path, pytestconfig: pytest.Config
) -> None:
    crowd(server, 3)  # buffers, caches and threads come to be
    before, held = server.settle(), memory()
    seen = crowd(server, pytestconfig.getoption("--soak"))
    after, grown = server.settle(), memory() - held

    answers = [one for each in seen for one in each.answers]
    cancelled = sum(each.cancelled for each in seen)
    first = [one for each in seen for one in each.first]
    between = [one for each in seen for one in each.between]
    report = (
        f"{len(answers)} answers, {cancelled} cancelled; {shown('first token', first)}; "
        f"{shown('between tokens', between)}; memory {grown / 2**20:+.1f} MiB; {after}"
    )
    print(report)
    assert answers
    assert cancelled

    assert after["running"] == after["waiting"] == 0
    assert after["blocks_held"] == before["blocks_held"] == 0
    assert after["blocks_free"] == before["blocks_free"]
    assert grown < 64 * 2**20

    with running([long_model], engine={"prefix_cache": False}) as cold:
        for body, texts in answers:
            answer = httpx2.post(cold.base + PATH, json=body, timeout=300)
            assert [one["message"]["content"] for one in answer.json()["choices"]] == texts, body
