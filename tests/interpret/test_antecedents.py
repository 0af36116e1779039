"""Heads that find antecedents: the spans are right, a planted head is found, chance is not."""

import pytest
import torch

from foundling import models
from foundling.base.config import ConfigError
from foundling.hamlet import World, winograd_pairs
from foundling.hamlet.winograd import WinogradPair
from foundling.interpret.antecedents import (
    Coreference,
    antecedent_differences,
    antecedent_scores,
    coreference,
)
from foundling.interpret.weights import attention_modules
from foundling.models.language_model import LanguageModel
from foundling.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def pairs() -> tuple[WinogradPair, ...]:
    return winograd_pairs(World(), per_schema=2)


@pytest.fixture(scope="module")
def tokenizer(pairs: tuple[WinogradPair, ...]) -> Tokenizer:
    return Tokenizer.train_bytes([pair.sentence for pair in pairs], vocab_size=400)


def build(tokenizer: Tokenizer) -> LanguageModel:
    torch.manual_seed(1)
    settings = {"dim": 16, "num_layers": 2, "num_heads": 2, "positions": "none", "qk_norm": False}
    return models.build(settings, vocab_size=tokenizer.vocab_size, context=128)


@pytest.mark.parametrize("asked", [False, True])
def test_spans_of_all_pairs(pairs: tuple[WinogradPair, ...], asked: bool) -> None:
    for pair in pairs:
        example = coreference(pair, asked=asked)
        decides, right, wrong = (
            example.text[slice(*span)].lower()
            for span in (example.decides, example.right, example.wrong)
        )
        assert decides == ("?" if asked else pair.special[0].lower())
        assert right == pair.answer.lower()
        assert wrong == pair.twin_answer.lower()
        assert max(example.right[1], example.wrong[1]) <= len(pair.before) < example.decides[0]


def examples() -> list[Coreference]:
    """A sentence and its twin in each of twelve groups: "tired" means Ann, "wide" means Bob."""
    found = []
    for group in range(12):
        for word, right, wrong in (("tired", "Ann", "Bob"), ("wide", "Bob", "Ann")):
            text = f"Ann saw Bob as it was {word}"
            spans = [(text.index(w), text.index(w) + len(w)) for w in (word, right, wrong)]
            found.append(Coreference(text, spans[0], spans[1], spans[2], str(group)))
    return found


def planted() -> tuple[LanguageModel, Tokenizer]:
    """Layer 0, head 1 looks from "tired" at "Ann" and from "wide" at "Bob"."""
    tokenizer = Tokenizer.train_bytes(["Ann saw Bob as it was tired wide."] * 9, vocab_size=300)
    model = build(tokenizer)
    attention = attention_modules(model)[0]
    with torch.no_grad():
        attention.k.weight[8:] = attention.q.weight[8:] = 0
        for axis, (source, target) in enumerate((("Ann", " tired"), (" Bob", " wide"))):
            for text, weight in ((source, attention.k.weight), (target, attention.q.weight)):
                for token in tokenizer.encode(text):
                    model.embed.weight[token] = 0
                    model.embed.weight[token, 2 * axis + (text == target)] = 1
                weight[8 + axis, 2 * axis + (text == target)] = 3
    return model, tokenizer


def test_a_planted_head_is_found_beyond_chance() -> None:
    scores = antecedent_scores(*planted(), examples(), draws=500)
    best = scores.heads[0]
    assert (best.layer, best.head) == (0, 1)
    assert best.score > 0.99
    # Of twelve signs, 8 more of one kind or all come with 0.039, 6 more with 0.146.
    assert scores.chance == pytest.approx(0.5, abs=0.01)
    assert (best.share, scores.num_examples, scores.num_groups) == (1.0, 24, 12)
    assert best.p_value < 0.02
    assert scores.mean == pytest.approx(sum(head.score for head in scores.heads) / 4)


def test_a_score_is_attention_to_the_right_less_attention_to_the_wrong() -> None:
    """Right and wrong the other way round: all differences change their sign."""
    model, tokenizer = planted()
    (one,) = antecedent_differences(model, tokenizer, examples()[:1])
    e = examples()[0]
    swapped = Coreference(e.text, e.decides, e.wrong, e.right, e.group)
    (other,) = antecedent_differences(model, tokenizer, [swapped])
    torch.testing.assert_close(one, -other)
    assert one.shape == (2, 2)


def test_an_untrained_model_is_not_beyond_chance(
    pairs: tuple[WinogradPair, ...], tokenizer: Tokenizer
) -> None:
    told = [coreference(pair) for pair in pairs]
    scores = antecedent_scores(build(tokenizer), tokenizer, told, draws=200)
    assert scores.heads[0].p_value > 0.05
    assert scores.heads[0].score < scores.chance
    with pytest.raises(ConfigError, match="at least 2"):
        antecedent_scores(build(tokenizer), tokenizer, told[:1])
