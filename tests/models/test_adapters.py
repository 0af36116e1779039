"""Adapters: what trains, what stays, and what they add."""

import json
import math
from pathlib import Path

import pytest
import torch

from foundling import models
from foundling.base.config import ConfigError
from foundling.models import interchange
from foundling.models.adapters import (
    AdapterSettings,
    adapter_state,
    adapters_of,
    add_adapters,
    disabled,
    freeze,
    load_adapter_state,
    merge,
    merged_weights,
)
from foundling.models.language_model import LanguageModel

VOCAB, TIME = 31, 9
ATTENTION = ("q", "k", "v", "o")


def build(**values: object) -> LanguageModel:
    torch.manual_seed(0)
    settings = {"dim": 16, "num_layers": 2, "num_heads": 2, "bias": True, **values}
    model = models.build(settings, vocab_size=VOCAB, context=TIME)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model.eval()


def adapted(**values: object) -> LanguageModel:
    """With adapters whose products are about as large as the matrices."""
    model = build()
    add_adapters(model, AdapterSettings.parse({"rank": 3, **values}), seed=5)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for module in adapters_of(model).values():
            module.lora_b += 0.1 * torch.randn(module.lora_b.shape, generator=generator)
    return model


def logits(model: LanguageModel) -> torch.Tensor:
    tokens = torch.randint(VOCAB, (2, TIME), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model.logits(model(tokens))


@pytest.mark.parametrize("rslora", [False, True])
def test_one_adapted_matrix_is_the_formula(rslora: bool) -> None:
    model = adapted(alpha=6.0, rslora=rslora)
    module = adapters_of(model)["context.blocks.1.mlp.up"]
    x = torch.randn(4, 16)
    scale = 6 / math.sqrt(3) if rslora else 2
    matrix = module.weight + scale * module.lora_b @ module.lora_a
    torch.testing.assert_close(module(x), x @ matrix.T + module.bias)


def test_new_adapters_change_no_logit_and_only_they_train() -> None:
    model = build()
    before = logits(model)
    add_adapters(model, AdapterSettings(), seed=5)
    assert torch.equal(logits(model), before)
    trains = {name for name, p in model.named_parameters() if p.requires_grad}
    names = [*(f"attention.{x}" for x in ATTENTION), "mlp.gate", "mlp.up", "mlp.down"]
    assert trains == {
        f"context.blocks.{block}.{name}.lora_{side}"
        for block in range(2)
        for name in names
        for side in "ab"
    }
    drawn = adapters_of(model)["context.blocks.0.attention.q"].lora_a
    assert 0.9 / 4 < drawn.abs().max() <= 1 / 4, "uniform up to 1 / √dim"


def test_adapters_are_a_pure_function_of_the_seed() -> None:
    states = []
    for seed in (1, 1, 2):
        model = build()
        torch.rand(seed)  # the global generator has no part in it
        add_adapters(model, AdapterSettings(), seed=seed)
        states.append(torch.cat([t.flatten() for t in adapter_state(model).values()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (("q", "v"), {f"context.blocks.{b}.attention.{x}" for b in "01" for x in "qv"}),
        (("blocks.1.mlp.*",), {f"context.blocks.1.mlp.{x}" for x in ("gate", "up", "down")}),
        (("q", "blocks.0.*.q"), {f"context.blocks.{b}.attention.q" for b in "01"}),
    ],
)
def test_targets_by_last_name_and_by_pattern(targets: tuple[str, ...], expected: set[str]) -> None:
    assert set(adapters_of(adapted(targets=targets))) == expected


def test_a_pattern_that_matches_nothing_names_the_matrices() -> None:
    with pytest.raises(
        ConfigError, match=r'"q_proj": matches no matrix .*blocks\.\*\.attention\.q,'
    ):
        add_adapters(build(), AdapterSettings(targets=("q", "q_proj")), seed=0)
    plain = models.build({"rung": "bag_of_words", "dim": 8}, vocab_size=VOCAB, context=TIME)
    if not any(isinstance(m, torch.nn.Linear) for m in plain.context.modules()):
        with pytest.raises(ConfigError, match="matches no matrix"):
            add_adapters(plain, AdapterSettings(), seed=0)


@pytest.mark.parametrize(
    "values", [{"rank": 0}, {"alpha": -1}, {"dropout": 1.0}, {"targets": []}, {"ranks": 4}]
)
def test_settings_that_mean_nothing_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        AdapterSettings.parse(values, "adapter")


def test_adapters_on_adapters_are_refused() -> None:
    with pytest.raises(ConfigError, match="merge them first"):
        add_adapters(adapted(), AdapterSettings(), seed=0)


def test_disabled_is_the_plain_model_and_comes_back() -> None:
    model, plain = adapted(), logits(build())
    changed = logits(model)
    assert not torch.allclose(changed, plain)
    with disabled(model):
        assert torch.equal(logits(model), plain)
        with disabled(model):
            pass
        assert torch.equal(logits(model), plain)
    assert torch.equal(logits(model), changed)


def test_merged_it_is_plain_and_the_same() -> None:
    model = adapted()
    before = logits(model)
    merge(model)
    assert not adapters_of(model)
    assert {type(m) for m in model.modules() if isinstance(m, torch.nn.Linear)} == {torch.nn.Linear}
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert (logits(model) - before).abs().max() <= 1e-6 * before.abs().max()
    build().load_state_dict(model.state_dict())


def test_in_fp64_merging_changes_nothing_but_the_last_digits() -> None:
    model = adapted(rslora=True).double()
    before = logits(model)
    merge(model)
    torch.testing.assert_close(logits(model), before, rtol=0, atol=1e-12)


def test_a_saved_model_with_adapters_is_the_merged_one(tmp_path: Path) -> None:
    model = adapted()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    interchange.save(model, tmp_path)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    opened = interchange.load(tmp_path)
    assert not adapters_of(opened)
    torch.testing.assert_close(logits(opened.eval()), logits(model), rtol=1e-5, atol=1e-5)
    assert json.loads((tmp_path / "config.json").read_text())["foundling"] == build().spec
    assert merged_weights(model).keys() == build().state_dict().keys()


def test_weights_are_loaded_under_the_adapters(tmp_path: Path) -> None:
    interchange.save(build(), tmp_path)
    model = adapted()
    expected = logits(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" not in name:
                parameter.zero_()
    interchange.load_weights(model, tmp_path)
    assert torch.equal(logits(model), expected)


def test_the_state_of_adapters_goes_out_and_in_exactly() -> None:
    model, other = adapted(), build()
    add_adapters(other, AdapterSettings(rank=3), seed=9)
    state = {name: tensor.clone() for name, tensor in adapter_state(model).items()}
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    load_adapter_state(other, state)
    assert torch.equal(logits(other), logits(model))


@pytest.mark.parametrize(
    ("values", "message"),
    [({"rank": 4}, r"\[3, 16\] in the saved one, \[4, 16\]"), ({"targets": ("q",)}, "not there")],
)
def test_the_state_of_other_adapters_is_refused(values: dict[str, object], message: str) -> None:
    model = adapted(**values)
    before = logits(model)
    with pytest.raises(ConfigError, match=message):
        load_adapter_state(model, adapter_state(adapted()))
    assert torch.equal(logits(model), before)


def test_dropout_is_of_the_adapter_alone() -> None:
    model = adapted(dropout=0.5)
    assert not torch.equal(logits(model.train()), logits(model))
    with disabled(model):
        assert torch.equal(logits(model), logits(model))


def test_a_frozen_matrix_costs_two_products_of_three() -> None:
    model = build()
    whole = model.flops_per_token(TIME)
    matrices = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear))
    add_adapters(model, AdapterSettings(rank=3), seed=0)
    adapters = sum(tensor.numel() for tensor in adapter_state(model).values())
    assert model.flops_per_token(TIME) == whole - 2 * matrices + 6 * adapters


def test_freezing_by_pattern() -> None:
    model = build(tied=False)
    freeze(model, ["embed.*", "context.blocks.0.*"])
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {
        name for name, _ in model.named_parameters()
        if name == "embed.weight" or name.startswith("context.blocks.0.")
    }  # fmt: skip


def test_freezing_nothing_or_everything_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r'"head\.\*": matches no parameter .*embed\.weight'):
        freeze(build(), ["head.*"])
    with pytest.raises(ConfigError, match="nothing is left to train"):
        freeze(build(), ["*"])
