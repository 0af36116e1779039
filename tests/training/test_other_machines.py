"""A run whose machine is gone is resumed on an empty one, by the same command line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from foundling import cli
from foundling.base.config import ConfigError, dump_toml
from foundling.base.object_store import ObjectStore
from foundling.cli import launching
from foundling.data.manifest import StoreError
from foundling.data.store import TokenStore
from foundling.runs import checkpoint
from foundling.runs.stored_run import StoredRun
from foundling.stages.pretrain import PretrainConfig, pretrain
from foundling.training.interrupt import Interrupted
from foundling.training.loop import Loop
from foundling.training.rewind import TrainingStopped

CLOCKS = ("seconds", "tokens_per_second", "matrix_rate_fraction")


@pytest.fixture
def url() -> str:
    return f"memory://{uuid4().hex}"


def call(*arguments: object) -> int:
    return cli.exit_code(lambda: cli.app([str(argument) for argument in arguments]))


def outcome(folder: Path) -> tuple[list[dict[str, object]], str]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    records = [{k: v for k, v in line.items() if k not in CLOCKS} for line in lines]
    return records, checkpoint.committed(folder / "checkpoints")[-1].fingerprint


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Loop._step

    def stepping(self: Loop) -> object:
        if self.progress.step == step:
            raise Interrupted
        return original(self)

    monkeypatch.setattr(Loop, "_step", stepping)


@pytest.fixture(scope="module")
def whole(tiny: Callable[..., PretrainConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    return pretrain(tiny(), tmp_path_factory.mktemp("whole") / "run").folder


def test_the_same_command_line_resumes_by_itself(
    whole: Path,
    tiny: Callable[..., PretrainConfig],
    tmp_path: Path,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Written from a copy while training goes on, too, the files are the same byte for byte."""
    options = (f"checkpoint.store={url}", "checkpoint.asynchronous=true")
    (tmp_path / "run.toml").write_text(dump_toml(tiny(*options).values()))
    run = tmp_path / "run"
    command = ("pretrain", tmp_path / "run.toml", "--out", run, "--resume-if-exists")
    for step in (2, 7):
        with monkeypatch.context() as patch:
            stop_at(step, patch)
            assert call(*command) == 130
        shutil.rmtree(run)  # the machine is gone
    assert call(*command) == 0
    assert outcome(run) == outcome(whole)
    assert call(*command) == 0  # it has ended: nothing is left to do
    assert outcome(run) == outcome(whole)
    shutil.rmtree(run)
    assert call("pretrain", "--resume", "--out", run, "--set", f"checkpoint.store={url}") == 0
    assert outcome(run) == outcome(whole)


def test_another_config_is_refused_and_what_is_free_is_taken(
    tiny: Callable[..., PretrainConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, run = tmp_path / "run.toml", tmp_path / "run"
    command = ("pretrain", file, "--out", run, "--resume-if-exists")
    file.write_text(dump_toml(tiny("training.steps=4").values()))
    assert call(*command) == 0
    file.write_text(dump_toml(tiny("training.steps=6").values()))
    assert call(*command) == 0
    assert outcome(run)[0][-1]["step"] == 6
    file.write_text(dump_toml(tiny("training.steps=6", "model.dim=32").values()))
    capsys.readouterr()
    assert call(*command) == 2
    assert "model.dim = 32: the run in" in capsys.readouterr().err
    assert call(*command, "--resume") == 2
    assert call("pretrain", file, "--out", "s3://bucket/run") == 2
    assert "checkpoint.store" in capsys.readouterr().err


def test_only_what_this_launch_began_is_resumed_by_itself(
    tiny: Callable[..., PretrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A launcher such as torchrun starts again what refused an older run, too."""
    file, run = tmp_path / "run.toml", tmp_path / "run"
    file.write_text(dump_toml(tiny("training.steps=4").values()))
    command = ("pretrain", file, "--out", run)
    assert call(*command) == 0
    assert call(*command, "--nproc", 2, "--max-restarts", 2) == 2
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert call(*command) == 2
    assert capsys.readouterr().err.count("holds a run; continue it with --resume") == 2
    monkeypatch.setenv(launching.ENDED, str(tmp_path / "ended"))  # as --nproc does
    assert call(*command) == 0


def test_a_store_with_a_run_is_never_overwritten(
    tiny: Callable[..., PretrainConfig], tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = f"checkpoint.store={url}"
    with monkeypatch.context() as patch:
        stop_at(5, patch)
        with pytest.raises(Interrupted):
            pretrain(tiny(stored), tmp_path / "run")
    with pytest.raises(ConfigError, match="holds a run; continue it with --resume"):
        pretrain(tiny(stored), tmp_path / "new")
    StoredRun(url).fetch(tmp_path / "elsewhere")
    pretrain(tiny(stored), tmp_path / "elsewhere", resume=True)
    with pytest.raises(ConfigError, match=r"has done 12 steps, and the run in .* 5"):
        pretrain(tiny(stored), tmp_path / "run", resume=True)


def test_a_store_out_of_reach_does_not_stop_training_and_is_told_at_the_end(
    whole: Path,
    tiny: Callable[..., PretrainConfig],
    tmp_path: Path,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    said: list[str],
) -> None:
    def away(self: ObjectStore, file: Path, name: str) -> None:
        raise ConnectionError("away")

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "upload", away)
        with pytest.raises(TrainingStopped, match="away"):
            pretrain(tiny(f"checkpoint.store={url}"), tmp_path / "run")
    assert any("the next checkpoint tries again" in line for line in said)
    assert outcome(tmp_path / "run") == outcome(whole)
    pretrain(tiny(f"checkpoint.store={url}"), tmp_path / "run", resume=True)
    StoredRun(url).fetch(tmp_path / "fetched")  # nothing was left to do but to store it
    assert outcome(tmp_path / "fetched") == outcome(whole)


def test_a_token_store_is_fetched_once_and_verified(
    village: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remote = ObjectStore(url)
    with pytest.raises(StoreError, match="no token store"):
        TokenStore.open(url)
    for path in (path for path in village.rglob("*") if path.is_file()):
        remote.upload(path, path.relative_to(village).as_posix())
    remote.write("train-00000.bin", b"rotten")
    with pytest.raises(StoreError, match=r"train-00000.bin: damaged"):
        TokenStore.open(url)
    remote.upload(village / "train-00000.bin", "train-00000.bin")
    store = TokenStore.open(url)
    assert store.fingerprint == TokenStore.open(village).fingerprint
    remote.delete(["train-00000.bin"])
    assert TokenStore.open(url).path == store.path
