"""Speculation changes the speed of a text and never the text."""

from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import chisquare

from foundling import models
from foundling.base.config import ConfigError
from foundling.generation.engine import Engine
from foundling.generation.grammar import Grammar
from foundling.generation.request import Request
from foundling.generation.sampling import Sampling
from foundling.generation.settings import EngineSettings
from foundling.generation.speculation import MOST, Lookup, Speculation, best_length
from foundling.models.language_model import LanguageModel
from foundling.runs.model_folder import save_model
from foundling.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train_bytes(["the miller met the baker by the bridge, 12 or 34."], 300)


def model_of(seed: int = 5, context: int = 96, **switches: Any) -> LanguageModel:
    torch.manual_seed(seed)
    shape = {"dim": 16, "num_layers": 2, "num_heads": 2, **switches}
    model = models.build(shape, vocab_size=TOKENIZER.vocab_size, context=context)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)  # away from uniform
    return model


def widened(small: LanguageModel, by: float) -> LanguageModel:
    """A model many times as large that computes the same but for a little noise."""
    spec = {name: value for name, value in small.spec.items() if name != "mlp_dim"}
    large = models.rebuild({**spec, "mlp_dim": 2048})
    with torch.no_grad():
        for name, parameter in large.named_parameters():
            given = small.get_parameter(name)
            parameter.zero_()
            parameter[tuple(slice(size) for size in given.shape)] = given
            parameter.add_(torch.randn_like(parameter) * by * given.std())
    return large


def requests() -> list[Request]:
    ids = tuple(TOKENIZER.encode("the miller met the miller met the"))
    made = []
    for temperature in (0, 0.7, 1.5):
        plain = Sampling(temperature=temperature, seed=3)
        punished = plain.changed(
            {
                "presence_penalty": 0.5,
                "frequency_penalty": 0.3,
                "repetition_penalty": 1.2,
                "logit_bias": {ids[0]: 2.0},
                "top_p": 0.95,
            }
        )
        number = Grammar.regex("[0-9 ]{30}").constraint(TOKENIZER)
        made += [
            Request(ids, 40, plain),
            Request(ids, 40, punished, logprobs=2),
            Request(ids, 40, plain, stop=("e", "th"), sample=1),
            Request(ids[:5], 40, plain, constraint=number),
            Request(ids[:9], 120, plain, slide=True, ignore_end=True),
        ]
    return made


@pytest.mark.parametrize("guesser", ["lookup", "near", "other", "short"])
@pytest.mark.parametrize("max_batch", [1, 3])
def test_texts_are_the_same_with_and_without(guesser: str, max_batch: int) -> None:
    small = model_of()
    model = widened(small, 0.01)
    drafts = {"near": small, "other": model_of(6), "short": model_of(context=20)}
    draft = drafts.get(guesser)
    plain = Engine(model, TOKENIZER, EngineSettings(max_batch=max_batch))
    settings = EngineSettings(max_batch=max_batch, lookup=draft is None)
    made = Engine(model, TOKENIZER, settings, draft=draft and (draft, TOKENIZER))
    assert made.run(requests()) == plain.run(requests())
    stats = made.stats()
    assert stats["accepted_tokens"] <= stats["guessed_tokens"]
    assert stats["accepted_tokens"] or guesser == "other"
    assert stats["blocks_held"] == 0


def test_the_distribution_is_the_models() -> None:
    """All continuations of three letters, with their exact probabilities."""
    temperature, tokenizer = 0.8, Tokenizer.characters(["abcd"])
    size, letters = tokenizer.vocab_size, tokenizer.encode("abcd")
    torch.manual_seed(4)
    small = models.build({"dim": 8, "num_layers": 1, "num_heads": 1}, vocab_size=size, context=8)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.mul_(8)
    model = widened(small, 0.4)
    only = {token: -100.0 for token in range(size) if token not in letters}
    prompt = tuple(tokenizer.encode("ab"))
    expected = dict[tuple[int, ...], float]()
    with torch.inference_mode():
        for text in product(letters, repeat=3):
            logits = model.logits(model.hidden(torch.tensor([[*prompt, *text]])))[0, 1:4]
            own = logits[:, letters].div(temperature).softmax(-1)
            places = [letters.index(token) for token in text]
            expected[text] = float(own[torch.arange(3), places].double().prod())
    engine = Engine(model, tokenizer, EngineSettings(max_batch=1), draft=(small, tokenizer))
    sampling = [Sampling(temperature=temperature, seed=n, logit_bias=only) for n in range(1000)]
    results = [engine.run([Request(prompt, 3, one)])[0] for one in sampling]
    found = Counter(result.tokens for result in results)
    stats = engine.stats()
    assert 0.2 < stats["accepted_tokens"] / stats["guessed_tokens"] < 0.95
    common = [text for text, share in expected.items() if share * len(results) > 5]
    assert len(common) > 8
    counts = [found[text] for text in common]
    shares = [expected[text] * len(results) for text in common]
    counts.append(len(results) - sum(counts))
    shares.append(len(results) - sum(shares))
    assert chisquare(counts, shares).pvalue > 0.01


def test_guesses_that_fail_become_few() -> None:
    model = widened(model_of(), 0.01)
    made = Engine(model, TOKENIZER, EngineSettings(), draft=(model_of(6), TOKENIZER))
    request = Request(tuple(TOKENIZER.encode("the")), 90, Sampling(temperature=3), ignore_end=True)
    made.run([request])
    assert 0 < made.stats()["guessed_tokens"] < 45


def test_the_length_follows_what_was_right() -> None:
    assert best_length(0.05, 1, 0.0) == 0
    assert best_length(0.5, 1, 0.0) == 2
    assert best_length(0.99, 1, 0.0) == MOST
    assert best_length(0.5, 1, 0.5) == 0
    assert best_length(0.7, 32, 0.0) == 0


def test_a_lookup_continues_what_repeats() -> None:
    engine = Engine(model_of(), TOKENIZER)
    guesser = Lookup()
    stream = engine.submit(Request((1, 2, 3, 9, 1, 2, 3), 40))
    (sequence,) = engine._arrived
    assert guesser.guess([sequence], [6]) == [[9, 1, 2, 3, 9, 1]]
    sequence.tokens += [9, 8]
    assert guesser.guess([sequence], [6]) == [[]]
    sequence.tokens += [2, 3]
    assert guesser.guess([sequence], [2]) == [[9, 8]]
    stream.cancel()


def test_a_draft_model_is_opened_by_name(tmp_path: Path) -> None:
    small = model_of()
    model = widened(small, 0.01)
    save_model(small, TOKENIZER, tmp_path / "small", {})
    made = Engine(model, TOKENIZER, EngineSettings(draft=str(tmp_path / "small")))
    request = Request(tuple(TOKENIZER.encode("the")), 30, Sampling(seed=2), ignore_end=True)
    assert made.run([request]) == Engine(model, TOKENIZER).run([request])
    assert made.stats()["accepted_tokens"] > 5


def test_what_does_not_fit_is_refused() -> None:
    model = model_of()
    other = Tokenizer.train_bytes(["another text, another text"], 300)
    with pytest.raises(ConfigError, match="another tokenizer"):
        Engine(model, TOKENIZER, draft=(model_of(6), other))
    with pytest.raises(ConfigError, match="give one of them"):
        Engine(model, TOKENIZER, EngineSettings(lookup=True), draft=(model_of(6), TOKENIZER))
    bag = models.build({"rung": "bag_of_words", "dim": 8}, vocab_size=300, context=32)
    with pytest.raises(ConfigError, match="cannot take back"):
        Engine(bag, TOKENIZER, EngineSettings(lookup=True))
    with pytest.raises(ConfigError, match="cannot take back"):
        Engine(model, TOKENIZER, draft=(bag, TOKENIZER))


def test_what_is_known_of_a_text_goes_with_it() -> None:
    guesser = Lookup()
    speculation = Speculation(guesser)
    engine = Engine(model_of(), TOKENIZER)
    stream = engine.submit(Request((1, 2, 1, 2), 9))
    (sequence,) = engine._arrived
    assert speculation.propose([sequence], [3])[0]
    assert speculation.guessed == 0
    sequence.tokens += [1, 2, 7]
    speculation.propose([sequence], [3])
    assert (speculation.guessed, speculation.accepted) == (2, 2)
    speculation.forget(sequence.number)
    assert not guesser._found
    stream.cancel()


def test_a_draft_is_judged_by_what_was_drawn_though_the_context_slid() -> None:
    speculation = Speculation(Lookup())
    engine = Engine(model_of(context=16), TOKENIZER)
    stream = engine.submit(Request((1, 2) * 7, 9, slide=True))
    (sequence,) = engine._arrived
    assert speculation.propose([sequence], [2]) == [[1, 2]]
    sequence.tokens += [1, 2, 7]
    assert sequence.slide()
    assert sequence.tokens == [2, 1, 2, 1, 2, 1, 2, 7]
    speculation.forget(sequence.number)
    assert (speculation.guessed, speculation.accepted) == (2, 2)
    stream.cancel()


def test_a_prompt_that_is_only_scored_is_not_guessed_from() -> None:
    small = model_of()
    made = Engine(widened(small, 0.01), TOKENIZER, draft=(small, TOKENIZER))
    found = made.run([Request((n,), 0, prompt_logprobs=0) for n in (9, 10)])
    assert [one.prompt_logprobs for one in found] == [(None,)] * 2
    assert made.stats()["guessed_tokens"] == 0


def test_a_draft_model_that_is_damaged_guesses_nothing() -> None:
    small = model_of()
    model = widened(small, 0.01)
    with torch.no_grad():
        small.embed.weight[3] = torch.nan
    made = Engine(model, TOKENIZER, draft=(small, TOKENIZER))
    assert made.run(requests()) == Engine(model, TOKENIZER).run(requests())
    assert made.stats()["guessed_tokens"] == 0


def test_a_guess_that_leaves_the_grammar_no_way_on_is_dropped() -> None:
    tokenizer = Tokenizer.characters(["abcd"])
    torch.manual_seed(4)
    shape = {"dim": 8, "num_layers": 1, "num_heads": 1, "tied": False}
    small = models.build(shape, vocab_size=tokenizer.vocab_size, context=16)
    model = widened(small, 0.001)
    greedy, prompt = Sampling(temperature=0), tuple(tokenizer.encode("d"))
    plain = Engine(model, tokenizer)
    either = Grammar.regex("[ac]").constraint(tokenizer)
    (first,) = plain.run([Request(prompt, 1, greedy, constraint=either)])
    other = "c" if first.text == "a" else "a"
    rows = tokenizer.encode("ac")
    with torch.no_grad():
        small.unembed.weight[rows] = small.unembed.weight[rows[::-1]]  # it guesses the other
    grammar = Grammar.regex(f"{first.text}bbb|{other}é")  # é is no token

    def wanted() -> list[Request]:
        return [Request(prompt, 8, greedy, constraint=grammar.constraint(tokenizer))]

    made = Engine(model, tokenizer, draft=(small, tokenizer))
    (found,) = made.run(wanted())
    assert found == plain.run(wanted())[0]
    assert found.text == f"{first.text}bbb"
    assert made.stats()["guessed_tokens"] > made.stats()["accepted_tokens"]


def test_a_draft_model_has_a_row_for_every_token() -> None:
    size = TOKENIZER.vocab_size
    few = models.build({"dim": 16}, vocab_size=size - 1, context=32)
    said = f"the draft model has {size - 1} tokens and the tokenizer {size}"
    with pytest.raises(ConfigError, match=said):
        Engine(model_of(), TOKENIZER, draft=(few, TOKENIZER))
