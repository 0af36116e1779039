"""Conversations, preferences and labelled answers from files, with a report of what was dropped."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

from foundling.data.columns import renaming
from foundling.data.conversations import (
    Held,
    LabelledConversation,
    SourcedConversation,
    SourcedPair,
)
from foundling.data.detection import detect, known_format
from foundling.data.formats import FORMATS, Kind
from foundling.data.messages import unweighted
from foundling.data.parse_report import ParseReport, nothing_left
from foundling.data.readers.fields import Row
from foundling.data.repair import Repair, repaired
from foundling.data.rows import Rows
from foundling.data.source_errors import SourceError
from foundling.data.sources import OnError
from foundling.data.tool_calls import unescaped

FIRST_ROWS = 100  # that the format is detected from
SKIP = 'data.on_error = "skip"'
COLUMNS = " --columns OURS=THEIRS,... says which is which."
REPAIR = 'data.repair = ["merge", "trim"]'


class How(TypedDict, total=False):
    """How rows are read.

    format: one of FORMATS; "auto", the default, identifies it by the first rows.
    columns: by the format's name of a column, the file's name of it.
    on_error: "skip" counts a row that cannot be understood and reads the next.
    limit: the most rows to read.
    skip: how the user sets on_error, for the messages; empty where neither on_error nor columns
        can be set.
    repair: how turns that are out of order are repaired; by default they are faults.
    repair_by: how the user sets repair, for the messages; empty where it cannot be set.
    """

    format: str
    columns: Mapping[str, str]
    on_error: OnError
    limit: int | None
    skip: str
    repair: Collection[Repair]
    repair_by: str


def read_conversations(
    inputs: Sequence[str | Path], *, blank_answers: bool = False, **how: Unpack[How]
) -> tuple[list[SourcedConversation], ParseReport]:
    """The conversations that the rows of `inputs` hold, in order.

    The good ones of labelled answers are conversations; the bad ones are counted as dropped.

    Args:
        blank_answers: the answers are looked at, not learned from: the last one may be empty, and
            weights do not matter.
        how: see How.

    Raises:
        SourceError: a row cannot be understood; the message names file and line.
        ConfigError: the format is unknown or uncertain, or no row is left.
    """

    def checked(held: Held) -> SourcedConversation:
        assert isinstance(held, SourcedConversation)
        if isinstance(held, LabelledConversation) and not held.label:
            raise Unwanted("labelled bad", f"{held.where}: the answer's label is false.")
        held.check(blank_answers=blank_answers)
        return held if blank_answers else _learned(held)

    return _read(inputs, ("conversations", "labelled answers"), checked, **how)


def read_pairs(
    inputs: Sequence[str | Path], **how: Unpack[How]
) -> tuple[list[SourcedPair], ParseReport]:
    """The pairs of answers that the rows of `inputs` hold, in order.

    Labelled answers are paired by prompt, the first good one with the first bad one and so on; what
    is left over is counted as dropped.

    Raises:
        SourceError, ConfigError: as `read_conversations`.
    """
    found, report = _read(inputs, ("preferences", "labelled answers"), _checked, **how)
    labelled = [held for held in found if isinstance(held, LabelledConversation)]
    pairs = [held for held in found if isinstance(held, SourcedPair)] + _paired(labelled, report)
    if not pairs:
        raise nothing_left(report)
    return pairs, report


def read_labelled(
    inputs: Sequence[str | Path], **how: Unpack[How]
) -> tuple[list[LabelledConversation], ParseReport]:
    """The answers that the rows of `inputs` label as good or bad, in order; a pair is one of each.

    Raises:
        SourceError, ConfigError: as `read_conversations`.
    """
    found, report = _read(inputs, ("labelled answers", "preferences"), _checked, **how)
    sides = (held.sides if isinstance(held, SourcedPair) else (held,) for held in found)
    labelled = [side for some in sides for side in some]
    return [side for side in labelled if isinstance(side, LabelledConversation)], report


def read_shown(
    inputs: Sequence[str | Path], **how: Unpack[How]
) -> tuple[list[SourcedConversation], ParseReport]:
    """All conversations of rows of any kind, to look at them: a pair is two, marked as such.

    Raises:
        SourceError, ConfigError: as `read_conversations`.
    """

    def checked(held: Held) -> list[SourcedConversation]:
        _checked(held)
        if isinstance(held, SourcedPair):
            names = zip(("chosen", "rejected"), held.sides, strict=True)
            return [replace(side, where=f"{side.where} ({name})") for name, side in names]
        if isinstance(held, LabelledConversation):
            held = replace(held, where=f"{held.where} (label {str(held.label).lower()})")
        return [held]

    kinds: tuple[Kind, ...] = ("conversations", "preferences", "labelled answers")
    how.setdefault("repair_by", "--repair merge,trim")
    found, report = _read(inputs, kinds, checked, **how)
    return [conversation for some in found for conversation in some], report


REPAIRABLE = ("roles out of order", "empty answer")


class Unwanted(SourceError):
    """A row that is well-formed but not to be learned from; it is always dropped."""


H = TypeVar("H", bound=Held)
_Found = TypeVar("_Found")


def _learned(held: H) -> H:
    """Raises Unwanted: nothing of it is to be learned."""
    if not held.is_learned:
        raise Unwanted("weight 0", f"{held.where}: the weight of every answer is 0.")
    return held


def _checked(held: H) -> H:
    held.check()
    return _learned(held)


def _read(
    inputs: Sequence[str | Path],
    kinds: Collection[Kind],
    checked: Callable[[Held], _Found],
    *,
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    on_error: OnError = "stop",
    limit: int | None = None,
    skip: str = SKIP,
    repair: Collection[Repair] = (),
    repair_by: str | None = None,
) -> tuple[list[_Found], ParseReport]:
    if repair_by is None:
        repair_by = REPAIR if skip == SKIP else ""
    name = format if format == "auto" else known_format(format, kinds)
    rows = Rows(inputs)
    report = ParseReport(forced=name != "auto", ignored_files=rows.ignored)
    stream = islice(_good(rows, report, on_error, skip), limit)
    first = list(islice(stream, FIRST_ROWS))
    if not first:
        raise nothing_left(report)
    columns = columns or {}
    if not {name for _, row in first for name in row}.issuperset(columns.values()):
        first += stream  # a column may be sparse
    renamed = renaming(first, columns)
    if name == "auto":
        name = detect([renamed(row) for row in first], kinds, COLUMNS if skip else "")
    report.format, chosen = name, FORMATS[name]
    replaced = columns.keys() - set(columns.values())
    found, ignored = [], dict[str, None]()
    for given in chain(first, stream):
        ignored |= dict.fromkeys(name for name in given[1] if name in replaced)
        where, row = renamed(given)
        ignored |= dict.fromkeys(chosen.unread(row))
        try:
            held, done = chosen.read(where, row), list[str]()
            if repair:
                held, done = repaired(held, repair)
            found.append(checked(held))
            report.notes.update(done)
        except SourceError as error:
            if on_error == "stop" and not isinstance(error, Unwanted):
                raise error if repair else _with_advice(error, repair_by) from None
            report.drop(error)
    report.num_kept, report.ignored_columns = len(found), list(ignored)
    if not found:
        raise nothing_left(report)
    return found, report


def _with_advice(error: SourceError, repair_by: str) -> SourceError:
    if error.reason not in REPAIRABLE or not repair_by:
        return error
    return SourceError(error.reason, f"{error} {repair_by} repairs such rows.")


def _good(rows: Rows, report: ParseReport, on_error: OnError, skip: str) -> Iterator[Row]:
    """The rows that can be read; the others are counted, or raised."""

    def drop(fault: SourceError) -> None:
        report.num_read += 1
        report.drop(fault)

    advice = f" {skip} leaves out what cannot be read." if skip else ""
    for row in rows.read(drop if on_error == "skip" else None, advice):
        report.num_read += 1
        yield row


def _paired(labelled: Sequence[LabelledConversation], report: ParseReport) -> list[SourcedPair]:
    """Pairs of a good and a bad answer to the same prompt."""
    by_prompt = defaultdict[Any, tuple[list[Any], list[Any]]](lambda: ([], []))
    for answer in labelled:
        key = unweighted(answer.prompt), unescaped(answer.tools)
        by_prompt[key][0 if answer.label else 1].append(answer)
    pairs = []
    for good, bad in by_prompt.values():
        for chosen, rejected in zip(good, bad, strict=False):
            pair = SourcedPair(
                chosen.where,
                chosen.messages,
                rejected.messages,
                chosen.given,
                tools=chosen.tools,
            )
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
