"""Conversations, preferences and labelled answers from files, with a report of what was dropped."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from foundling.base.config import ConfigError, suggest
from foundling.data.conversations import (
    Held,
    LabelledConversation,
    SourcedConversation,
    SourcedPair,
)
from foundling.data.faults import SourceError
from foundling.data.formats import FORMATS, OLD_NAMES, Kind
from foundling.data.readers.fields import Row
from foundling.data.repair import Repair, repaired
from foundling.data.rows import Rows
from foundling.data.sources import OnError
from foundling.text.chat import Conversation

FIRST_ROWS = 100  # that the format is detected from


@dataclass
class ParseReport:
    """What became of the rows."""

    format: str = ""
    forced: bool = False
    num_read: int = 0
    num_kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)  # by reason
    first_of: dict[str, str] = field(default_factory=dict)  # the first message of each reason
    notes: Counter[str] = field(default_factory=Counter)  # what else was done, and how often
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
        lines += [f"{what}: {count:,}" for what, count in self.notes.most_common()]
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
            "notes": dict(self.notes),
            "ignored_columns": self.ignored_columns,
            "ignored_files": dict(self.ignored_files),
        }


def read_conversations(
    inputs: Sequence[str | Path],
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    repair: Collection[Repair] = (),
    on_error: OnError = "stop",
    limit: int | None = None,
    blank_answers: bool = False,
) -> tuple[list[SourcedConversation], ParseReport]:
    """The conversations that the rows of `inputs` hold, in order.

    Of labelled answers the good ones are conversations; the others are counted as dropped.

    Args:
        format: one of FORMATS; "auto" tells it by the first rows.
        columns: by the format's name of a column, the file's name of it.
        repair: how conversations that are out of order are mended; by default they are faults.
        on_error: "skip" counts a row that cannot be understood and goes on.
        limit: the most rows to read, for a look at them.
        blank_answers: the last answer may be empty.

    Raises:
        SourceError: a row cannot be understood; the message names file and line.
        ConfigError: the format is unknown or uncertain, or no row is left.
    """

    def checked(held: Held, report: ParseReport) -> SourcedConversation:
        assert isinstance(held, SourcedConversation)
        if isinstance(held, LabelledConversation) and not held.label:
            raise Unwanted("labelled bad", f"{held.where}: the answer's label is false.")
        return _in_order(held, report, repair, blank_answers=blank_answers)

    kinds: tuple[Kind, ...] = ("conversations", "labelled answers")
    return _read(inputs, kinds, checked, format, columns, on_error, limit)


def read_pairs(
    inputs: Sequence[str | Path],
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    on_error: OnError = "stop",
    limit: int | None = None,
) -> tuple[list[SourcedPair], ParseReport]:
    """The pairs of answers that the rows of `inputs` hold, in order.

    Labelled answers are paired by prompt, the first good one with the first bad one and so on; what
    is left over is counted as dropped.

    Args, Raises: as `read_conversations`.
    """
    kinds: tuple[Kind, ...] = ("preferences", "labelled answers")
    found, report = _read(inputs, kinds, _checked, format, columns, on_error, limit)
    labelled = [held for held in found if isinstance(held, LabelledConversation)]
    pairs = [held for held in found if isinstance(held, SourcedPair)] + _paired(labelled, report)
    if not pairs:
        raise nothing_left(report)
    return pairs, report


def read_labelled(
    inputs: Sequence[str | Path],
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    on_error: OnError = "stop",
    limit: int | None = None,
) -> tuple[list[LabelledConversation], ParseReport]:
    """The answers that the rows of `inputs` label as good or bad, in order; a pair is one of each.

    Args, Raises: as `read_conversations`.
    """
    kinds: tuple[Kind, ...] = ("labelled answers", "preferences")
    found, report = _read(inputs, kinds, _checked, format, columns, on_error, limit)
    labelled: list[LabelledConversation] = []
    for held in found:
        if isinstance(held, SourcedPair):
            labelled += held.sides
        else:
            assert isinstance(held, LabelledConversation)
            labelled.append(held)
    return labelled, report


def read_shown(
    inputs: Sequence[str | Path],
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    repair: Collection[Repair] = (),
    on_error: OnError = "stop",
) -> tuple[list[SourcedConversation], ParseReport]:
    """All conversations of rows of any kind, to look at them: a pair is two, marked as such.

    Args, Raises: as `read_conversations`.
    """

    def checked(held: Held, report: ParseReport) -> list[SourcedConversation]:
        if isinstance(held, SourcedPair):
            held.check()
            names = zip(("chosen", "rejected"), held.sides, strict=True)
            return [replace(side, where=f"{side.where} ({name})") for name, side in names]
        held = _in_order(held, report, repair)
        if isinstance(held, LabelledConversation):
            held = replace(held, where=f"{held.where} (label {str(held.label).lower()})")
        return [held]

    kinds: tuple[Kind, ...] = ("conversations", "preferences", "labelled answers")
    found, report = _read(inputs, kinds, checked, format, columns, on_error, None)
    return [conversation for some in found for conversation in some], report


def _in_order(
    held: SourcedConversation,
    report: ParseReport,
    repair: Collection[Repair],
    *,
    blank_answers: bool = False,
) -> SourcedConversation:
    """The conversation, repaired if so wished and checked."""
    if repair:
        held, done = repaired(held, repair)
        report.notes.update(done)
    try:
        held.check(blank_answers=blank_answers)
    except SourceError as error:
        if error.reason not in REPAIRABLE or repair:
            raise
        raise SourceError(
            error.reason, f'{error} data.repair = ["merge", "trim"] mends such rows.'
        ) from None
    return held


REPAIRABLE = ("roles out of order", "empty answer")


class Unwanted(SourceError):
    """A row that is well-formed but not to be learned from; it is always dropped."""


_Held = TypeVar("_Held")


def _checked(held: Held, report: ParseReport) -> Held:
    held.check()
    return held


def _read(
    inputs: Sequence[str | Path],
    kinds: Collection[Kind],
    checked: Callable[[Held, ParseReport], _Held],
    format: str,
    columns: Mapping[str, str] | None,
    on_error: OnError,
    limit: int | None,
) -> tuple[list[_Held], ParseReport]:
    name = format if format == "auto" else known_format(format, kinds)
    rows = Rows(inputs)
    report = ParseReport(forced=name != "auto", ignored_files=rows.ignored)
    stream = islice(_good(rows, report, on_error), limit)
    first = list(islice(stream, FIRST_ROWS))
    if not first:
        raise nothing_left(report)
    renamed = _renaming(first, columns or {})
    report.format = detect([renamed(row) for row in first], kinds) if name == "auto" else name
    chosen = FORMATS[report.format]
    found, ignored = [], dict[str, None]()
    for where, row in map(renamed, chain(first, stream)):
        ignored |= dict.fromkeys(name for name in row if chosen.column(name, row) is None)
        try:
            found.append(checked(chosen.read(where, row), report))
        except SourceError as error:
            if on_error == "stop" and not isinstance(error, Unwanted):
                raise
            report.drop(error)
    report.num_kept, report.ignored_columns = len(found), list(ignored)
    if not found:
        raise nothing_left(report)
    return found, report


def _good(rows: Rows, report: ParseReport, on_error: OnError) -> Iterator[Row]:
    """The rows that can be read; the others are counted, or raised."""

    def drop(fault: SourceError) -> None:
        report.num_read += 1
        report.drop(fault)

    advice = ' on_error = "skip" leaves out what cannot be read.'
    for row in rows.read(drop if on_error == "skip" else None, advice):
        report.num_read += 1
        yield row


def _renaming(first: Sequence[Row], columns: Mapping[str, str]) -> Callable[[Row], Row]:
    """Gives a row's columns the names that the user says they have in the format."""
    held = list(dict.fromkeys(name for _, row in first for name in row))
    for ours, theirs in columns.items():
        if theirs not in held:
            raise ConfigError(
                f'columns: {ours} = "{theirs}": no such column {suggest(theirs, held)}'
            )

    def renamed(row: Row) -> Row:
        where, values = row
        if not columns:
            return row
        others = {n: v for n, v in values.items() if n not in (*columns, *columns.values())}
        return where, {ours: values.get(theirs) for ours, theirs in columns.items()} | others

    return renamed


def known_format(name: str, kinds: Collection[Kind]) -> str:
    """The name of a format of one of `kinds`, also by the one that it had in former versions.

    Raises:
        ConfigError: there is none of this name.
    """
    name = OLD_NAMES.get(name, name)
    allowed = [name for name, format in FORMATS.items() if format.kind in kinds]
    if name in allowed:
        return name
    why = f"holds {FORMATS[name].kind}, not {' or '.join(kinds)}" if name in FORMATS else ""
    raise ConfigError(f'format = "{name}": {why or "no such format"} {suggest(name, allowed)}')


def detect(rows: Sequence[Row], kinds: Collection[Kind]) -> str:
    """The name of the format that the rows have.

    Raises:
        SourceError: they fit none of `kinds`, or several.
    """
    where, values = rows[0][0], [row for _, row in rows]
    columns = list(dict.fromkeys(name for row in values for name in row))
    by_columns = [name for name, format in FORMATS.items() if format.fits(columns)]
    wanted = [name for name in by_columns if FORMATS[name].kind in kinds]
    fitting = [name for name in wanted if FORMATS[name].looks(values)]
    # The most telling columns decide, then those that have the format's own names.
    needs = {name: set(FORMATS[name].needs) for name in fitting}
    fitting = [n for n in fitting if not any(needs[n] < needs[other] for other in fitting)]
    if len(fitting) > 1:
        fitting = [n for n in fitting if FORMATS[n].fits(columns, exactly=True)] or fitting
    if len(fitting or wanted) == 1:
        return (fitting or wanted)[0]
    held = ", ".join(columns) or "none"
    if fitting:
        raise SourceError(
            "several formats",
            f"{where}: the columns ({held}) fit several formats ({', '.join(fitting)}); name one.",
        )
    raise SourceError("unknown format", f"{where}: {_why_none(held, by_columns, kinds)}")


def _why_none(held: str, by_columns: Sequence[str], kinds: Collection[Kind]) -> str:
    if {"implicit_prompt", "hh_rlhf"} <= set(by_columns) and "preferences" in kinds:
        return (
            "without a column prompt, chosen and rejected must be lists of messages, or dialogues "
            "with \\n\\nHuman: and \\n\\nAssistant: in them; they are neither."
        )
    others = [name for name in by_columns if FORMATS[name].kind not in (*kinds, "prompts")]
    if others:
        return (
            f"the columns ({held}) are those of {FORMATS[others[0]].kind} ({others[0]}), not of "
            f"{' or '.join(kinds)}; --columns OURS=THEIRS,... says what to read as what."
        )
    known = "; ".join(
        f"{name}: {', '.join(format.needs)}"
        for name, format in FORMATS.items()
        if format.kind in kinds
    )
    return (
        f"the columns ({held}) fit no known format ({known}); --columns OURS=THEIRS,... says "
        "which is which."
    )


def _paired(labelled: Sequence[LabelledConversation], report: ParseReport) -> list[SourcedPair]:
    """The good and the bad answers to each prompt, one by one."""
    by_prompt = defaultdict[Conversation, tuple[list[Any], list[Any]]](lambda: ([], []))
    for answer in labelled:
        by_prompt[answer.prompt][0 if answer.label else 1].append(answer)
    pairs = []
    for good, bad in by_prompt.values():
        for chosen, rejected in zip(good, bad, strict=False):
            pair = SourcedPair(chosen.where, chosen.messages, rejected.messages, chosen.given)
            try:
                pair.check()
                pairs.append(pair)
            except SourceError as error:  # the same answer, labelled both ways
                report.drop(error)
        n = min(len(good), len(bad))
        for answer in (*good[n:], *bad[n:]):
            message = f"{answer.where}: no answer of the other label to the same prompt."
            report.drop(SourceError("no counterpart", message))
    if labelled:
        report.num_kept -= len(labelled) - 2 * len(pairs)
        report.notes["pairs of a good and a bad answer to one prompt"] = len(pairs)
    return pairs


def nothing_left(report: ParseReport) -> ConfigError:
    """What is wrong where no row is left."""
    first = next(iter(report.first_of.values()), "the inputs hold none.")
    return ConfigError(f"No row is left of {report.num_read:,}; the first fault: {first}")
