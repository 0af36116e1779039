"""Conversations with a model: tools, thoughts, and what is left out when the context is full."""

from typing import Any

import pytest
import torch

from foundling import models
from foundling.base.config import ConfigError
from foundling.generation.engine import Engine
from foundling.text.chat import Message, ToolCall, render_prompt
from foundling.text.tokenizer import Tokenizer

TEXT = "the miller asked the baker for the weather: rain in the village, sun on the hill."
TEMPLATE = (
    "{% if tools %}<|system|>{{ tools | tojson }}<|end_of_turn|>{% endif %}"
    "{% for message in messages %}<|user|>{{ message.role }}: "
    "{% if message.reasoning_content %}({{ message.reasoning_content }}){% endif %}"
    "{% for call in message.tool_calls or [] %}{{ call.id }} {{ call.function | tojson }}"
    "{% endfor %}{{ message.tool_call_id }}{{ message.name }}{{ message.content }}<|end_of_turn|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TOKENIZER = Tokenizer.train_bytes([TEXT], vocab_size=300).with_template(TEMPLATE)
TOOL = {"name": "weather", "description": "of a place", "parameters": {}}
CALL = {
    "id": "1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"place": "hill"}'},
}
ASKED = [
    {"role": "developer", "content": "be brief"},
    {"role": "user", "content": [{"type": "text", "text": "the weather"}]},
    {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [CALL]},
    {"role": "tool", "content": "sun", "tool_call_id": "1", "name": "weather"},
]
MEANT = (
    Message("developer", "be brief"),
    Message("user", "the weather"),
    Message(
        "assistant",
        "",
        reasoning="hm",
        tool_calls=(ToolCall("weather", '{"place": "hill"}', "1"),),
    ),
    Message("tool", "sun", tool_call_id="1", name="weather"),
)


def engine(context: int = 400) -> Engine:
    torch.manual_seed(5)
    size = {"rung": "transformer", "dim": 16}
    model = models.build(size, vocab_size=TOKENIZER.vocab_size, context=context)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)  # away from uniform
    return Engine(model, TOKENIZER)


def test_messages_and_tools_are_given_as_in_rows_of_data() -> None:
    made, options = engine(), {"max_tokens": 12, "temperature": 1, "seed": 3}
    kit = ({"type": "function", "function": TOOL},)
    prompt = render_prompt(MEANT, TOKENIZER, tools=kit)
    expected = made.generate(prompt, **options)
    assert made.chat(ASKED, tools=[TOOL], **options) == expected
    assert made.chat(MEANT, tools=kit, **options) == expected
    assert made.chat(ASKED, **options) != expected
    for place, key in ((2, "reasoning_content"), (2, "tool_calls"), (3, "name")):
        less: list[dict[str, Any]] = [dict(message) for message in ASKED]
        less[place] = {**less[place], "content": less[place]["content"] or "so"}
        del less[place][key]
        assert made.chat(less, tools=[TOOL], **options) != expected, key


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"role": "user", "content": "a", "audio": "b"}, "a message has the keys .*audio"),
        ({"role": "wizard", "content": "a"}, r'messages\[0\]: "role" is \'wizard\'; known'),
        ({"role": "user", "content": "a", "tool_calls": [CALL]}, "the user's message calls a tool"),
        ({"role": "user", "content": 3}, r"messages\[0\]: the content is a int"),
    ],
)
def test_a_message_that_cannot_be_read_is_refused(message: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        engine().chat([message])


def test_tools_that_the_template_does_not_take_are_refused() -> None:
    made = Engine(engine().model, TOKENIZER.with_template("foundling"))
    with pytest.raises(ConfigError, match="takes no tools"):
        made.chat("a", tools=[TOOL])
    with pytest.raises(ConfigError, match=r"tools\[0\] is no function with a name"):
        made.chat("a", tools=[{}])


def test_a_full_context_leaves_out_whole_exchanges(said: list[str]) -> None:
    answered = (*MEANT, Message("assistant", "the sun is on the hill"))
    asked, last = (*answered, Message("user", "and in the village?")), Message("user", "and here?")
    whole = (*asked, Message("assistant", "rain"), last)
    kept = (MEANT[0], last)
    options: dict[str, Any] = {"max_tokens": 5, "temperature": 0}
    room = len(render_prompt((MEANT[0], *whole[5:]), TOKENIZER)) + 5 - 1  # the last one is not read
    for context, left, count in ((room, (MEANT[0], *whole[5:]), 4), (room - 1, kept, 6)):
        said.clear()
        made = engine(context)
        expected = made.generate(render_prompt(left, TOKENIZER), **options)
        assert made.chat(whole, **options) == expected
        assert said == [f"the context is full: {count} earlier messages are left out."]
    with pytest.raises(ConfigError, match=r"the message has .* tokens with its roles"):
        engine(4).chat(whole, max_tokens=1)
