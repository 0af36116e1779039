"""Chat templates: jinja sources that make one text of a conversation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ChatTemplate:
    """A template under its name, with the values of further variables that it may read."""

    name: str
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
