"""A run that heals itself equals a clean one: faults put in on purpose, and what became of them."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import Fault, FaultPlan
from safetensors.torch import load_file, save_file
from test_resume import records_of, weights_of

from foundling.base.config import dump_toml
from foundling.runs import checkpoint
from foundling.runs.run import Run, load_model
from foundling.stages.pretrain import PretrainConfig, pretrain
from foundling.training.interrupt import Interrupted
from foundling.training.loop import Loop
from foundling.training.rewind import TrainingStopped

QUICK = (
    "training.steps=60",
    "optimizer.learning_rate=1e-2",
    "optimizer.muon_learning_rate=2e-2",
    "validation.every=30",
    "validation.prompts=[]",
    "checkpoint.every=10",
    "guard.snapshot_every=5",
    "guard.healthy_after=5",
    "guard.canary_every=10",
    "guard.warmup_steps=3",
)
Make = Callable[..., PretrainConfig]


SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def clean(tiny: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain(tiny(*QUICK), tmp_path_factory.mktemp("clean") / "run").folder


def heal(config: PretrainConfig, out: Path, *faults: Fault) -> tuple[Path, list[dict[str, Any]]]:
    """Train with faults; the run's folder, and what the guard did about them."""
    plan = FaultPlan(faults)
    run = pretrain(config, out, seam=plan)
    assert {fault for _, fault in plan.hits} == set(faults), "a fault that never hit proves nothing"
    return run.folder, run.events()


def kinds(events: list[dict[str, Any]]) -> list[str]:
    assert all(event["done"] for event in events)
    return [event["kind"] for event in events]


def given_the_same_amendments(config: PretrainConfig, healed: Path, out: Path) -> Path:
    """A run without guard and faults that is told from the start what the healed one left out."""
    amendments = Run(healed).manifest["amendments"]
    values = config.values() | {"amendments": amendments, "guard": {"enabled": False}}
    return pretrain(PretrainConfig.parse(values), out).folder


def test_without_a_fault_the_guard_changes_nothing(clean: Path, tiny: Make, tmp_path: Path) -> None:
    off = pretrain(tiny(*QUICK, "guard.enabled=false"), tmp_path / "off").folder
    assert weights_of(off) == weights_of(clean)
    assert records_of(off) == records_of(clean)
    assert not (clean / "events.jsonl").exists()


@pytest.mark.parametrize("step", [pytest.param(0, marks=SLOW), pytest.param(31, marks=SLOW), 59])
@pytest.mark.parametrize(
    ("site", "kind", "act"),
    [
        ("loss", "nan", "transient"),
        ("loss", "inf", "transient"),
        ("loss", "scale", "transient"),
        ("gradient", "nan", "transient"),
        ("gradient", "inf", "transient"),
        ("parameter", "nan", "replay"),
        ("optimizer", "nan", "replay"),
    ],
)
def test_a_transient_fault_leaves_no_trace(
    site: str, kind: str, act: str, step: int, clean: Path, tiny: Make, tmp_path: Path
) -> None:
    if step == 0 and (site == "optimizer" or kind == "scale"):
        pytest.skip("before the first step nothing is known, and the optimizer has no state")
    folder, events = heal(tiny(*QUICK), tmp_path / "run", Fault(site, kind, step=step))
    assert kinds(events)[0] == act
    assert not any("skipped" in event for event in events)
    assert weights_of(folder) == weights_of(clean)
    losses = [record["loss_nats"] for record in Run(folder).records()["train"]]
    assert losses == [record["loss_nats"] for record in Run(clean).records()["train"]]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("parameter", "flip", step=45),
        Fault("batch", "corrupt", step=45),
        Fault("gradient", "scale", step=45, factor=1e6),
        Fault("optimizer", "rate", step=45, factor=30.0),
    ],
    ids=lambda fault: f"{fault.site} {fault.kind}",
)
def test_a_transient_fault_that_stays_finite_leaves_no_trace(
    fault: Fault, clean: Path, tiny: Make, tmp_path: Path
) -> None:
    folder, events = heal(tiny(*QUICK), tmp_path / "run", fault)
    assert kinds(events)
    assert weights_of(folder) == weights_of(clean)


@pytest.mark.parametrize("room", [0, 256])
def test_a_weight_that_grew_out_of_all_proportion_is_found_with_and_without_room_for_copies(
    room: int, tiny: Make, tmp_path: Path
) -> None:
    """A finite one, before the first checkpoint, at a step where the state would be kept."""

    def grow_once(site: str, step: int, samples: Any, value: Any) -> Any:
        if site == "state" and step == 5 and not grown:
            grown.append(step)
            with torch.no_grad():
                value.model.embed.weight[3, 3] = 1e4
        return value

    grown: list[int] = []
    short = ("training.steps=12", "validation.every=12", "checkpoint.every=12")
    config = tiny(*QUICK, *short, f"guard.snapshot_mb={room}")
    clean = pretrain(config, tmp_path / "clean").folder
    run = pretrain(config, tmp_path / "run", seam=grow_once)
    assert grown
    assert kinds(run.events())[0] == "replay"
    assert "a weight is 1e+04" in run.events()[0]["message"]
    assert weights_of(run.folder) == weights_of(clean)


@pytest.mark.parametrize("step", [pytest.param(20, marks=SLOW), 30])
def test_a_model_found_damaged_at_a_checkpoint_or_a_validation_is_healed(
    step: int, clean: Path, tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints are written every 10 steps, validation comes every 30."""
    original, damaged = Loop._step, []

    def damage_once(self: Loop) -> Any:
        record = original(self)
        if self.progress.step == step and not damaged:
            damaged.append(step)
            with torch.no_grad():
                next(self.state.model.parameters()).fill_(float("nan"))
        return record

    monkeypatch.setattr(Loop, "_step", damage_once)
    run = pretrain(tiny(*QUICK), tmp_path / "run")
    assert kinds(run.events()) == ["replay", "transient"]
    assert weights_of(run.folder) == weights_of(clean)


def test_a_poisoned_batch_is_skipped_and_the_rest_is_a_clean_run(
    clean: Path, tiny: Make, tmp_path: Path
) -> None:
    """T3: sticky poison, bit for bit a clean run on the data without the skipped samples."""
    poison = Fault("batch", "corrupt", samples=range(181, 183), sticky=True)
    folder, events = heal(tiny(*QUICK), tmp_path / "run", poison)
    assert kinds(events) == ["skip"]
    (event,) = events
    assert event["step"] == 45
    assert event["skipped"] == [180, 184]
    assert Run(folder).manifest["amendments"]["skipped"] == [[180, 184]]
    worst = [row["sample"] for row in event["worst_sequences"]]
    assert set(worst[:2]) == {181, 182}
    assert all(row["text"] for row in event["worst_sequences"])
    told = given_the_same_amendments(tiny(*QUICK), folder, tmp_path / "told")
    assert weights_of(told) == weights_of(folder)
    assert weights_of(told) != weights_of(clean)
    assert records_of(told) == records_of(folder)


@SLOW
def test_poison_that_damages_is_gone_back_from(tiny: Make, tmp_path: Path) -> None:
    """Gradients of certain samples ruin the weights; each rung of the ladder is told as amended."""
    ruin = Fault("gradient", "scale", samples=range(180, 188), sticky=True, factor=1e30)
    config = tiny(*QUICK, "optimizer.clip=0")
    folder, events = heal(config, tmp_path / "run", ruin)
    assert kinds(events)
    told = given_the_same_amendments(config, folder, tmp_path / "told")
    assert weights_of(told) == weights_of(folder)


@pytest.mark.slow
def test_a_rewind_goes_back_in_step_and_on_in_the_data(tiny: Make, tmp_path: Path) -> None:
    """A learning rate that damages whatever it is fed: replay, rewind, deeper, then slower."""
    config = tiny(*QUICK, "optimizer.clip=0")
    damage = [Fault("parameter", "scale", step=46, sticky=True, factor=30.0)]

    class UntilSlower(FaultPlan):
        def __call__(self, site: str, step: int, samples: Any, value: Any) -> Any:
            rate = value.optimizer.learning_rates()["adamw"] if site == "state" else 0
            return super().__call__(site, step, samples, value) if rate > 4e-3 else value

    plan = UntilSlower(damage)
    run = pretrain(config, tmp_path / "run", seam=plan)
    events = run.events()
    assert [event["kind"] for event in events[:4]] == ["replay", "rewind", "rewind", "rewind"]
    replay, first, second, third = events[:4]
    assert replay["to"] == first["to"] == 40
    assert second["to"] == 35
    assert second["batches"] >= 2 * first["batches"]
    assert "rate_cut" not in second
    assert third["rate_cut"][0] == third["to"]
    starts = [event["skipped"][0] for event in (first, second, third)]
    stops = [event["skipped"][1] for event in (first, second, third)]
    assert stops == sorted(stops), "the data go on"
    assert starts[0] == 40 * 4
    train = run.records()["train"]
    assert [record["step"] for record in train] == list(range(1, 61))
    told = given_the_same_amendments(config, run.folder, tmp_path / "told")
    assert weights_of(told) == weights_of(run.folder)


@SLOW
def test_the_ladder_ends_with_a_healthy_checkpoint(
    tiny: Make, tmp_path: Path, said: list[str]
) -> None:
    """T7: everything from one sample on is poison."""
    poison = Fault("batch", "corrupt", samples=range(400, 10**9), sticky=True)
    budgets = ("guard.max_rewinds=4", "guard.max_skips=10", "guard.patience=3")
    config = tiny(*QUICK, *budgets, "training.steps=120", "followers.report=true")
    with pytest.raises(TrainingStopped, match="healthy checkpoint is intact"):
        pretrain(config, tmp_path / "run", seam=FaultPlan([poison]))
    run = Run(tmp_path / "run")
    assert run.events()[-1]["kind"] == "stop"
    said.clear()
    saved = checkpoint.newest_whole(run.checkpoints)
    assert saved is not None
    assert 0 < saved.step <= 100
    model, _ = load_model(run.folder)
    assert not said
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert (run.folder / "report.html").exists()


@pytest.mark.parametrize(
    "how", ["nan", pytest.param("scaled", marks=SLOW), pytest.param("truncated", marks=SLOW)]
)
def test_a_poisoned_newest_checkpoint_falls_back_to_a_healthy_one(
    how: str, clean: Path, tiny: Make, tmp_path: Path
) -> None:
    """T5: a crash after a checkpoint that was damaged before or after it got its hashes."""

    class Killed(Exception):
        pass

    def kill(site: str, step: int, samples: Any, value: Any) -> Any:
        if step == 43:
            raise Killed
        return value

    with pytest.raises(Killed):
        pretrain(tiny(*QUICK), tmp_path / "run", seam=kill)
    newest = checkpoint.committed(tmp_path / "run" / "checkpoints")[-1]
    assert newest.step == 40
    weights = newest.model / "model.safetensors"
    if how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        factor = float("nan") if how == "nan" else 50.0
        tensors = load_file(weights)
        metadata = {"format": "pt"}
        save_file({k: v * factor for k, v in tensors.items()}, weights, metadata)

        def copy(folder: Path) -> None:
            shutil.copytree(newest.model, folder / "model")
            shutil.copytree(newest.state, folder / "state")

        facts = {"validation_loss_nats": newest.facts["validation_loss_nats"]}
        checkpoint.commit(newest.path.parent, 40, copy, facts)
    run = pretrain(tiny(*QUICK), tmp_path / "run", resume=True)
    if how != "truncated":
        assert run.events()[0]["kind"] == "replay"
    assert weights_of(run.folder) == weights_of(clean)


@pytest.mark.slow
def test_an_interrupted_run_heals_alike(tiny: Make, tmp_path: Path) -> None:
    """The guard's memory goes through a checkpoint."""
    poison = Fault("batch", "corrupt", samples=range(181, 183), sticky=True)
    whole, _ = heal(tiny(*QUICK), tmp_path / "whole", poison)

    def stop(site: str, step: int, samples: Any, value: Any) -> Any:
        if site == "gradient" and step == 43:
            raise Interrupted
        return FaultPlan([poison])(site, step, samples, value)

    with pytest.raises(Interrupted):
        pretrain(tiny(*QUICK), tmp_path / "run", seam=stop)
    run = pretrain(tiny(*QUICK), tmp_path / "run", resume=True, seam=FaultPlan([poison]))
    assert weights_of(run.folder) == weights_of(whole)
    assert json.dumps(run.manifest["amendments"]) == json.dumps(Run(whole).manifest["amendments"])


def _train_until_killed(values: dict[str, Any], out: Path) -> None:
    kill = FaultPlan([Fault("process", "kill", step=37)])
    pretrain(PretrainConfig.parse(values), out, seam=kill)


@SLOW
def test_a_killed_run_resumes_as_if_nothing_had_been(
    clean: Path, tiny: Make, tmp_path: Path
) -> None:
    config, out = tiny(*QUICK), tmp_path / "run"
    process = multiprocessing.get_context("spawn").Process(
        target=_train_until_killed, args=(config.values(), out)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert weights_of(pretrain(config, out, resume=True).folder) == weights_of(clean)


@SLOW
def test_a_run_killed_before_any_of_its_writes_ends_the_same(tiny: Make, tmp_path: Path) -> None:
    """T6: before every open, rename, removal and fsync of a run that skips, replays and rewinds."""
    short = ("training.steps=13", "checkpoint.every=6", "validation.every=13")
    config = tiny(*QUICK, *short, "guard.snapshot_every=3", "guard.healthy_after=3")
    (tmp_path / "config.toml").write_text(dump_toml(config.values()))
    program = Path(__file__).with_name("killing.py")
    done = subprocess.run(
        [sys.executable, program, tmp_path / "config.toml", tmp_path / "runs"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert {"skip", "replay", "rewind"} <= set(found["acts"])
    assert found["writes"] > 100
    assert found["different"] == []
