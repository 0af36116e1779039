"""Training rows from votes, with a report of everything that was left out."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foundling.base import durable
from foundling.base.config import ConfigError
from foundling.data.conversations import Held, LabelledConversation, SourcedPair
from foundling.data.detection import known_format
from foundling.data.formats import FORMATS, Rows
from foundling.data.prompt_split import split_by_prompt
from foundling.data.source_errors import RowError, SourceError
from foundling.preferences.records import Judgement, Pair, Verdict
from foundling.preferences.selection import Selection
from foundling.preferences.store import PreferenceStore
from foundling.text.chat import Message


@dataclass
class ExportReport:
    """How many judgements and pairs were used and left out; the store itself stays as it is."""

    format: str
    num_judgements: int = 0  # that stand
    num_ratings: int = 0  # that count as votes
    votes_left_out: Counter[str] = field(default_factory=Counter)  # by reason
    num_pairs: int = 0  # that have a vote which counts
    pairs_left_out: Counter[str] = field(default_factory=Counter)  # by reason
    answers_left_out: Counter[str] = field(default_factory=Counter)  # of pairs that are kept
    num_kept: int = 0
    conflicts: list[int] = field(default_factory=list)  # pairs with votes for either side
    rows: dict[str, int] = field(default_factory=dict)  # by part

    def lines(self) -> list[str]:
        """The report for people."""
        parts = ", ".join(f"{count:,} rows of {part}" for part, count in self.rows.items())
        lines = [
            f"format {self.format}: {self.num_kept:,} of {self.num_pairs:,} pairs kept, {parts}"
        ]
        if self.num_ratings:
            lines.append(
                f"ratings taken as votes: {self.num_ratings:,} (the answer rated higher is "
                "preferred, equal ratings are a tie)"
            )
        lines += [
            f"{what} left out {count:,}: {reason}"
            for what, counts in (
                ("votes", self.votes_left_out),
                ("pairs", self.pairs_left_out),
                ("answers", self.answers_left_out),
            )
            for reason, count in counts.most_common()
        ]
        if self.conflicts:
            lines.append(f"pairs with votes for either side: {len(self.conflicts):,}")
        return lines

    def values(self) -> dict[str, Any]:
        """The report in plain types, for `--json`."""
        return {
            "format": self.format,
            "judgements": self.num_judgements,
            "ratings": self.num_ratings,
            "votes_left_out": dict(self.votes_left_out),
            "pairs": self.num_pairs,
            "pairs_left_out": dict(self.pairs_left_out),
            "answers_left_out": dict(self.answers_left_out),
            "kept": self.num_kept,
            "conflicts": self.conflicts,
            "rows": self.rows,
        }


@dataclass(frozen=True)
class Export:
    train: Rows
    validation: Rows
    report: ExportReport


@dataclass(frozen=True)
class Decided:
    """A preferred answer and its rival, or labelled answers, with details of the votes."""

    held: tuple[Held, ...]
    details: dict[str, Any]

    @property
    def prompt(self) -> tuple[Message, ...]:
        return self.held[0].prompt


def decide(
    store: PreferenceStore, selection: Selection | None = None, *, bad_too: bool = False
) -> tuple[list[Decided], ExportReport]:
    """The answer of each pair that most annotators prefer, in the order of the pairs.

    Only first votes on ordinary items count. A rating is a vote for the answer that it rates
    higher; whoever also compared the pair is not counted twice. A pair whose votes are even, or
    whose most frequent verdict is a tie, is left out; both bad is a tie.

    Args:
        bad_too: keep two answers that are both bad, labelled so.

    Raises:
        ConfigError: the selection names what there is not.
    """
    selection = selection or Selection()
    selection.check(store)
    report = ExportReport("")
    pairs = store.pairs()
    votes = _votes(store, selection, report)
    found = []
    for pair_id, judgements in sorted(votes.items()):
        verdicts = Counter(_verdict(judgement) for judgement in judgements)
        if verdicts["A"] and verdicts["B"]:
            report.conflicts.append(pair_id)
        try:
            verdict = _leading(verdicts)
            held = _held(f"pair {pair_id}", pairs[pair_id], verdict, bad_too, report)
        except (RowError, SourceError) as error:
            report.pairs_left_out[error.reason] += 1
        else:
            found.append(Decided(held, _details(pairs[pair_id], judgements, verdict)))
    report.num_pairs, report.num_kept = len(votes), len(found)
    return found, report


def export(
    store: PreferenceStore,
    format: str = "explicit_prompt",
    *,
    text: bool = False,
    details: bool = False,
    validation_fraction: float = 0.0,
    seed: int = 0,
    selection: Selection | None = None,
) -> Export:
    """Rows for training, as `decide` finds them; in the format "unpaired" with bad answers too.

    Args:
        text: prompts and answers as strings, in the formats "explicit_prompt" and "unpaired".
        details: add who voted: annotators, reasons, strength, sources.
        validation_fraction: of the pairs; no prompt stands on both sides.

    Raises:
        ConfigError: there is no such format or group, or the split would leave a side empty.
    """
    name = known_format(format, ("preferences", "labelled answers"))
    write = FORMATS[name].write
    if write is None:
        raise ConfigError(f'format = "{name}": is read, not written; take explicit_prompt.')
    if text and name not in ("explicit_prompt", "unpaired"):
        raise ConfigError(
            f'format = "{name}": has no strings; leave text out, or take explicit_prompt, unpaired.'
        )
    found, report = decide(store, selection, bad_too=name == "unpaired")
    report.format = name
    written: dict[int, Rows] = {}
    for each in found:
        try:
            rows = [row for held in each.held for row in write(held, text)]
        except RowError as error:
            report.pairs_left_out[error.reason] += 1
        else:
            written[id(each)] = [row | (each.details if details else {}) for row in rows]
    kept = [each for each in found if id(each) in written]
    report.num_kept = len(kept)
    parts: tuple[list[Decided], list[Decided]] = (kept, [])
    if validation_fraction:
        parts = split_by_prompt(kept, validation_fraction, seed, "pairs")
    train, validation = ([row for each in part for row in written[id(each)]] for part in parts)
    report.rows = {"train": len(train)}
    if validation_fraction:
        report.rows["validation"] = len(validation)
    return Export(train, validation, report)


def write_rows(path: Path, rows: Rows) -> None:
    """Write one JSON object a line, atomically."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    # JSON can escape half of a surrogate pair, which UTF-8 cannot hold.
    durable.replace(path, text.encode(errors="backslashreplace"))


def _votes(
    store: PreferenceStore, selection: Selection, report: ExportReport
) -> dict[int, list[Judgement]]:
    """The votes that count, by pair."""
    standing, pairs = store.judgements(), store.pairs()
    report.num_judgements = len(standing)
    compared = {
        (judgement.annotator, judgement.pair_id)
        for judgement in standing
        if judgement.kind == "comparison" and judgement.verdict != "skip"
    }
    votes: dict[int, list[Judgement]] = defaultdict(list)
    for judgement in standing:
        pair = pairs[judgement.pair_id]
        reason = selection.why_not(judgement, pair) or _why_not(judgement, pair, compared)
        if reason is None:
            votes[judgement.pair_id].append(judgement)
            report.num_ratings += judgement.kind == "rating"
        else:
            report.votes_left_out[reason] += 1
    undone = sum(event.kind == "undo" for event in store.events())
    if undone:
        report.votes_left_out["undone"] = undone
    return votes


def _why_not(judgement: Judgement, pair: Pair, compared: set[tuple[str, int]]) -> str | None:
    if judgement.verdict == "skip":
        return "skipped"
    if pair.gold is not None:
        return "gold"
    if judgement.repeat_of is not None:
        return "repeat"
    rated_too = judgement.kind == "rating" and (judgement.annotator, judgement.pair_id) in compared
    return "rating beside a comparison" if rated_too else None


def _verdict(judgement: Judgement) -> Verdict:
    if judgement.ratings is None:
        assert judgement.verdict is not None
        return judgement.verdict
    a, b = judgement.ratings
    return "tie" if a == b else "A" if a > b else "B"


def _leading(verdicts: Counter[Verdict]) -> Verdict:
    (verdict, most), *others = verdicts.most_common()
    if others and others[0][1] == most:
        raise RowError("votes are even", "as many votes for one verdict as for another.")
    return verdict


def _held(
    where: str, pair: Pair, verdict: Verdict, bad_too: bool, report: ExportReport
) -> tuple[Held, ...]:
    prompt, given = pair.prompt, len(pair.prompt)
    good, bad = (pair.b, pair.a) if verdict == "B" else (pair.a, pair.b)
    whole = [(*prompt, Message("assistant", answer.text)) for answer in (good, bad)]
    if verdict == "both_bad" and bad_too:
        kept = [messages for messages in whole if messages[-1].content.strip()]
        if kept:
            report.answers_left_out.update(["empty answer"] * (2 - len(kept)))
            return tuple(LabelledConversation(where, some, given, False) for some in kept)
    elif verdict not in ("A", "B"):
        raise RowError(verdict.replace("_", " "), "neither answer is preferred.")
    elif good.text == bad.text:
        raise RowError("same answers", "nothing can be learned from two equal answers.")
    found = SourcedPair(where, whole[0], whole[1], given)
    found.check()
    return (found,)


def _details(pair: Pair, judgements: Sequence[Judgement], verdict: Verdict) -> dict[str, Any]:
    """Who voted, how many agree with the verdict, and what they said."""
    agreeing = [judgement for judgement in judgements if _verdict(judgement) == verdict]
    strengths = [judgement.strength for judgement in agreeing if judgement.strength is not None]
    good, bad = (pair.b, pair.a) if verdict == "B" else (pair.a, pair.b)
    return {
        "annotators": [judgement.annotator for judgement in judgements],
        "simulated": sum(judgement.simulated for judgement in judgements),
        "agree": len(agreeing),
        "strength": sum(strengths) / len(strengths) if strengths else None,
        "reasons": [judgement.reason for judgement in judgements if judgement.reason],
        "sources": [good.source, bad.source],
    }
