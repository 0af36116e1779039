"""Files of prompts: one a line, or rows with a prompt or messages."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from foundling.data.detection import detect
from foundling.data.formats import FORMATS, Kind
from foundling.data.message_checks import check_prompt, check_shown
from foundling.data.messages import unweighted
from foundling.data.readers.source_file import read_text
from foundling.data.rows import Rows
from foundling.data.source_errors import SourceError
from foundling.text.chat import Conversation, Message, Tools

Plain = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Prompt:
    """Messages up to the answer, and the row that they came from."""

    messages: Conversation
    where: str  # FILE:LINE or FILE#ROW, without the folder


def read_prompts(file: str | Path) -> list[Prompt]:
    """The prompts of a .txt file, one a line, or of rows (.jsonl, .csv, ...) in order.

    A row has any format of FORMATS, the simplest being a "prompt", a text or messages; an answer is
    left out, and other columns are not read.

    Raises:
        SourceError: a row is no prompt, or the file is no file of prompts; names file and line.
    """
    read = _lines(Path(file)) if str(file).lower().endswith(".txt") else _rows(file)
    prompts = []
    for where, messages, tools in read:
        check_prompt(where, messages)
        check_shown(where, messages, tools)
        prompts.append(Prompt(messages, where.rsplit("/", 1)[-1]))
    if not prompts:
        raise SourceError("empty file", f"{file}: holds no prompt.")
    return prompts


def _lines(file: Path) -> list[tuple[str, Conversation, Tools]]:
    lines = read_text(file).splitlines()
    return [
        (f"{file}:{number}", (Message("user", line.strip()),), ())
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]


def _rows(file: str | Path) -> list[tuple[str, Conversation, Tools]]:
    found = []
    for row in Rows([file]):
        format = FORMATS[detect([row], get_args(Kind))]
        held = format.read(*row)
        found.append((row[0], unweighted(held.prompt), held.tools))
    return found


def plain(messages: Sequence[Message]) -> Plain:
    """The key that prompts are matched by: roles and words, whatever the white space."""
    return tuple((message.role, " ".join(message.content.split())) for message in messages)
