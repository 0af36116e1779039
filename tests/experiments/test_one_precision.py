"""Runs that are compared compute in one precision, also where it is measured."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from foundling.base.config import load_toml
from foundling.experiments.demo.healing import heal
from foundling.experiments.ladder import climb
from foundling.experiments.sweep import sweep
from foundling.runs.run import Run
from foundling.stages.pretrain import PRETRAIN, PretrainConfig

Make = Callable[..., PretrainConfig]
SHORT = ("training.steps=1", "training.precision=auto", "schedule.warmup_steps=0")
RATES = {"fp32": {"fp32": 2.0, "bf16": 1.0}, "bf16": {"fp32": 1.0, "bf16": 2.0}}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of what was measured."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "foundling" / "rates.json"


def keep_rates(cache: Path) -> None:
    """As if the machine multiplied the shapes measured last, but no others, faster in bf16."""
    *others, last = json.loads(cache.read_bytes())
    cache.write_text(json.dumps({**dict.fromkeys(others, RATES["fp32"]), last: RATES["bf16"]}))


def precisions(out: Path, names: list[str]) -> set[str]:
    return {Run.open(out / name).manifest["precision"] for name in names}


def test_the_rungs_take_that_of_the_largest(
    tiny: Make, cache: Path, tmp_path: Path, said: list[str]
) -> None:
    rungs = ["next_word", "transformer"]
    climb(tiny(*SHORT), tmp_path / "first", rungs=rungs)
    keep_rates(cache)
    climb(tiny(*SHORT), tmp_path / "second", rungs=rungs)
    assert precisions(tmp_path / "second", rungs) == {"bf16"}
    assert "precision: bf16 for all rungs, as measured on the transformer" in said
    cache.unlink()
    fewer = {"transformer": ["training.precision=fp32"]}
    climb(tiny(*SHORT), tmp_path / "third", rungs=rungs, overrides=fewer)
    assert precisions(tmp_path / "third", ["transformer"]) == {"fp32"}
    climb(tiny(*SHORT), tmp_path / "second", rungs=[*rungs, "attention"], resume=True)
    assert precisions(tmp_path / "second", [*rungs, "attention"]) == {"bf16"}


def test_a_sweep_takes_that_of_its_first_run(
    tiny: Make, cache: Path, tmp_path: Path, said: list[str]
) -> None:
    def swept(name: str) -> set[str]:
        sweep(PRETRAIN, tiny(*SHORT), tmp_path / name, "training.micro_batch_size", ["3", "2"])
        return precisions(tmp_path / name, ["micro_batch_size-3", "micro_batch_size-2"])

    swept("first")
    keep_rates(cache)
    assert len(swept("second")) == 1
    assert any("as in micro_batch_size-3" in line for line in said)
    sweep(PRETRAIN, tiny(*SHORT), tmp_path / "own", "training.precision", ["bf16", "fp32"])
    assert precisions(tmp_path / "own", ["precision-bf16", "precision-fp32"]) == {"bf16", "fp32"}


def test_the_healed_and_the_clean_run_take_that_of_the_first(tiny: Make, tmp_path: Path) -> None:
    heal(tiny(*SHORT), tmp_path / "healing")
    first = Run.open(tmp_path / "healing" / "unguarded").manifest["precision"]
    for name in ("guarded", "clean"):
        settings = load_toml(tmp_path / "healing" / name / "config.toml")
        assert settings["training"]["precision"] == first
