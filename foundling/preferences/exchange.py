"""Files for training from what annotators said, and a report of all that stays out of them."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foundling.base import durable
from foundling.base.config import ConfigError, suggest
from foundling.data.formats import RowError
from foundling.data.prompt_split import held_out, prompt_words
from foundling.preferences.forms import FORMS, Preferred, labelled_row
from foundling.preferences.records import Judgement, Pair, Who
from foundling.preferences.statistics import WHO
from foundling.preferences.store import PreferenceStore
from foundling.text.chat import Conversation

Rows = list[dict[str, Any]]


@dataclass
class ExportReport:
    """What became of the judgements and of the pairs; nothing of it leaves the store."""

    form: str
    num_judgements: int = 0  # that stand
    votes_left_out: Counter[str] = field(default_factory=Counter)  # by reason
    num_pairs: int = 0  # that have a vote which counts
    pairs_left_out: Counter[str] = field(default_factory=Counter)  # by reason
    num_kept: int = 0
    conflicts: list[int] = field(default_factory=list)  # pairs with votes for either side
    rows: dict[str, int] = field(default_factory=dict)  # by part

    def lines(self) -> list[str]:
        """The report for people."""
        parts = ", ".join(f"{count:,} rows of {part}" for part, count in self.rows.items())
        lines = [f"form {self.form}: {self.num_kept:,} of {self.num_pairs:,} pairs kept, {parts}"]
        lines += [
            f"{what} left out {count:,}: {reason}"
            for what, counts in (("votes", self.votes_left_out), ("pairs", self.pairs_left_out))
            for reason, count in counts.most_common()
        ]
        if self.conflicts:
            lines.append(f"pairs with votes for either side: {len(self.conflicts):,}")
        return lines

    def values(self) -> dict[str, Any]:
        """The report in plain types, for `--json`."""
        return {
            "form": self.form,
            "judgements": self.num_judgements,
            "votes_left_out": dict(self.votes_left_out),
            "pairs": self.num_pairs,
            "pairs_left_out": dict(self.pairs_left_out),
            "kept": self.num_kept,
            "conflicts": self.conflicts,
            "rows": self.rows,
        }


@dataclass(frozen=True)
class Export:
    train: Rows
    validation: Rows
    report: ExportReport


def export(
    store: PreferenceStore,
    form: str = "explicit",
    *,
    text: bool = False,
    validation_fraction: float = 0.0,
    seed: int = 0,
    who: Who = "all",
) -> Export:
    """Rows for training: of each pair the answer that most annotators prefer.

    Only first votes on ordinary items count. A pair whose votes are even, or whose most frequent
    verdict is a tie, has no row; both bad is a tie, but two bad answers in the form "kto".

    Args:
        text: prompts and answers as strings, in the forms "explicit" and "kto".
        validation_fraction: of the pairs; no prompt stands on both sides.

    Raises:
        ConfigError: there is no such form or group, or the split would leave a side empty.
    """
    if form not in FORMS:
        raise ConfigError(f'form = "{form}": no such form {suggest(form, list(FORMS))}')
    if who not in WHO:
        raise ConfigError(f'who = "{who}": no such group {suggest(who, WHO)}')
    if text and form not in ("explicit", "kto"):
        raise ConfigError(
            f'form = "{form}": has no strings; leave text out, or take explicit, kto.'
        )
    report = ExportReport(form)
    pairs = store.pairs()
    votes = _votes(store, pairs, who, report)
    made: list[tuple[Conversation, Rows]] = []
    for pair_id, verdicts in sorted(votes.items()):
        if verdicts["A"] and verdicts["B"]:
            report.conflicts.append(pair_id)
        try:
            made.append((pairs[pair_id].prompt, _rows(pairs[pair_id], verdicts, form, text)))
        except RowError as error:
            report.pairs_left_out[error.reason] += 1
    report.num_pairs, report.num_kept = len(votes), len(made)
    held_out = _held_out([prompt for prompt, _ in made], validation_fraction, seed)
    train = [row for (_, rows), out in zip(made, held_out, strict=True) if not out for row in rows]
    validation = [row for (_, rows), out in zip(made, held_out, strict=True) if out for row in rows]
    report.rows = {"train": len(train)}
    if validation_fraction:
        report.rows["validation"] = len(validation)
    return Export(train, validation, report)


def write_rows(path: Path, rows: Rows) -> None:
    """A file of one JSON object a line, whole or not there."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    try:
        content = text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can escape
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    durable.replace(path, content)


def _votes(
    store: PreferenceStore, pairs: Mapping[int, Pair], who: Who, report: ExportReport
) -> dict[int, Counter[str]]:
    """Verdicts by pair, of the votes that count."""
    standing = store.judgements()
    report.num_judgements = len(standing)
    votes: dict[int, Counter[str]] = defaultdict(Counter)
    for judgement in standing:
        reason = _why_not(judgement, pairs[judgement.pair_id], who)
        if reason is None:
            votes[judgement.pair_id][str(judgement.verdict)] += 1
        else:
            report.votes_left_out[reason] += 1
    undone = sum(event.kind == "undo" for event in store.events())
    if undone:
        report.votes_left_out["undone"] = undone
    return votes


def _why_not(judgement: Judgement, pair: Pair, who: Who) -> str | None:
    if judgement.kind == "rating":
        return "rating"
    if who != "all" and judgement.simulated != (who == "simulated"):
        return f"not of {who}"
    if judgement.verdict == "skip":
        return "skipped"
    if pair.gold is not None:
        return "gold"
    return "repeat" if judgement.repeat_of is not None else None


def _rows(pair: Pair, verdicts: Counter[str], form: str, text: bool) -> Rows:
    most = max(verdicts.values())
    leading = [verdict for verdict, count in verdicts.items() if count == most]
    if len(leading) > 1:
        raise RowError("votes are even", "as many votes for one verdict as for another.")
    if leading[0] == "both_bad" and form == "kto":
        answers = (pair.a.text, pair.b.text)
        return [labelled_row(pair.prompt, answer, False, text) for answer in answers]
    if leading[0] not in ("A", "B"):
        raise RowError(leading[0].replace("_", " "), "neither answer is preferred.")
    good, bad = (pair.a, pair.b) if leading[0] == "A" else (pair.b, pair.a)
    if good.text == bad.text:
        raise RowError("same answers", "nothing can be learned from two equal answers.")
    for answer in (good, bad):
        if not answer.text.strip():
            raise RowError("empty answer", "an empty answer cannot be learned from.")
    return FORMS[form].write(Preferred(pair.prompt, good.text, bad.text), text)


def _held_out(prompts: Sequence[Conversation], fraction: float, seed: int) -> list[bool]:
    """Which go to validation: prompts whole, in the order of their hash, up to the fraction.

    The prompt is the user's first message, but for its case and white space, as in the split of
    instruction data.
    """
    if fraction == 0:
        return [False] * len(prompts)
    if not 0 < fraction < 1:
        raise ConfigError(f"validation fraction = {fraction}: must lie between 0 and 1.")
    keys = [_key(prompt, seed) for prompt in prompts]
    if len(set(keys)) < 2:
        raise ConfigError(
            f"{len(keys)} pairs with {len(set(keys))} different prompts: a split needs at least 2; "
            "collect more, or leave the split out."
        )
    out = held_out(keys, fraction)
    return [key in out for key in keys]


def _key(prompt: Conversation, seed: int) -> int:
    text = f"{seed}/split/{prompt_words(prompt)}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
