"""Pretraining from a parent, and a run that is resumed with another number of steps."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from foundling import cli
from foundling.base.config import ConfigError, load_toml
from foundling.runs import checkpoint
from foundling.runs.run import load_model
from foundling.stages.pretrain import PretrainConfig, pretrain
from foundling.stages.settings import overridden

DECAYED = ("training.steps=8", "schedule.decay_share=0.5", "checkpoint.every=2")


def call(*arguments: object) -> int:
    return cli.exit_code(lambda: cli.app([str(argument) for argument in arguments]))


def test_a_run_branches_off_a_checkpoint_with_settings_of_its_own(
    tiny: Callable[..., PretrainConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = pretrain(tiny(*DECAYED, "checkpoint.keep_last=9"), tmp_path / "base")
    early = checkpoint.committed(base.checkpoints)[0]
    before = load_model(early.path)[0]
    config = tiny("training.steps=3", "training.batch_size=2", "optimizer.learning_rate=1e-4")
    given = config.model_copy(update={"parent": str(early.path)})
    branch = pretrain(given, tmp_path / "branch")
    assert branch.manifest["stage"] == "pretrain"
    assert branch.manifest["parent"]["source"] == str(early.path)
    assert "same order" in caplog.text
    first, *_, last = branch.records()["validation"]
    assert (first["step"], last["step"]) == (0, 3)
    at = [r for r in base.records()["validation"] if r["step"] == 5]
    assert first["loss_nats"] != pytest.approx(at[0]["loss_nats"], abs=1e-6)
    after = load_model(branch.folder)[0]
    moved = [
        (a - b).abs().max() for a, b in zip(after.parameters(), before.parameters(), strict=True)
    ]
    assert 0 < max(moved) < 0.05
    again = pretrain(given.model_copy(update={"parent": None}), tmp_path / "branch", resume=True)
    assert again.records() == branch.records()
    other = tiny("seed=4", "context=16").model_copy(update={"parent": str(base.folder)})
    assert pretrain(other, tmp_path / "other").manifest["parent"]["source"] == str(base.folder)


def test_a_branch_begins_where_its_parent_was(
    tiny: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    base = pretrain(tiny(), tmp_path / "base")
    values = tiny("training.steps=1").values() | {"parent": str(base.folder), "model": {}}
    branch = pretrain(PretrainConfig.parse({**values, "context": None}), tmp_path / "branch")
    best = min(base.records()["validation"], key=lambda record: record["loss_nats"])
    assert branch.records()["validation"][0]["loss_nats"] == pytest.approx(best["loss_nats"])
    saved = load_toml(branch.folder / "config.toml")
    assert saved["context"] == 16
    assert saved["model"]["dim"] == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [("model.dim=32", "model.dim = 32: the parent has 16"), ("context=32", "reads at most 16")],
)
def test_a_branch_keeps_its_parents_shape(
    tiny: Callable[..., PretrainConfig], tmp_path: Path, change: str, message: str
) -> None:
    base = pretrain(tiny("training.steps=1"), tmp_path / "base")
    config = tiny(change).model_copy(update={"parent": str(base.folder)})
    with pytest.raises(ConfigError, match=message):
        pretrain(config, tmp_path / "branch")
    assert not (tmp_path / "branch").exists()


def test_a_resumed_run_says_how_its_learning_rate_jumps(
    tiny: Callable[..., PretrainConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = pretrain(tiny(*DECAYED, "checkpoint.keep_last=9"), tmp_path / "run")
    rates = [record["learning_rate"] for record in run.records()["train"]]
    caplog.set_level(logging.INFO)
    more = tiny(*DECAYED, "checkpoint.keep_last=9", "training.steps=40")
    again = pretrain(more, tmp_path / "run", resume=True)
    following = again.records()["train"][8]["learning_rate"]
    assert f"was {rates[-1]:.3g} at step 8 and continues at {following:.3g}" in caplog.text
    assert "had 8" in caplog.text
    assert f"pretrain --from {run.checkpoints / 'step-00000004'}" in caplog.text


def test_a_resumed_run_is_not_shortened(
    tiny: Callable[..., PretrainConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = pretrain(tiny("training.steps=6"), tmp_path / "run")
    saved = (run.folder / "config.toml").read_bytes()
    assert call("pretrain", "--resume", "--out", run.folder, "--set", "training.steps=4") == 2
    assert "training.steps = 4: the run in" in capsys.readouterr().err
    assert call("pretrain", "--resume", "--out", run.folder, "--set", "training.steps=true") == 2
    assert "expected a number" in capsys.readouterr().err
    assert (run.folder / "config.toml").read_bytes() == saved


def test_a_warm_up_that_the_run_does_not_outlast_is_shortened_and_said(
    tiny: Callable[..., PretrainConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny("training.steps=10", "schedule.warmup_steps=20", "schedule.kind=constant")
    rates = [r["learning_rate"] for r in pretrain(config, tmp_path / "run").records()["train"]]
    assert rates[0] == pytest.approx(rates[1] / 2)
    assert rates[1:] == pytest.approx([rates[1]] * 9)
    assert "schedule.warmup_steps = 20: the run has only 10 steps" in caplog.text


def test_two_stores_are_one_too_many(
    village: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.toml").touch()
    command = ("pretrain", tmp_path / "run.toml", "--data", village, "--data", tmp_path)
    assert call(*command, "--out", tmp_path / "run") == 2
    assert "--data: was given 2 times; give one." in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_file_yields_to_flags_and_flags_to_settings(
    village: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.toml").write_text("data = 'filed'\n")
    command = ["pretrain", tmp_path / "run.toml", "--out", tmp_path / "run"]
    for more in ([], ["--data", "flagged"], ["--data", village, "--set", "data=told"]):
        assert call(*command, *more) == 2
    said = capsys.readouterr().err.splitlines()
    assert ["filed" in said[0], "flagged" in said[1], "told" in said[2]] == [True] * 3
    command = ["ladder", "--data", village, "--out", tmp_path / "run", "--set", "data=told"]
    assert call(*command) == 2
    assert "told" in capsys.readouterr().err


def test_a_resumed_run_keeps_its_parent(
    tiny: Callable[..., PretrainConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = pretrain(tiny("training.steps=2"), tmp_path / "first")
    branch = tiny("training.steps=2", f"parent={first.folder}", "seed=4")
    second = pretrain(branch, tmp_path / "next")
    other = pretrain(tiny("training.steps=1", "seed=9"), tmp_path / "other")
    for run, source in ((first, "scratch"), (second, first.folder)):
        saved = (run.folder / "config.toml").read_bytes()
        command = ("pretrain", "--resume", "--out", run.folder, "--set", "training.steps=3")
        assert call(*command, "--set", "parent=nowhere") == 2
        assert "nowhere: neither a run" in capsys.readouterr().err
        assert call(*command, "--set", f"parent={other.folder}") == 2
        assert f"was started from {source}, and" in capsys.readouterr().err
        assert (run.folder / "config.toml").read_bytes() == saved
    first.folder.rename(tmp_path / "moved")
    assert call(*command, "--set", f"parent={tmp_path / 'moved'}") == 0


@pytest.mark.parametrize("setting", ["training=5", "training=steps", "data.files=5"])
def test_a_value_in_place_of_a_section_is_one_line(
    setting: str, village: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.toml").write_text(f"data = '{village}'\n")
    command = ("pretrain", tmp_path / "run.toml", "--out", tmp_path / "run", "--set", setting)
    assert call(*command) == 2
    said = capsys.readouterr().err
    assert setting.split("=")[0].split(".")[0] in said
    assert said.count("\n") == 1


def test_steps_set_by_hand_take_the_place_of_epochs_and_the_reverse() -> None:
    values = {"seed": 2, "training": {"epochs": 3, "batch_size": 4}}
    assert overridden(values, ["training.steps=8"]) == {
        "seed": 2, "training": {"batch_size": 4, "steps": 8},
    }  # fmt: skip
    back = overridden({"training": {"steps": 8}}, ["training.epochs=2.5"])
    assert back == {"training": {"epochs": 2.5}}
    both = overridden(values, ["training.steps=8", "training.epochs=1"])
    assert both["training"] == {"epochs": 1, "batch_size": 4, "steps": 8}
    assert overridden(values, ["seed=3"])["training"] == values["training"]
