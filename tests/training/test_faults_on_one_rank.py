"""What breaks on one of several processes is answered by all of them alike."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from breaking import SLOW_SECONDS, End, run_with_faults
from faults import Fault, FaultPlan
from test_resume import num_steps, outcome, train_by_command, wait_for, weights_of

from foundling.base.config import dump_toml
from foundling.runs.records import read_records
from foundling.runs.run import Run
from foundling.stages.pretrain import PretrainConfig, pretrain

Make = Callable[..., PretrainConfig]
SETTINGS = (
    "training.steps=30",
    "training.batch_size=5",  # of which process 1 has three rows
    "validation.prompts=[]",
    "validation.every=15",
    "model.dropout=0",
    "checkpoint.every=10",
    "checkpoint.keep_last=9",
    "guard.snapshot_every=5",
    "guard.healthy_after=5",
    "guard.canary_every=10",
)
FULL = 'distributed.shard="full"'
TRANSIENT = {
    "loss": Fault("loss", "nan", step=8, rank=1),
    "gradient": Fault("gradient", "inf", step=14, rank=1),
    "spike": Fault("gradient", "scale", step=25, factor=1e6, rank=1),
    "weights": Fault("parameter", "nan", step=20, rank=1),
}
OPTIMIZER = Fault("optimizer", "nan", step=22, rank=1)
POISON = Fault("batch", "corrupt", samples=range(118, 120), sticky=True)
"""The last rows of a batch, which process 1 reads."""


def acts_of(folder: Path) -> list[tuple[Any, ...]]:
    events = Run(folder).events()
    assert all(event["done"] for event in events)
    return [(event["kind"], event["step"], event.get("skipped")) for event in events]


@pytest.mark.distributed
def test_a_fault_on_one_process_is_answered_as_one_process_would(
    tiny: Make, tmp_path: Path
) -> None:
    plain, full = tiny(*SETTINGS), tiny(*SETTINGS, FULL)
    stops = tiny(*SETTINGS, FULL, "guard.max_rewinds=0")
    works: list[Any] = [
        (config.values(), tmp_path / f"{name} {how}", faults)
        for how, config in (("none", plain), ("full", full))
        for name, faults in (
            ("clean", []),
            ("transient", [*TRANSIENT.values()]),
            ("poison", [POISON]),
        )
    ]
    works.append((full.values(), tmp_path / "optimizer full", [OPTIMIZER]))
    works.append((full.values(), tmp_path / "asked", [End("term", step=9, rank=1)]))
    works.append((full.values(), tmp_path / "asked", []))
    long = tiny(*SETTINGS, FULL, "training.steps=50", "validation.every=50")
    works.append((long.values(), tmp_path / "slow", [End("slow", step=0, rank=1)]))
    works.append((stops.values(), tmp_path / "stops", [TRANSIENT["weights"]]))
    done = run_with_faults(2, works, tmp_path)
    assert done.returncode == 0, done.stderr
    alone = {
        "transient": [
            Fault(f.site, f.kind, step=f.step, factor=f.factor) for f in TRANSIENT.values()
        ],
        "poison": [POISON],
        "optimizer": [Fault("optimizer", "nan", step=22)],
    }
    for name, faults in alone.items():
        pretrain(plain, tmp_path / name, seam=FaultPlan(faults))
        for how in ("none", "full"):
            if (together := tmp_path / f"{name} {how}").exists():
                assert acts_of(together) == acts_of(tmp_path / name)
    for how in ("none", "full"):
        assert weights_of(tmp_path / f"transient {how}") == weights_of(tmp_path / f"clean {how}")
    assert weights_of(tmp_path / "optimizer full") == weights_of(tmp_path / "clean full")
    assert [act[0] for act in acts_of(tmp_path / "stops")] == ["stop"]
    assert "stopped: step 20" in done.stdout
    assert done.stdout.count("interrupted:") == 2, "one was asked, and both stopped"
    assert weights_of(tmp_path / "asked") == weights_of(tmp_path / "clean full")
    records = read_records(tmp_path / "slow" / "metrics.jsonl")
    (straggler,) = [record for record in records if record["split"] == "straggler"]
    assert (straggler["process"], straggler["what"]) == (1, "reading data")
    fast, slow = straggler["seconds"]["data"]
    assert slow > max(50 * SLOW_SECONDS, fast)


@pytest.mark.distributed
def test_a_run_that_is_killed_hangs_and_fails_ends_as_if_unharmed(
    tiny: Make, tmp_path: Path
) -> None:
    config = tiny(*SETTINGS, FULL, "distributed.timeout_seconds=8", "checkpoint.every=5")
    ends = [
        End("kill", step=7, rank=1, start=0),
        End("hang", step=13, rank=0, start=1),
        End("disk", step=18, rank=1, start=2),
        End("memory", step=22, rank=0, start=3),
    ]
    works = [(config.values(), tmp_path / "harmed", ends)]
    done = run_with_faults(2, works, tmp_path, restarts=5)
    assert done.returncode == 0, done.stderr
    said = done.stderr
    assert "no progress" in said
    assert re.search(r"process 0, \d+ seconds at step 13 \(data\)", said)
    assert "the disk cannot be read" in said  # told by itself; the launcher may end the other first
    assert "RuntimeError: out of memory" in said
    assert "most recent call first" in said  # the stacks
    clean = run_with_faults(2, [(config.values(), tmp_path / "clean", [])], tmp_path)
    assert clean.returncode == 0, clean.stderr
    assert weights_of(tmp_path / "harmed") == weights_of(tmp_path / "clean")
    losses = [
        [(r["step"], r["loss_nats"]) for r in Run(tmp_path / name).records()["train"]]
        for name in ("harmed", "clean")
    ]
    assert losses[0] == losses[1]


@pytest.mark.distributed
def test_a_command_one_of_whose_processes_is_killed_resumes_by_itself(
    tiny: Make, tmp_path: Path
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(dump_toml(tiny(*SETTINGS, FULL).values()))
    whole, harmed = tmp_path / "whole", tmp_path / "harmed"
    several = ("--nproc", 2, "--max-restarts", 3)
    _, errors = train_by_command(file, "--out", whole, *several).communicate(timeout=300)
    assert whole.exists(), errors.decode()
    process = train_by_command(file, "--out", harmed, *several)
    wait_for(lambda: num_steps(harmed) >= 12, process)
    os.kill(worker(process.pid, rank=1), signal.SIGKILL)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()
    assert errors.decode().count("resuming at step") == 1
    assert outcome(harmed) == outcome(whole)


def worker(launcher: int, rank: int) -> int:
    """The process of this rank."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    (found,) = (
        int(child)
        for child in children
        if f"\0RANK={rank}\0" in Path(f"/proc/{child}/environ").read_text()
    )
    return found
