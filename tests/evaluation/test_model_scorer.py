"""A model behind the scorer: seams of prompt and continuation, windows, writing, the cache."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE

from foundling import models
from foundling.base.config import ConfigError
from foundling.evaluation.model_scorer import ModelScorer
from foundling.evaluation.score_cache import Remembered, ScoreCache
from foundling.evaluation.scorer import Pair, Question, Scored, Scorer, Writing
from foundling.generation.engine import Engine
from foundling.generation.runners import Span
from foundling.generation.sampling import Sampling
from foundling.models import RUNGS
from foundling.text.chat import Message, render_prompt
from foundling.text.tokenizer import Tokenizer

TEXT = "the cat sat on the mat and the dog lay on the log. " * 4


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train_bytes([TEXT], 300)


def scorer(tokenizer: Tokenizer, rung: str = "transformer", chats: bool = False) -> ModelScorer:
    torch.manual_seed(0)
    values = {"rung": rung, "dim": 16}
    if rung == "transformer":
        values |= {"num_layers": 2, "num_heads": 2}
    model = models.build(values, vocab_size=tokenizer.vocab_size, context=32).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return ModelScorer(model, tokenizer, name=rung, fingerprint=rung, chats=chats)


def naive(one: ModelScorer, prompt: list[int], after: list[int]) -> float:
    with torch.no_grad():
        logs = one.model.logits(one.model(torch.tensor([prompt + after]))).log_softmax(-1)[0]
    return float(sum(logs[len(prompt) - 1 + i, token] for i, token in enumerate(after)))


@pytest.mark.parametrize("rung", RUNGS)
def test_scores_are_those_of_the_parted_text(tokenizer: Tokenizer, rung: str) -> None:
    one = scorer(tokenizer, rung)
    assert isinstance(one, Scorer)
    pairs: list[Pair] = [
        ("the cat", " sat"), ("the cat ", "sat"), ("", "the dog"), ("the", "re"),
        (Question("who sat?"), "the cat"),
    ]  # fmt: skip
    found = one.score(pairs)
    begin = tokenizer.begin_of_text
    parts = [("the cat", " sat"), ("the cat", " sat"), ("", "the dog"), ("the", "re"),
             ("Q: who sat?\nA:", " the cat")]  # fmt: skip
    for scored, (before, after) in zip(found, parts, strict=True):
        front, whole = tokenizer.encode(before), tokenizer.encode(before + after)
        rest = whole[len(front) :]
        assert scored is not None
        assert scored.log_prob == pytest.approx(naive(one, [begin, *whole[: len(front)]], rest))
        assert scored.num_tokens == len(rest)


def test_a_token_over_the_seam_is_parted(tokenizer: Tokenizer) -> None:
    one = scorer(tokenizer)
    (word,) = tokenizer.encode(" the")
    assert tokenizer.encode(" th") != [word]
    ((prompt, after),) = one.encode([("on th", "e")])
    assert after == tokenizer.encode("e") or prompt[1:] + after == tokenizer.encode("on the")
    assert one.score([("on th", "e")])[0] is not None


def test_questions_are_turns_for_a_model_that_chats(tokenizer: Tokenizer) -> None:
    one = scorer(tokenizer, chats=True)
    (found,) = one.score([(Question("who sat?"), "the cat")])
    prompt = render_prompt((Message("user", "who sat?"),), tokenizer)
    assert found is not None
    assert found.log_prob == pytest.approx(naive(one, prompt, tokenizer.encode("the cat")))
    with pytest.raises(ConfigError, match="--no-chat"):
        scorer(Tokenizer(Backend(BPE(vocab={"<e>": 0}, merges=[])), None, "<e>", None), chats=True)


def test_what_does_not_fit_is_none_and_the_rest_is_scored(tokenizer: Tokenizer) -> None:
    one = scorer(tokenizer)
    pairs: list[Pair] = [("the cat", " sat"), (TEXT, " cat"), ("the dog", " lay")]
    assert one.fits(pairs) == [True, False, True]
    found = one.score(pairs)
    assert [item is None for item in found] == [False, True, False]
    with pytest.raises(ConfigError, match="continuation is empty"):
        one.score([("the", "")])


@pytest.mark.parametrize("rung", ["transformer", "next_word"])
@pytest.mark.parametrize("length", [1, 3, 60, 150])
def test_a_text_is_read_in_windows(
    tokenizer: Tokenizer, rung: str, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foundling.evaluation.model_scorer.WINDOW", 32)
    monkeypatch.setattr("foundling.evaluation.model_scorer.READ_TOKENS", 64)
    one, text = scorer(tokenizer, rung), TEXT[:length]
    found = one.read(text)
    tokens = [tokenizer.begin_of_text, *tokenizer.encode(text)]
    assert found.ends[-1] == length
    assert len(found.nats) == len(tokens) - 1
    places: dict[int, list[float]] = {}
    for start in range(0, len(tokens) - 1, found.stride):
        part = tokens[start : start + found.window + 1]
        for place in range(1, len(part)):
            nats = -naive(one, part[:place], part[place : place + 1])
            places.setdefault(place - 1, []).append(nats)
            if start == 0 or place > found.window - found.stride:
                assert found.nats[start + place - 1] == pytest.approx(nats)
        if start + found.window >= len(tokens) - 1:
            break
    assert found.by_position == pytest.approx([np.mean(places[p]) for p in sorted(places)])


def test_an_empty_text_has_no_surprise(tokenizer: Tokenizer) -> None:
    assert scorer(tokenizer).read("").nats == []


# ------------------------------------------------------------------ unknown characters


def test_a_character_without_a_token_is_none_and_others_are_as_before() -> None:
    one = scorer(Tokenizer.characters([TEXT, "Q:A\n"]))  # what a question is asked with
    known: list[Pair] = [("the cat", " sat"), (Question("the dog"), "the"), ("", "dog")]
    unknown: list[Pair] = [("the 東", " sat"), ("the cat", " zat"), (Question("The"), "the")]
    mixed = [pair for both in zip(unknown, known, strict=True) for pair in both]
    assert one.fits(mixed) == [False, True] * 3
    found = one.score(mixed)
    assert found[::2] == [None] * 3
    for scored, alone in zip(found[1::2], one.score(known), strict=True):
        assert scored is not None
        assert alone is not None
        assert scored.log_prob == pytest.approx(alone.log_prob)
        assert (scored.num_tokens, scored.is_greedy) == (alone.num_tokens, alone.is_greedy)
    assert one.score(unknown) == [None] * 3


def test_nothing_is_written_behind_a_character_without_a_token() -> None:
    one, way = scorer(Tokenizer.characters([TEXT])), Writing(max_tokens=4)
    found = one.generate(["the 東", "the cat", Question("who?"), "on"], way)
    assert found[::2] == [None, None]
    assert found[1::2] == one.generate(["the cat", "on"], way)
    with pytest.raises(ConfigError, match=r"'東' \(U\+6771\)"):
        one.read("the 東")


# ------------------------------------------------------------------ writing


@pytest.mark.parametrize("rung", RUNGS)
def test_greedy_writing_equals_the_engine(tokenizer: Tokenizer, rung: str) -> None:
    one = scorer(tokenizer, rung)
    prompts = ["the cat", "the dog lay", "a", "the cat", "on the mat and"]
    way = Writing(max_tokens=8, stop=("at",))
    engine = Engine(one.model, tokenizer)
    expected = [
        [engine.generate(p, max_tokens=8, sampling=way.sampling, stop=["at"])] for p in prompts
    ]
    assert one.generate(prompts, way) == expected


def test_samples_do_not_depend_on_their_neighbours(tokenizer: Tokenizer) -> None:
    one = scorer(tokenizer)
    way = Writing(max_tokens=6, num_samples=5, sampling=Sampling(seed=3))
    prompts = ["the cat", "the dog", "on"]
    together = one.generate(prompts, way)
    assert together == [one.generate([prompt], way)[0] for prompt in prompts]
    assert together[0] is not None
    assert len(set(together[0])) > 1
    other = one.generate(prompts, Writing(max_tokens=6, num_samples=5, sampling=Sampling(seed=4)))
    assert together != other


def test_no_room_to_write_is_none(tokenizer: Tokenizer) -> None:
    one = scorer(tokenizer)
    found = one.generate(["the cat", TEXT], Writing(max_tokens=4))
    assert found[1] is None
    assert found[0] is not None


# ------------------------------------------------------------------ the cache


class Counting:
    """Hands on to another scorer, and counts."""

    def __init__(self, inner: ModelScorer) -> None:
        self.inner, self.scored = inner, 0
        self.name, self.fingerprint, self.chats = inner.name, inner.fingerprint, inner.chats
        self.fits, self.read, self.generate = inner.fits, inner.read, inner.generate

    def score(self, pairs: list[Pair]) -> list[Scored | None]:
        self.scored += len(pairs)
        return self.inner.score(pairs)


def test_what_was_asked_is_not_asked_again(tokenizer: Tokenizer, tmp_path: Path) -> None:
    inner = Counting(scorer(tokenizer))
    pairs: list[Pair] = [("the cat", " sat"), (TEXT, " cat"), ("the cat", " sat")]
    told: list[tuple[int, int]] = []
    with ScoreCache(tmp_path / "cache.sqlite") as cache:
        first = Remembered(inner, cache, tell=lambda *numbers: told.append(numbers)).score(pairs)
    assert inner.scored == 2
    assert told == [(2, 0), (0, 2)]
    assert first == inner.inner.score(pairs)
    with ScoreCache(tmp_path / "cache.sqlite") as cache:
        again = Remembered(inner, cache)
        assert again.score([*pairs, ("the dog", " lay")])[:3] == first
        assert inner.scored == 3
        way = Writing(max_tokens=3, num_samples=2, sampling=Sampling())
        assert again.generate(["the", TEXT], way) == inner.generate(["the", TEXT], way)
        assert again.generate(["the", TEXT], way) == inner.generate(["the", TEXT], way)
        assert again.read(TEXT) == again.read(TEXT) == inner.read(TEXT)
        other = scorer(tokenizer, "attention")
        assert Remembered(other, cache).score(pairs) == other.score(pairs) != first


def test_an_interruption_keeps_what_was_scored(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foundling.evaluation.score_cache.AT_ONCE", 2)
    inner = Counting(scorer(tokenizer))
    pairs: list[Pair] = [(word, " the") for word in ("cat", "dog", "mat", "log", "on")]

    def stop(asked: int, answered: int) -> None:
        if answered and inner.scored == 4:
            raise KeyboardInterrupt

    with ScoreCache(tmp_path / "cache.sqlite") as cache, pytest.raises(KeyboardInterrupt):
        Remembered(inner, cache, tell=stop).score(pairs)
    with ScoreCache(tmp_path / "cache.sqlite") as cache:
        found = Remembered(inner, cache).score(pairs)
    assert inner.scored == 5
    for one, other in zip(found, inner.inner.score(pairs), strict=True):
        assert one is not None
        assert other is not None
        assert one.log_prob == pytest.approx(other.log_prob, abs=1e-12)


def test_another_file_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "cache.sqlite").write_text("notes " * 100)
    with pytest.raises(ConfigError, match="no cache"):
        ScoreCache(tmp_path / "cache.sqlite")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("rung", ["transformer", "bag_of_words"])
def test_prompts_of_other_lengths_change_nothing(
    tokenizer: Tokenizer, rung: str, temperature: float
) -> None:
    """They are written side by side: the rest of a long prompt while short ones are continued."""
    one = scorer(tokenizer, rung)
    prompts = ["the", "the cat sat on", "", "the dog lay on", "and the"]
    writing = Writing(6, num_samples=2, sampling=Sampling(temperature=temperature, seed=3))
    rows: list[int] = []
    forward = one.engine.runner.forward

    def counted(spans: Sequence[Span]) -> torch.Tensor:
        rows.append(len(spans))
        return forward(spans)

    one.engine.runner.forward = counted  # type: ignore[method-assign]
    together = one.generate(prompts, writing)
    assert max(rows) == len(prompts) * (2 if temperature else 1)
    assert together == [one.generate([prompt], writing)[0] for prompt in prompts]
