"""OpenAI's and Anthropic's clients: tools, structured answers, responses, messages, embeddings."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import anthropic
import openai
import pytest
from anthropic import Anthropic
from live import Live, running
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel

USER: list[ChatCompletionMessageParam] = [{"role": "user", "content": "the cat sat"}]
ASKED: dict[str, Any] = {"model": "tagged", "messages": USER, "max_tokens": 400, "seed": 7}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a day.",
        "parameters": {
            "type": "object",
            "properties": {"day": {"enum": ["today", "tomorrow"]}},
            "required": ["day"],
            "additionalProperties": False,
        },
    },
}
INPUT = TOOL["function"]["parameters"]


class Weather(BaseModel):
    day: Literal["today", "tomorrow"]
    is_wet: bool


@pytest.fixture(scope="module")
def server(calling_models: dict[str, Path]) -> Iterator[Live]:
    with running([calling_models["tagged"], calling_models["thinking"]], keys=["key"]) as live:
        yield live


@pytest.fixture(scope="module")
def client(server: Live) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.api, api_key="key", max_retries=0) as opened:
        yield opened


@pytest.fixture(scope="module")
def claude(server: Live) -> Iterator[Anthropic]:
    with Anthropic(base_url=server.base, api_key="key", max_retries=0) as opened:
        yield opened


def test_an_answer_is_parsed_into_a_class(client: OpenAI) -> None:
    made = client.chat.completions.parse(**ASKED, response_format=Weather)
    parsed = made.choices[0].message.parsed
    assert isinstance(parsed, Weather)
    assert json.loads(made.choices[0].message.content or "") == parsed.model_dump()


def test_a_stream_is_parsed_into_a_class(client: OpenAI) -> None:
    with client.chat.completions.stream(**ASKED, response_format=Weather) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert final == client.chat.completions.parse(**ASKED, response_format=Weather).model_copy(
        update={"id": final.id, "created": final.created, "usage": final.usage}
    )


def test_an_answer_is_a_json_object(client: OpenAI) -> None:
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(**{**ASKED, "max_tokens": 3}, response_format=Weather)
    bias = {str(token): -100 for token in range(10)}
    made = client.chat.completions.create(
        **ASKED, response_format={"type": "json_object"}, logit_bias=bias, temperature=0.3
    )
    [choice] = made.choices
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content or ""), dict)
    assert (choice.message.content or "").startswith("{")


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}]
)
def test_a_tool_is_called_and_its_answer_read(client: OpenAI, choice: Any) -> None:
    asked = {**ASKED, "tools": [TOOL], "tool_choice": choice}
    made = client.chat.completions.create(**asked)
    message = made.choices[0].message
    assert made.choices[0].finish_reason == "tool_calls"
    assert message.tool_calls
    call = message.tool_calls[0]
    assert call.type == "function"
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments)["day"] in ("today", "tomorrow")
    turns = [
        *USER, message, {"role": "tool", "tool_call_id": call.id, "content": "fair"}
    ]  # fmt: skip
    after = client.chat.completions.create(
        **{**ASKED, "messages": turns, "max_tokens": 4}, tools=[TOOL]
    )
    assert after.usage is not None
    assert made.usage is not None
    assert after.usage.prompt_tokens > made.usage.prompt_tokens

    parts: dict[int, dict[str, str]] = {}
    for chunk in client.chat.completions.create(**asked, stream=True):
        for delta in chunk.choices[0].delta.tool_calls or []:
            part = parts.setdefault(delta.index, {"id": delta.id or "", "arguments": ""})
            assert delta.function is not None
            part["arguments"] += delta.function.arguments or ""
    assert [one["arguments"] for one in parts.values()] == [
        one.function.arguments for one in message.tool_calls if one.type == "function"
    ]
    assert all(part["id"].startswith("call_") for part in parts.values())


def test_a_call_that_is_cut_short_ends_in_length(client: OpenAI) -> None:
    made = client.chat.completions.create(
        **{**ASKED, "max_tokens": 6}, tools=[TOOL], tool_choice="required"
    )
    assert made.choices[0].finish_reason == "length"


def test_an_option_that_the_template_does_not_read_is_named(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="no_such_option"):
        client.chat.completions.create(
            **ASKED, extra_body={"chat_template_kwargs": {"no_such_option": 1}}
        )


def test_responses_whole_and_streamed(client: OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "tagged", "input": "the cat sat", "instructions": "be brief",
        "max_output_tokens": 16, "temperature": 0,
    }  # fmt: skip
    whole = client.responses.create(**asked)
    assert whole.output_text
    assert whole.usage is not None
    events = list(client.responses.create(**asked, stream=True))
    text = "".join(one.delta for one in events if one.type == "response.output_text.delta")
    assert text == whole.output_text
    assert [one.sequence_number for one in events] == list(range(len(events)))  # type: ignore[union-attr]
    last = events[-1]
    assert last.type in ("response.completed", "response.incomplete")
    assert last.response.output_text == text


def test_responses_parse_and_call(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tagged", "input": "the cat sat", "max_output_tokens": 400}
    parsed = client.responses.parse(**asked, text_format=Weather)
    assert isinstance(parsed.output_parsed, Weather)
    function: Any = {"type": "function", "strict": True, **TOOL["function"]}
    called = client.responses.create(**asked, tools=[function], tool_choice="required")
    calls = [one for one in called.output if one.type == "function_call"]
    assert calls
    assert json.loads(calls[0].arguments)["day"] in ("today", "tomorrow")
    answer: Any = {"type": "function_call_output", "call_id": calls[0].call_id, "output": "fair"}
    turns: Any = [{"role": "user", "content": "the cat sat"}, *called.output, answer]
    after = client.responses.create(
        model="tagged", input=turns, tools=[function], max_output_tokens=4
    )
    assert after.usage is not None
    assert called.usage is not None
    assert after.usage.input_tokens > called.usage.input_tokens


def test_embeddings(client: OpenAI) -> None:
    [one] = client.embeddings.create(model="tagged", input="the cat").data
    many = client.embeddings.create(model="tagged", input=["the cat", "sat"]).data
    assert many[0].embedding == pytest.approx(one.embedding, abs=1e-6)
    assert [row.index for row in many] == [0, 1]
    plain = client.embeddings.create(model="tagged", input="the cat", encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(one.embedding, abs=1e-6)


MESSAGE: dict[str, Any] = {
    "model": "tagged",
    "messages": [{"role": "user", "content": "the cat sat"}],
    "max_tokens": 12,
    "extra_body": {"temperature": 0},
}


def test_messages_whole_and_streamed(claude: Anthropic) -> None:
    whole = claude.messages.create(**MESSAGE, system="be brief")
    [block] = whole.content
    assert block.type == "text"
    with claude.messages.stream(**MESSAGE, system="be brief") as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == block.text
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens
    counted = claude.messages.count_tokens(
        model="tagged", messages=MESSAGE["messages"], system="be brief"
    )
    assert counted.input_tokens == whole.usage.input_tokens + (
        whole.usage.cache_read_input_tokens or 0
    )


def test_messages_use_tools(claude: Anthropic) -> None:
    tool: Any = {"name": "weather", "description": "The weather.", "input_schema": INPUT}
    made = claude.messages.create(
        **{**MESSAGE, "max_tokens": 400}, tools=[tool], tool_choice={"type": "any"}
    )
    assert made.stop_reason == "tool_use"
    use = next(block for block in made.content if block.type == "tool_use")
    assert use.input["day"] in ("today", "tomorrow")
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "fair"}
    turns = [
        *MESSAGE["messages"], {"role": "assistant", "content": made.content},
        {"role": "user", "content": [result]},
    ]  # fmt: skip
    after = claude.messages.create(**{**MESSAGE, "messages": turns}, tools=[tool])
    assert after.stop_reason


def test_errors_of_messages_have_their_classes(server: Live, claude: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(**{**MESSAGE, "model": "none"})
    with pytest.raises(anthropic.BadRequestError):
        claude.messages.create(**{**MESSAGE, "max_tokens": 5000})
    with (
        Anthropic(base_url=server.base, api_key="wrong", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError),
    ):
        stranger.messages.create(**MESSAGE)
