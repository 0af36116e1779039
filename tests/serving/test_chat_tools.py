"""Chat completions with tools and with a response format, whole and streamed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from events import events
from fastapi.testclient import TestClient
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from foundling.text.call_format import ThoughtFormat, thought_format
from foundling.text.tokenizer import Tokenizer

CITY = {"type": "string", "maxLength": 6}
SCHEMA = {
    "type": "object",
    "properties": {"city": CITY, "day": {"enum": ["today", "tomorrow"]}},
    "required": ["city", "day"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "stop", "description": "Stop."}},
]
USER = [{"role": "user", "content": "the cat sat"}]
ASKED = {"messages": USER, "seed": 7, "temperature": 1.5, "tools": TOOLS, "logprobs": True}
JSON = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}}


@pytest.fixture
def caller(
    open_client: Callable[..., TestClient], calling_models: dict[str, Path]
) -> Callable[..., dict[str, Any]]:
    """Asks a model, whole and streamed; the choice, of which both say the same."""
    client = open_client(list(calling_models.values()))

    def ask(model: str, **changes: Any) -> dict[str, Any]:
        body = {**ASKED, "model": model, **changes}
        whole = client.post("/v1/chat/completions", json=body)
        assert whole.status_code == 200, whole.text
        made = ChatCompletion.model_validate(whole.json(), strict=True)
        answer = client.post("/v1/chat/completions", json={**body, "stream": True})
        streamed = streamed_choice(events(answer.text))
        [choice] = whole.json()["choices"]
        assert made.usage is not None
        message = choice["message"]
        assert streamed["content"] == (message["content"] or "")
        assert streamed["reasoning"] == message.get("reasoning_content", "")
        assert streamed["finish_reason"] == choice["finish_reason"]
        functions = [call["function"] for call in message.get("tool_calls", [])]
        assert streamed["calls"] == functions
        assert streamed["logprobs"] == choice["logprobs"]["content"]
        return choice

    return ask


def streamed_choice(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """What the chunks of one choice add up to; each is as the client library expects."""
    made: dict[str, Any] = {"content": "", "reasoning": "", "calls": [], "logprobs": []}
    ids = []
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
        [choice] = chunk["choices"]
        delta = choice["delta"]
        made["content"] += delta.get("content") or ""
        made["reasoning"] += delta.get("reasoning_content") or ""
        made["logprobs"] += (choice["logprobs"] or {}).get("content") or []
        for piece in delta.get("tool_calls", []):
            if piece["index"] == len(made["calls"]):  # the first of its call
                assert piece["id"].startswith("call_")
                assert piece["type"] == "function"
                ids.append(piece["id"])
                made["calls"].append({"name": piece["function"]["name"], "arguments": ""})
            else:
                assert "id" not in piece
                assert piece["index"] == len(made["calls"]) - 1
            made["calls"][-1]["arguments"] += piece["function"]["arguments"]
        made["finish_reason"] = choice["finish_reason"]
    assert len(set(ids)) == len(ids)
    return made


@pytest.mark.parametrize("model", ["tagged", "listed", "bare"])
def test_a_forced_call(model: str, caller: Callable[..., dict[str, Any]]) -> None:
    named = {"type": "function", "function": {"name": "weather"}}
    finishes = set()
    for seed in range(3):
        choice = caller(
            model, tool_choice=named, parallel_tool_calls=False, seed=seed, max_tokens=150
        )
        finishes.add(choice["finish_reason"])
        if choice["finish_reason"] == "length":
            continue
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["content"] is None
        [call] = choice["message"]["tool_calls"]
        assert call["function"]["name"] == "weather"
        jsonschema.validate(json.loads(call["function"]["arguments"]), SCHEMA)
    assert "tool_calls" in finishes


def test_a_call_that_is_cut_off_ends_in_length(caller: Callable[..., dict[str, Any]]) -> None:
    for max_tokens in (1, 12, 30, 40):
        choice = caller("tagged", tool_choice="required", max_tokens=max_tokens)
        assert choice["finish_reason"] == "length"
    [call] = choice["message"]["tool_calls"]
    assert call["function"]["name"] in ("weather", "stop")


def test_tools_that_are_not_called_leave_the_text(caller: Callable[..., dict[str, Any]]) -> None:
    for choice in ("auto", "none"):
        answer = caller("tagged", tool_choice=choice, max_tokens=20)
        assert "tool_calls" not in answer["message"]
        assert answer["message"]["content"]


@pytest.mark.parametrize("model", ["tagged", "thinking"])
def test_an_answer_follows_its_schema(model: str, caller: Callable[..., dict[str, Any]]) -> None:
    ended = 0
    for seed in range(3):
        answer = caller(model, tools=None, response_format=JSON, seed=seed, max_tokens=150)
        if answer["finish_reason"] == "stop":
            ended += 1
            jsonschema.validate(json.loads(answer["message"]["content"]), SCHEMA)
    assert ended
    answer = caller(model, tools=None, response_format={"type": "json_object"}, max_tokens=60)
    content = answer["message"]["content"]
    assert content.startswith("{") or (model == "thinking" and not content)
    if answer["finish_reason"] == "stop":
        assert isinstance(json.loads(answer["message"]["content"]), dict)


def test_a_conversation_with_calls_goes_on(caller: Callable[..., dict[str, Any]]) -> None:
    for model in ("tagged", "listed", "thinking"):
        choice = caller(model, tool_choice="required", parallel_tool_calls=False, tools=TOOLS[1:])
        assert choice["finish_reason"] == "tool_calls"
        [call] = choice["message"]["tool_calls"]
        result = {"role": "tool", "tool_call_id": call["id"], "content": "done"}
        caller(model, messages=[*USER, choice["message"], result], max_tokens=5)


@pytest.mark.parametrize(
    ("changes", "param", "said"),
    [
        ({"response_format": {"type": "xml"}}, "response_format", "json_object"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "schema"),
        (
            {"response_format": {**JSON, "json_schema": {"name": "a", "schema": {"type": "x"}}}},
            "response_format",
            "Invalid type: x",
        ),
        ({"tool_choice": {"type": "function", "function": {"name": "fly"}}}, "tool_choice", "fly"),
        ({"tools": [{"type": "function", "function": {"name": 'a"b'}}]}, "tools", "letters"),
        ({"tools": [TOOLS[0], TOOLS[0]]}, "tools", '2 functions are called "weather"'),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
            "tools",
            "no schema of an object",
        ),
        (
            {
                "tools": [
                    {"type": "function", "function": {"name": "f", "parameters": {"not": 1}}}
                ],
                "tool_choice": "required",
            },
            "tools",
            'parameters of "f"',
        ),
    ],
)
def test_what_cannot_be_followed_is_refused(
    changes: dict[str, Any],
    param: str,
    said: str,
    open_client: Callable[..., TestClient],
    calling_models: dict[str, Path],
) -> None:
    client = open_client([calling_models["tagged"]])
    answer = client.post("/v1/chat/completions", json={**ASKED, **changes})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == param
    assert said in error["message"]


def test_a_model_whose_template_takes_no_tools_says_so(client: TestClient) -> None:
    answer = client.post("/v1/chat/completions", json=ASKED)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "tools"
    assert "takes no tools" in answer.json()["error"]["message"]


def test_a_call_that_a_stop_cuts_off_is_none(caller: Callable[..., dict[str, Any]]) -> None:
    choice = caller("tagged", tool_choice="required", tools=TOOLS[:1], stop=["city"])
    assert choice["finish_reason"] == "stop"
    [call] = choice["message"]["tool_calls"]
    assert "city" not in call["function"]["arguments"]


def test_formats_are_learned_once_a_request(
    caller: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    learned = []

    def counted(tokenizer: Tokenizer) -> ThoughtFormat | None:
        learned.append(tokenizer)
        return thought_format(tokenizer)

    monkeypatch.setattr("foundling.serving.tool_calls.thought_format", counted)
    caller("thinking", max_tokens=2)
    assert len(learned) == 2  # whole, and streamed
