"""What predictions rest on: gradients against finite differences, heads against zeroed weights."""

import copy

import pytest
import torch

from foundling import models
from foundling.base.config import ConfigError
from foundling.evaluation.likelihood import likelihoods
from foundling.interpret.attributions import GAP, ablate_heads, attribute, without_head
from foundling.interpret.weights import attention_modules
from foundling.models.language_model import LanguageModel
from foundling.text.tokenizer import Tokenizer

TEXT, SETTINGS = "The dog saw the", {"dim": 16, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train_bytes(["The dog saw the lane."] * 3, vocab_size=275)


@pytest.fixture
def model(tokenizer: Tokenizer) -> LanguageModel:
    torch.manual_seed(0)
    model = models.build(SETTINGS, vocab_size=tokenizer.vocab_size, context=40)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(8)
    return model.double().eval()


def test_scores_are_the_slope_along_a_words_embedding(
    model: LanguageModel, tokenizer: Tokenizer
) -> None:
    found = attribute(model, tokenizer, TEXT, " lane")
    reading, ids = found.reading, tokenizer.encode(" lane")
    assert len(ids) > 1
    assert found.log_prob == pytest.approx(likelihoods(model, [(reading.tokens, ids)])[0].nats)
    assert found.scores.shape == (len(reading.words),)

    def log_prob(word: int, scale: float) -> float:
        def scaled(_: object, __: object, output: torch.Tensor) -> torch.Tensor:
            factors = torch.ones(output.shape[1], 1, dtype=output.dtype)
            factors[reading.words[word].first_token : reading.words[word].stop_token] = scale
            return output * factors

        hook = model.embed.register_forward_hook(scaled)
        result = likelihoods(model, [(reading.tokens, ids)])[0].nats
        hook.remove()
        return result

    for word in range(len(reading.words)):
        slope = (log_prob(word, 1 + 1e-5) - log_prob(word, 1 - 1e-5)) / 2e-5
        assert float(found.scores[word]) == pytest.approx(slope, abs=1e-4)
    assert found.scores.abs().max() > 1e-2


def test_integrated_gradients_account_for_the_whole_difference(
    model: LanguageModel, tokenizer: Tokenizer
) -> None:
    found = attribute(model, tokenizer, TEXT, " lane", steps=400)
    tokens, ids = found.reading.tokens, tokenizer.encode(" lane")

    def mean(_: object, __: object, output: torch.Tensor) -> torch.Tensor:
        output[:, : len(tokens)] = model.embed.weight.mean(0)
        return output

    hook = model.embed.register_forward_hook(mean)
    nothing = likelihoods(model, [(tokens, ids)])[0].nats
    hook.remove()
    assert abs(found.log_prob - nothing) > 0.1
    assert float(found.scores.sum()) == pytest.approx(found.log_prob - nothing, abs=5e-3)


def test_taking_a_head_away_is_zeroing_its_columns(
    model: LanguageModel, tokenizer: Tokenizer
) -> None:
    found = ablate_heads(model, tokenizer, TEXT, (" lane", " dog"))
    prompt = [tokenizer.begin_of_text, *tokenizer.encode(TEXT)]
    pairs = [(prompt, tokenizer.encode(text)) for text in (" lane", " dog")]

    def odds(model: LanguageModel) -> float:
        first, second = likelihoods(model, pairs)
        return first.nats - second.nats

    assert found.log_odds == pytest.approx(odds(model))
    assert found.changes.shape == (2, 4)
    for layer, head in ((0, 0), (0, 3), (1, 2)):
        other = copy.deepcopy(model)
        with torch.no_grad():
            attention_modules(other)[layer].o.weight[:, 4 * head : 4 * head + 4] = 0
        change = odds(other) - found.log_odds
        assert abs(change) > 1e-4
        assert float(found.changes[layer, head]) == pytest.approx(change, rel=1e-4)


def test_looking_leaves_the_model_as_it_was(model: LanguageModel, tokenizer: Tokenizer) -> None:
    tokens = torch.tensor([tokenizer.encode(TEXT)])
    before = model(tokens)
    with without_head(model, 1, 1):
        assert not torch.allclose(model(tokens), before)
    attribute(model, tokenizer, TEXT, " lane")
    assert torch.equal(model(tokens), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_cannot_be_asked_is_refused(model: LanguageModel, tokenizer: Tokenizer) -> None:
    allowed = r"layer 2, head 0: .* layers 0 to 1 with heads 0 to 3"
    with pytest.raises(ValueError, match=allowed), without_head(model, 2, 0):
        pass
    with pytest.raises(ConfigError, match="no token"):
        attribute(model, tokenizer, TEXT, "")
    with pytest.raises(ConfigError, match="steps = -1"):
        attribute(model, tokenizer, TEXT, " lane", steps=-1)
    with pytest.raises(ConfigError, match="at most 40"):
        attribute(model, tokenizer, TEXT * 9, " lane")


def test_steps_are_added_until_integrated_gradients_add_up(
    model: LanguageModel, tokenizer: Tokenizer
) -> None:
    """Norms bend the path sharply near the mean embedding, where even steps are too long."""
    with torch.no_grad():
        model.embed.weight.mul_(30)
    few = attribute(model, tokenizer, TEXT, " lane", steps=4)
    assert not few.is_complete
    assert few.steps == 4
    found = attribute(model, tokenizer, TEXT, " lane", steps=4, most_steps=512)
    assert found.is_complete
    assert 4 < found.steps <= 512
    assert float(found.scores.sum()) == pytest.approx(found.difference, abs=found.gap)
    even = attribute(model, tokenizer, TEXT, " lane", steps=4000)
    assert torch.allclose(found.scores, even.scores, atol=3 * GAP * max(1, abs(found.difference)))
    bounded = attribute(model, tokenizer, TEXT, " lane", steps=4, most_steps=7)
    assert bounded.steps == 6
    assert bounded.gap > GAP
    assert not bounded.is_complete
