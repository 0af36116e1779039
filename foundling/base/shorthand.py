"""A flag that stands for settings: `--shots 0,4` for `--set in_context.shots=[0,4]`."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Shorthand:
    """A flag of the command line and the settings that it sets, by dotted name."""

    flag: str
    keys: str
    """With spaces between."""
    help: str
    metavar: str | None = None
    kind: Any = str
    """The type of the value; `list[str]` for a flag that may be repeated."""
    read: Callable[[str, Any], Any] = lambda flag, value: value
    """What a value, given to the flag of this name, sets."""
    envvar: str | None = None

    @property
    def name(self) -> str:
        return self.flag.partition("/")[0].lstrip("-").replace("-", "_")

    @property
    def help_text(self) -> str:
        """The help, with the names of settings that are not the flag's own."""
        other = ", ".join(key for key in self.keys.split() if key != self.name)
        return f"{self.help} Sets {other}." if other else self.help

    def settings(self, value: Any) -> dict[str, Any]:
        """What the flag sets, by dotted name."""
        if self.kind == list[str] and not isinstance(value, list | tuple):
            value = [value]
        return dict.fromkeys(self.keys.split(), self.read(self.name, value))


def absolute(flag: str, given: Any) -> Any:
    """A path that exists as an absolute one, so that a run can be resumed from anywhere."""
    if isinstance(given, list | tuple):
        return [absolute(flag, one) for one in given]
    path = Path(given)
    return str(path.resolve()) if path.exists() else os.fspath(given)


def names(flag: str, text: str) -> list[str]:
    """The names in `a, b`."""
    return [name.strip() for name in text.split(",")]
