"""Reads what a server streams."""

import json
from typing import Any


def events(text: str) -> list[Any]:
    """The values of server-sent events; the last one must say that the stream is done."""
    lines = [part.removeprefix("data: ") for part in text.split("\n\n") if part]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def named_events(text: str) -> list[Any]:
    """The values of events that say their kind twice, as clients of these interfaces read it."""
    found = []
    for part in filter(None, text.split("\n\n")):
        name, data = part.split("\n")
        values = json.loads(data.removeprefix("data: "))
        assert name == f"event: {values['type']}"
        found.append(values)
    return found
