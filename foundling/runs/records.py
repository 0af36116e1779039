"""Reads what a run has recorded, also while it is being written."""

import json
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from foundling.base import intervals
from foundling.base.config import ConfigError

Records = list[dict[str, Any]]

# What the guard does and what it only notes: singular and plural.
ACTS = {
    "skip": ("skip", "skips"),
    "replay": ("replay", "replays"),
    "rewind": ("rewind", "rewinds"),
    "stop": ("stop", "stops"),
}
NOTES = {
    "transient": ("transient fault", "transient faults"),
    "hard data": ("hard stretch", "hard stretches"),
}


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a .jsonl file that may be growing: an unfinished last line is left out.

    Raises:
        ConfigError: a whole line is broken; names the file and the line.
    """
    lines = path.read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("not an object")
            records.append(record)
        except ValueError as error:
            if number < len(lines):
                raise ConfigError(f"{path}, line {number}: not a JSON object: {error}.") from None
    return records


def by_split(records: Iterable[dict[str, Any]]) -> dict[str, Records]:
    """The records of each split, without those that a rewind undid."""
    return _separate(records)[0]


def undone(records: Iterable[dict[str, Any]]) -> list[Records]:
    """The stretches of training that a rewind undid, in order.

    Steps 1 2 3 4 3 4 5: the first 3 and 4 are a stretch.
    """
    return _separate(records)[1]


def _separate(records: Iterable[dict[str, Any]]) -> tuple[dict[str, Records], list[Records]]:
    """The valid records by split, and the stretches of training that were undone."""
    splits: dict[str, Records] = {"train": [], "validation": [], "samples": []}
    stretches = []
    for record in records:
        split, step = record.get("split"), record.get("step")
        if split not in splits or not is_number(step):
            continue
        if split == "train" and splits[split] and splits[split][-1]["step"] >= step:
            taken = {name: _cut(kept, step) for name, kept in splits.items()}
            stretches.append(taken["train"])
        _cut(splits[split], step)
        splits[split].append(record)
    return splits, stretches


def _cut(kept: Records, step: int | float) -> Records:
    """Remove and return the records from a step on."""
    first = bisect_left(kept, step, key=lambda record: record["step"])
    taken = kept[first:]
    del kept[first:]
    return taken


def is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and math.isfinite(value)


def best_validation(validation: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    measured = [record for record in validation if is_number(record.get("loss_nats"))]
    return min(measured, key=lambda record: float(record["loss_nats"]), default=None)


def bits_per_nat(validation: Sequence[Mapping[str, Any]]) -> float | None:
    """How many bits per byte one nat per token is, on this validation text."""
    for record in reversed(validation):
        bits, nats = record.get("bits_per_byte"), record.get("loss_nats")
        if is_number(bits) and is_number(nats) and bits and nats:
            return float(bits) / float(nats)
    return None


def merge_events(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the guard did, in order; `done` says whether an act was finished.

    An act is written down before it is done and once more after: an intent and a commit.
    """
    events: dict[int, dict[str, Any]] = {}
    for record in records:
        number = int(record["id"])
        if record["phase"] == "commit":
            events[number]["done"] = True
        else:
            events[number] = {**record, "done": record["phase"] == "note"}
    return list(events.values())


def count_kinds(events: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How often the guard did each thing, acts before notes."""
    counts = Counter(str(event["kind"]) for event in events)
    return {kind: counts[kind] for kind in [*ACTS, *NOTES] if counts[kind]}


def in_words(counts: Mapping[str, int]) -> str:
    """{"skip": 2, "rewind": 1} is "2 skips, 1 rewind"."""
    words = ACTS | NOTES
    return ", ".join(f"{count:,} {words[kind][count != 1]}" for kind, count in counts.items())


def straggler_in_words(record: Mapping[str, Any]) -> str:
    """Which process the others waited for, and for how much of the time."""
    return (
        f"step {record['step']:,}: process {record['process']} is slow at {record['what']}, "
        f"{record['times_usual']:.2g} times the usual time; the others waited "
        f"{record['share_lost']:.0%} of theirs"
    )


def samples_left_out(events: Iterable[Mapping[str, Any]]) -> int:
    """How many samples the guard took out of the training for good."""
    return intervals.size(intervals.union(e["skipped"] for e in events if "skipped" in e))
