"""OpenAI's and Anthropic's own clients: responses, messages, tools and structured answers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import anthropic
import pytest
from anthropic import Anthropic
from live import Live, running
from openai import OpenAI
from pydantic import BaseModel, ConfigDict, Field


class Weather(BaseModel):
    """What is asked for, so short that random models come to an end."""

    model_config = ConfigDict(extra="forbid")
    city: str = Field(max_length=4)
    day: Literal["today", "tomorrow"]


SCHEMA = Weather.model_json_schema()
FUNCTION: Any = {"name": "weather", "description": "The weather.", "parameters": SCHEMA}
USER: Any = [{"role": "user", "content": "the cat"}]


@pytest.fixture(scope="module")
def server(calling_models: dict[str, Path]) -> Iterator[Live]:
    with running([calling_models["tagged"], calling_models["listed"]], keys=["key"]) as live:
        yield live


@pytest.fixture(scope="module")
def openai_client(server: Live) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.api, api_key="key", max_retries=0) as opened:
        yield opened


@pytest.fixture(scope="module")
def anthropic_client(server: Live) -> Iterator[Anthropic]:
    base = server.api.removesuffix("/v1")
    with Anthropic(base_url=base, api_key="key", max_retries=0) as opened:
        yield opened


def test_an_answer_is_parsed_into_a_model(openai_client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tagged", "seed": 3, "max_tokens": 300}
    made = openai_client.chat.completions.parse(**asked, messages=USER, response_format=Weather)
    assert isinstance(made.choices[0].message.parsed, Weather)
    answer = openai_client.responses.parse(model="tagged", input="the cat", text_format=Weather)
    assert isinstance(answer.output_parsed, Weather)


def test_a_tool_is_called_and_its_result_is_answered(openai_client: OpenAI) -> None:
    tools: Any = [{"type": "function", "function": FUNCTION}]
    with openai_client.chat.completions.stream(
        model="listed",
        messages=USER,
        tools=tools,
        tool_choice="required",
        parallel_tool_calls=False,
        seed=3,
    ) as stream:
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls"
    assert final.message.tool_calls is not None
    [call] = final.message.tool_calls
    Weather.model_validate_json(call.function.arguments)
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    said: Any = final.message.model_dump(exclude_none=True, exclude={"parsed"})
    made = openai_client.chat.completions.create(
        model="listed", messages=[*USER, said, result], tools=tools, max_tokens=4
    )
    assert made.usage is not None
    assert made.usage.completion_tokens <= 4


def test_a_response_is_streamed(openai_client: OpenAI) -> None:
    tools: Any = [{"type": "function", "strict": True, **FUNCTION}]
    with openai_client.responses.stream(
        model="tagged",
        input="the cat",
        tools=tools,
        tool_choice="required",
        parallel_tool_calls=False,
        max_output_tokens=400,
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created"
    assert "response.function_call_arguments.delta" in kinds
    [call] = final.output
    assert call.type == "function_call"
    Weather.model_validate_json(call.arguments)
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    said: Any = [*USER, call.model_dump(exclude_none=True), output]
    made = openai_client.responses.create(
        model="tagged", input=said, tools=tools, max_output_tokens=6
    )
    assert made.usage is not None
    assert made.usage.output_tokens <= 6


def test_a_message_is_streamed_and_a_tool_used(anthropic_client: Anthropic) -> None:
    tools: Any = [{"name": "weather", "input_schema": SCHEMA}]
    choice: Any = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    with anthropic_client.messages.stream(
        model="tagged", max_tokens=400, messages=USER, tools=tools, tool_choice=choice
    ) as stream:
        final = stream.get_final_message()
    assert final.stop_reason == "tool_use"
    [block] = final.content
    assert block.type == "tool_use"
    Weather.model_validate(block.input)
    result: Any = {"type": "tool_result", "tool_use_id": block.id, "content": "sunny"}
    said: Any = [
        *USER,
        {"role": "assistant", "content": final.content},
        {"role": "user", "content": [result]},
    ]
    made = anthropic_client.messages.create(
        model="tagged", max_tokens=6, messages=said, tools=tools, system="be brief"
    )
    assert made.usage.output_tokens <= 6
    count = anthropic_client.messages.count_tokens(
        model="tagged", messages=said, tools=tools, system="be brief"
    )
    read = made.usage.input_tokens + (made.usage.cache_read_input_tokens or 0)
    assert count.input_tokens == read


def test_errors_have_their_classes(server: Live, anthropic_client: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="does not exist"):
        anthropic_client.messages.create(model="no", max_tokens=1, messages=USER)
    with pytest.raises(anthropic.BadRequestError, match="reads at most"):
        anthropic_client.messages.create(model="tagged", max_tokens=9999, messages=USER)
    base = server.api.removesuffix("/v1")
    with (
        Anthropic(base_url=base, api_key="other", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError),
    ):
        stranger.messages.create(model="tagged", max_tokens=1, messages=USER)


def test_vectors_come_as_the_client_asks_for_them(openai_client: OpenAI) -> None:
    asked: Any = {"model": "tagged", "input": ["the cat", "sat"]}
    by_default = openai_client.embeddings.create(**asked)  # in base64
    as_numbers = openai_client.embeddings.create(**asked, encoding_format="float")
    for one, other in zip(by_default.data, as_numbers.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, rel=1e-6)
    assert len(json.dumps(as_numbers.data[0].embedding)) > 16
