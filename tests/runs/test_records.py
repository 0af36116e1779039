"""What a run recorded is read back as what stands, what was undone, and what the guard did."""

from typing import Any

import pytest

from foundling.runs.records import (
    by_split,
    count_kinds,
    in_words,
    merge_events,
    samples_left_out,
    undone,
)


def train(step: int, loss: float = 4.0) -> dict[str, Any]:
    return {"split": "train", "step": step, "loss_nats": loss}


def validation(step: int) -> dict[str, Any]:
    return {"split": "validation", "step": step, "loss_nats": 4.0}


def losses(records: list[dict[str, Any]]) -> list[tuple[int, float]]:
    return [(record["step"], record["loss_nats"]) for record in records]


def test_a_way_back_splits_what_stands_from_what_was_undone() -> None:
    records = [train(1), train(2, 5), train(3, 9), validation(3), train(2, 4.1), train(3, 4.2)]
    assert losses(by_split(records)["train"]) == [(1, 4.0), (2, 4.1), (3, 4.2)]
    assert by_split(records)["validation"] == []
    assert [losses(stretch) for stretch in undone(records)] == [[(2, 5), (3, 9)]]


def test_going_back_further_undoes_steps_that_were_done_again() -> None:
    steps = [1, 2, 3, 4, 3, 4, 5, 2, 3, 4, 5, 6]
    records = [train(step, place) for place, step in enumerate(steps)]
    assert [losses(stretch) for stretch in undone(records)] == [
        [(3, 2), (4, 3)],
        [(2, 1), (3, 4), (4, 5), (5, 6)],
    ]
    stands = by_split(records)["train"]
    assert losses(stands) == [(1, 0), (2, 7), (3, 8), (4, 9), (5, 10), (6, 11)]
    # Every record is in one place.
    assert len(stands) + sum(map(len, undone(records))) == len(records)


@pytest.mark.parametrize(
    "records",
    [[], [train(1), train(2)], [train(1), validation(1), validation(1), {"step": 0}, train(2)]],
)
def test_a_run_that_never_went_back_undid_nothing(records: list[dict[str, Any]]) -> None:
    assert undone(records) == []


def test_an_act_without_its_commit_is_not_done() -> None:
    log = [
        {"id": 1, "phase": "intent", "kind": "skip", "step": 7},
        {"id": 1, "phase": "commit"},
        {"id": 2, "phase": "note", "kind": "transient", "step": 8},
        {"id": 3, "phase": "intent", "kind": "rewind", "step": 9, "to": 0},
    ]
    assert [(event["kind"], event["done"]) for event in merge_events(log)] == [
        ("skip", True), ("transient", True), ("rewind", False)
    ]  # fmt: skip


def test_acts_are_counted_before_notes_and_told_in_words() -> None:
    kinds = ["transient", "rewind", "skip", "hard data", "skip", "transient"]
    counts = count_kinds({"kind": kind} for kind in kinds)
    assert list(counts.items()) == [("skip", 2), ("rewind", 1), ("transient", 2), ("hard data", 1)]
    assert in_words(counts) == "2 skips, 1 rewind, 2 transient faults, 1 hard stretch"
    assert in_words({}) == ""


def test_a_sample_that_two_acts_leave_out_counts_once() -> None:
    events: list[dict[str, Any]] = [
        {"skipped": [0, 8]}, {"kind": "transient"}, {"skipped": [4, 12]}, {"skipped": [20, 24]}
    ]  # fmt: skip
    assert samples_left_out(events) == 16
    assert samples_left_out([]) == 0
