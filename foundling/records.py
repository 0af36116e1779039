"""Reads back what a run has recorded, as far as it has been written."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from foundling.config import ConfigError


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a .jsonl file that may be growing: a last line without its end is left out.

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


def read_object(path: Path) -> dict[str, Any]:
    """The one JSON object that a file holds.

    Raises:
        ConfigError: it holds something else; names the file.
    """
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: not a JSON object.")
    return value


def by_split(records: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The records of each split, without those that the run undid by going back to a step."""
    splits: dict[str, list[dict[str, Any]]] = {"train": [], "validation": [], "samples": []}
    for record in records:
        split, step = record.get("split"), record.get("step")
        if split not in splits or not is_number(step):
            continue
        went_back = split == "train" and splits[split] and splits[split][-1]["step"] >= step
        undone = splits.values() if went_back else [splits[split]]
        for kept in undone:
            while kept and kept[-1]["step"] >= step:
                kept.pop()
        splits[split].append(record)
    return splits


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
