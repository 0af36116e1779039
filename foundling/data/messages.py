"""The messages in a row: roles, contents, and what is refused."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from foundling.base.config import ConfigError
from foundling.data.readers.fields import half_a_pair
from foundling.data.source_errors import SourceError
from foundling.text.chat import Conversation, Message, Role, check_roles

Values = Mapping[str, Any]

_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
# To leave these out would train on answers to what the model never saw.
_UNREAD = frozenset(
    name + plural
    for name in ("audio", "function", "image", "tool", "tool_call", "video", "function_call")
    for plural in ("", "s")
)
_REASONING = ("reasoning", "reasoning_content", "thinking")
_WEIGHTS = ("weight", "train", "trainable")  # 0 or false: not learned from


class RowError(ConfigError):
    """A row cannot be understood; `reason` is of a kind that can be counted."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def refuse_unread(values: Values) -> None:
    """Raises RowError: the row or message holds tool calls, images or the like."""
    name = next((n for n in values if n.lower() in _UNREAD and values[n] not in _EMPTY), None)
    if name is not None:
        raise RowError("not text alone", f'"{name}" is not empty; only text is learned from.')


def refuse_weights(values: Values, where: str = "") -> None:
    """Raises RowError: the row or message at `where` is marked as not to be learned from."""
    for name, value in values.items():
        if name.lower() in _WEIGHTS and str(value).lower() in ("0", "0.0", "false"):
            raise RowError(
                "weights", f'{where}"{name}" is {value!r}; such weights are not read yet.'
            )


_EMPTY: tuple[Any, ...] = (None, "", [], {}, "[]", "null", False)


def text_of(row: Values, name: str) -> str:
    """The text of a column; empty where there is none.

    Raises:
        RowError: it is no text.
    """
    value = row.get(name, "")
    if not isinstance(value, str):
        raise RowError("not a text", f'"{name}" is a {type(value).__name__}, not a text.')
    return value


def messages_of(items: Any, name: str) -> Conversation:
    """The messages of a list, or of a list written as JSON, in the column `name`.

    Raises:
        RowError: it is no list of messages.
    """
    items = list_of(items)
    if not isinstance(items, list):
        raise RowError("not messages", f'"{name}" is a {type(items).__name__}, not a list.')
    return tuple(_message(item, f"{name}[{index}]") for index, item in enumerate(items))


def list_of(value: Any) -> Any:
    """The list that a text spells as JSON; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _message(item: Any, where: str) -> Message:
    if not isinstance(item, dict):
        raise RowError("not messages", f"{where} is a {type(item).__name__}, not an object.")
    values = {key: value for key, value in item.items() if value is not None}
    refuse_unread(values)
    refuse_weights(values, f"{where}: ")
    for name in _REASONING:
        if values.get(name):
            raise RowError("reasoning", f'{where}: "{name}" is not empty; it is not read yet.')
    role_name, content_name = ("from", "value") if "from" in values else ("role", "content")
    missing = [name for name in (role_name, content_name) if name not in values]
    if missing:
        held = ", ".join(values) or "nothing"
        raise RowError("not messages", f'{where} has no "{missing[0]}"; it has: {held}.')
    role = values[role_name]
    if not isinstance(role, str) or role not in _ROLES:
        raise RowError(
            "unknown role", f'{where}: "{role_name}" is {role!r}; known: {", ".join(_ROLES)}.'
        )
    return Message(_ROLES[role], _content(values[content_name], where))


def _content(content: Any, where: str) -> str:
    """A text, or the text parts of a list of parts one after the other."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise RowError("not a text", f"{where}: the content is a {type(content).__name__}.")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        if kind != "text":
            raise RowError("not text alone", f"{where}: a part of type {kind!r}, not text.")
        texts.append(text_of(part, "text"))
    return "".join(texts)


def check_texts(where: str, texts: Iterable[str]) -> None:
    """Refuse what neither a tokenizer nor a database takes as text.

    Raises:
        SourceError: a text at `where` holds half of a surrogate pair, or NUL.
    """
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise half_a_pair(where, text, error) from None
        if "\0" in text:
            at = text.index("\0")
            raise SourceError("not text", f"{where}: NUL (U+0000) at character {at} of the text.")


def check_messages(where: str, messages: Conversation, *, blank_answers: bool = False) -> None:
    """Refuse messages that are no conversation to learn from.

    Raises:
        SourceError: the messages at `where` are not Unicode, blank or out of order.
    """
    check_texts(where, (message.content for message in messages))
    for message in messages:
        allowed = message.role == "system" or (blank_answers and message.role == "assistant")
        if not allowed and not message.content.strip():
            what = "prompt" if message.role == "user" else "answer"
            raise SourceError(f"empty {what}", f"{where}: the {what} is empty.")
    if blank_answers and messages and messages[-1].role == "assistant":
        check_prompt(where, messages[:-1])
        return
    try:
        check_roles(messages, training=True)
    except ConfigError as error:
        raise SourceError("roles out of order", f"{where}: {error}") from None


def check_prompt(where: str, messages: Conversation) -> None:
    """Refuse messages that no answer can follow.

    Raises:
        SourceError: they are not Unicode, out of order, or the last is blank or not the user's.
    """
    check_texts(where, (message.content for message in messages))
    try:
        check_roles(messages, training=False)
    except ConfigError as error:
        raise SourceError("roles out of order", f"{where}: {error}") from None
    if not messages[-1].content.strip():
        raise SourceError("empty prompt", f"{where}: the prompt is empty.")
