"""What each rung remembers, and what it cannot."""

import tracemalloc

import pytest
import torch

from foundling import models
from foundling.base.config import ConfigError
from foundling.models.attending import _attend_by_products, attend
from foundling.models.transformer import TransformerSettings

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


MASKS = {
    "causal": lambda key, query: key <= query,
    "window": lambda key, query: (key <= query) & (key > query - 5),
    "documents": lambda key, query: (key <= query) & (key // 90 == query // 90),
}


@pytest.mark.parametrize("time", [7, 128, 300])
@pytest.mark.parametrize("before", [0, 40])
@pytest.mark.parametrize("kind", [None, *MASKS])
def test_attention_by_products_equals_the_kernel(time: int, before: int, kind: str | None) -> None:
    """Output and gradients, over several blocks of queries; `before` keys are of earlier tokens."""
    query = torch.randn(2, 3, time, 8)
    key, value = torch.randn(2, 2, 3, before + time, 8)
    places = torch.arange(before + time)
    queries = places[before:, None]
    mask = MASKS[kind or "causal"](places[None], queries)[None, None]
    outputs, gradients = [], []
    for attention, given in (
        (attend, mask),
        (_attend_by_products, mask if kind else None),
    ):
        parts = [part.clone().requires_grad_() for part in (query, key, value)]
        mixed = attention(*parts, given)
        outputs.append(mixed)
        gradients.append(torch.autograd.grad(mixed.square().sum(), parts))
    torch.testing.assert_close(outputs[1], outputs[0])
    for found, expected in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_packed_documents_train_in_bf16_as_each_alone() -> None:
    """The CPU's training path gives exactly what a document's own tokens determine."""
    query, key, value = torch.randn(3, 1, 2, 300, 8).bfloat16()
    documents = torch.arange(300) // 140
    mask = torch.ones(300, 300, dtype=torch.bool).tril() & (documents[:, None] == documents)
    packed = attend(query.requires_grad_(), key, value, mask[None, None])
    for number in documents.unique():
        part = documents == number
        alone = attend(query[:, :, part], key[:, :, part], value[:, :, part], None)
        torch.testing.assert_close(packed[:, :, part], alone, rtol=0.02, atol=0.02)


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


def test_settings_of_any_number_of_layers_are_checked_in_no_memory() -> None:
    """What a damaged file says is checked before anything is made of it."""
    tracemalloc.start()
    try:
        settings = TransformerSettings(num_layers=10**6, full_layers=(3, 999_999), window=2)
        assert settings.resolved().num_layers == 10**6
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()
    for layers in ((1, 0), (1, 1), (-1, 1), (1, 4)):
        with pytest.raises(ConfigError, match="give different layers in order, from 0 to 3"):
            models.build({"nope_layers": layers}, vocab_size=VOCAB, context=8)
