"""A stage that another package brings, ORPO of examples/orpo: found, trained, resumed, healed."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import Fault, FaultPlan
from test_dpo_stage import files, interrupts, metrics, parent, same, weights  # noqa: F401

from foundling.base.config import ConfigError, override
from foundling.runs.run import Run
from foundling.stages import STAGES, find_stages
from foundling.stages.assembly import run_stage
from foundling.stages.job import Stage
from foundling.training.interrupt import Interrupted

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the example is installed into, by pip and without a network."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    shutil.copytree(REPOSITORY / "examples" / "orpo", source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    pip += ["--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run([*pip, "--target", folder / "site", source], check=True)
    return folder / "site"


@pytest.fixture
def orpo(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Stage[Any, Any]:
    monkeypatch.syspath_prepend(installed)
    return find_stages()["orpo"].load()


@pytest.fixture
def values(parent: Path, files: tuple[Path, Path]) -> dict[str, Any]:  # noqa: F811
    return {
        "seed": 5,
        "parent": str(parent),
        "data": {"files": [str(files[1])], "on_long": "drop", "validation_fraction": 0.2},
        "training": {"steps": 4, "batch_size": 4, "micro_batch_size": 3, "precision": "fp32"},
        "optimizer": {"learning_rate": 3e-3},
        "schedule": {"warmup_steps": 1},
        "forgetting": {"max_tokens": 400},
        "validation": {"every": 4},
        "checkpoint": {"every": 2, "keep_last": 9},
    }


@pytest.fixture
def train(orpo: Stage[Any, Any], values: dict[str, Any], tmp_path: Path) -> Callable[..., Run]:
    def run(name: str, *assignments: str, **options: Any) -> Run:
        config = orpo.config.parse(override(values, assignments) | options.pop("more", {}))
        return run_stage(orpo, config, tmp_path / name, **options)

    return run


def test_it_learns_and_its_report_is_written(train: Callable[..., Run]) -> None:
    run = train("run")
    first, *_, last = run.records()["validation"]
    assert (first["step"], last["step"]) == (0, 4)
    assert last["loss_nats"] < first["loss_nats"]
    assert last["log_odds_ratio"] > first["log_odds_ratio"]
    low, high = last["accuracy_interval"]
    assert low <= last["accuracy"] <= high
    assert last["pretraining_loss_nats"] > 0
    assert run.summary()["stage"] == "orpo"
    assert run.manifest["pairs"] == 83
    page = (run.folder / "report.html").read_text()
    assert "nats per pair" in page
    assert "Preferred rightly" in page


def test_it_resumes_bit_for_bit(train: Callable[..., Run]) -> None:
    whole = train("whole", "adapter.rank=2")
    with pytest.raises(Interrupted):
        train("parts", "adapter.rank=2", seam=interrupts)
    parts = train("parts", "adapter.rank=2", resume=True)
    assert same(weights(parts), weights(whole))
    assert metrics(parts) == metrics(whole)


def test_the_guard_heals_it(train: Callable[..., Run]) -> None:
    fault = Fault("loss", "nan", samples=range(9, 10), sticky=True)
    healed = train("healed", seam=FaultPlan([fault]))
    amendments = healed.manifest["amendments"]
    assert amendments["skipped"]
    clean = train("clean", "guard.enabled=false", more={"amendments": amendments})
    assert same(weights(healed), weights(clean))


def test_the_command_line_has_its_verb(
    installed: Path,
    values: dict[str, Any],
    parent: Path,  # noqa: F811
    files: tuple[Path, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), str(REPOSITORY)])}

    def foundling(*arguments: object) -> str:
        command = [sys.executable, "-m", "foundling", *map(str, arguments)]
        told = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        assert told.returncode == 0, told.stderr
        return told.stdout

    listed = " ".join(foundling("--help").split())
    assert "orpo Tune a model on preferences without a reference model" in listed
    assert "--from" in foundling("orpo", "--help")
    command = ("orpo", "--from", parent, "--data", files[1], "--out", "run", "--json")
    settings = ("training.steps=1", "training.batch_size=4", "data.on_long=drop")
    told = json.loads(foundling(*command, *(f"--set={one}" for one in settings)).splitlines()[-1])
    assert (told["stage"], told["step"]) == ("orpo", 1)
    more = foundling("orpo", "--resume", "--out", "run", "--set", "training.steps=2", "--json")
    assert json.loads(more.splitlines()[-1])["step"] == 2


def test_the_loss_as_worked_by_hand(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(installed)
    import foundling_orpo

    half = torch.tensor([0.5, 0.2, 1.0], dtype=torch.float64).log()
    found = foundling_orpo.log_odds(half)
    assert found[0].item() == pytest.approx(0, abs=1e-15)
    assert found[1].item() == pytest.approx(math.log(0.25))
    assert math.isfinite(found[2])


def test_every_stage_of_the_table_is_one(tmp_path: Path) -> None:
    for name, entry in STAGES.items():
        stage = entry.load()
        assert stage.name == name
        known = stage.config().values()
        for option in entry.options:
            *sections, last = option.keys.split(".")
            there = known
            for section in sections:
                there = there[section]
            assert last in there
    assert find_stages().keys() >= STAGES.keys()


def put_package(folder: Path) -> None:
    (folder / "broken-1.dist-info").mkdir()
    (folder / "broken-1.dist-info" / "METADATA").write_text("Name: broken\nVersion: 1\n")
    points = "[foundling.stages]\nbroken = no_such_module:STAGE\nodd = json:dumps\nsft = json:dumps"
    points += "\nevaluate = foundling.stages.sft:SFT"
    (folder / "broken-1.dist-info" / "entry_points.txt").write_text(points)


def test_a_package_that_cannot_be_loaded_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_package(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    found = find_stages()
    assert found["sft"] is STAGES["sft"]
    with pytest.raises(ConfigError, match="broken: cannot load no_such_module:STAGE"):
        found["broken"].load()
    with pytest.raises(ConfigError, match="json:dumps is not a Stage"):
        found["odd"].load()
    with pytest.raises(ConfigError, match="sft:SFT is named sft"):
        found["evaluate"].load()


def test_a_package_takes_no_built_in_verb(tmp_path: Path) -> None:
    put_package(tmp_path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY)])}
    command = [sys.executable, "-m", "foundling", "evaluate", "--help"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "--probes" in told.stdout
    assert 'foundling.stages.sft:SFT: ignored: a verb named "evaluate" exists' in told.stderr
