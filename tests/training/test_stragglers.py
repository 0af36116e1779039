"""Who the others wait for, from the seconds of each process."""

from pathlib import Path

import pytest

from foundling.reports.run_report import write_run_report
from foundling.runs.records import straggler_in_words
from foundling.training.stragglers import slowest

USUAL = {"data": 1.0, "passes": 6.0, "waiting": 2.0, "update": 1.0, "product": 0.01, "all": 10.0}


def test_processes_alike_are_not_reported() -> None:
    assert slowest([USUAL, USUAL | {"data": 1.5, "product": 0.0105}, USUAL]) is None


def test_the_one_that_reads_slowly_is_reported() -> None:
    found = slowest([USUAL, USUAL, USUAL | {"data": 4.0, "waiting": 0.0}, USUAL])
    assert found is not None
    assert (found["process"], found["what"]) == (2, "reading data")
    assert found["times_usual"] == pytest.approx(4.0)
    assert found["share_lost"] == pytest.approx(0.3)
    assert found["seconds"]["data"] == [1.0, 1.0, 4.0, 1.0]


def test_the_one_that_computes_slowly_is_reported() -> None:
    """Of eight seconds in which all compute or wait, half are due to a device half as fast."""
    found = slowest([USUAL | {"product": 0.02}, USUAL])
    assert found is not None
    assert (found["process"], found["what"]) == (0, "computing")
    assert found["share_lost"] == pytest.approx(0.4)


def test_the_report_shows_it(tmp_path: Path) -> None:
    record = {"step": 50, **(slowest([USUAL, USUAL | {"data": 4.0}]) or {})}
    assert straggler_in_words(record) == (
        "step 50: process 1 is slow at reading data, 4 times the usual time; the others waited "
        "30% of theirs"
    )
    lines = [
        '{"split": "train", "step": 50, "loss_nats": 2.0}',
        '{"split": "straggler", "step": 50, "process": 1, "what": "reading data", '
        '"times_usual": 4.0, "share_lost": 0.3}',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    page = write_run_report(tmp_path).read_text("utf-8")
    assert "Step 50: process 1 is slow at reading data" in page
