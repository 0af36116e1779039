"""Attention looked at: the recorded weights are those used, and words and summaries are right."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from foundling import models
from foundling.base.config import ConfigError
from foundling.interpret.weights import (
    attention_weights,
    each_layer,
    recomputation_error,
    rollout,
    summarise,
    without_sink,
)
from foundling.interpret.words import Reading, read, read_turn
from foundling.models.language_model import LanguageModel
from foundling.runs.run import load_model
from foundling.text.chat import Message, render_prompt
from foundling.text.tokenizer import Tokenizer

TOKENS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]
SETTINGS: dict[str, dict[str, Any]] = {
    "one block": {"rung": "attention", "dim": 16, "num_heads": 2},
    "default": {"dim": 16, "num_layers": 2, "num_heads": 2},
    "grouped": {"dim": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2},
    "window": {"dim": 16, "num_layers": 2, "num_heads": 2, "window": 3},
    "no QK-norm": {"dim": 16, "num_layers": 2, "num_heads": 2, "qk_norm": False},
    "learned": {"dim": 16, "num_layers": 2, "num_heads": 2, "positions": "learned", "bias": True},
    "one query group, wide heads": {
        "dim": 16, "num_layers": 1, "num_heads": 4, "num_kv_heads": 1, "head_dim": 8,
        "window": 4, "dropout": 0.5, "positions": "sinusoidal", "residual": False,
    },
    "capped, scaled": {
        "dim": 16, "num_layers": 2, "num_heads": 4, "attention_softcap": 0.7,
        "attention_scale": 0.9, "norm_placement": "both", "norm_unit_offset": True,
    },
    "whole norm, some turn": {
        "dim": 16, "num_layers": 2, "num_heads": 4, "qk_norm_width": "whole",
        "rope_fraction": 0.5, "norm_placement": "post", "parallel": True,
    },
}  # fmt: skip


def build(settings: dict[str, Any], vocab: int = 11, context: int = 24) -> LanguageModel:
    """A model whose weights are large enough for heads to choose."""
    torch.manual_seed(0)
    model = models.build(settings, vocab_size=vocab, context=context)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(12)
    return model


@pytest.mark.parametrize("name", SETTINGS)
def test_the_weights_are_those_the_model_used(name: str) -> None:
    model = build(SETTINGS[name])
    assert recomputation_error(model, TOKENS) < 1e-5
    weights = attention_weights(model, TOKENS)
    layers, heads = model.spec.get("num_layers", 1), model.spec["num_heads"]
    assert weights.shape == (layers, heads, 10, 10)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.sum(-1), torch.ones(layers, heads, 10))
    window = model.spec.get("window") or 10
    seen = torch.ones(10, 10).tril() - torch.ones(10, 10).tril(-window)
    assert torch.equal(weights > 0, (seen > 0).expand_as(weights))
    assert weights.std() > 0.05  # heads that choose: else any average would pass


def test_the_check_finds_weights_that_were_not_used() -> None:
    layer = next(each_layer(build(SETTINGS["grouped"]), TOKENS))
    flat = torch.ones(10, 10).tril().softmax(-1).expand_as(layer.weights)
    wrong = type(layer)(layer.layer, flat, layer.values, layer.output, layer.module)
    with torch.no_grad():
        assert (wrong.recomputed() - layer.output).abs().max() > 1e-2


def test_looking_changes_nothing_and_leaves_nothing() -> None:
    model = build(SETTINGS["default"]).eval()
    before = model(torch.tensor([TOKENS]))
    layers = list(each_layer(model, TOKENS))
    assert [layer.layer for layer in layers] == [0, 1]
    assert torch.equal(model(torch.tensor([TOKENS])), before)
    assert not any(module._forward_hooks for module in model.modules())


def test_what_cannot_be_looked_at_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"next_word.*attention or transformer"):
        attention_weights(build({"rung": "next_word", "dim": 8}), TOKENS)
    with pytest.raises(ConfigError, match=r"25 tokens.*at most 24"):
        attention_weights(build(SETTINGS["default"]), [1] * 25)
    with pytest.raises(ConfigError, match="no token"):
        attention_weights(build(SETTINGS["default"]), [])


# ---------------------------------------------------------------------- words


TEXT = "The miller's dog did not cross — it was too wide."


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train_bytes(["The dog was wide. The dog was tired."] * 3, vocab_size=280)


def spelled(reading: Reading) -> list[str]:
    return [word.text for word in reading.words]


def test_words_hold_every_token_once(tokenizer: Tokenizer) -> None:
    reading = read(TEXT, tokenizer)
    assert spelled(reading) == [
        "<|begin_of_text|>", "The", "miller's", "dog", "did", "not", "cross", "—", "it", "was",
        "too", "wide", ".",
    ]  # fmt: skip
    assert reading.tokens == (tokenizer.begin_of_text, *tokenizer.encode(TEXT))
    assert torch.equal(reading.membership.sum(0), torch.ones(len(reading.tokens)))
    for word in reading.words[1:]:
        tokens = reading.tokens[word.first_token : word.stop_token]
        assert tokenizer.decode(tokens).strip() == word.text == TEXT[word.start : word.stop]
    start = TEXT.index("dog did")
    assert [spelled(reading)[n] for n in reading.covering(start, start + 7)] == ["dog", "did"]
    with pytest.raises(ValueError, match="no word is there"):
        reading.covering(3, 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  Up,\n\n down \n", ["Up", ",", "down"]),
        ("🙂 é!?", ["🙂", "é", "!?"]),
        (" \n", [" \n"]),
        ("", []),
    ],
)
def test_white_space_and_bytes_go_with_words(
    tokenizer: Tokenizer, text: str, words: list[str]
) -> None:
    reading = read(text, tokenizer)
    assert spelled(reading)[1:] == words
    assert torch.equal(reading.membership.sum(0), torch.ones(len(reading.tokens)))


def test_words_of_characters_are_the_same(tokenizer: Tokenizer) -> None:
    characters = Tokenizer.characters([TEXT])
    assert spelled(read(TEXT, characters)) == spelled(read(TEXT, tokenizer))


def test_weights_are_summed_over_sources_and_averaged_over_targets(tokenizer: Tokenizer) -> None:
    reading = read(TEXT, tokenizer)
    model = build(SETTINGS["grouped"], vocab=tokenizer.vocab_size, context=80)
    weights = attention_weights(model, reading.tokens)
    merged = reading.by_word(weights)
    count = len(reading.words)
    assert len(reading.tokens) > count + 10
    torch.testing.assert_close(merged.sum(-1), torch.ones(2, 4, count))
    to, source = reading.words[6], reading.words[2]
    by_hand = weights[1, 3, to.first_token : to.stop_token, source.first_token : source.stop_token]
    torch.testing.assert_close(merged[1, 3, 6, 2], by_hand.sum(1).mean())


# ---------------------------------------------------------------------- summaries


def some_weights() -> torch.Tensor:
    """Two layers, two heads, three places."""
    head = torch.tensor([[1.0, 0, 0], [0.4, 0.6, 0], [0.2, 0.3, 0.5]])
    first = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [1.0, 0, 0]])
    return torch.stack([torch.stack([head, first]), torch.stack([first, head])])


def test_the_sink_is_left_out_and_the_rest_sums_to_one() -> None:
    wanted = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0.375, 0.625]])
    torch.testing.assert_close(without_sink(some_weights())[0, 0], wanted)
    assert torch.equal(without_sink(some_weights())[0, 1], some_weights()[0, 1])
    mean = summarise(some_weights(), "mean", sink=False)
    torch.testing.assert_close(mean[0], wanted)  # the head on the sink moves nothing
    torch.testing.assert_close(mean.sum(-1), torch.ones(2, 3))


def test_mean_and_max_over_heads() -> None:
    mean = torch.tensor([[1.0, 0, 0], [0.7, 0.3, 0], [0.6, 0.15, 0.25]])
    torch.testing.assert_close(summarise(some_weights(), "mean")[1], mean)
    largest = torch.tensor([[1.0, 0, 0], [1.0, 0.6, 0], [1.0, 0.3, 0.5]])
    torch.testing.assert_close(summarise(some_weights(), "max")[0], largest)
    with pytest.raises(ValueError, match=r"median.*mean, max, rollout"):
        summarise(some_weights(), "median")


def test_rollout_by_hand() -> None:
    """Two layers, two places: (A + 1) / 2 = [[1, 0], [.25, .75]], squared."""
    layer = torch.tensor([[1.0, 0], [0.5, 0.5]])
    both = rollout(torch.stack([layer, layer]))
    torch.testing.assert_close(both[0], torch.tensor([[1.0, 0], [0.25, 0.75]]))
    torch.testing.assert_close(both[1], torch.tensor([[1.0, 0], [0.4375, 0.5625]]))
    plain = rollout(torch.stack([layer, layer]), residual=False)[1]
    torch.testing.assert_close(plain, torch.tensor([[1.0, 0], [0.75, 0.25]]))
    for sink in (True, False):
        rows = summarise(some_weights(), "rollout", sink=sink).sum(-1)
        torch.testing.assert_close(rows, torch.ones(2, 3))


def test_scripts_without_spaces_are_read_letter_by_letter_and_texts_token_by_token() -> None:
    text = "猫は魚を食べた。The cat ate."
    tokenizer = Tokenizer.train_bytes(["The cat ate."] * 3, vocab_size=280)
    reading = read(text, tokenizer)
    assert [word.text for word in reading.words][1:] == [
        *"猫は魚を食べた。",
        "The",
        "cat",
        "ate",
        ".",
    ]
    by_token = read(text, tokenizer, by_token=True)
    assert by_token.tokens == reading.tokens
    assert torch.equal(by_token.membership, torch.eye(len(reading.tokens)))


def test_the_weights_are_the_models_own_with_windows_and_soft_caps() -> None:
    """In each layer its own window, scale and cap: the outputs are met from the weights."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "dim": 16,
        "num_layers": 3,
        "num_heads": 4,
        "num_kv_heads": 2,
        "window": 4,
    }
    settings |= {"full_layers": [2], "attention_softcap": 5.0, "attention_scale": 0.7}
    model = models.build(settings, vocab_size=40, context=32).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(9)
    tokens = list(range(12))
    weights = attention_weights(model, tokens)
    assert recomputation_error(model, tokens) < 1e-5
    assert (weights[:2, :, 11, :8] == 0).all()
    assert (weights[2, :, 11, :8] > 0).any()


def test_a_message_is_read_in_the_models_template_with_its_special_tokens() -> None:
    text = "Näh, the cat ate 猫."
    tokenizer = Tokenizer.train_bytes(["The cat ate."] * 3, vocab_size=280).with_roles()
    reading = read_turn(text, tokenizer)
    assert list(reading.tokens) == render_prompt((Message("user", text),), tokenizer)
    spelled = [word.text for word in reading.words]
    specials = [tokenizer.name_of(t) for t in reading.tokens if t in tokenizer.special_ids]
    assert len(specials) > 2
    assert [word for word in spelled if word in specials] == specials
    plain = [word for word in spelled if word not in specials]
    assert plain == ["Näh", ",", "the", "cat", "ate", "猫", "."]
    for word in reading.words:
        assert reading.text[word.start : word.stop] == word.text
    assert reading.words[-1].stop_token == len(reading.tokens)
    by_token = read_turn(text, tokenizer, by_token=True)
    assert torch.equal(by_token.membership, torch.eye(len(reading.tokens)))


@pytest.mark.real
@pytest.mark.parametrize("family", ["gemma3_text", "llama"])
def test_the_weights_of_a_real_model_give_its_own_outputs(
    family: str, real_model: Callable[[str], Path]
) -> None:
    """Beyond Gemma's window of 512 tokens."""
    model, tokenizer = load_model(real_model(family))
    reading = read("The dog saw the lane, and the lane was wide. " * 55, tokenizer)
    assert len(reading.tokens) > 600
    assert recomputation_error(model, reading.tokens) < 1e-5
