"""Preferences and ready answers that others wrote to files, as pairs and votes."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foundling.base.config import ConfigError, suggest
from foundling.data.conversations import (
    ParseReport,
    good_rows,
    nothing_left,
    read_conversations,
)
from foundling.data.faults import SourceError
from foundling.data.formats import RowError
from foundling.data.rows import Rows
from foundling.data.sources import OnError
from foundling.preferences.forms import FORMS, HUMAN, Labelled, Preferred, Read, prompted
from foundling.preferences.records import Answer, Pair, Verdict
from foundling.preferences.store import PreferenceStore
from foundling.text.chat import Conversation, check_roles

ANSWERS = ("answer", "completion", "response")  # columns that hold the answer to a "prompt"


@dataclass
class ImportReport:
    """What became of the rows."""

    form: str = ""
    num_read: int = 0
    num_pairs: int = 0  # that were new
    num_known: int = 0  # pairs or votes that the store had already
    dropped: Counter[str] = field(default_factory=Counter)  # by reason
    first_of: dict[str, str] = field(default_factory=dict)  # the first message of each reason

    def drop(self, error: SourceError) -> None:
        self.dropped[error.reason] += 1
        self.first_of.setdefault(error.reason, str(error))

    def lines(self) -> list[str]:
        """The report for people."""
        lines = [f"form {self.form}: {self.num_read:,} rows read, {self.num_pairs:,} new pairs"]
        if self.num_known:
            lines.append(f"known already: {self.num_known:,}")
        lines += [
            f"dropped {count:,}: {reason}, first {self.first_of[reason]}"
            for reason, count in self.dropped.most_common()
        ]
        return lines

    def values(self) -> dict[str, Any]:
        """The report in plain types, for `--json`."""
        return {
            "form": self.form,
            "read": self.num_read,
            "pairs": self.num_pairs,
            "known": self.num_known,
            "dropped": dict(self.dropped),
            "first_of": self.first_of,
        }


def read_preferences(
    inputs: Sequence[str | Path], *, form: str = "auto", on_error: OnError = "stop"
) -> tuple[list[tuple[str, Preferred]], ImportReport]:
    """What the rows of `inputs` prefer, each with its place.

    Labelled answers (KTO) are paired by prompt, the first good with the first bad one and so on;
    what is left over is counted as dropped.

    Args:
        form: one of FORMS; "auto" tells it by the first row.

    Raises:
        SourceError: a row cannot be understood; the message names file and line.
        ConfigError: the form is unknown, or no row is left.
    """
    if form not in ("auto", *FORMS):
        raise ConfigError(f'form = "{form}": no such form {suggest(form, ["auto", *FORMS])}')
    report = ImportReport(form)
    read = list(_parsed(inputs, report, on_error))
    found = [(where, given) for where, given in read if isinstance(given, Preferred)]
    labelled = [(where, given) for where, given in read if isinstance(given, Labelled)]
    found += _paired(labelled, report)
    if not found:
        first = next(iter(report.first_of.values()), "the inputs hold none.")
        raise ConfigError(f"No pair is left of {report.num_read:,} rows; the first fault: {first}")
    return found, report


def import_preferences(
    store: PreferenceStore,
    inputs: Sequence[str | Path],
    *,
    form: str = "auto",
    annotator: str = "imported",
    on_error: OnError = "stop",
    seed: int = 0,
) -> ImportReport:
    """Put the pairs of files into the store, with the votes that they stand for.

    Which answer is "A" is drawn by `seed`, so that the sides say nothing. The sources are
    "chosen" and "rejected", as files do not name models. The same file twice is once.

    Raises:
        SourceError, ConfigError: as `read_preferences`.
    """
    found, report = read_preferences(inputs, form=form, on_error=on_error)
    store.add_annotator(annotator)
    pairs, verdicts = [], list[Verdict]()
    for where, given in found:
        chosen, rejected = Answer(given.chosen, "chosen"), Answer(given.rejected, "rejected")
        texts = "/".join(message.content for message in given.prompt)
        swap = random.Random(f"{seed}/{texts}/{given.chosen}").random() < 0.5
        a, b = (rejected, chosen) if swap else (chosen, rejected)
        pairs.append(Pair(given.prompt, a, b, prompt_source=where.rsplit("/", 1)[-1]))
        verdicts.append("B" if swap else "A")
    ids = store.add_pairs(pairs)
    report.num_pairs = store.judge_pairs(annotator, dict(zip(ids, verdicts, strict=True)))
    report.num_known = len(found) - report.num_pairs
    return report


def read_answers(
    inputs: Sequence[str | Path], source: str, *, on_error: OnError = "stop"
) -> tuple[dict[Conversation, Answer], ParseReport]:
    """Ready answers by their prompts; a second answer to a prompt is counted as dropped.

    A row has "prompt", a text or messages, and one of ANSWERS; any other format of instruction
    data will do too: the last message is the answer.

    Raises:
        SourceError, ConfigError: as `foundling.data.conversations.read_conversations`.
    """
    first = next((found for found in Rows(inputs) if not isinstance(found, SourceError)), None)
    if first is not None and "prompt" in first[1]:
        report = ParseReport("prompt and answer")
        read = list(_prompted_answers(inputs, report, on_error))
        if not read:
            raise nothing_left(report)
    else:
        conversations, report = read_conversations(inputs, on_error=on_error)
        read = [(c.where, c.messages[:-1], c.messages[-1].content) for c in conversations]
    answers: dict[Conversation, Answer] = {}
    for where, prompt, text in read:
        if prompt in answers:
            message = f"{where}: the prompt has an answer already."
            report.drop(SourceError("second answer", message))
        else:
            answers[prompt] = Answer(text, source)
    report.num_kept = len(answers)
    return answers, report


def _prompted_answers(
    inputs: Sequence[str | Path], report: ParseReport, on_error: OnError
) -> Iterator[tuple[str, Conversation, str]]:
    for where, row in good_rows(Rows(inputs), report, on_error):
        named = [name for name in ANSWERS if row.get(name) is not None]
        try:
            if len(named) != 1 or row.get("prompt") is None:
                held = ", ".join(row) or "nothing"
                raise RowError(
                    "missing column",
                    f'give "prompt" and one of {", ".join(ANSWERS)}; it has: {held}.',
                )
            prompt, answer = prompted(row["prompt"], row[named[0]])
            check_roles(prompt, training=False)
            yield where, prompt, answer
        except (RowError, ConfigError) as error:
            reason = error.reason if isinstance(error, RowError) else "roles out of order"
            fault = SourceError(reason, f"{where}: {error}")
            if on_error == "stop":
                raise fault from None
            report.drop(fault)


def _parsed(
    inputs: Sequence[str | Path], report: ImportReport, on_error: OnError
) -> Iterator[tuple[str, Read]]:
    for found in Rows(inputs):
        report.num_read += 1
        try:
            if isinstance(found, SourceError):
                raise found
            where, row = found
            if report.form == "auto":
                report.form = _detect(where, row)
            yield where, _read(where, row, report.form)
        except SourceError as error:
            if on_error == "stop":
                raise
            report.drop(error)


def _detect(where: str, row: dict[str, Any]) -> str:
    fitting = [name for name, form in FORMS.items() if set(form.needs) <= set(row)]
    if "explicit" in fitting:
        return "explicit"
    if "hh" in fitting:
        dialogue = row["chosen"]
        return "hh" if isinstance(dialogue, str) and dialogue.startswith(HUMAN) else "messages"
    if fitting:
        return fitting[0]
    known = "; ".join(f"{name}: {', '.join(form.needs)}" for name, form in FORMS.items())
    held = ", ".join(row) or "none"
    raise SourceError("unknown form", f"{where}: the columns ({held}) fit no form ({known}).")


def _read(where: str, row: dict[str, Any], form: str) -> Read:
    missing = [name for name in FORMS[form].needs if row.get(name) is None]
    if missing:
        held = ", ".join(row) or "none"
        raise SourceError("missing column", f'{where}: no "{missing[0]}"; the row has: {held}.')
    try:
        given = FORMS[form].read(row)
        check_roles(given.prompt, training=False)
    except RowError as error:
        raise SourceError(error.reason, f"{where}: {error}") from None
    except ConfigError as error:
        raise SourceError("roles out of order", f"{where}: {error}") from None
    return given


def _paired(
    labelled: Sequence[tuple[str, Labelled]], report: ImportReport
) -> list[tuple[str, Preferred]]:
    by_prompt: dict[Conversation, tuple[list[tuple[str, str]], list[tuple[str, str]]]]
    by_prompt = defaultdict(lambda: ([], []))
    for where, given in labelled:
        by_prompt[given.prompt][0 if given.label else 1].append((where, given.completion))
    found = []
    for prompt, (good, bad) in by_prompt.items():
        for (where, chosen), (_, rejected) in zip(good, bad, strict=False):
            found.append((where, Preferred(prompt, chosen, rejected)))
        n = min(len(good), len(bad))
        for where, _ in (*good[n:], *bad[n:]):
            message = f"{where}: no answer of the other label to the same prompt."
            report.drop(SourceError("no counterpart", message))
    return found
