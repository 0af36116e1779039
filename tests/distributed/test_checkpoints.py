"""Checkpoints of several processes: whole or not at all, and resumed on any number of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from several import Work, run_in

from foundling import hamlet
from foundling.base import sharded_files
from foundling.base.config import override
from foundling.runs import checkpoint
from foundling.runs.checkpoint import CheckpointSettings
from foundling.runs.run import load_model
from foundling.runs.stored_run import StoredRun
from foundling.stages.pretrain import PretrainConfig, pretrain
from foundling.stages.sft import SftConfig, sft

PROGRAM = str(Path(__file__).with_name("saving.py"))
HALF = ("model.dropout=0.0", "checkpoint.every=6", "checkpoint.keep_every=6", "validation.every=12")
"""A run of 12 steps that keeps the checkpoint in the middle."""


def killed_after(step: int, run: Path, copy: Path) -> Path:
    """The run as it would be if all its processes had been killed some time after a step."""
    shutil.copytree(run, copy)
    for found in checkpoint.committed(copy / "checkpoints"):
        if found.step > step:
            shutil.rmtree(found.path)
    return copy


def losses(run: Path) -> list[tuple[str, int, float]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(x["split"], x["step"], x["loss_nats"]) for x in lines if "loss_nats" in x]


def check_like(run: Path, whole: Path, within: float = 1e-6) -> None:
    """The same steps on the same data."""
    ours, theirs = losses(run), losses(whole)
    assert [x[:2] for x in ours] == [x[:2] for x in theirs]
    assert [x[2] for x in ours] == pytest.approx([x[2] for x in theirs], rel=0, abs=within)


def check_same(run: Path, whole: Path) -> None:
    """Bit for bit."""
    assert losses(run) == losses(whole)
    ours, theirs = tensors(run), tensors(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def tensors(run: Path) -> dict[str, torch.Tensor]:
    """All of the last checkpoint, whichever process wrote them."""
    last, found = checkpoint.committed(run / "checkpoints")[-1], {}
    for folder in (last.model, last.state):
        kinds = sharded_files.kinds(folder).items()
        found[folder.name] = {n: torch.empty(shape, dtype=kind) for n, (shape, kind) in kinds}
        sharded_files.read(found[folder.name], folder)
    return found["model"] | found["state"]


@pytest.mark.distributed
def test_saved_on_two_resumed_on_one(tiny: Callable[..., PretrainConfig], tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    config = tiny(*HALF, "distributed.shard=full", "optimizer.kind=adamw")
    run = tmp_path / "run"
    works: list[Work] = [
        ("commit", {}, tmp_path / "commit", False),
        ("pretrain", config.values(), run, False),
    ]
    run_in(2, works, tmp_path / "scratch", PROGRAM)
    half = killed_after(6, run, tmp_path / "half")
    pretrain(config, half, resume=True)
    check_like(half, run)

    model, tokenizer = load_model(run)  # a folder of a model like any other
    assert model.vocab_size == tokenizer.vocab_size


@pytest.mark.distributed
@pytest.mark.parametrize("shard", ["none", "full"])
def test_resumed_on_any_number(
    shard: str, tiny: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    """Bit for bit on as many; by both optimizers, from a checkpoint of one process too."""
    (tmp_path / "scratch").mkdir()
    values = {
        "muon": tiny(*HALF, f"distributed.shard={shard}").values(),
        "adamw": tiny(*HALF, f"distributed.shard={shard}", "optimizer.kind=adamw").values(),
    }
    fresh: list[Work] = [("pretrain", v, tmp_path / name, False) for name, v in values.items()]
    often = override(values["muon"], ["checkpoint.every=4", "checkpoint.keep_every=4"])
    full: Work = ("full disk", often, tmp_path / "full", False)
    run_in(2, [*fresh, full], tmp_path / "scratch", PROGRAM)
    check_same(tmp_path / "full", tmp_path / "muon")
    alone = pretrain(PretrainConfig.parse(values["adamw"]), tmp_path / "alone").folder
    check_like(alone, tmp_path / "adamw")

    last = checkpoint.committed(tmp_path / "muon" / "checkpoints")[-1]
    assert len(list(last.model.glob("model-*.safetensors"))) > 1
    ours, tokenizer = load_model(tmp_path / "muon")
    from transformers import AutoModelForCausalLM  # takes seconds

    theirs = AutoModelForCausalLM.from_pretrained(last.model)
    ids = torch.tensor([tokenizer.encode("The baker")])
    with torch.no_grad():
        logits = ours.logits(ours.eval()(ids))
        torch.testing.assert_close(logits, theirs(ids).logits, rtol=0, atol=1e-5)

    for number in (2, 3):
        works: list[Work] = []
        for name, v in {**values, "alone": values["adamw"]}.items():
            half = killed_after(6, tmp_path / name, tmp_path / f"{name}-on-{number}")
            works.append(("pretrain", v, half, True))
        run_in(number, works, tmp_path / "scratch", PROGRAM)
        for _, _, half, _ in works:
            # Muon rounds gradients to bf16, where the last bit of a sum may decide.
            within = 1e-4 if half.name.startswith("muon") else 1e-6
            check_like(half, tmp_path / "muon" if within > 1e-6 else tmp_path / "adamw", within)
    for name in values:
        check_same(tmp_path / f"{name}-on-2", tmp_path / name)


@pytest.mark.distributed
def test_adapters_are_saved_and_stored_by_two_and_resumed_on_one(
    tiny: Callable[..., PretrainConfig], tmp_path: Path
) -> None:
    (tmp_path / "scratch").mkdir()
    parent = pretrain(tiny("model.dropout=0.0", "context=64"), tmp_path / "parent").folder
    hamlet.write_instructions(tmp_path / "rows.jsonl", 60, seed=1)
    config = SftConfig.parse(
        {
            "parent": str(parent),
            "data": {"files": [str(tmp_path / "rows.jsonl")], "on_long": "drop"},
            "training": {"steps": 12, "batch_size": 4, "precision": "fp32", "device": "cpu"},
            "adapter": {"rank": 2},
            "checkpoint": {"every": 6, "keep_every": 6, "store": f"file://{tmp_path}/stored"},
            "validation": {"every": 12},
            "distributed": {"shard": "full"},
            "followers": {"report": False},
        }
    )
    run = tmp_path / "run"
    run_in(2, [("sft", config.values(), run, False)], tmp_path / "scratch", PROGRAM)
    half = killed_after(6, run, tmp_path / "half")
    sft(config.model_copy(update={"checkpoint": CheckpointSettings(every=6)}), half, resume=True)
    check_like(half, run)
    assert load_model(run)[0].num_parameters() == load_model(half)[0].num_parameters()
    StoredRun(f"file://{tmp_path}/stored").fetch(tmp_path / "fetched")
    check_same(tmp_path / "fetched", run)
