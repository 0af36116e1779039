"""The tools that a row describes, and the calls of them that its answers make."""

import json
from typing import Any

from foundling.data.source_errors import RowError
from foundling.text.chat import ToolCall, Tools


def tools_of(value: Any, name: str) -> Tools:
    """The descriptions in a list, or in a list written as JSON, in the column `name`.

    A function that stands by itself becomes `{"type": "function", "function": {...}}`, as chat
    templates take it.

    Raises:
        RowError: they are no descriptions of functions.
    """
    items = from_json(value)
    if isinstance(items, dict):
        items = [items]
    if not isinstance(items, list):
        raise RowError("not tools", f'"{name}" is a {type(items).__name__}, not a list of tools.')
    found = []
    for index, item in enumerate(map(from_json, items)):
        inner = item.get("function", item) if isinstance(item, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            raise RowError("not tools", f"{name}[{index}] is no function with a name.")
        found.append(item if inner is not item else {"type": "function", "function": item})
    return tuple(found)


def calls_of(value: Any, where: str) -> tuple[ToolCall, ...]:
    """The calls in a list, in a single object, or in either written as JSON.

    Each is `{"function": {"name": ..., "arguments": ...}, "id": ...}`, or the function alone.

    Raises:
        RowError: they are no calls.
    """
    items = from_json(value)
    items = items if isinstance(items, list) else [items]
    return tuple(_call(from_json(item), where) for item in items)


def from_json(value: Any) -> Any:
    """What a text spells as a JSON list or object; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def unescaped(value: Any) -> str:
    """JSON as the filter `tojson` of chat templates spells it."""
    return json.dumps(value, ensure_ascii=False)


def _call(item: Any, where: str) -> ToolCall:
    inner = item.get("function", item) if isinstance(item, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        shown = json.dumps(item, ensure_ascii=False, default=str)[:60]
        raise RowError(
            "not a tool call",
            f'{where}: {shown} is no call; expected {{"name": ..., "arguments": {{...}}}}.',
        )
    arguments = inner.get("arguments", inner.get("parameters"))
    if arguments in (None, ""):
        arguments = {}
    if isinstance(from_json(arguments), dict):
        text = arguments if isinstance(arguments, str) else unescaped(arguments)
        return ToolCall(inner["name"], text, str(item.get("id") or ""))
    raise RowError(
        "not a tool call", f'{where}: the arguments of "{inner["name"]}" are no JSON object.'
    )
