"""Whatever is sent, the server answers: no 5xx, and nothing of its inside in what it says."""

import json
import math
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live import Live, running

import foundling

MESSAGES = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": [{"type": "text", "text": "the mill"}]},
]
TOOL = {
    "type": "function",
    "function": {
        "name": "turn",
        "description": "turns the mill",
        "parameters": {"type": "object", "properties": {"times": {"type": "integer"}}},
    },
}
SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
DRAWN: dict[str, Any] = {
    "model": "tagged", "n": 1, "seed": 3, "stop": ["x"], "temperature": 0.5, "top_p": 0.9,
    "top_k": 5, "min_p": 0.1, "presence_penalty": 1, "frequency_penalty": 1,
    "repetition_penalty": 1.1, "logit_bias": {"70": 1}, "stream": False,
    "stream_options": {"include_usage": True},
}  # fmt: skip
# The server's threads use `random` while Hypothesis, in the same process, watches its state.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")

VALID: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        **DRAWN, "messages": MESSAGES, "max_tokens": 2, "logprobs": True, "top_logprobs": 2,
        "tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": True,
        "response_format": {
            "type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}
        },
        "chat_template_kwargs": {},
    },
    "/v1/completions": {
        **DRAWN, "prompt": [[60, 61], [62]], "max_tokens": 2, "echo": True, "logprobs": 2
    },
    "/v1/responses": {
        "model": "tagged", "input": [{"role": "user", "content": "the mill"}], "instructions": "no",
        "max_output_tokens": 2, "temperature": 0.5, "top_p": 0.9, "stream": False,
        "tools": [{"type": "function", **TOOL["function"]}], "text": {"format": {"type": "text"}},
    },
    "/v1/messages": {
        "model": "tagged", "max_tokens": 2, "system": "be brief", "temperature": 0.5,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "the mill"}]}],
        "stop_sequences": ["x"], "stream": False, "tool_choice": {"type": "auto"},
        "tools": [{"name": "turn", "input_schema": TOOL["function"]["parameters"]}],
    },
    "/v1/messages/count_tokens": {"model": "tagged", "messages": [MESSAGES[1]]},
    "/v1/embeddings": {"model": "tagged", "input": ["the mill", "the bridge"]},
    "/tokenize": {"model": "tagged", "prompt": "the mill", "add_special_tokens": True},
    "/detokenize": {"model": "tagged", "tokens": [60, 61]},
}  # fmt: skip

deep: Any = 1
for _ in range(300):
    deep = [deep]
ODD = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**40, -(10**40), 0.5, 1e308, math.nan, math.inf,
    -math.inf, "", "x", "\ud800", "\x00", "\x07\x1b[31m", "\ufffe\U0001f986", "9" * 400, "a" * 3000,
    [], {}, [[]], [None], [""], ["\udfff"], [10**9], [-1], [2**70], {"": {}}, {"type": "text"},
    {"\ud800": "\ud800"}, {"type": "object", "$ref": "#"}, {"role": "user"}, deep, [1.5],
    ["a"] * 300,
    "<|end_of_text|>", "{{ 1/0 }}", "../../etc/passwd", "%s%n", [[1], "a"], {"name": "x"},
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in a value something can be replaced."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, one in items:
        found.append((*path, key))
        if isinstance(one, dict | list):
            found += places(one, (*path, key))
    return found


@st.composite
def bodies(draw: st.DrawFn, valid: dict[str, Any]) -> bytes:
    """A valid body with a few things replaced, taken away or added; at times cut short."""
    body = json.loads(json.dumps(valid))
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from(places(valid)))
        inside = body
        try:
            for key in above:
                inside = inside[key]
            if draw(st.integers(0, 4)) == 0:
                del inside[last]
            else:
                inside[last] = deepcopy(draw(st.sampled_from(ODD)))
        except (KeyError, IndexError, TypeError):  # an earlier change took it away
            continue
    if draw(st.integers(0, 9)) == 0:
        body[draw(st.sampled_from(["", "\ud800", "best_of", "user", "guided_json"]))] = draw(
            st.sampled_from(ODD)
        )
    text = json.dumps(body).encode()
    if draw(st.integers(0, 19)) == 0:
        text = text[: draw(st.integers(0, len(text)))] + draw(st.binary(max_size=3))
    return text


@pytest.fixture(scope="module")
def server(calling_models: dict[str, Path]) -> Iterator[Live]:
    with running([calling_models["tagged"]], timeout=30) as live:
        yield live


@pytest.fixture(scope="module")
def client(server: Live) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.base, timeout=60) as opened:
        yield opened


def check(answer: httpx2.Response) -> None:
    """An answer may refuse; it must not fail, nor tell of the server's inside."""
    text = answer.text
    assert answer.status_code < 500, text
    assert "Traceback" not in text
    assert str(Path(foundling.__file__).parent) not in text
    assert "site-packages" not in text
    if answer.headers["content-type"].startswith("text/event-stream"):
        assert '"type": "server_error"' not in text
    elif answer.status_code >= 400:
        error = answer.json()["error"]
        assert error["message"]
        assert error["type"]
    if answer.headers["content-type"] == "application/json":
        json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def fuzz(client: httpx2.Client, path: str, examples: int) -> None:
    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(bodies(VALID[path]))
    def each(body: bytes) -> None:
        check(client.post(path, content=body, headers={"Content-Type": "application/json"}))

    each()


@pytest.mark.parametrize("path", VALID)
def test_no_body_brings_it_down(client: httpx2.Client, path: str) -> None:
    fuzz(client, path, 25)
    assert client.get("/health").status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("path", VALID)
def test_no_body_of_many_brings_it_down(client: httpx2.Client, path: str) -> None:
    fuzz(client, path, 400)
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize("path", VALID)
def test_the_bodies_that_are_changed_are_valid(client: httpx2.Client, path: str) -> None:
    answer = client.post(path, json=VALID[path])
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"null", b"[" * 100_000, b"\xff\xfe\x00", b'{"a":' * 9000, b"3", b'"\\ud800"'],
    ids=lambda content: repr(content[:8]),
)
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data", "x"])
def test_what_is_no_json_is_refused(client: httpx2.Client, content: bytes, kind: str) -> None:
    answer = client.post("/v1/chat/completions", content=content, headers={"Content-Type": kind})
    check(answer)
    assert answer.status_code in (400, 415, 422)


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Long": "a" * 30_000}, {"X-Longer": "a" * 200_000}, {"Authorization": "Bearer \xff"},
        {"Authorization": "Basic"}, {"Host": "evil.example"}, {"Host": ""}, {"Host": "[::1"},
        {"Origin": "null"}, {"Accept": "image/png"},
        {"Content-Encoding": "gzip"}, {"Transfer-Encoding": "x"}, {"Expect": "100-continue"},
        {f"X-{n}": "a" for n in range(500)},
    ],
    ids=lambda headers: next(iter(headers)),
)  # fmt: skip
def test_no_headers_bring_it_down(server: Live, headers: dict[str, str]) -> None:
    given = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    with httpx2.Client(base_url=server.base, timeout=30) as client:
        try:
            answer = client.get("/v1/models", headers=given)
        except httpx2.TransportError:
            answer = None  # it closed the connection without a word
        if answer is not None:
            assert answer.status_code < 500
            assert "Traceback" not in answer.text
        assert client.get("/health").status_code == 200
