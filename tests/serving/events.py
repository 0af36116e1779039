"""Reads what a server streams."""

import json
from typing import Any


def events(text: str) -> list[Any]:
    """The values of server-sent events; the last one must say that the stream is done."""
    lines = [part.removeprefix("data: ") for part in text.split("\n\n") if part]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]
