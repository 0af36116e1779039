"""Messages: blocks and events as Anthropic's client reads them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from events import named_events
from fastapi.testclient import TestClient
from pydantic import TypeAdapter
from test_chat_tools import SCHEMA

EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
TOOL = {"name": "weather", "description": "The weather.", "input_schema": SCHEMA}
ASKED = {"max_tokens": 12, "messages": [{"role": "user", "content": "the cat"}]}


def ask(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/messages", json={**ASKED, **body})
    assert answer.status_code == 200, answer.text
    Message.model_validate(answer.json(), strict=True)
    return answer.json()


def stream(client: TestClient, **body: Any) -> dict[str, Any]:
    """The message that the events add up to."""
    answer = client.post("/v1/messages", json={**ASKED, **body, "stream": True})
    assert answer.status_code == 200, answer.text
    found = named_events(answer.text)
    for one in found:
        EVENT.validate_python(one)
    kinds = [one["type"] for one in found]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    message = found[0]["message"]
    Message.model_validate(message)
    open_block: dict[str, Any] | None = None
    for one in found[1:-2]:
        if one["type"] == "content_block_start":
            assert open_block is None
            assert one["index"] == len(message["content"])
            open_block, raw = dict(one["content_block"]), ""
            message["content"].append(open_block)
            continue
        assert open_block is not None
        assert one["index"] == len(message["content"]) - 1
        if one["type"] == "content_block_stop":
            if open_block["type"] == "tool_use":
                try:
                    open_block["input"] = json.loads(raw)
                except ValueError:
                    message["content"].pop()
            open_block = None
        elif one["delta"]["type"] == "text_delta":
            open_block["text"] += one["delta"]["text"]
        elif one["delta"]["type"] == "thinking_delta":
            open_block["thinking"] += one["delta"]["thinking"]
        else:
            raw += one["delta"]["partial_json"]
    assert open_block is None
    return {**message, **found[-2]["delta"], "usage": found[-2]["usage"]}


def plain(message: dict[str, Any]) -> dict[str, Any]:
    content = [{k: v for k, v in block.items() if k != "id"} for block in message["content"]]
    usage = message["usage"]
    read = usage["input_tokens"] + usage["cache_read_input_tokens"]
    said = {key: message[key] for key in ("role", "stop_reason", "stop_sequence", "model")}
    return {**said, "content": content, "read": read, "made": usage["output_tokens"]}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"system": "be kind", "top_k": 5},
        {"system": [{"type": "text", "text": "be kind", "cache_control": {"type": "ephemeral"}}]},
        {"stop_sequences": ["e", "th", "a", "\n", " "], "max_tokens": 40},
    ],
)
def test_a_stream_says_the_same_as_the_whole(client: TestClient, changes: dict[str, Any]) -> None:
    changes = {"temperature": 0, **changes}
    whole = ask(client, **changes)
    assert plain(stream(client, **changes)) == plain(whole)
    assert whole["id"].startswith("msg_")
    if "stop_sequences" in changes:
        assert whole["stop_reason"] == "stop_sequence"
        assert whole["stop_sequence"] in changes["stop_sequences"]
    elif whole["stop_reason"] == "max_tokens":
        assert whole["usage"]["output_tokens"] == 12
    else:
        assert whole["stop_reason"] == "end_turn"


def test_it_is_the_same_conversation_as_for_chat_completions(client: TestClient) -> None:
    said = [
        {"role": "user", "content": [{"type": "text", "text": "the "}]},
        {"role": "assistant", "content": [{"type": "text", "text": "cat"}]},
        {"role": "user", "content": "sat"},
    ]
    made = ask(client, system="be kind", messages=said, temperature=0)
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "the "}]
    messages += [{"role": "assistant", "content": "cat"}, {"role": "user", "content": "sat"}]
    body = {"messages": messages, "temperature": 0, "max_tokens": 12}
    chat = client.post("/v1/chat/completions", json=body).json()
    assert (
        "".join(block["text"] for block in made["content"])
        == (chat["choices"][0]["message"]["content"])
    )
    count = client.post("/v1/messages/count_tokens", json={"system": "be kind", "messages": said})
    assert count.json() == {"input_tokens": chat["usage"]["prompt_tokens"]}


def test_a_tool_is_used_and_answered(
    open_client: Callable[..., TestClient], calling_models: dict[str, Path]
) -> None:
    client = open_client([calling_models["listed"], calling_models["tagged"]])
    done = 0
    for number in range(4):
        model = ["listed", "tagged"][number % 2]
        choice = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
        asked = {"model": model, "tools": [TOOL], "max_tokens": 300}
        made = stream(client, **asked, tool_choice=choice)
        if made["stop_reason"] == "max_tokens":
            continue
        done += 1
        assert made["stop_reason"] == "tool_use"
        [call] = made["content"]
        assert call["id"].startswith("toolu_")
        jsonschema.validate(call["input"], SCHEMA)
        result = {"type": "tool_result", "tool_use_id": call["id"], "content": "sunny"}
        again = [
            *ASKED["messages"],
            {"role": "assistant", "content": made["content"]},
            {"role": "user", "content": [result, {"type": "text", "text": "so?"}]},
        ]
        ask(client, model=model, tools=[TOOL], messages=again, max_tokens=3)
        for max_tokens in (1, 20, 30):
            cut = ask(client, **{**asked, "max_tokens": max_tokens}, tool_choice=choice)
            assert cut["stop_reason"] == "max_tokens"
            assert [block for block in cut["content"] if block["type"] == "tool_use"] == []
    assert done


@pytest.mark.parametrize(
    "changes",
    [
        {"max_tokens": None},
        {"max_tokens": 9999},
        {"messages": []},
        {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
        {"messages": [*ASKED["messages"], {"role": "assistant", "content": "and"}]},
        {"tools": [TOOL]},  # the template takes none
        {"tools": [{"type": "bash_20250124", "name": "bash"}]},
        {"tool_choice": {"type": "any"}},
        {"mcp_servers": [{"url": "x"}]},
        {"output_config": {"format": {"type": "json_schema", "schema": {"type": "x"}}}},
    ],
)
def test_what_is_not_supported_is_refused(client: TestClient, changes: dict[str, Any]) -> None:
    answer = client.post("/v1/messages", json={**ASKED, **changes})
    assert answer.status_code == 400, answer.text
    body = answer.json()
    assert body["type"] == "error"
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["message"]


def test_the_key_stands_in_a_header_of_its_own(
    open_client: Callable[..., TestClient], tiny_model: Path
) -> None:
    client = open_client([tiny_model], keys=["k"])
    refused = client.post("/v1/messages", json=ASKED, headers={"x-api-key": "other"})
    assert refused.status_code == 401
    assert refused.json()["error"]["type"] == "authentication_error"
    given = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
    assert client.post("/v1/messages", json=ASKED, headers=given).status_code == 200
    missing = client.post("/v1/messages", json={**ASKED, "model": "no"}, headers=given)
    assert missing.status_code == 404
    assert missing.json()["error"]["type"] == "not_found_error"
