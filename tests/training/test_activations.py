"""Activation checkpointing: less is kept, and no bit changes."""

import pytest
import torch

from foundling import models
from foundling.base.config import ConfigError
from foundling.models.adapters import AdapterSettings, add_adapters
from foundling.models.batch import IGNORE, TokenBatch
from foundling.models.language_model import LanguageModel
from foundling.objectives.sft import Sft
from foundling.training.activations import checkpoint_activations

SETTINGS = {"dim": 32, "num_layers": 4, "num_heads": 2, "dropout": 0.2}


def batch() -> TokenBatch:
    draw = torch.Generator().manual_seed(2)
    tokens = torch.randint(67, (3, 24), generator=draw)
    documents = torch.arange(24).expand(3, 24) // 12
    targets = torch.where(torch.rand(3, 24, generator=draw) < 0.5, tokens.roll(-1, 1), IGNORE)
    return TokenBatch(tokens, targets, torch.arange(24).expand(3, 24) % 12, documents)


def build(adapted: bool) -> LanguageModel:
    torch.manual_seed(0)
    model = models.build(SETTINGS, vocab_size=67, context=24).train()
    if adapted:
        add_adapters(model, AdapterSettings(rank=4, dropout=0.3), seed=1)
        for name, parameter in model.named_parameters():
            if name.endswith("lora_b"):
                torch.nn.init.normal_(parameter, std=0.1)
    return model


def gradients(model: LanguageModel, precision: torch.dtype) -> tuple[list[torch.Tensor], int]:
    """The gradients of a batch, and how many bytes the forward pass kept."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(5)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", precision, enabled=precision != torch.float32),
    ):
        total = Sft()(model, batch()).total
        size = sum(kept.values())
    total.backward()
    return [p.grad for p in model.parameters() if p.grad is not None], size


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_gradients_are_the_same_bit_for_bit(adapted: bool, precision: torch.dtype) -> None:
    plain, checkpointed = build(adapted), build(adapted)
    checkpoint_activations(checkpointed)
    expected, whole = gradients(plain, precision)
    found, kept = gradients(checkpointed, precision)
    assert len(found) == len(expected) > 0
    assert all(map(torch.equal, found, expected))
    assert kept < whole / 3
    assert checkpointed.state_dict().keys() == plain.state_dict().keys()


def test_a_rung_without_blocks_is_refused() -> None:
    model = models.build({"rung": "bag_of_words", "dim": 8}, vocab_size=9, context=4)
    with pytest.raises(ConfigError, match="checkpoint_activations: the rung bag_of_words has no"):
        checkpoint_activations(model)
