"""Pretraining on a mixture: losses by source, resuming, and what is refused."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from foundling import cli, hamlet
from foundling.base.config import ConfigError
from foundling.base.object_store import ObjectStore
from foundling.data.prepare import prepare
from foundling.stages.pretrain import PretrainConfig, pretrain

MIXTURE = """
[[sources]]
name = "village"
data = "{village}"
[[sources]]
name = "fables"
data = "{fables}"
[[stages]]
until = 0.5
weights = {{ village = {weight}, fables = 0.25 }}
length = 8
[[stages]]
until = 1
weights = {{ fables = 1 }}
"""


@pytest.fixture(scope="module")
def fables(village: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fables")
    hamlet.write_corpus(folder / "fables.jsonl", 40_000, seed=2)
    prepare([folder / "fables.jsonl"], folder / "store", tokenizer=str(village))
    return folder / "store"


@pytest.fixture
def mixture(village: Path, fables: Path, tmp_path: Path) -> Path:
    path = tmp_path / "mixture.toml"
    path.write_text(MIXTURE.format(village=village, fables=fables, weight=0.75))
    return path


def call(*arguments: object) -> int:
    return cli.exit_code(lambda: cli.app([str(argument) for argument in arguments]))


def test_a_run_measures_each_source_and_resumes_only_with_its_mixture(
    tiny: Callable[..., PretrainConfig],
    mixture: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = tiny("training.steps=8", f"data={mixture}", "amendments.skipped=[[3, 9]]")
    run = pretrain(config, tmp_path / "run")
    last = run.records()["validation"][-1]
    by_source = last["by_source"]
    assert set(by_source) == {"village", "fables"}
    counts = [of["num_targets"] for of in by_source.values()]
    assert sum(counts) == last["num_targets"]
    mean = sum(of["loss_nats"] * n for of, n in zip(by_source.values(), counts, strict=True))
    assert last["loss_nats"] == pytest.approx(mean / sum(counts))
    assert run.manifest["mixture"]["samples"] == 32

    half = pretrain(tiny("training.steps=8", f"data={mixture}", "amendments.skipped=[[3, 9]]",
                         "checkpoint.every=4"), tmp_path / "half")  # fmt: skip
    assert half.records()["validation"][-1]["loss_nats"] == last["loss_nats"]

    more = tiny("training.steps=10", f"data={mixture}", "amendments.skipped=[[3, 9]]")
    again = pretrain(more, tmp_path / "run", resume=True)
    assert "planned for 8 steps" in caplog.text
    assert "weights of the last stage" in caplog.text
    assert again.records()["train"][:8] == run.records()["train"][:8]

    saved = mixture.read_text()
    mixture.write_text(saved.replace("0.75", "0.7"))
    with pytest.raises(ConfigError, match="a source, a weight or a stage is another"):
        pretrain(more, tmp_path / "run", resume=True)
    mixture.write_text(saved)
    child = tiny("training.steps=1", f"parent={run.folder}", "seed=5")
    after = pretrain(child, tmp_path / "child").records()["validation"][-1]
    assert after["pretraining_loss_nats"] > 0  # of all sources of the mixture
    mixture.write_text('[[sources]]\ndata = "gone"')
    pretrain(child, tmp_path / "later")
    assert "mixture.toml is gone, or a part of it" in caplog.text


def test_the_verb_writes_and_shows_a_mixture(
    village: Path, fables: Path, mixture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made.toml"
    (tmp_path / "tales").symlink_to(fables)
    command = ("data", "mix", f"{village}=0.75", f"{tmp_path / 'tales'}=0.25", "--out", out)
    assert call(*command, "--tokens", 4096, "--context", 16, "--json") == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [of["tokens_taken"] for of in found["sources"]] == [3072, 1024]
    assert call("data", "mix", out, "--tokens", 4096, "--context", 16) == 0
    assert "3,072" in capsys.readouterr().err
    assert call("data", "mix", mixture, "--tokens", 10_000_000) == 0
    said = capsys.readouterr().err
    assert "pieces of 8" in said
    assert "warning: fables: is read" in said
    assert call("data", "mix", f"{village}=many") == 2
    assert "expected DIR=WEIGHT" in capsys.readouterr().err
    assert call(*command) == 2
    assert f"{out}: exists already" in capsys.readouterr().err
    never = tmp_path / "never.toml"
    assert call(*command[:-1], never, "--tokens", 4, "--context", 16) == 2
    assert not never.exists()
    assert call("data", "mix", mixture, "--tokens", 4096, "--context", 20) == 2
    assert "length = 8: the context of 20 tokens" in capsys.readouterr().err


def test_the_verb_names_sources_and_finds_their_weights(
    village: Path,
    fables: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"memory://{uuid4().hex}/lr=3"
    for file in filter(Path.is_file, village.rglob("*")):
        ObjectStore(url).upload(file, str(file.relative_to(village)))
    for place, store in (("web/store", village), ("books/store", fables), ("lr=3", fables)):
        Path(place).parent.mkdir(exist_ok=True)
        Path(place).symlink_to(store)
    command = ("data", "mix", "web/store=0.7", "books/store=0.2", f"{url}=0.1")
    assert call(*command, "--out", "m/a.json", "--tokens", 4096, "--context", 16) == 0
    written = json.loads(Path("m/a.json").read_text())["sources"]
    assert written == [
        {"data": "../web/store", "name": "web/store", "weight": 0.7},
        {"data": "../books/store", "name": "books/store", "weight": 0.2},
        {"data": url, "name": "lr=3", "weight": 0.1},
    ]
    assert call("data", "mix", "m/a.json") == 0
    assert call("data", "mix", "lr=3", "web/store", "--out", "b.toml") == 0
    found = tomllib.loads(Path("b.toml").read_text())["sources"]
    assert found == [{"data": "lr=3", "name": "lr=3"}, {"data": "web/store", "name": "store"}]
    assert call("data", "mix", "web/store=1", "web/../web/store=2") == 2
    assert "is given twice" in capsys.readouterr().err
