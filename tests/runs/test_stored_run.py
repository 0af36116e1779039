"""A run's copy on an object store: S3 as moto serves it, memory, a folder by its URL."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from foundling.base.config import ConfigError
from foundling.base.object_store import ObjectStore
from foundling.runs import checkpoint
from foundling.runs.checkpoint import CheckpointSettings
from foundling.runs.run import Run
from foundling.runs.stored_run import StoredRun

KEPT = CheckpointSettings(keep_last=2)


@pytest.fixture
def url() -> str:
    return f"memory://{uuid4().hex}"


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/stored/run"


@pytest.fixture
def s3_url(bucket: str) -> str:
    return f"{bucket}/runs/{uuid4().hex}"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def fill(folder: Path) -> None:
        (folder / "parent").mkdir()
        (folder / "parent" / "model.safetensors").write_bytes(b"the parent")

    return Run.create(tmp_path / "run", "seed = 1\n", {"stage": "sft"}, fill)


def commit(run: Run, step: int, loss: float, content: bytes = b"weights") -> None:
    def write(folder: Path) -> None:
        (folder / "model").mkdir()
        (folder / "model" / "weights").write_bytes(content)

    run.append({"split": "train", "step": step})
    checkpoint.commit(run.checkpoints, step, write, {"validation_loss_nats": loss})
    checkpoint.prune(run.checkpoints, KEPT)


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("kind", ["url", "file_url", "s3_url"])
def test_an_empty_machine_gets_the_run_as_it_was(
    kind: str, run: Run, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(kind)
    stored = StoredRun(url)
    assert not stored.exists()
    for step, loss in enumerate([5.0, 1.0, 3.0, 2.0, 4.0], 1):
        commit(run, step, loss)
        run.log({"id": step, "phase": "note", "kind": "hard data", "step": step})
        stored.update(run, KEPT)
    assert stored.exists()
    assert list(StoredRun(url).checkpoints()) == [2, 4, 5]
    (run.folder / "report.html").write_text("drawn")
    stored.finish(run)
    StoredRun(url).fetch(tmp_path / "other" / "run")
    assert contents(tmp_path / "other" / "run") == contents(run.folder)


def test_a_checkpoint_is_there_only_with_its_marker(
    url: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever write or deletion is the last before the machine dies."""
    commit(run, 1, 2.0)
    places = [f"{url}/{last}" for last in range(8)]
    for place in places:
        StoredRun(place).update(run, KEPT)
    commit(run, 2, 1.0, b"newer")
    commit(run, 3, 0.5, b"newest")
    for last, place in enumerate(places):
        with monkeypatch.context() as patch:
            acts = iter(range(last))
            for name in ("upload", "delete"):
                patch.setattr(ObjectStore, name, dying(getattr(ObjectStore, name), acts))
            with pytest.raises(ConnectionError):
                StoredRun(place).update(run, KEPT)
        StoredRun(place).fetch(tmp_path / f"run-{last}")
        found = checkpoint.recover(tmp_path / f"run-{last}" / "checkpoints")
        assert found is not None
        assert found.step == (1 if last < 5 else 2 if last < 7 else 3)
        lines = (tmp_path / f"run-{last}" / "metrics.jsonl").read_text().splitlines()
        assert len(lines) >= found.step
        StoredRun(place).update(run, KEPT)
        assert list(StoredRun(place).checkpoints()) == [2, 3]


def dying(act: Callable[..., None], left: Iterator[int]) -> Callable[..., None]:
    def once(*arguments: object) -> None:
        if next(left, None) is None:
            raise ConnectionError("the machine is gone")
        act(*arguments)

    return once


def test_a_broken_copy_leads_back(url: str, run: Run, tmp_path: Path, said: list[str]) -> None:
    stored = StoredRun(url)
    for step in (1, 2):
        commit(run, step, 3.0 - step)
    stored.update(run, KEPT)
    stored.store.write("checkpoints/step-00000002/model/weights", b"rotten!")
    stored.fetch(tmp_path / "fetched")
    assert any("fetching an older one" in line for line in said)
    assert [c.step for c in checkpoint.committed(tmp_path / "fetched" / "checkpoints")] == [1]
    stored.store.write("checkpoints/step-00000001/model/weights", b"rotten!")
    with pytest.raises(ConfigError, match="every checkpoint is broken"):
        stored.fetch(tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_what_a_run_went_back_behind_is_gone_before_the_event_is_stored(
    url: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = StoredRun(url)
    for step in (2, 4, 6):
        commit(run, step, 1.0 / step)
        stored.update(run, KEPT)
    run.log({"id": 1, "phase": "intent", "act": "rewind", "kind": "rewind", "step": 6, "to": 3})
    checkpoint.drop_after(run.checkpoints, 3)
    commit(run, 4, 0.1, b"made anew")
    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "upload", dying(ObjectStore.upload, iter(())))
        with pytest.raises(ConnectionError):
            StoredRun(url).update(run, KEPT)
    assert list(StoredRun(url).checkpoints()) == []  # 2 was pruned when 6 came
    stored.update(run, KEPT)
    assert list(StoredRun(url).checkpoints()) == [4]
    content = stored.store.read("checkpoints/step-00000004/model/weights")
    assert content == b"made anew"
    assert len(json.loads(stored.store.read("checkpoints/step-00000004/checkpoint.json"))) == 3


def test_a_store_that_nothing_opens_is_a_users_fault() -> None:
    with pytest.raises(ConfigError, match=r"nowhere://.*[Pp]rotocol"):
        StoredRun("nowhere://bucket/run")
    with pytest.raises(ConfigError, match=r"gcsfs.*foundling\[s3\]"):
        StoredRun("gs://bucket/run")
