"""Preferences between two answers, with a report of what was read, kept and dropped."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from foundling.base.config import ConfigError, suggest
from foundling.data.conversations import (
    FIRST_ROWS,
    ParseReport,
    SourcedConversation,
    check_messages,
    good_rows,
    nothing_left,
)
from foundling.data.examples import split_by_prompt
from foundling.data.faults import SourceError
from foundling.data.formats import RowError, messages_of, refuse_unread
from foundling.data.readers.fields import Row
from foundling.data.rows import Rows
from foundling.data.sources import OnError
from foundling.text.chat import Conversation, Message, Role

Values = Mapping[str, Any]
Sides = tuple[Conversation, Conversation, int]
"""Two whole conversations and how many messages at their front are the prompt."""
TURN: dict[str, Role] = {"\n\nHuman:": "user", "\n\nAssistant:": "assistant"}
ANSWER = "\n\nAssistant:"


@dataclass(frozen=True)
class SourcedPair:
    """Two conversations that begin alike, and the row that they came from.

    The first `given` messages, the same on both sides, are the prompt; the rest is an answer.
    """

    where: str  # FILE:LINE or FILE#ROW
    chosen: Conversation
    rejected: Conversation
    given: int

    @property
    def prompt(self) -> Conversation:
        return self.chosen[: self.given]


@dataclass(frozen=True)
class PairFormat:
    """How to read one kind of row: the columns that it needs, and what they say."""

    needs: tuple[str, ...]
    parse: Callable[[Values], Sides]

    def pair(self, where: str, row: Values) -> SourcedPair:
        """The pair that a row holds.

        Raises:
            SourceError: something is missing, of the wrong kind, or nothing to learn from.
        """
        present = {name: value for name, value in row.items() if value is not None}
        try:
            refuse_unread(present)
            missing = [name for name in self.needs if name not in present]
            if missing:
                held = ", ".join(present) or "nothing"
                named = " and ".join(f'"{name}"' for name in missing)
                raise RowError("missing column", f"no {named}; the row has: {held}.")
            chosen, rejected, given = self.parse(present)
        except RowError as error:
            raise SourceError(error.reason, f"{where}: {error}") from None
        for side, messages in (("chosen", chosen), ("rejected", rejected)):
            if len(messages) <= given:
                raise SourceError("no answer", f"{where}: {side} holds no answer.")
            check_messages(where, messages)
        if chosen == rejected:
            raise SourceError("identical answers", f"{where}: chosen and rejected are the same.")
        if not given or chosen[given].role != "assistant" or rejected[given].role != "assistant":
            raise SourceError(
                "prompts differ", f"{where}: chosen and rejected do not answer the same prompt."
            )
        return SourcedPair(where, chosen, rejected, given)


def _explicit(row: Values) -> Sides:
    front = _prompt(row["prompt"])
    sides = [_answer(row[name], name, front) for name in ("chosen", "rejected")]
    kinds = {type(row[name]) for name in ("chosen", "rejected")}
    if len(kinds) > 1:
        raise RowError("not a text", "chosen and rejected: one is a text, the other a list.")
    return sides[0], sides[1], len(front)


def _prompt(prompt: Any) -> Conversation:
    if isinstance(prompt, str):
        if re.match(r"\s*(Human|Assistant):", prompt):
            raise RowError(
                "dialogue in a prompt",
                "the prompt is a dialogue with Human: and Assistant: in one text; give a list of "
                "messages, or whole dialogues as chosen and rejected.",
            )
        return (Message("user", prompt),)
    return messages_of(prompt, "prompt")


def _answer(answer: Any, name: str, front: Conversation) -> Conversation:
    """The whole conversation; where a list begins with the prompt itself, it stands once."""
    if isinstance(answer, str):
        return (*front, Message("assistant", answer))
    messages = messages_of(answer, name)
    return messages if messages[: len(front)] == front else (*front, *messages)


def _implicit(row: Values) -> Sides:
    chosen, rejected = (messages_of(row[name], name) for name in ("chosen", "rejected"))
    given = 0
    for ours, theirs in zip(chosen, rejected, strict=False):
        if ours != theirs:
            break
        given += 1
    if given == len(chosen) == len(rejected):
        raise RowError("identical answers", "chosen and rejected are the same.")
    return chosen, rejected, given


def _dialogues(row: Values) -> Sides:
    sides = []
    for name in ("chosen", "rejected"):
        text = row[name]
        if not isinstance(text, str):
            raise RowError("not a text", f'"{name}" is a {type(text).__name__}, not a text.')
        before, found, answer = text.rpartition(ANSWER)
        if not found or any(mark in answer for mark in TURN):
            raise RowError("no answer", f"{name} does not end with a turn of the Assistant's.")
        sides.append((before, answer.strip()))
    (before, chosen), (other, rejected) = sides
    if before != other:
        raise RowError(
            "prompts differ", "chosen and rejected differ before the last turn of the Assistant's."
        )
    front = _turns(before)
    return (
        (*front, Message("assistant", chosen)),
        (*front, Message("assistant", rejected)),
        len(front),
    )


def _turns(text: str) -> Conversation:
    """The messages of a dialogue: "\\n\\nHuman: Hi\\n\\nAssistant: Yes?" is two."""
    pieces = re.split(r"(\n\nHuman:|\n\nAssistant:)", text)
    if pieces[0].strip():
        raise RowError("text before the first turn", f"text before the first turn: {pieces[0]!r}.")
    turns = zip(pieces[1::2], pieces[2::2], strict=True)
    return tuple(Message(TURN[mark], content.strip()) for mark, content in turns)


PAIR_FORMATS: dict[str, PairFormat] = {
    "explicit_prompt": PairFormat(("prompt", "chosen", "rejected"), _explicit),
    "implicit_prompt": PairFormat(("chosen", "rejected"), _implicit),
    "hh_rlhf": PairFormat(("chosen", "rejected"), _dialogues),
}
"""A prompt of its own, a text or messages; whole conversations; whole dialogues as one text."""


def read_preferences(
    inputs: Sequence[str | Path],
    *,
    format: str = "auto",
    on_error: OnError = "stop",
    limit: int | None = None,
) -> tuple[list[SourcedPair], ParseReport]:
    """The pairs that the rows of `inputs` hold, in order.

    Args:
        format: one of PAIR_FORMATS; "auto" tells it by the columns and texts of the first rows.
        on_error: "skip" counts a row that cannot be understood and goes on.
        limit: the most rows to read, for a look at them.

    Raises:
        SourceError: a row cannot be understood; the message names file and line.
        ConfigError: the format is unknown or uncertain, or no row is left.
    """
    if format != "auto" and format not in PAIR_FORMATS:
        allowed = suggest(format, ["auto", *PAIR_FORMATS])
        raise ConfigError(f'format = "{format}": no such format {allowed}')
    rows = Rows(inputs)
    report = ParseReport(forced=format != "auto", ignored_files=rows.ignored)
    stream = good_rows(islice(rows, limit), report, on_error)
    first = list(islice(stream, FIRST_ROWS))
    if not first:
        raise nothing_left(report)
    report.format = _detected(first) if format == "auto" else format
    chosen = PAIR_FORMATS[report.format]
    found = []
    for where, row in chain(first, stream):
        unread = (name for name in row if name not in (*chosen.needs, *report.ignored_columns))
        report.ignored_columns += unread
        try:
            found.append(chosen.pair(where, row))
        except SourceError as error:
            if on_error == "stop":
                raise
            report.drop(error)
    report.num_kept = len(found)
    if not found:
        raise nothing_left(report)
    return found, report


def _detected(rows: Sequence[Row]) -> str:
    where, keys = rows[0][0], {key for _, row in rows for key in row}
    if not keys >= {"chosen", "rejected"}:
        held = ", ".join(sorted(keys)) or "none"
        raise ConfigError(
            f"{where}: the columns ({held}) are those of no known format; expected chosen and "
            "rejected, with or without prompt."
        )
    if "prompt" in keys:
        return "explicit_prompt"
    answers = [row[name] for _, row in rows for name in ("chosen", "rejected") if row.get(name)]
    lists = sum(isinstance(answer, list) for answer in answers)
    dialogues = sum(isinstance(answer, str) and ANSWER in answer for answer in answers)
    if lists > len(answers) / 2:
        return "implicit_prompt"
    if dialogues > len(answers) / 2:
        return "hh_rlhf"
    raise ConfigError(
        f"{where}: without a column prompt, chosen and rejected must be lists of messages, or "
        "dialogues with \\n\\nHuman: and \\n\\nAssistant: in them; they are neither."
    )


def split_pairs(
    pairs: Sequence[SourcedPair], fraction: float, seed: int
) -> tuple[list[SourcedPair], list[SourcedPair]]:
    """Part pairs into training and validation so that no prompt stands on both sides.

    Raises:
        ConfigError: `fraction` is not between 0 and 1, or a side would be empty.
    """
    conversations = [SourcedConversation(pair.where, pair.chosen) for pair in pairs]
    of = {id(conversation): pair for conversation, pair in zip(conversations, pairs, strict=True)}
    train, held_out = split_by_prompt(conversations, fraction, seed)
    return [of[id(some)] for some in train], [of[id(some)] for some in held_out]
