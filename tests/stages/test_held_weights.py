"""Runs whose weights are kept in bf16, and whose activations are computed anew."""

import json
import signal
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import Fault, FaultPlan
from safetensors.torch import load_file

from foundling.base.config import ConfigError, override
from foundling.models import interchange
from foundling.runs import checkpoint
from foundling.runs.run import Run, load_model
from foundling.stages.job import Job
from foundling.stages.pretrain import PretrainConfig, pretrain
from foundling.stages.sft import SFT, SftConfig, sft
from foundling.training.interrupt import Interrupted

CLOCKS = ("seconds", "tokens_per_second", "matrix_rate_fraction")
BF16 = ("training.precision=bf16",)
NF4 = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs bitsandbytes")


@pytest.fixture(scope="module")
def parent(tiny: Callable[..., PretrainConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = ("context=64", "model.dropout=0", "training.steps=4", "validation.every=9")
    return pretrain(tiny(*settings), tmp_path_factory.mktemp("parents") / "run").folder


@pytest.fixture
def settings(parent: Path, tmp_path: Path) -> Callable[..., SftConfig]:
    file = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"What of {n}?", "completion": f"It is {n * n}."} for n in range(24)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    base: Mapping[str, Any] = {
        "parent": str(parent),
        "seed": 3,
        "dropout": 0.1,
        "data": {"files": [str(file)], "row_length": 64},
        "training": {"steps": 6, "batch_size": 2, "precision": "fp32", "device": "cpu"},
        "optimizer": {"learning_rate": 1e-3},
        "validation": {"every": 3, "patience": 0},
        "forgetting": {"max_tokens": 300},
        "checkpoint": {"every": 2, "keep_last": 9},
        "followers": {"report": False},
    }
    return lambda *assignments: SftConfig.parse(override(base, assignments))


def outcome(run: Run) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    records = [{k: v for k, v in json.loads(x).items() if k not in CLOCKS} for x in lines]
    last = checkpoint.committed(run.checkpoints)[-1].model
    (file,) = last.glob("*.safetensors")
    return records, load_file(file)


def assert_same(one: Run, other: Run) -> None:
    (records, weights), (others, other_weights) = outcome(one), outcome(other)
    assert records == others
    assert weights.keys() == other_weights.keys()
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)


def interrupt_at(step: int) -> Callable[[str, int, Any, Any], Any]:
    def seam(site: str, at: int, samples: Any, value: Any) -> Any:
        if site == "state" and at == step:
            signal.raise_signal(signal.SIGINT)
        return value

    return seam


CASES = [
    ("training.weights=bf16",),
    ("training.weights=bf16", "training.micro_batch_size=1", "optimizer.kind=muon"),
    ("adapter.rank=2", "adapter.dropout=0.1"),
    ("adapter.rank=2", "training.checkpoint_activations=true"),
    ("adapter.rank=2", "adapter.base=int8", "adapter.dropout=0.1"),
    pytest.param(("adapter.rank=2", "adapter.base=nf4"), marks=NF4),
]


@pytest.mark.parametrize("case", CASES)
def test_interrupted_equals_uninterrupted(
    settings: Callable[..., SftConfig], tmp_path: Path, case: tuple[str, ...]
) -> None:
    config = settings(*BF16, *case)
    whole = sft(config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        sft(config, tmp_path / "cut", seam=interrupt_at(3))
    assert_same(sft(config, tmp_path / "cut", resume=True), whole)


@pytest.mark.parametrize("case", CASES)
def test_a_rollback_leaves_no_trace(
    settings: Callable[..., SftConfig], tmp_path: Path, case: tuple[str, ...]
) -> None:
    """Back to memory, and where that has no room to the initial weights: the same run."""
    quick = ("training.steps=9", "guard.snapshot_every=3", "guard.healthy_after=0", *BF16, *case)
    runs = []
    for room in ("256", "0"):
        config = settings(*quick, f"guard.snapshot_mb={room}", "checkpoint.every=50")
        plan = FaultPlan([Fault("parameter", "nan", step=5)])
        runs.append(sft(config, tmp_path / room, seam=plan))
        assert runs[-1].events()
    assert_same(*runs)


def test_recomputed_activations_change_no_bit_of_a_run(
    settings: Callable[..., SftConfig], tmp_path: Path
) -> None:
    plain = sft(settings(), tmp_path / "plain")
    recomputed = sft(settings("training.checkpoint_activations=true"), tmp_path / "recomputed")
    assert_same(plain, recomputed)


def test_what_learns_and_what_is_frozen_are_held_as_they_should(
    settings: Callable[..., SftConfig], tmp_path: Path
) -> None:
    def job(*assignments: str) -> Job[Any, Any]:
        return Job(SFT, settings(*assignments), tmp_path / "run", resume=False)

    def dtypes(model: torch.nn.Module) -> dict[bool, set[torch.dtype]]:
        found: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                found[parameter.requires_grad].add(parameter.dtype)
        return found

    wide, narrow = torch.float32, torch.bfloat16
    assert dtypes(job().model) == {True: {wide}, False: set()}
    assert dtypes(job("adapter.rank=2").model) == {True: {wide}, False: {wide}}
    assert dtypes(job("adapter.rank=2", *BF16).model) == {True: {wide}, False: {narrow}}
    assert dtypes(job(*BF16).model) == {True: {wide}, False: set()}
    assert dtypes(job(*BF16, "training.weights=bf16").model) == {True: {narrow}, False: set()}
    assert dtypes(job(*BF16).reference.model) == {True: set(), False: {narrow}}
    assert dtypes(job().reference.model) == {True: set(), False: {wide}}


def test_weights_in_bf16_are_saved_so_and_open_everywhere(
    settings: Callable[..., SftConfig], tmp_path: Path
) -> None:
    run = sft(settings("training.weights=bf16", "training.precision=auto"), tmp_path / "run")
    assert run.manifest["precision"] == "bf16"
    records, stored = outcome(run)
    assert {t.dtype for t in stored.values() if t.ndim > 1} == {torch.bfloat16}
    trained = [record["loss_nats"] for record in records if record["split"] == "train"]
    assert trained[-1] < trained[0]
    folder = checkpoint.committed(run.checkpoints)[-1].model
    assert interchange.load(folder, None).embed.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("base", ["full", "int8"])
def test_a_merged_adapter_stands_on_the_parents_own_weights(
    settings: Callable[..., SftConfig], parent: Path, tmp_path: Path, base: str
) -> None:
    adapter = ("adapter.rank=2", 'adapter.targets=["q"]', f"adapter.base={base}")
    run = sft(settings(*BF16, *adapter), tmp_path / "run")
    before, after = load_model(parent)[0].state_dict(), load_model(run.folder)[0].state_dict()
    untouched = [name for name in before if ".mlp." in name]
    assert untouched
    assert all(torch.equal(before[name], after[name]) for name in untouched)
    assert not torch.equal(before[untouched[0]], before[untouched[0]].bfloat16().float())


def test_weights_that_the_products_cannot_take_are_refused(
    settings: Callable[..., SftConfig], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r'training\.weights = "bf16" with .*precision = "fp32"'):
        sft(settings("training.weights=bf16"), tmp_path / "run")
    with pytest.raises(ConfigError, match="adapters learn in fp32"):
        sft(settings(*BF16, "training.weights=bf16", "adapter.rank=2"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
