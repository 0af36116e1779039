"""The formats of instruction data: a row to the messages of a conversation."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from foundling.base.config import ConfigError
from foundling.text.chat import Message, Role

Values = Mapping[str, Any]


class RowError(ConfigError):
    """A row cannot be understood; `reason` is of a kind that can be counted."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Parsed:
    """What a row says; the first `given` messages are prompt, whoever wrote them."""

    messages: tuple[Message, ...]
    given: int = 0


@dataclass(frozen=True)
class Format:
    """How to read one kind of row.

    `needs` are the columns that tell it, `may_have` those that it reads where they are; with
    `any_case`, "Question" is "question".
    """

    parse: Callable[[Values], Parsed]
    needs: tuple[str, ...]
    may_have: tuple[str, ...] = ()
    any_case: bool = False

    def fits(self, keys: Collection[str]) -> bool:
        there = {key.lower() for key in keys} if self.any_case else set(keys)
        return there.issuperset(self.needs)

    def reads(self, key: str) -> bool:
        return (key.lower() if self.any_case else key) in (*self.needs, *self.may_have)

    def conversation(self, row: Values) -> Parsed:
        """The messages of a row.

        Raises:
            RowError: something is missing, of the wrong kind, or cannot be learned from.
        """
        present = {k: v for k, v in row.items() if v is not None}
        if self.any_case:
            present = {key.lower(): value for key, value in present.items()}
        refuse_unread(present)
        missing = [name for name in self.needs if name not in present]
        if missing:
            held = ", ".join(present) or "nothing"
            named = " and ".join(f'"{name}"' for name in missing)
            raise RowError("missing column", f"no {named}; the row has: {held}.")
        return self.parse(present)


def _alpaca(row: Values) -> Parsed:
    prompt, more = _text(row, "instruction"), _text(row, "input")
    return _exchange(_joined(prompt, more), _text(row, "output"), _text(row, "system"))


def _dolly(row: Values) -> Parsed:
    prompt = _joined(_text(row, "instruction"), _text(row, "context"))
    return _exchange(prompt, _text(row, "response"))


def _question_answer(row: Values) -> Parsed:
    return _exchange(_text(row, "question"), _text(row, "answer"))


def _prompt_completion(row: Values) -> Parsed:
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        return _exchange(prompt, completion)
    if isinstance(prompt, list) and isinstance(completion, list):
        front, back = messages_of(prompt, "prompt"), messages_of(completion, "completion")
        return Parsed((*front, *back), given=len(front))
    kinds = f"{type(prompt).__name__} and {type(completion).__name__}"
    raise RowError(
        "not a text", f"prompt and completion are {kinds}; expected two texts or two lists."
    )


def _list_of_messages(row: Values) -> Parsed:
    return Parsed(messages_of(row["messages"], "messages"))


def _sharegpt(row: Values) -> Parsed:
    system = _text(row, "system")
    front = (Message("system", system),) if system.strip() else ()
    return Parsed((*front, *messages_of(row["conversations"], "conversations")))


FORMATS: dict[str, Format] = {
    "alpaca": Format(_alpaca, ("instruction", "output"), ("input", "system")),
    "dolly": Format(_dolly, ("instruction", "response"), ("context",)),
    "prompt_completion": Format(_prompt_completion, ("prompt", "completion")),
    "messages": Format(_list_of_messages, ("messages",)),
    "sharegpt": Format(_sharegpt, ("conversations",), ("system",)),
    "question_answer": Format(_question_answer, ("question", "answer"), any_case=True),
}

# ---------------------------------------------------------------------- parts of a row

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


def refuse_unread(values: Values) -> None:
    """Raises RowError: the row holds calls of tools, images or the like."""
    name = next((name for name in values if name.lower() in _UNREAD and values[name]), None)
    if name is not None:
        raise RowError("not text alone", f'"{name}" is not empty; only text is learned from.')


def _text(row: Values, name: str) -> str:
    """The text of a column; empty where there is none."""
    value = row.get(name, "")
    if not isinstance(value, str):
        raise RowError("not a text", f'"{name}" is a {type(value).__name__}, not a text.')
    return value


def _joined(prompt: str, more: str) -> str:
    return f"{prompt}\n\n{more}" if more.strip() else prompt


def _exchange(prompt: str, answer: str, system: str = "") -> Parsed:
    front = (Message("system", system),) if system.strip() else ()
    return Parsed((*front, Message("user", prompt), Message("assistant", answer)))


def messages_of(items: Any, name: str) -> tuple[Message, ...]:
    """The messages of a list that stands in the column `name`.

    Raises:
        RowError: it is no list of messages.
    """
    if not isinstance(items, list):
        raise RowError("not messages", f'"{name}" is a {type(items).__name__}, not a list.')
    return tuple(_message(item, f"{name}[{place}]") for place, item in enumerate(items))


def _message(item: Any, where: str) -> Message:
    if not isinstance(item, dict):
        raise RowError("not messages", f"{where} is a {type(item).__name__}, not an object.")
    values = {key: value for key, value in item.items() if value is not None}
    refuse_unread(values)
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
        texts.append(_text(part, "text"))
    return "".join(texts)
