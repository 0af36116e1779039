"""Conversations to learn from, with a report of what was read, kept and dropped."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from foundling.base.config import ConfigError, suggest
from foundling.data.faults import SourceError
from foundling.data.formats import FORMATS, Format, RowError
from foundling.data.readers.fields import Row, half_a_pair
from foundling.data.rows import Rows
from foundling.data.sources import OnError
from foundling.text.chat import Conversation, check_roles

FIRST_ROWS = 100  # that the format is detected from


@dataclass(frozen=True)
class SourcedConversation:
    """A conversation and the row that it came from.

    The first `given` messages are prompt, whoever wrote them.
    """

    where: str  # FILE:LINE or FILE#ROW
    messages: Conversation
    given: int = 0


@dataclass
class ParseReport:
    """What became of the rows."""

    format: str = ""
    forced: bool = False
    num_read: int = 0
    num_kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)  # by reason
    first_of: dict[str, str] = field(default_factory=dict)  # the first message of each reason
    ignored_columns: list[str] = field(default_factory=list)
    ignored_files: Counter[str] = field(default_factory=Counter)  # by suffix

    def drop(self, error: SourceError) -> None:
        self.dropped[error.reason] += 1
        self.first_of.setdefault(error.reason, str(error))

    def lines(self) -> list[str]:
        """The report for people."""
        how = "as you said" if self.forced else "detected"
        lines = [f"format {self.format} ({how}): {self.num_kept:,} of {self.num_read:,} rows kept"]
        lines += [
            f"dropped {count:,}: {reason}, first {self.first_of[reason]}"
            for reason, count in self.dropped.most_common()
        ]
        if self.ignored_columns:
            lines.append(f"ignored columns: {', '.join(self.ignored_columns)}")
        if self.ignored_files:
            named = ", ".join(f"{count} {end}" for end, count in self.ignored_files.items())
            lines.append(f"ignored files: {named}")
        return lines

    def values(self) -> dict[str, Any]:
        """The report in plain types, for `--json`."""
        return {
            "format": self.format,
            "forced": self.forced,
            "read": self.num_read,
            "kept": self.num_kept,
            "dropped": dict(self.dropped),
            "first_of": self.first_of,
            "ignored_columns": self.ignored_columns,
            "ignored_files": dict(self.ignored_files),
        }


def read_conversations(
    inputs: Sequence[str | Path],
    *,
    format: str = "auto",
    on_error: OnError = "stop",
    limit: int | None = None,
) -> tuple[list[SourcedConversation], ParseReport]:
    """The conversations that the rows of `inputs` hold, in order.

    Args:
        format: one of FORMATS; "auto" tells it by the columns of the first rows.
        on_error: "skip" counts a row that cannot be understood and goes on.
        limit: the most rows to read, for a look at them.

    Raises:
        SourceError: a row cannot be understood; the message names file and line.
        ConfigError: the format is unknown or uncertain, or no row is left.
    """
    rows = Rows(inputs)
    report = ParseReport(forced=format != "auto", ignored_files=rows.ignored)
    stream = good_rows(islice(rows, limit), report, on_error)
    first = list(islice(stream, FIRST_ROWS))
    if not first:
        raise nothing_left(report)
    report.format = _detect(first) if format == "auto" else _known(format)
    chosen = FORMATS[report.format]
    found = []
    for where, row in chain(first, stream):
        names = (name for name in row if not chosen.reads(name))
        report.ignored_columns += (n for n in names if n not in report.ignored_columns)
        try:
            found.append(_conversation(where, row, chosen))
        except SourceError as error:
            if on_error == "stop":
                raise
            report.drop(error)
    report.num_kept = len(found)
    if not found:
        raise nothing_left(report)
    return found, report


def good_rows(
    rows: Iterable[Row | SourceError], report: ParseReport, on_error: OnError
) -> Iterator[Row]:
    """The rows that can be read; the others are counted, or raised."""
    for found in rows:
        report.num_read += 1
        if not isinstance(found, SourceError):
            yield found
        elif on_error == "stop":
            raise found
        else:
            report.drop(found)


def _known(format: str) -> str:
    if format not in FORMATS:
        raise ConfigError(f'format = "{format}": no such format {suggest(format, list(FORMATS))}')
    return format


def _detect(rows: Sequence[Row]) -> str:
    keys = list(dict.fromkeys(key for _, row in rows for key in row))
    fitting = [name for name, format in FORMATS.items() if format.fits(keys)]
    if len(fitting) == 1:
        return fitting[0]
    where, held = rows[0][0], ", ".join(keys) or "none"
    if fitting:
        raise ConfigError(
            f"{where}: the columns ({held}) fit several formats ({', '.join(fitting)}); name one."
        )
    known = "; ".join(f"{name}: {', '.join(format.needs)}" for name, format in FORMATS.items())
    raise ConfigError(f"{where}: the columns ({held}) fit no known format ({known}).")


def _conversation(where: str, row: dict[str, Any], format: Format) -> SourcedConversation:
    try:
        parsed = format.conversation(row)
    except RowError as error:
        raise SourceError(error.reason, f"{where}: {error}") from None
    check_messages(where, parsed.messages)
    if parsed.given >= len(parsed.messages):
        raise SourceError("no answer", f"{where}: the completion holds no message.")
    return SourcedConversation(where, parsed.messages, parsed.given)


def check_messages(where: str, messages: Conversation) -> None:
    """Raises SourceError: the messages at `where` are not Unicode, blank or out of order."""
    for message in messages:
        try:
            message.content.encode()
        except UnicodeEncodeError as error:
            raise half_a_pair(where, message.content, error) from None
        if message.role != "system" and not message.content.strip():
            what = "prompt" if message.role == "user" else "answer"
            raise SourceError(f"empty {what}", f"{where}: the {what} is empty.")
    try:
        check_roles(messages, training=True)
    except ConfigError as error:
        raise SourceError("roles out of order", f"{where}: {error}") from None


def nothing_left(report: ParseReport) -> ConfigError:
    """What is wrong where no row is left."""
    first = next(iter(report.first_of.values()), "the inputs hold none.")
    return ConfigError(f"No row is left of {report.num_read:,}; the first fault: {first}")
