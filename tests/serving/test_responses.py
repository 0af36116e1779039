"""Responses: items and events as OpenAI's client reads them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from events import named_events
from fastapi.testclient import TestClient
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from test_chat_tools import SCHEMA

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
TOOL = {"type": "function", "name": "weather", "parameters": SCHEMA, "strict": True}
FORMAT = {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA, "strict": True}}


def ask(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/responses", json={"input": "the cat", **body})
    assert answer.status_code == 200, answer.text
    Response.model_validate(answer.json(), strict=True)
    return answer.json()


def stream(client: TestClient, **body: Any) -> list[dict[str, Any]]:
    answer = client.post("/v1/responses", json={"input": "the cat", "stream": True, **body})
    assert answer.status_code == 200, answer.text
    found = named_events(answer.text)
    for one in found:
        EVENT.validate_python(one)
    assert [one["sequence_number"] for one in found] == list(range(len(found)))
    return found


def check(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The events tell of each item in turn, and the last one repeats them; the response."""
    kinds = [one["type"].removeprefix("response.") for one in found]
    assert kinds[:2] == ["created", "in_progress"]
    response = found[-1]["response"]
    assert found[0]["response"]["id"] == response["id"]
    assert kinds[-1] == response["status"]
    Response.model_validate(response, strict=True)
    at = 2
    for index, item in enumerate(response["output"]):
        inner = {
            "message": ("output_text", True),
            "reasoning": ("reasoning_text", True),
            "function_call": ("function_call_arguments", False),
        }
        name, has_part = inner[item["type"]]
        assert kinds[at] == "output_item.added"
        assert found[at]["item"]["status"] == "in_progress"
        end = kinds.index("output_item.done", at)
        body = [kind for kind in kinds[at + 1 : end] if kind != f"{name}.delta"]
        parts = (["content_part.added"], ["content_part.done"]) if has_part else ([], [])
        assert body == [*parts[0], f"{name}.done", *parts[1]]
        for one in found[at : end + 1]:
            assert one["output_index"] == index
            assert one.get("item_id", item["id"]) == item["id"]
        said = "".join(one["delta"] for one in found[at:end] if one["type"].endswith(".delta"))
        assert said == (item["content"][0]["text"] if has_part else item["arguments"])
        assert found[end]["item"] == item
        at = end + 1
    assert at == len(found) - 1
    return response


def plain(response: dict[str, Any]) -> list[Any]:
    """What the items say, without ids."""
    named = ("type", "content", "name", "arguments", "status")
    return [{key: item.get(key) for key in named} for item in response["output"]]


def test_a_stream_says_the_same_as_the_whole(client: TestClient) -> None:
    body = {"max_output_tokens": 12, "instructions": "be brief", "temperature": 0}
    whole = ask(client, **body, metadata={"a": "b"})
    streamed = check(stream(client, **body))
    assert plain(whole) == plain(streamed)
    assert whole["usage"]["output_tokens"] == 12
    assert whole["status"] == "incomplete"
    assert whole["incomplete_details"] == {"reason": "max_output_tokens"}
    assert whole["metadata"] == {"a": "b"}
    assert whole["store"] is False
    [item] = whole["output"]
    assert item["id"].startswith("msg_")


def test_items_are_messages_of_a_conversation(client: TestClient) -> None:
    said = [
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": [{"type": "input_text", "text": "the "}]},
        {
            "type": "message",
            "role": "assistant",
            "id": "msg_1",
            "status": "completed",
            "content": [{"type": "output_text", "text": "cat", "annotations": []}],
        },
        {"type": "message", "role": "user", "content": "sat"},
    ]
    made = ask(client, input=said, temperature=0, max_output_tokens=8)
    messages = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "the "},
        {"role": "assistant", "content": "cat"},
        {"role": "user", "content": "sat"},
    ]
    body = {"messages": messages, "temperature": 0, "max_tokens": 8}
    chat = client.post("/v1/chat/completions", json=body).json()
    assert made["usage"]["input_tokens"] == chat["usage"]["prompt_tokens"]
    text = "".join(part["text"] for item in made["output"] for part in item["content"])
    assert text == chat["choices"][0]["message"]["content"]


def test_a_tool_is_called_and_answered(
    open_client: Callable[..., TestClient], calling_models: dict[str, Path]
) -> None:
    client = open_client([calling_models["listed"], calling_models["tagged"]])
    done = 0
    for number in range(4):
        asked = {"model": ["listed", "tagged"][number % 2], "tools": [TOOL]}
        choice = {"type": "function", "name": "weather"}
        made = check(stream(client, **asked, tool_choice=choice, parallel_tool_calls=False))
        [call] = made["output"]
        assert call["type"] == "function_call"
        assert call["call_id"].startswith("call_")
        if made["status"] == "incomplete":
            continue
        done += 1
        jsonschema.validate(json.loads(call["arguments"]), SCHEMA)
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
        again = [{"role": "user", "content": "the cat"}, *made["output"], output]
        ask(client, **asked, input=again, max_output_tokens=4)
    assert done


def test_thoughts_are_items_of_their_own(
    open_client: Callable[..., TestClient], calling_models: dict[str, Path]
) -> None:
    client = open_client([calling_models["thinking"]])
    thought = client.post("/tokenize", json={"prompt": "<think>", "add_special_tokens": False})
    [id] = thought.json()["tokens"]
    body = {"messages": [{"role": "user", "content": "a"}], "logit_bias": {str(id): 100}}
    chat = client.post("/v1/chat/completions", json={**body, "max_tokens": 4, "top_k": 1})
    assert chat.json()["choices"][0]["message"]["content"] == ""
    assert "<think>" in chat.json()["choices"][0]["message"]["reasoning_content"]
    thinking = [
        {"type": "reasoning", "id": "rs_1", "summary": [],
         "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"role": "assistant", "content": "yes"},
    ]  # fmt: skip
    said = [{"role": "user", "content": "a"}, *thinking, {"role": "user", "content": "b"}]
    made = ask(client, input=said, text=FORMAT)
    if made["status"] == "completed":
        jsonschema.validate(json.loads(made["output"][-1]["content"][0]["text"]), SCHEMA)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"truncation": "auto"}, "truncation"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [TOOL]}, "tools"),  # the template takes none
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format"),
        ({"input": [{"type": "item_reference", "id": "a"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, None),
        ({"input": []}, "input"),
        (
            {"input": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            "input",
        ),
        ({"input": "the " * 99}, "input"),
        ({"max_output_tokens": 999}, "max_output_tokens"),
    ],
)
def test_what_is_not_supported_is_refused(
    client: TestClient, changes: dict[str, Any], param: str | None
) -> None:
    answer = client.post("/v1/responses", json={"input": "a", **changes})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert param is None or str(error["param"]).startswith(param)


def test_store_is_accepted_and_said_not_to_be_done(client: TestClient) -> None:
    made = ask(client, store=True, max_output_tokens=2, include=["reasoning.encrypted_content"])
    assert made["store"] is False
    assert client.get(f"/v1/responses/{made['id']}").status_code == 404
