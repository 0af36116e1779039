"""Who is trained by what, and that the state comes back."""

import pytest
import torch

from foundling import models
from foundling.base.config import ConfigError
from foundling.models.adapters import AdapterSettings, add_adapters
from foundling.training.optimizers import Optimizer, OptimizerSettings


def model(**values: object) -> models.LanguageModel:
    torch.manual_seed(1)
    return models.build({"dim": 16, "num_layers": 1, **values}, vocab_size=11, context=8)


def train(optimizer: Optimizer, network: models.LanguageModel, steps: int) -> None:
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        for parameter in network.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def test_matrices_go_to_muon_and_the_rest_to_adamw() -> None:
    optimizer = Optimizer(model(tied=False), OptimizerSettings())
    names = {
        part: {optimizer.names[p] for group in o.param_groups for p in group["params"]}
        for part, o in optimizer.parts.items()
    }
    block = ("attention.q", "attention.k", "attention.v", "attention.o")
    assert names["muon"] == {
        f"context.blocks.0.{name}.weight" for name in (*block, "mlp.gate", "mlp.up", "mlp.down")
    }
    assert {"embed.weight", "unembed.weight", "context.norm.weight"} <= names["adamw"]
    plain = Optimizer(model(), OptimizerSettings(kind="adamw"))
    decays = {
        plain.names[p]: group["weight_decay"]
        for group in plain.parts["adamw"].param_groups
        for p in group["params"]
    }
    assert decays["context.blocks.0.mlp.up.weight"] > 0
    assert not any(decay for name, decay in decays.items() if "norm" in name or "embed" in name)


def test_one_adamw_step_is_the_formula() -> None:
    network = model()
    settings = OptimizerSettings(kind="adamw", learning_rate=0.1, weight_decay=0.5)
    optimizer = Optimizer(network, settings)
    matrix = network.context.blocks[0].mlp.up.weight
    before = matrix.detach().clone()
    train(optimizer, network, 1)
    # After one step both moments, corrected, are the gradient and its square.
    expected = before * (1 - 0.1 * 0.5) - 0.1 * matrix.grad / (matrix.grad.abs() + settings.eps)
    torch.testing.assert_close(matrix.detach(), expected)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_loaded_state_goes_on_exactly(kind: str) -> None:
    settings = OptimizerSettings(kind=kind)
    whole, halved = model(), model()
    train(Optimizer(whole, settings), whole, 0)
    first = Optimizer(whole, settings)
    train(first, whole, 4)
    before = Optimizer(halved, settings)
    train(before, halved, 2)
    after = Optimizer(halved, settings)
    after.load_state(before.state())
    for step in (2, 3):
        generator = torch.Generator().manual_seed(step)
        for parameter in halved.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        after.step()
    for left, right in zip(whole.parameters(), halved.parameters(), strict=True):
        assert torch.equal(left, right)


def test_a_state_of_other_settings_is_refused() -> None:
    network = model()
    muon = Optimizer(network, OptimizerSettings())
    train(muon, network, 1)
    with pytest.raises(ConfigError, match="resume with the settings"):
        Optimizer(network, OptimizerSettings(kind="adamw")).load_state(muon.state())


def test_learning_rates_follow_the_share() -> None:
    optimizer = Optimizer(model(), OptimizerSettings(learning_rate=0.1, muon_learning_rate=0.4))
    optimizer.set_rate_share(0.25)
    assert optimizer.learning_rates() == {"adamw": 0.025, "muon": 0.1}


def test_nothing_to_train_is_an_error() -> None:
    network = model().requires_grad_(False)
    with pytest.raises(ConfigError, match="frozen"):
        Optimizer(network, OptimizerSettings())


def test_a_loaded_state_lies_where_the_parameters_are() -> None:
    network = model()
    optimizer = Optimizer(network, OptimizerSettings())
    train(optimizer, network, 1)
    elsewhere = Optimizer(model().to("meta"), OptimizerSettings())
    elsewhere.load_state(optimizer.state())
    assert {value.device.type for value in elsewhere.state().values()} == {"meta"}


def test_gradients_are_divided_by_the_count_and_clipped() -> None:
    network = model()
    for clip, expected in ((0.0, 3.0), (10.0, 3.0), (1.0, 1.0)):
        optimizer = Optimizer(network, OptimizerSettings(clip=clip))
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        network.embed.weight.grad[0, 0] = 12.0
        assert optimizer.finish_gradients(4) == pytest.approx(3.0)
        assert network.embed.weight.grad[0, 0].item() == pytest.approx(expected)


def test_settings_that_adamw_does_not_use_are_refused() -> None:
    with pytest.raises(ConfigError, match="does not use muon_momentum"):
        OptimizerSettings.parse({"kind": "adamw", "muon_momentum": 0.5})


def test_adapters_go_to_adamw_and_do_not_decay() -> None:
    network = model()
    add_adapters(network, AdapterSettings(rank=2), seed=0)
    optimizer = Optimizer(network, OptimizerSettings(weight_decay=0.5))
    assert list(optimizer.parts) == ["adamw"]
    assert {name.rpartition(".")[2] for name in optimizer.names.values()} == {"lora_a", "lora_b"}
    assert {group["weight_decay"] for group in optimizer.parts["adamw"].param_groups} == {0.0}
