"""Files of prompts: one a line, or rows with a prompt or messages."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundling.base.config import ConfigError
from foundling.data.faults import SourceError
from foundling.data.formats import RowError, messages_of
from foundling.data.rows import Rows
from foundling.text.chat import Conversation, Message, check_roles

NEEDS = ("prompt", "messages")
Plain = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Prompt:
    """Messages up to where the answer begins, and the row that they came from."""

    messages: Conversation
    where: str  # FILE:LINE or FILE#ROW, without the folder


def read_prompts(file: str | Path) -> list[Prompt]:
    """The prompts of a .txt file, one a line, or of rows (.jsonl, .csv, ...) in order.

    A row has "prompt", a text or messages, or "messages"; an answer at the end of the messages is
    left out. Other columns are not read.

    Raises:
        SourceError: a row is no prompt, or the file is no file of prompts; names file and line.
    """
    read = _lines(Path(file)) if str(file).lower().endswith(".txt") else _rows(file)
    prompts = []
    for where, messages in read:
        try:
            check_roles(messages, training=False)
        except ConfigError as error:
            raise SourceError("roles out of order", f"{where}: {error}") from None
        if not messages[-1].content.strip():
            raise SourceError("empty prompt", f"{where}: the prompt is empty.")
        prompts.append(Prompt(messages, where.rsplit("/", 1)[-1]))
    if not prompts:
        raise SourceError("empty file", f"{file}: holds no prompt.")
    return prompts


def _lines(file: Path) -> list[tuple[str, Conversation]]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise SourceError("missing", f"{file}: no such file of prompts.") from None
    except UnicodeDecodeError as error:
        raise SourceError("not UTF-8", f"{file}: not UTF-8: {error}") from None
    return [
        (f"{file}:{number}", (Message("user", line.strip()),))
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]


def _rows(file: str | Path) -> list[tuple[str, Conversation]]:
    found = []
    for row in Rows([file]):
        if isinstance(row, SourceError):
            raise row
        where, values = row
        try:
            found.append((where, _messages(values)))
        except RowError as error:
            raise SourceError(error.reason, f"{where}: {error}") from None
    return found


def _messages(values: dict[str, Any]) -> Conversation:
    named = [name for name in NEEDS if values.get(name) is not None]
    if len(named) != 1:
        held = ", ".join(values) or "nothing"
        raise RowError("no prompt", f'give "prompt" or "messages"; the row has: {held}.')
    given = values[named[0]]
    if isinstance(given, str) and named[0] == "prompt":
        return (Message("user", given),)
    messages = messages_of(given, named[0])
    answered = named[0] == "messages" and messages and messages[-1].role == "assistant"
    return messages[:-1] if answered else messages


def plain(messages: Sequence[Message]) -> Plain:
    """What prompts are matched by: roles and words, whatever the white space."""
    return tuple((message.role, " ".join(message.content.split())) for message in messages)
