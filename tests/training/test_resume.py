"""A run that was interrupted, however rudely, equals one that was not."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from foundling import hamlet
from foundling.base.config import ConfigError, dump_toml
from foundling.data.prepare import prepare
from foundling.runs import checkpoint
from foundling.runs.run import Run, load_model
from foundling.stages import text_loss
from foundling.stages.pretrain import PretrainConfig, pretrain
from foundling.training.interrupt import Interrupted
from foundling.training.loop import Loop
from foundling.training.rewind import TrainingStopped

CLOCKS = {"seconds", "tokens_per_second", "matrix_rate_fraction"}


def records_of(folder: Path) -> list[dict[str, Any]]:
    """The metrics, without what the clock says."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [record for record in map(json.loads, lines) if record["split"] != "straggler"]
    return [{k: v for k, v in record.items() if k not in CLOCKS} for record in records]


def weights_of(folder: Path) -> dict[str, list[int]]:
    """Every tensor of the last checkpoint, model's and optimizer's, as its bytes."""
    last = checkpoint.committed(folder / "checkpoints")[-1]
    return {
        f"{file.parent.name}/{name}": value.reshape(-1).view(torch.uint8).tolist()
        for file in sorted(last.path.rglob("*.safetensors"))
        for name, value in load_file(file).items()
    }


def outcome(folder: Path) -> tuple[list[dict[str, Any]], dict[str, list[int]]]:
    return records_of(folder), weights_of(folder)


@pytest.fixture(scope="module")
def uninterrupted(
    tiny: Callable[..., PretrainConfig], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return pretrain(tiny(), tmp_path_factory.mktemp("whole") / "run").folder


def stop_at(step: int, how: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let something happen just after a step, as the operating system would."""
    original = Loop._step

    def stepping(self: Loop) -> Any:
        record = original(self)
        if record["step"] == step:
            how()
        return record

    monkeypatch.setattr(Loop, "_step", stepping)


def test_the_same_seed_gives_the_same_run(
    uninterrupted: Path, tiny: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    again = pretrain(tiny(), tmp_path / "again").folder
    assert outcome(again) == outcome(uninterrupted)
    other = pretrain(tiny("seed=4"), tmp_path / "other").folder
    assert records_of(other) != records_of(uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, 5, 8, 12])
def test_a_signal_saves_and_the_resumed_run_is_the_same(
    number: signal.Signals,
    step: int,
    uninterrupted: Path,
    tiny: Callable[..., PretrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        stop_at(step, lambda: os.kill(os.getpid(), number), patch)
        with pytest.raises(Interrupted):
            pretrain(tiny(), tmp_path / "run")
    saved = checkpoint.committed(tmp_path / "run" / "checkpoints")
    assert saved[-1].step == step
    pretrain(tiny(), tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run") == outcome(uninterrupted)
    whole, resumed = (
        checkpoint.committed(folder / "checkpoints")[-1]
        for folder in (uninterrupted, tmp_path / "run")
    )
    assert resumed.facts["validation_loss_nats"] == whole.facts["validation_loss_nats"]
    assert resumed.fingerprint == whole.fingerprint


def wait_for(seen: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not seen() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def num_steps(folder: Path) -> int:
    try:
        return (folder / "metrics.jsonl").read_text().count('"split": "train"')
    except FileNotFoundError:
        return 0


def train_by_command(*arguments: object, cache: Path | None = None) -> subprocess.Popen[bytes]:
    """`cache` is where torch keeps what it compiled, so that no other process is writing there."""
    command = [sys.executable, "-m", "foundling", "pretrain", *map(str, arguments)]
    own = {} if cache is None else {"TORCHINDUCTOR_CACHE_DIR": str(cache)}
    return subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, **own})


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
def test_sigkill_at_any_moment_changes_nothing(
    compiled: bool, tiny: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    config = tiny("training.steps=40", "model.dim=64", "checkpoint.every=6")
    if compiled:
        config = tiny("training.steps=40", "checkpoint.every=6", "training.compile=true")
    file = tmp_path / "config.toml"
    file.write_text(dump_toml(config.values()))
    whole, run, cache = tmp_path / "whole", tmp_path / "run", tmp_path / "compiled"
    _, errors = train_by_command(file, "--out", whole, cache=cache).communicate(timeout=300)
    assert whole.exists(), errors.decode()
    moments: list[Callable[[], bool]] = [
        lambda: run.exists(),
        lambda: num_steps(run) >= 4,
        lambda: any((run / "checkpoints").glob(".step-*")),
        lambda: num_steps(run) >= 17,
        lambda: (run / "checkpoints" / "step-00000018").exists(),
        lambda: any((run / "checkpoints").glob(".step-00000024*/model")),
        lambda: num_steps(run) >= 31,
    ]
    if compiled:
        moments = moments[1:6:2]
    kills = 0
    for moment in [*moments, None]:
        process = train_by_command("--resume" if run.exists() else file, "--out", run, cache=cache)
        if moment is not None:
            wait_for(moment, process)
            process.kill()
            kills += process.wait() == -signal.SIGKILL
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()
    assert kills >= len(moments) - 1  # one may have come too late
    assert outcome(run) == outcome(whole)


def break_weights(path: Path) -> None:
    file = path / "model" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # one flipped bit
    file.write_bytes(content)


def truncate_state(path: Path) -> None:
    file = path / "state" / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:100])


def remove_file(path: Path) -> None:
    (path / "model" / "config.json").unlink()


@pytest.mark.parametrize("damage", [break_weights, truncate_state, remove_file])
def test_a_broken_newest_checkpoint_leads_back_loudly(
    damage: Callable[[Path], None],
    uninterrupted: Path,
    tiny: Callable[..., PretrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: list[str],
) -> None:
    with monkeypatch.context() as patch:
        stop_at(10, lambda: os.kill(os.getpid(), signal.SIGTERM), patch)
        with pytest.raises(Interrupted):
            pretrain(tiny(), tmp_path / "run")
    damage(tmp_path / "run" / "checkpoints" / "step-00000010")
    pretrain(tiny(), tmp_path / "run", resume=True)
    assert any("going back" in line for line in said)
    assert outcome(tmp_path / "run")[0] == outcome(uninterrupted)[0]


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """The operating system refuses to let files grow, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def no_room_to_sync(size: int) -> Iterator[None]:
    """A disk that notices only when it is synced that it is full, as network disks do."""

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        yield


@pytest.mark.parametrize("disk", [no_file_larger_than, no_room_to_sync])
@pytest.mark.parametrize("size", [300, 30_000])
def test_a_full_disk_stops_with_the_last_checkpoint_intact(
    disk: Callable[[int], AbstractContextManager[None]],
    size: int,
    uninterrupted: Path,
    tiny: Callable[..., PretrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: list[str],
) -> None:
    with ExitStack() as stack, monkeypatch.context() as patch:
        stop_at(6, lambda: stack.enter_context(disk(size)), patch)
        with pytest.raises(TrainingStopped, match="the last checkpoint is intact"):
            pretrain(tiny(), tmp_path / "run")
    checkpoints = tmp_path / "run" / "checkpoints"
    found = checkpoint.newest_whole(checkpoints)
    assert not [line for line in said if "broken" in line]
    assert found is not None
    assert found.step == 5  # validated there, and the best so far
    assert not list(checkpoints.glob(".step*"))
    pretrain(tiny(), tmp_path / "run", resume=True)
    assert records_of(tmp_path / "run") == records_of(uninterrupted)


def test_a_loss_that_is_not_finite_stops_before_it_changes_the_model(
    tiny: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    broken = ("optimizer.learning_rate=1e38", "optimizer.clip=1e30", "optimizer.kind=adamw")
    with pytest.raises(TrainingStopped, match="stopped before they changed the model"):
        pretrain(tiny(*broken, "guard.enabled=false"), tmp_path / "unguarded")
    with pytest.raises(
        TrainingStopped, match="the update norm is inf; the run has been rolled back"
    ):
        pretrain(tiny(*broken), tmp_path / "guarded")


def test_a_validation_cut_short_is_recorded_once(
    uninterrupted: Path,
    tiny: Callable[..., PretrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = text_loss.measure

    def measure_then_signal(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        os.kill(os.getpid(), signal.SIGINT)  # after the loss is known, before the samples are
        return result

    with monkeypatch.context() as patch:
        patch.setattr(text_loss, "measure", measure_then_signal)
        with pytest.raises(Interrupted):
            pretrain(tiny(), tmp_path / "run")
    pretrain(tiny(), tmp_path / "run", resume=True)
    assert records_of(tmp_path / "run") == records_of(uninterrupted)


def test_a_model_that_validation_finds_damaged_is_not_saved(
    tiny: Callable[..., PretrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Loop._step

    def damage(self: Loop) -> Any:
        record = original(self)
        if record["step"] == 5:
            with torch.no_grad():
                next(self.state.model.parameters()).fill_(float("nan"))
        return record

    monkeypatch.setattr(Loop, "_step", damage)
    off = "guard.enabled=false"
    with pytest.raises(TrainingStopped, match="the validation loss is nan"):
        pretrain(tiny(off), tmp_path / "validated")
    with pytest.raises(TrainingStopped, match="a weight is not finite"):
        pretrain(tiny(off, "validation.every=100", "checkpoint.every=5"), tmp_path / "saved")
    assert [c.step for c in checkpoint.committed(tmp_path / "validated" / "checkpoints")] == [4]
    assert checkpoint.committed(tmp_path / "saved" / "checkpoints") == []


def tiny_checkpoint(folder: Path, step: int, loss: float | None = None) -> checkpoint.Checkpoint:
    def write(path: Path) -> None:
        (path / "file").write_text(str(step))

    return checkpoint.commit(folder, step, write, {"validation_loss_nats": loss})


def test_a_broken_checkpoint_takes_no_place_among_those_kept(
    tmp_path: Path, said: list[str]
) -> None:
    tiny_checkpoint(tmp_path, 400)
    (tiny_checkpoint(tmp_path, 600).path / "file").write_text("something else")
    found = checkpoint.recover(tmp_path)
    assert found is not None
    assert found.step == 400
    assert "step-00000600" in said[0]
    tiny_checkpoint(tmp_path, 450)
    checkpoint.prune(tmp_path, checkpoint.CheckpointSettings(keep_last=1))
    assert [c.step for c in checkpoint.committed(tmp_path)] == [450]
    assert (tmp_path / "broken-step-00000600").is_dir()


@pytest.mark.parametrize("marker", [None, "[]", '{"step": 7}', "{"])
def test_a_marker_that_cannot_be_read_is_said_aloud(
    tmp_path: Path, marker: str | None, said: list[str]
) -> None:
    tiny_checkpoint(tmp_path, 6)
    path = tiny_checkpoint(tmp_path, 7).path / checkpoint.MARKER
    path.unlink() if marker is None else path.write_text(marker)
    found = checkpoint.recover(tmp_path)
    assert found is not None
    assert found.step == 6
    assert "step-00000007" in said[0]


def test_a_crash_between_two_renames_is_mended(tmp_path: Path, said: list[str]) -> None:
    path = tiny_checkpoint(tmp_path, 7).path
    path.rename(tmp_path / ".step-00000007.old")
    (tmp_path / ".step-00000008.tmp").mkdir()
    (tmp_path / ".step-00000003.pruned").mkdir()
    found = checkpoint.recover(tmp_path)
    assert not said
    assert found is not None
    assert found.step == 7
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000007"]


def test_when_every_checkpoint_is_broken_nothing_is_lost(
    uninterrupted: Path, tiny: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    shutil.copytree(uninterrupted, tmp_path / "run")
    for found in checkpoint.committed(tmp_path / "run" / "checkpoints"):
        break_weights(found.path)
    with pytest.raises(ConfigError, match="every checkpoint is broken"):
        pretrain(tiny(), tmp_path / "run", resume=True)
    assert records_of(tmp_path / "run") == records_of(uninterrupted)


def test_metrics_shorter_than_the_checkpoint_remembers_are_not_padded(
    uninterrupted: Path, tiny: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    shutil.copytree(uninterrupted, tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    metrics.write_text("")
    with pytest.raises(ConfigError, match=r"metrics\.jsonl: has 0 bytes"):
        pretrain(tiny(), tmp_path / "run", resume=True)
    metrics.unlink()
    with pytest.raises(ConfigError, match="put the file back"):
        pretrain(tiny(), tmp_path / "run", resume=True)


def test_a_resumed_run_keeps_its_settings(
    uninterrupted: Path, tiny: Callable[..., PretrainConfig]
) -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.learning_rate = 9\.0: the run in"):
        pretrain(tiny("optimizer.learning_rate=9.0"), uninterrupted, resume=True)
    assert "9.0" not in (uninterrupted / "config.toml").read_text()


def test_a_resumed_run_may_have_other_room_for_its_copies(
    uninterrupted: Path, tiny: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    shutil.copytree(uninterrupted, tmp_path / "run")
    run = pretrain(tiny("guard.snapshot_mb=0", "guard.snapshots=1"), tmp_path / "run", resume=True)
    assert outcome(run.folder) == outcome(uninterrupted)
    divided = ("training.micro_batch_size=1", "training.checkpoint_activations=true")
    pretrain(tiny(*divided), tmp_path / "run", resume=True)
    assert "micro_batch_size = 1" in (run.folder / "config.toml").read_text()


def test_a_prompt_that_cannot_be_encoded_is_refused_before_the_run_begins(
    tiny: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text("only plain letters here. " * 400)
    prepare([tmp_path / "text.txt"], tmp_path / "data", tokenizer="characters", validation_tail=0.1)
    config = tiny(f'data="{tmp_path / "data"}"', 'validation.prompts=["Über"]')
    with pytest.raises(ConfigError, match="Ü"):
        pretrain(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_processes_cannot_train_one_run(
    tiny: Callable[..., PretrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def second() -> None:
        with pytest.raises(ConfigError, match="another process"):
            pretrain(tiny(), tmp_path / "run", resume=True)

    stop_at(2, second, monkeypatch)
    pretrain(tiny("training.steps=3"), tmp_path / "run")


def test_other_data_or_a_used_folder_are_refused(
    uninterrupted: Path, tiny: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="--resume"):
        pretrain(tiny(), uninterrupted)
    with pytest.raises(ConfigError, match="context = 8: the run in"):
        pretrain(tiny("context=8"), uninterrupted, resume=True)
    hamlet.write_corpus(tmp_path / "other.jsonl", 100_000, seed=9)
    prepare([tmp_path / "other.jsonl"], tmp_path / "data", vocab_size=400, validation_fraction=0.1)
    with pytest.raises(ConfigError, match="data fingerprint is not the one"):
        pretrain(tiny(f'data="{tmp_path / "data"}"'), uninterrupted, resume=True)
    with pytest.raises(ConfigError, match="not a run"):
        pretrain(tiny(), tmp_path / "nothing", resume=True)


def test_the_best_checkpoint_is_loaded_and_broken_ones_passed_over(
    uninterrupted: Path, tmp_path: Path, said: list[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(uninterrupted, copy)
    model, tokenizer = load_model(copy)
    assert not said
    validations = Run.open(copy).records()["validation"]
    best = min(validations, key=lambda record: record["loss_nats"])
    path = copy / "checkpoints" / f"step-{best['step']:08d}"
    assert torch.equal(
        model.state_dict()["embed.weight"],
        load_model(path)[0].state_dict()["embed.weight"],
    )
    assert tokenizer.decode(tokenizer.encode("The mill")) == "The mill"
    break_weights(path)
    load_model(copy)
    assert "broken checkpoint" in said[0]
    with pytest.raises(ConfigError, match="does not match its hash"):
        load_model(path)


def test_retention_keeps_the_last_the_best_and_every_nth(tmp_path: Path) -> None:
    settings = checkpoint.CheckpointSettings(keep_last=2, keep_every=5)
    for step, loss in enumerate([3.0, 1.0, 2.0, None, 2.5, 2.4, 2.3, 2.2], start=1):
        checkpoint.commit(
            tmp_path,
            step,
            lambda folder: (folder / "file").write_text("x") and None,
            {"validation_loss_nats": loss},
        )
        checkpoint.prune(tmp_path, settings)
    assert [found.step for found in checkpoint.committed(tmp_path)] == [2, 5, 7, 8]
