"""Preferences and ready answers that others wrote to files, as pairs and votes."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from foundling.data.conversations import SourcedPair
from foundling.data.message_checks import check_shown
from foundling.data.messages import unweighted
from foundling.data.parse_report import ParseReport, nothing_left
from foundling.data.reading import How, read_conversations, read_pairs
from foundling.data.source_errors import SourceError
from foundling.preferences.records import Answer, Pair, Side
from foundling.preferences.store import PreferenceStore
from foundling.text.chat import Conversation


@dataclass
class ImportReport:
    """What became of the rows, and of the pairs in the store."""

    parsed: ParseReport
    num_pairs: int = 0  # that were new
    num_known: int = 0  # pairs or votes that the store had already

    def lines(self) -> list[str]:
        """The report for people."""
        lines = [*self.parsed.lines(), f"{self.num_pairs:,} new pairs"]
        return [*lines, f"known already: {self.num_known:,}"] if self.num_known else lines

    def values(self) -> dict[str, Any]:
        """The report in plain types, for `--json`."""
        return {**self.parsed.values(), "pairs": self.num_pairs, "known": self.num_known}


def read_preferences(
    inputs: Sequence[str | Path], **how: Unpack[How]
) -> tuple[list[SourcedPair], ParseReport]:
    """The pairs of `inputs` that can be shown to people, whose answers are one message each.

    Raises:
        SourceError, ConfigError: as `foundling.data.reading.read_pairs`.
    """
    found, report = read_pairs(inputs, **how)
    kept = []
    for pair in found:
        try:
            _check_shown(pair)
            kept.append(pair)
        except SourceError as error:
            if how.get("on_error") != "skip":
                raise
            report.drop(error)
    if not kept:
        raise nothing_left(report)
    report.num_kept -= len(found) - len(kept)
    return kept, report


def _check_shown(pair: SourcedPair) -> None:
    """Raises SourceError: the pair cannot be shown to people."""
    for side in (pair.chosen, pair.rejected):
        check_shown(pair.where, side, pair.tools)
        if len(side) != pair.given + 1:
            raise SourceError("several turns", f"{pair.where}: an answer has several messages.")


def as_shown(pair: SourcedPair, sources: tuple[str, str], seed: str) -> tuple[Answer, Answer, Side]:
    """Answers A and B of a pair, and which of them is the chosen one, drawn by `seed`.

    Args:
        sources: of the chosen and of the rejected answer.
    """
    answers = [
        Answer(side[-1].content, source)
        for side, source in zip((pair.chosen, pair.rejected), sources, strict=True)
    ]
    if random.Random(seed).random() < 0.5:
        return answers[1], answers[0], "B"
    return answers[0], answers[1], "A"


def import_preferences(
    store: PreferenceStore,
    found: Sequence[SourcedPair],
    report: ParseReport,
    *,
    annotator: str = "imported",
    seed: int = 0,
) -> ImportReport:
    """Put pairs into the store, with the votes that they stand for; doing so twice is idempotent.

    Which answer is "A" is drawn by `seed`, so that the sides say nothing. The sources are
    "chosen" and "rejected", as files do not name models.
    """
    store.add_annotator(annotator)
    pairs, verdicts = [], list[Side]()
    for given in found:
        texts = "/".join(message.content for message in given.prompt)
        key = f"{seed}/{texts}/{given.chosen[-1].content}"
        a, b, better = as_shown(given, ("chosen", "rejected"), key)
        pairs.append(Pair(given.prompt, a, b, prompt_source=given.where.rsplit("/", 1)[-1]))
        verdicts.append(better)
    ids = store.add_pairs(pairs)
    new = store.judge_pairs(annotator, dict(zip(ids, verdicts, strict=True)))
    return ImportReport(report, new, len(found) - new)


def read_answers(
    inputs: Sequence[str | Path], source: str
) -> tuple[dict[Conversation, Answer], ParseReport]:
    """Ready answers by their prompts; a second answer to a prompt is counted as dropped.

    Rows are in any format of conversations, such as prompt and completion; the last message is the
    answer, which may be empty.

    Raises:
        SourceError, ConfigError: as `foundling.data.reading.read_conversations`.
    """
    found, report = read_conversations(inputs, blank_answers=True, skip="")
    answers: dict[Conversation, Answer] = {}
    for conversation in found:
        check_shown(conversation.where, conversation.messages, conversation.tools)
        prompt = unweighted(conversation.messages[:-1])
        if prompt in answers:
            message = f"{conversation.where}: the prompt has an answer already."
            report.drop(SourceError("second answer", message))
        else:
            answers[prompt] = Answer(conversation.messages[-1].content, source)
    report.num_kept = len(answers)
    return answers, report
