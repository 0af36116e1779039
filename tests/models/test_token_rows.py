"""Learned rows of tokens beside adapters: what trains, what stays, what `peft` reads of them."""

from pathlib import Path

import pytest
import torch
from test_adapter_files import CONTEXT, VOCAB, build, open_theirs, our_logits, their_logits, tokens
from test_adapter_files import train as train_steps

from foundling import models
from foundling.base.config import ConfigError
from foundling.models import interchange
from foundling.models.adapter_files import load_adapter, save_adapter
from foundling.models.adapters import (
    AdapterSettings,
    adapter_state,
    add_adapters,
    disabled,
    load_adapter_state,
    merge,
    merged_weights,
)
from foundling.models.language_model import LanguageModel
from foundling.models.token_rows import new_rows, rows_of
from foundling.objectives.reference import DisabledAdapter

IDS = [5, 9, 66]
SETTINGS = AdapterSettings(rank=3, targets=("q", "up"))
pytestmark = pytest.mark.usefixtures("quiet_peers")
either = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])


def adapted(tied: bool, *, steps: int = 3) -> LanguageModel:
    model = build(tied=tied)
    add_adapters(model, SETTINGS, seed=0, tokens=[66, 5, 9])
    train_steps(model, steps)
    return model


@either
def test_new_rows_change_no_logit_and_learn_alone(tied: bool) -> None:
    model = build(tied=tied)
    before = our_logits(model)
    frozen = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    add_adapters(model, SETTINGS, seed=0, tokens=[66, 5, 9])
    torch.testing.assert_close(our_logits(model), before, rtol=1e-6, atol=1e-6)
    rows = {name for name, p in model.named_parameters() if p.requires_grad and "lora" not in name}
    assert rows == {"embed.learned.rows", *([] if tied else ["unembed.learned.rows"])}
    train_steps(model)
    merged = merged_weights(model)
    assert merged.keys() == frozen.keys()
    for name in ("embed.weight", "unembed.weight"):
        changed = (merged[name] != frozen[name]).any(dim=1).nonzero().flatten().tolist()
        assert changed == IDS if name == "unembed.weight" or tied else set(changed) <= set(IDS)
        kept = torch.ones(VOCAB, dtype=torch.bool).index_fill(0, torch.tensor(IDS), False)
        assert torch.equal(merged[name][kept], frozen[name][kept])


@either
def test_the_gradient_of_the_rows_is_that_of_the_whole_matrices(tied: bool) -> None:
    whole, model = build(tied=tied), build(tied=tied)
    add_adapters(model, SETTINGS, seed=0, tokens=IDS)
    for one in (whole, model):
        one.logits(one(tokens())).logsumexp(-1).sum().backward()
    for name, learned in rows_of(model).items():
        expected = whole.get_submodule(name).weight.grad
        assert learned.rows.grad is not None
        assert isinstance(expected, torch.Tensor)
        torch.testing.assert_close(learned.rows.grad, expected[IDS])


@either
def test_disabled_it_is_the_model_that_was(tied: bool) -> None:
    model, plain = adapted(tied), build(tied=tied)
    assert not torch.allclose(our_logits(model), our_logits(plain))
    with disabled(model):
        assert torch.equal(our_logits(model), our_logits(plain))
    assert torch.equal(DisabledAdapter(model).weight, plain.unembed.weight)
    assert not torch.equal(model.unembed.weight, plain.unembed.weight)


@either
def test_merged_and_saved_and_restored_it_is_the_same(tied: bool, tmp_path: Path) -> None:
    model = adapted(tied)
    expected = our_logits(model)
    interchange.save(model, tmp_path)
    opened = interchange.load(tmp_path)
    torch.testing.assert_close(our_logits(opened), expected, rtol=1e-5, atol=1e-5)
    other = build(tied=tied)
    add_adapters(other, SETTINGS, seed=7, tokens=IDS)
    load_adapter_state(other, {k: v.clone() for k, v in adapter_state(model).items()})
    assert torch.equal(our_logits(other), expected)
    merge(model)
    assert not rows_of(model)
    assert type(model.embed) is torch.nn.Embedding
    assert (model.embed.weight is model.unembed.weight) == tied
    torch.testing.assert_close(our_logits(model), expected, rtol=1e-5, atol=1e-5)
    build(tied=tied).load_state_dict(model.state_dict())


@either
def test_peft_gives_the_same_logits_with_our_rows(tied: bool, tmp_path: Path) -> None:
    import peft

    model = adapted(tied)
    interchange.save(build(tied=tied), tmp_path / "base")
    save_adapter(model, tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(open_theirs(tmp_path / "base"), tmp_path / "adapter")
    assert (their_logits(theirs) - our_logits(model)).abs().max() < 1e-4
    again = interchange.load(tmp_path / "base")
    load_adapter(again, tmp_path / "adapter")
    assert torch.equal(our_logits(again), our_logits(model))
    merged = theirs.merge_and_unload()
    assert (their_logits(merged) - our_logits(model)).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("tied", "given"),
    [
        (True, [60, 3]),
        (False, [3, 60]),
        (False, {"embed_tokens": [60, 3], "lm_head": [60, 3]}),
    ],
    ids=["tied", "embedding alone", "both"],
)
def test_rows_that_peft_trained_give_the_same_logits_here(
    tied: bool, given: object, tmp_path: Path
) -> None:
    import peft

    interchange.save(build(tied=tied), tmp_path / "base")
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], trainable_token_indices=given
    )
    theirs = peft.get_peft_model(open_theirs(tmp_path / "base"), config)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_B" in name or "trainable_tokens" in name:
                parameter.normal_(std=0.2)
    theirs.save_pretrained(tmp_path / "adapter")
    model = interchange.load(tmp_path / "base")
    load_adapter(model, tmp_path / "adapter")
    assert (our_logits(model) - their_logits(theirs)).abs().max() < 1e-4


def test_rows_of_other_models_are_refused(tmp_path: Path) -> None:
    save_adapter(adapted(True), tmp_path)
    torch.manual_seed(0)
    smaller = models.build(
        {"dim": 32, "num_layers": 2, "num_heads": 4}, vocab_size=60, context=CONTEXT
    )
    with torch.no_grad():
        for ours, theirs in zip(
            smaller.context.parameters(), build().context.parameters(), strict=True
        ):
            ours.copy_(theirs)
    with pytest.raises(ConfigError, match=r"trainable_token_indices = \[5, 9, 66\].* below 60"):
        load_adapter(smaller, tmp_path)


def test_new_rows_are_distinct_and_take_little_from_the_others() -> None:
    generator = torch.Generator().manual_seed(3)
    known = torch.randn(500, 16, generator=generator) * torch.linspace(0.1, 2, 16) + 1
    drawn = new_rows(known, 4000, torch.Generator().manual_seed(1))
    assert drawn.unique(dim=0).shape == (4000, 16)
    torch.testing.assert_close(drawn.mean(0), known.mean(0), rtol=0, atol=0.01)
    torch.testing.assert_close(drawn.T.cov(), 0.01 * known.T.cov(), rtol=0.3, atol=3e-3)
    hidden = torch.randn(50, 16, generator=generator)
    before = (hidden @ known.T).logsumexp(1)
    after = (hidden @ torch.cat((known, drawn[:4])).T).logsumexp(1)
    assert (after - before).mean() < 4 / 500
