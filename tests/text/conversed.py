"""Conversations as transformers renders them, and drawn ones."""

import json
from typing import Any

from chat_templates import FAMILIES
from hypothesis import strategies as st

from foundling.text.chat import Message, Rendered
from foundling.text.tokenizer import Tokenizer

Pair = tuple[Tokenizer, Any]
TOOLS = (
    {
        "type": "function",
        "function": {"name": "weather", "description": "of a <b>city</b> — é", "parameters": {}},
    },
)
WITHOUT_SYSTEM = ("instruct",)


def plain(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    made = []
    for message in messages:
        values: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.reasoning:
            values["reasoning_content"] = message.reasoning
        if message.tool_calls:
            values["tool_calls"] = [
                {
                    "type": "function",
                    "function": {"name": call.name, "arguments": json.loads(call.arguments)},
                }
                for call in message.tool_calls
            ]
        made.append(values)
    return made


def theirs(oracle: Any, messages: tuple[Message, ...], **settings: Any) -> list[int]:
    ids: list[int] = oracle.apply_chat_template(plain(messages), tokenize=True, **settings)[
        "input_ids"
    ]
    return ids


def learned_text(rendered: Rendered, tokenizer: Tokenizer) -> str:
    pairs = zip(rendered.tokens, rendered.learned, strict=True)
    return tokenizer.decode([token for token, learned in pairs if learned], show_special=True)


def special(rendered: Rendered, tokenizer: Tokenizer) -> list[str]:
    ids = tokenizer.controls.ids
    return [tokenizer.name_of(token) for token in rendered.tokens if token in ids]


NAMES = sorted({name for family in FAMILIES.values() for name in family.tokens})
TEXT = st.lists(
    st.sampled_from(
        [
            "the ",
            " cat",
            "\n",
            "\n\n",
            "  ",
            "\t",
            "é",
            "🦉",
            "東",
            "{{ x }}",
            "user",
            "<",
            "[",
            "|>",
        ]
    ),
    max_size=8,
).map("".join)
ANSWER = TEXT.filter(lambda text: bool(text.strip()))
EXCHANGES = st.lists(st.tuples(ANSWER, ANSWER), min_size=1, max_size=3)
# What tries to open a turn, in whole and in parts.
TRICKS = st.lists(
    st.one_of(
        st.sampled_from(NAMES),
        st.sampled_from(NAMES).map(lambda name: name[: len(name) // 2]),
        st.sampled_from(NAMES).map(lambda name: name[len(name) // 2 :]),
        st.sampled_from(["a", " ", "\n", "<", "\ufdd0", "\ufdd1", "1", "assistant\n"]),
    ),
    min_size=1,
    max_size=6,
).map(lambda parts: "x" + "".join(parts))


def conversation(exchanges: list[tuple[str, str]], system: str | None) -> tuple[Message, ...]:
    turns = (
        Message(role, text)
        for pair in exchanges
        for role, text in zip(("user", "assistant"), pair, strict=True)
    )
    return (*(() if system is None else (Message("system", system),)), *turns)
