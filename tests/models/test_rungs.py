"""What each rung remembers, and what it cannot."""

import pytest
import torch

from foundling import models
from foundling.config import ConfigError
from foundling.models.attention import _attend_by_products, attend

VOCAB = 19


def build(**values: object) -> models.LanguageModel:
    torch.manual_seed(0)
    model = models.build({"dim": 16, **values}, vocab_size=VOCAB, context=32).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def last_logits(model: models.LanguageModel, tokens: list[int]) -> torch.Tensor:
    return model.logits(model.hidden(torch.tensor([tokens])))[0, -1]


def test_next_word_knows_the_last_word_alone() -> None:
    model = build(rung="next_word")
    torch.testing.assert_close(last_logits(model, [1, 2, 3]), last_logits(model, [9, 9, 9, 9, 3]))
    expected = model.embed.weight[3] @ model.unembed.weight.T
    torch.testing.assert_close(last_logits(model, [7, 3]), expected)


def test_finite_lag_sees_exactly_its_window_in_order() -> None:
    model = build(rung="finite_lag", lag=3)
    base = last_logits(model, [5, 1, 2, 3])
    torch.testing.assert_close(last_logits(model, [8, 1, 2, 3]), base)
    assert not torch.allclose(last_logits(model, [5, 4, 2, 3]), base)
    assert not torch.allclose(last_logits(model, [5, 2, 1, 3]), base)


@pytest.mark.parametrize("last_word", [True, False])
def test_bag_of_words_is_blind_to_the_order_of_what_came_before(last_word: bool) -> None:
    model = build(rung="bag_of_words", last_word=last_word)
    base = last_logits(model, [1, 2, 3, 4])
    torch.testing.assert_close(last_logits(model, [3, 1, 2, 4]), base)
    assert not torch.allclose(last_logits(model, [5, 2, 3, 4]), base)
    same_bag_other_end = last_logits(model, [1, 2, 4, 3])
    assert torch.allclose(same_bag_other_end, base) is not last_word


def test_attention_is_a_weighted_average_that_knows_order() -> None:
    model = build(rung="attention", num_heads=2)
    base = last_logits(model, [1, 2, 3, 4])
    assert not torch.allclose(last_logits(model, [2, 1, 3, 4]), base)
    # Equal values average to themselves, whatever the weights.
    query, key = torch.randn(2, 1, 2, 5, 8)
    value = torch.ones(1, 2, 5, 8)
    torch.testing.assert_close(attend(query, key, value, None), value)


def test_attention_equals_the_formula_written_out() -> None:
    query, key, value = torch.randn(3, 2, 3, 6, 8, dtype=torch.float64)
    mixed = torch.zeros_like(query)
    for place in range(6):
        scores = (query[:, :, place : place + 1] * key[:, :, : place + 1]).sum(-1) / 8**0.5
        weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
        mixed[:, :, place] = (weights[..., None] * value[:, :, : place + 1]).sum(2)
    torch.testing.assert_close(attend(query, key, value, None), mixed)


@pytest.mark.parametrize("time", [7, 64, 200])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_by_products_equals_the_kernel(time: int, masked: bool) -> None:
    query, key, value = torch.randn(3, 2, 3, time, 8)
    mask = None
    if masked:
        mask = torch.ones(time, time, dtype=torch.bool).tril().triu(-4)[None, None]
    expected = attend(query, key, value, mask)
    torch.testing.assert_close(_attend_by_products(query, key, value, mask), expected)


def test_a_window_reaches_layer_by_layer_no_further() -> None:
    model = build(rung="transformer", num_layers=2, window=3)
    base = last_logits(model, [0, 1, 2, 3, 4, 5])
    torch.testing.assert_close(last_logits(model, [9, 1, 2, 3, 4, 5]), base)
    assert not torch.allclose(last_logits(model, [0, 9, 2, 3, 4, 5]), base)


def test_dropout_acts_in_training_only() -> None:
    model = build(rung="transformer", dropout=0.5)
    tokens = torch.arange(8)[None]
    assert torch.equal(model.hidden(tokens), model.hidden(tokens))
    model.train()
    assert not torch.equal(model.hidden(tokens), model.hidden(tokens))


def test_zero_initialised_outputs_leave_the_embedding_alone() -> None:
    model = models.build({"dim": 16, "init": "zero", "norm": "none"}, vocab_size=VOCAB, context=8)
    tokens = torch.arange(8)[None]
    assert torch.equal(model.hidden(tokens), model.embed(tokens))


def test_flops_follow_the_matrices() -> None:
    model = build(rung="transformer", num_layers=1, tied=False)
    matrices = 4 * 16 * 16 + 3 * 16 * 64 + 16 * VOCAB
    assert model.flops_per_token(1) == 6 * matrices + 12 * 16


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rung": "transfomer"}, 'Did you mean "transformer"'),
        ({"rung": "next_word", "lag": 3}, "model.lag: no such setting"),
        ({"layers": 3}, 'Did you mean "num_layers"'),
        ({"dim": 10, "num_heads": 4}, "not a multiple"),
        ({"num_heads": 4, "num_kv_heads": 3}, "not a multiple"),
        ({"dropout": 1.5}, "model.dropout = 1.5"),
        ({"mlp": "relu"}, "model.mlp"),
    ],
)
def test_bad_settings_are_refused_with_a_way_out(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        models.build(values, vocab_size=VOCAB, context=8)
    assert message in str(error.value)
