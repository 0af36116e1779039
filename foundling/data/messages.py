"""The messages in a row: roles, contents, and what is refused."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from foundling.data.source_errors import RowError
from foundling.data.tool_calls import calls_of, from_json
from foundling.text.chat import Conversation, Message, Role, ToolCall
from foundling.text.script import plain

Values = Mapping[str, Any]

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "chatbot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "ipython": "tool",
}
"""OpenAI's names, and those of ShareGPT, OpenAssistant, Gemma, Cohere and Llama."""
_CALLING = ("function_call", "tool_call")  # whose content is a call, not a text
# To leave these out would train on answers to what the model never saw.
_MEDIA = ("audio", "audios", "image", "images", "video", "videos")
_UNREAD_OF_ROW = frozenset(
    (*_MEDIA, "function", "function_call", "function_calls", "tool", "tool_call", "tool_calls")
)
_UNREAD_OF_MESSAGE = frozenset((*_MEDIA, "tool", "tools", "function", "functions"))
_CALLS = ("tool_calls", "function_call")
_REASONING = ("reasoning_content", "reasoning", "thinking")
WEIGHTS = ("weight", "train", "trainable")
"""0 or false: not learned from."""
_SAYING = frozenset(("role", "content", "from", "value"))
_READ = _SAYING.union(_CALLS, _REASONING, WEIGHTS)
_READ_OF_TOOLS = _READ.union(("name", "tool_call_id"))
_NOTHING: tuple[Any, ...] = (None, "", [], {})
EMPTY: tuple[Any, ...] = (*_NOTHING, "[]", "null", False)
"""What stands in a column of calls, tools or images where there are none."""


def refuse_unread(values: Values, names: frozenset[str] = _UNREAD_OF_ROW, where: str = "") -> None:
    """Raises RowError: the row, or message at `where`, holds images, audio or the like."""
    name = next((n for n in values if n.lower() in names and values[n] not in EMPTY), None)
    if name is not None:
        raise RowError("not text alone", f'{where}"{name}" is not empty, and is not read.')


def weight_of(value: Any) -> int | None:
    """0 or 1, as numbers, truth values and texts say it; None: something else."""
    said = str(value).strip().lower()
    return 0 if said in ("0", "0.0", "false") else 1 if said in ("1", "1.0", "true") else None


def is_unlearned(row: Values) -> bool:
    """Whether a row is marked as not to be learned from."""
    return any(weight_of(row[name]) == 0 for name in row if name.lower() in WEIGHTS)


def unread_keys(items: Iterable[Any]) -> set[str]:
    """What the messages of a list hold that is not read."""
    found = set[str]()
    for item in items:
        if isinstance(item, dict) and not item.keys() <= _SAYING:
            read = _READ_OF_TOOLS if _role_of(item) == "tool" else _READ
            others = (key for key in item if key.lower() not in read)
            found.update(key for key in others if item[key] not in _NOTHING)
    return found


def _role_of(item: Values) -> Role | None:
    """The role of a message, if it is one that is known."""
    return _ROLES.get(str(item.get("from", item.get("role"))).lower())


def unweighted(messages: Conversation) -> Conversation:
    """The same, whatever is learned of it."""
    return tuple(replace(m, weight=1) if m.weight != 1 else m for m in messages)


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
    return tuple(message_of(item, f"{name}[{index}]") for index, item in enumerate(items))


def list_of(value: Any) -> Any:
    """The list that a text spells as JSON; anything else as it is."""
    found = from_json(value)
    return found if isinstance(found, list) else value


def message_of(item: Any, where: str) -> Message:
    """The message that an object of a row holds.

    Raises:
        RowError: it holds none.
    """
    if not isinstance(item, dict):
        raise RowError("not messages", f"{where} is a {type(item).__name__}, not an object.")
    values = {key: value for key, value in item.items() if value is not None}
    plain = values.keys() <= _SAYING  # as most are: there is nothing else to read
    if not plain:
        refuse_unread(values, _UNREAD_OF_MESSAGE, f"{where}: ")
    role_name, content_name = ("from", "value") if "from" in values else ("role", "content")
    said = values.get(role_name)
    role = _ROLES.get(said.lower()) if isinstance(said, str) else None
    if said is not None and role is None:
        raise RowError(
            "unknown role", f'{where}: "{role_name}" is {said!r}; known: {", ".join(_ROLES)}.'
        )
    calls = () if plain else _calls(values, where)
    missing = [name for name in (role_name, content_name) if name not in values]
    if role is None or (missing and not calls):
        keys = ", ".join(values) or "nothing"
        raise RowError("not messages", f'{where} has no "{missing[0]}"; it has: {keys}.')
    content = values.get(content_name, "")
    if str(said).lower() in _CALLING:
        calls, content = (*calls, *calls_of(content, where)), ""
    if plain and not calls:
        return Message(role, _content(content, where))
    if role != "assistant":
        return _of_others(role, _content(content, where), values, calls, where)
    return Message(
        role,
        _content(content, where),
        reasoning=_reasoning(values, where),
        tool_calls=calls,
        weight=_weight(values, where),
    )


def written(message: Message) -> dict[str, Any]:
    """The object of a row that holds the message: what `message_of` reads."""
    values = plain(message)
    values.pop("thinking", None)  # the same as reasoning_content
    return values if message.weight else {**values, "weight": 0}


def _calls(values: Values, where: str) -> tuple[ToolCall, ...]:
    filled = [name for name in _CALLS if values.get(name) not in EMPTY]
    return tuple(call for name in filled for call in calls_of(values[name], where))


def _of_others(
    role: Role, content: str, values: Values, calls: Sequence[ToolCall], where: str
) -> Message:
    if calls or _reasoning(values, where):
        what = "calls a tool" if calls else "holds reasoning"
        raise RowError("not the assistant's", f"{where}: the {role}'s message {what}.")
    if role != "tool":
        return Message(role, content)
    return Message(
        role,
        content,
        tool_call_id=_text_at(values, "tool_call_id", where),
        name=_text_at(values, "name", where),
    )


def _reasoning(values: Values, where: str) -> str:
    texts = {text for name in _REASONING if (text := _text_at(values, name, where)).strip()}
    if len(texts) > 1:
        raise RowError("reasoning", f"{where}: {', '.join(_REASONING)} say different things.")
    return texts.pop() if texts else ""


def _text_at(values: Values, name: str, where: str) -> str:
    try:
        return text_of(values, name)
    except RowError as error:
        raise RowError(error.reason, f"{where}: {error}") from None


def _weight(values: Values, where: str) -> int:
    weights = [(name, weight_of(values[name])) for name in values if name.lower() in WEIGHTS]
    for name, weight in weights:
        if weight is None:
            raise RowError("weights", f'{where}: "{name}" is {values[name]!r}; 0 and 1 are read.')
    return min((weight for _, weight in weights if weight is not None), default=1)


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
