"""The machine that a run computes on."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from foundling import models
from foundling.base import runtime
from foundling.stages.machine import Machine, tokens_at_once
from foundling.stages.settings import TrainingSettings

AUTO = TrainingSettings(device="cpu")


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_a_resumed_run_keeps_the_precision_that_auto_chose(name: str, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "manifest.json").write_text(json.dumps({"device": "cpu", "precision": name}))
    machine = Machine.of(AUTO, nn.Linear(4, 4), 16, tmp_path)
    assert machine.values == {"device": "cpu", "precision": name}


def test_a_run_that_moves_to_another_device_is_measured_there(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "manifest.json").write_text('{"device": "cuda", "precision": "bf16"}')
    moved = Machine.of(AUTO, nn.Linear(4, 4), 16, tmp_path)
    assert moved == Machine.of(AUTO, nn.Linear(4, 4), 16)


def test_a_named_precision_holds() -> None:
    settings = TrainingSettings(device="cpu", precision="bf16")
    assert Machine.of(settings, nn.Linear(4, 4), 16).precision == torch.bfloat16


def test_what_is_kept_for_the_gradient_fits_into_a_share_of_the_memory() -> None:
    model = models.build({"dim": 32, "num_layers": 2, "num_heads": 2}, vocab_size=50, context=8)
    sizes: list[int] = []
    hooks = [
        module.register_forward_hook(
            lambda module, inputs, output: sizes.append(inputs[0].shape[-1] + output.shape[-1])
        )
        for module in model.context.modules()
        if isinstance(module, torch.nn.Linear)
    ]
    model(torch.zeros(1, 8, dtype=torch.long))
    assert len(hooks) == len(sizes)
    kept = 4 * sum(sizes)
    cpu = torch.device("cpu")
    expected = runtime.memory_bytes(cpu) / 6 / kept
    assert tokens_at_once(model, cpu) == pytest.approx(expected, rel=1e-3)
