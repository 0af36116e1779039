"""Who may ask, what is refused and how it is said, and what is noted of it."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import BaseModel, ValidationError

from foundling.base.config import ConfigError
from foundling.cli.serving import _JsonLines
from foundling.serving.chat import ChatBody
from foundling.serving.errors import ApiError, api_error, error_body
from foundling.serving.messages import MessagesBody
from foundling.serving.process import check_access
from foundling.serving.responses import ResponseBody
from foundling.serving.settings import ServingSettings
from foundling.serving.tokens import DetokenizeBody

CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "the secret mill"}],
    "max_tokens": 3,
    "seed": 1,
    "ignore_eos": True,
}


def test_without_the_key_nothing_is_served(
    open_client: Callable[..., TestClient], tiny_model: Path
) -> None:
    client = open_client([tiny_model], keys=["key-one", "key-two"])
    paths = [("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("POST", "/tokenize")]
    paths += [("GET", "/metrics"), ("GET", "/openapi.json"), ("GET", "/page/server")]
    for method, path in paths:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "key-one"}):
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
            assert answer.headers["www-authenticate"] == "Bearer"
    for headers in ({"Authorization": "Bearer key-two"}, {"X-Api-Key": "key-one"}):
        assert client.get("/v1/models", headers=headers).status_code == 200
    assert client.get("/health").status_code == 200
    assert client.get("/").status_code == 200


def test_an_empty_key_does_no_harm_where_none_is_asked(client: TestClient) -> None:
    for key in ("", " ", "x"):
        answer = client.get("/v1/models", headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("settings", "is_refused"),
    [
        ({}, False), ({"host": "::1"}, False), ({"host": "0.0.0.0"}, True),
        ({"host": "192.168.0.7"}, True),
        ({"host": "0.0.0.0", "allow_unauthenticated": True}, False),
    ],
)  # fmt: skip
def test_other_machines_need_a_key(settings: dict[str, Any], is_refused: bool) -> None:
    parsed = ServingSettings.parse(settings)
    if is_refused:
        with pytest.raises(ConfigError, match="without a key"):
            check_access(parsed, frozenset())
    else:
        check_access(parsed, frozenset())
    check_access(parsed, frozenset(["key"]))


def test_other_hosts_and_sites_are_refused(
    open_client: Callable[..., TestClient], tiny_model: Path
) -> None:
    client = open_client([tiny_model])
    answer = client.get("/v1/models", headers={"Host": "evil.example"})
    assert (answer.status_code, "error" in answer.json()) == (421, True)
    answer = client.post(
        "/v1/chat/completions", json=CHAT, headers={"Origin": "http://evil.example"}
    )
    assert (answer.status_code, "error" in answer.json()) == (403, True)
    assert "access-control-allow-origin" not in answer.headers


def test_sites_that_are_named_may_ask(
    open_client: Callable[..., TestClient], tiny_model: Path
) -> None:
    site = "https://app.example"
    client = open_client([tiny_model], cors=[site], keys=["key"])
    asked = {"Origin": site, "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "authorization,content-type"
    answer = client.options("/v1/chat/completions", headers=asked)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == site
    given = {"Origin": site, "Authorization": "Bearer key"}
    answer = client.post("/v1/chat/completions", json=CHAT, headers=given)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, site)
    other = {**given, "Origin": "https://evil.example"}
    assert client.post("/v1/chat/completions", json=CHAT, headers=other).status_code == 403


def test_long_bodies_are_refused(open_client: Callable[..., TestClient], tiny_model: Path) -> None:
    client = open_client([tiny_model], max_body=1000)
    long = {"prompt": "a" * 2000}
    answer = client.post("/v1/completions", json=long)
    assert (answer.status_code, "1,000 bytes" in answer.json()["error"]["message"]) == (413, True)
    parts = iter([b'{"prompt": "', b"a" * 2000, b'"}'])
    headers = {"Content-Type": "application/json"}
    answer = client.post("/v1/completions", content=parts, headers=headers)
    assert (answer.status_code, "error" in answer.json()) == (413, True)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b"3", b'"x"', b"\xff\xfe", b'{"messages": ' + b"[" * 99999,
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "a"}], "temperature": NaN}',
        b'{"messages": [{"role": "user", "content": "a"}], "temperature": 1e999}',
        b'{"messages": [{"role": "user", "content": "a"}], "seed": ' + b"9" * 5000 + b"}",
        b'{"messages": [{"role": "user", "content": "a"}], "tools": [{"\\ud800": 1}]}',
        b'{"messages": [{"role": "user", "content": "a"}], "tools": 3}',
        b'{"messages": [{"role": "tool", "content": "a"}], "model": {}}',
        b'{"messages": [{"role": "assistant", "content": null, "tool_calls": [{}]}]}',
        b'{"messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": {"x": "y"}}',
        b'{"messages": [{"role": "user", "content": "a", "tool_calls": '
        b'[{"function": {"name": "f"}}]}]}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/tokenize"])
def test_malformed_bodies_are_the_client_s_fault(
    client: TestClient, path: str, body: bytes
) -> None:
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"]
    assert client.post(path, content=body).status_code == 400


def test_what_is_not_there_is_said_in_the_same_shape(client: TestClient) -> None:
    for method, path, status in (
        ("GET", "/v1/nothing", 404), ("GET", "/v1/completions", 405),
        ("GET", "/v1/models/none", 404),
    ):  # fmt: skip
        answer = client.request(method, path)
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_defect_is_not_shown(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("/home/me/secret.py")

    monkeypatch.setattr("foundling.serving.tokens.begun", broken)
    answer = client.post("/tokenize", json={"prompt": "a"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["error"]["type"] == "server_error"


def test_errors_of_messages_have_anthropic_s_shape() -> None:
    for status, kind in (
        (400, "invalid_request_error"), (401, "authentication_error"), (404, "not_found_error"),
        (413, "request_too_large"), (429, "rate_limit_error"), (500, "api_error"),
        (503, "overloaded_error"),
    ):  # fmt: skip
        body = error_body(ApiError(status, "why"), "/v1/messages")
        assert body == {"type": "error", "error": {"type": kind, "message": "why"}}
    assert api_error(ConfigError("top_k = 0: no.")).param == "top_k"


def test_the_log_has_figures_and_no_texts(client: TestClient, said: list[str]) -> None:
    client.post("/v1/chat/completions", json=CHAT)
    [line] = [line for line in said if "POST /v1/chat/completions 200" in line]
    assert "3 written" in line
    assert not any("secret" in line for line in said)


def test_a_line_of_the_json_log_is_one_object(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "foundling"):
        client.post("/v1/chat/completions", json=CHAT)
    made = [json.loads(_JsonLines().format(record)) for record in caplog.records]
    [facts] = [one for one in made if one.get("path") == "/v1/chat/completions"]
    assert (facts["status"], facts["model"], facts["completion_tokens"]) == (200, "tiny", 3)
    assert "secret" not in json.dumps(made)


def test_requests_and_tokens_are_counted(client: TestClient) -> None:
    for _ in range(2):
        client.post("/v1/chat/completions", json={**CHAT, "ignore_eos": True})
    client.get("/v1/none")
    lines = client.get("/metrics").text.splitlines()
    figures = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    path = 'model="tiny",path="/v1/chat/completions",status="200"'
    assert figures[f"foundling_requests_total{{{path}}}"] == "2.0"
    assert figures['foundling_completion_tokens_total{model="tiny"}'] == "6.0"
    assert figures['foundling_time_to_first_token_seconds_count{model="tiny"}'] == "2.0"
    assert figures['foundling_engine{figure="running",model="tiny"}'] == "0.0"


def test_models_are_listed(client: TestClient) -> None:
    [model] = client.get("/v1/models").json()["data"]
    assert (model["id"], model["object"], model["max_model_len"]) == ("tiny", "model", 64)
    assert model["default_sampling"] == {"temperature": 1.0}
    assert client.get("/v1/models/tiny").json()["id"] == "tiny"


FAULTY = {
    "/v1/chat/completions": [
        {"messages": [0] * 5000},
        {"messages": [{"role": "user", "content": [0] * 5000}]},
        {"messages": [{"role": "assistant", "tool_calls": [0] * 5000}]},
        {**CHAT, "tools": [0] * 5000},
        {**CHAT, "tools": [{}] * 257},
        {**CHAT, "stop": [3] * 5000},
        {**CHAT, "stop": "a" * 1001},
        {**CHAT, "logit_bias": {f"x{n}": 0 for n in range(5000)}},
        {**CHAT, "chat_template_kwargs": {"x": "a" * 401}},
        {**CHAT, "chat_template_kwargs": {"x": ["a" * 300, "a" * 300]}},
    ],
    "/v1/messages": [
        {"max_tokens": 3, "messages": [0] * 5000},
        {"max_tokens": 3, "messages": [{"role": "user", "content": [0] * 5000}]},
        {**CHAT, "tools": [0] * 5000},
        {**CHAT, "tools": [{"name": "a"}] * 257},
    ],
    "/v1/responses": [
        {"input": [0] * 5000},
        {"input": [{"role": "user", "content": [0] * 5000}]},
        {"input": "a", "tools": [{"type": "function"}] * 257},
        {"input": "a", "metadata": dict.fromkeys(map(str, range(17)), "a")},
    ],
    "/detokenize": [{"tokens": ["a"] * 5000}],
}


@pytest.mark.parametrize("path", FAULTY)
def test_of_many_faults_one_is_told(client: TestClient, path: str) -> None:
    kinds: dict[str, type[BaseModel]]
    kinds = {"/v1/chat/completions": ChatBody, "/v1/messages": MessagesBody}
    kinds |= {"/v1/responses": ResponseBody, "/detokenize": DetokenizeBody}
    for body in FAULTY[path]:
        answer = client.post(path, json=body)
        assert answer.status_code == 400, answer.text
        assert len(answer.text) < 1000
        with pytest.raises(ValidationError) as faults:
            kinds[path].model_validate(body)
        assert faults.value.error_count() <= 3  # at each depth: no text, or no list


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", '"\\ud800"'])
def test_what_cannot_be_written_again_is_refused_wherever_it_is(
    client: TestClient, number: str
) -> None:
    schema = f'{{"type": "object", "properties": {{"a": {{"const": [{number}]}}}}}}'
    function = f'"type": "function", "name": "f", "parameters": {schema}'
    said = '"messages": [{"role": "user", "content": "a"}]'
    for path, body in (
        ("/v1/responses", f'{{"input": "a", "tools": [{{{function}}}]}}'),
        ("/v1/responses", f'{{"input": "a", "x": {number}}}'),
        ("/v1/messages", f'{{"max_tokens": 3, {said}, "x": {{"y": [{number}]}}}}'),
        ("/v1/chat/completions", f'{{{said}, "tools": [{{"function": {{{function}}}}}]}}'),
        ("/page/markdown", f'{{"text": "a", "x": {number}}}'),
        ("/page/markdown", '{"text": "\\ud800"}'),
        ("/page/votes", f'{{"sampling": {{"a": {number}}}}}'),
    ):
        headers = {"Content-Type": "application/json"}
        answer = client.post(path, content=body, headers=headers)
        assert answer.status_code == 400, (path, answer.text)
        assert "not finite" in answer.text or "surrogate" in answer.text


def test_a_body_is_looked_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    is_finite = math.isfinite
    monkeypatch.setattr(math, "isfinite", lambda x: (looked.append(x), is_finite(x))[1])
    part = {"type": "text", "text": "a", "x": 0.5}
    ChatBody.model_validate({"messages": [{"role": "user", "content": [part]}]})
    assert looked == [0.5]


def test_what_the_door_refuses_has_the_shape_of_its_path(client: TestClient) -> None:
    answer = client.post("/v1/messages", json=CHAT, headers={"Host": "evil.example"})
    assert (answer.status_code, answer.json()["type"]) == (421, "error")


def test_a_path_makes_no_line_of_the_log(client: TestClient, said: list[str]) -> None:
    client.get("/v1/a%0AGET /secret 200")
    [line] = [line for line in said if "/v1/a" in line]
    assert "GET /v1/a%0AGET%20/secret%20200 404" in line
