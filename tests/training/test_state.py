"""What is read again when a run goes back."""

import pytest
import torch

from foundling import models
from foundling.models.adapters import AdapterSettings, add_adapters
from foundling.models.quantised import quantise
from foundling.training.guard.guard import Guard
from foundling.training.guard.settings import GuardSettings
from foundling.training.optimizers import Optimizer, OptimizerSettings
from foundling.training.state import TrainingState


@pytest.mark.parametrize("packed", [False, True])
def test_a_parent_is_read_again_only_where_its_frozen_weights_are_damaged(packed: bool) -> None:
    torch.manual_seed(0)
    model = models.build({"dim": 32, "num_heads": 2}, vocab_size=67, context=16)
    add_adapters(model, AdapterSettings(rank=2), seed=1, tokens=[5])
    if packed:
        quantise(model, "int8")
    restarts: list[int] = []
    state = TrainingState(
        model,
        Optimizer(model, OptimizerSettings()),
        stage_model=lambda group, copy: lambda folder: None,
        load_model=lambda folder: None,
        restart_model=lambda: restarts.append(1),
        guard=Guard(GuardSettings()),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.fill_(torch.nan)
    state.reload_frozen()
    assert not restarts
    frozen = [t for t in (*model.parameters(), *model.buffers()) if not t.requires_grad]
    for count, tensor in enumerate(frozen, 1):
        with torch.no_grad():
            before = tensor.clone()
            tensor.view(-1)[-1:].view(torch.uint8).bitwise_xor_(1)
            state.reload_frozen()
            assert len(restarts) == count
            tensor.copy_(before)
