"""The input of /v1/responses: items in the order in which they were said."""

from collections.abc import Sequence
from typing import Any

from foundling.serving.bodies import Element, Listed
from foundling.serving.errors import ApiError
from foundling.text.chat import Message, ToolCall

_TEXTS = ("input_text", "output_text", "text", "reasoning_text", "summary_text")
_ROLES = ("user", "assistant", "system", "developer")


class Part(Element):
    type: str
    text: str | None = None


class Item(Element):
    """A message, a call of a tool or its output, or a thought."""

    type: str = "message"
    role: str | None = None
    content: str | Listed[Part] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | Listed[Part] | None = None


def messages_of(given: str | Sequence[Item]) -> list[Message]:
    """The messages that the items are; what the assistant does in one turn is one message.

    Raises:
        ApiError: an item is none that the models of this server read.
    """
    if isinstance(given, str):
        return [Message("user", given)]
    found: list[Message] = []
    turn: dict[str, Any] = {}  # what the assistant has done since the last message
    names: dict[str, str] = {}
    for number, item in enumerate(given):
        where = f"input[{number}]"
        if item.type == "reasoning":
            _end(turn, found)
            turn["reasoning"] = _text(item.content or "", f"{where}.content")
        elif item.type == "function_call" and item.name and item.call_id:
            call = ToolCall(item.name, item.arguments or "{}", item.call_id)
            turn["tool_calls"] = (*turn.get("tool_calls", ()), call)
            names[item.call_id] = item.name
        elif item.type == "message" and item.role == "assistant":
            if "content" in turn or "tool_calls" in turn:
                _end(turn, found)
            turn["content"] = _text(item.content or "", f"{where}.content")
        elif item.type == "function_call_output" and item.call_id:
            _end(turn, found)
            output = _text(item.output or "", f"{where}.output")
            name = names.get(item.call_id, "")
            found.append(Message("tool", output, tool_call_id=item.call_id, name=name))
        elif item.type == "message" and item.role in _ROLES:
            _end(turn, found)
            role: Any = item.role
            found.append(Message(role, _text(item.content or "", f"{where}.content")))
        else:
            raise ApiError(
                400,
                f"{where}: an item of the type {item.type!r} cannot be read here: give messages, "
                "function_call, function_call_output and reasoning, each with all that it needs.",
                param=where,
            )
    _end(turn, found)
    return found


def _end(turn: dict[str, Any], found: list[Message]) -> None:
    if turn:
        found.append(Message("assistant", **{"content": "", **turn}))
        turn.clear()


def _text(given: str | list[Part], where: str) -> str:
    if isinstance(given, str):
        return given
    for number, part in enumerate(given):
        if part.type not in _TEXTS or part.text is None:
            at = f"{where}[{number}]"
            raise ApiError(
                400, f"{at}: a part of the type {part.type!r}; models read text.", param=at
            )
    return "".join(part.text or "" for part in given)
