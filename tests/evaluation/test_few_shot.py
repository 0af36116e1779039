"""Learning in context: scores against an oracle, planted scorers, calibration by hand."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from foundling import models
from foundling.base.config import ConfigError
from foundling.evaluation.few_shot import (
    answer_shortly,
    calibrated,
    classify,
    continuation_tokens,
    hits,
    label_scores,
    normalised,
    num_too_long,
    prompt_texts,
    prompt_tokens,
    room_of,
)
from foundling.evaluation.likelihood import TokenPair, likelihoods
from foundling.evaluation.tasks import Example, Task
from foundling.models.batch import BatchView
from foundling.models.language_model import LanguageModel, State
from foundling.text.tokenizer import Tokenizer

TEXTS = ["a fine film", "a dull film", "what a bore", "we laughed and laughed"]
TASK = Task(
    "films",
    ("bad", "good"),
    tuple(Example(f"film {i}", ("bad", "good")[i % 2]) for i in range(20)),
    tuple(Example(text, ("good", "bad")[i in (1, 2)]) for i, text in enumerate(TEXTS)),
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train_bytes([*TEXTS, "\nAnswer: bad", "\nAnswer: good"] * 20, 300)


@pytest.fixture
def model(tokenizer: Tokenizer) -> LanguageModel:
    values = {"rung": "transformer", "dim": 16, "num_layers": 2, "num_heads": 2}
    made = models.build(values, vocab_size=tokenizer.vocab_size, context=96)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made.eval()


def test_a_prompt_reads_as_the_template_says() -> None:
    (prompt,) = prompt_texts(TASK, TASK.train[:2], ["So it is."])
    assert prompt == "film 0\nAnswer: bad\n\nfilm 1\nAnswer: good\n\nSo it is.\nAnswer:"
    assert prompt_texts(TASK, (), ["So it is."]) == ["So it is.\nAnswer:"]


def test_no_item_is_among_its_own_examples() -> None:
    with pytest.raises(ConfigError, match="among the examples"):
        prompt_texts(TASK, TASK.train[:3], ["new", "FILM  2"])


def test_prompts_begin_like_training_and_answers_keep_their_space(tokenizer: Tokenizer) -> None:
    (tokens,) = prompt_tokens(TASK, tokenizer, (), ["a fine film"])
    assert tokens[0] == tokenizer.begin_of_text
    assert tokenizer.decode(tokens) == "a fine film\nAnswer:"
    labels = continuation_tokens(TASK, tokenizer, ["bad", "good"])
    assert [tokenizer.decode(label) for label in labels] == [" bad", " good"]


def test_a_planted_perfect_scorer_gives_one_and_a_uniform_one_chance(tokenizer: Tokenizer) -> None:
    right = {item.text: " " + item.answer for item in TASK.test}

    def perfect(pairs: Sequence[TokenPair]) -> list[float]:
        nats = []
        for prompt, continuation in pairs:
            asked = tokenizer.decode(prompt).split("\n\n")[-1].removesuffix("\nAnswer:")
            nats.append(0.0 if right.get(asked) == tokenizer.decode(continuation) else -5.0)
        return nats

    def uniform(pairs: Sequence[TokenPair]) -> list[float]:
        return [-1.0] * len(pairs)

    shots = TASK.draw(4, 1)
    assert classify(perfect, TASK, tokenizer, shots) == ([True] * 4, [True] * 4)
    for found in classify(uniform, TASK, tokenizer, shots):
        assert sum(found) / len(found) == TASK.chance


def test_calibration_worked_by_hand() -> None:
    scores = np.array([[-1.0, -2.0], [-0.2, -3.0], [-1.5, -4.0], [-3.0, -1.0]])
    content_free = np.array([[-0.5, -2.5]])
    assert calibrated(scores, content_free)[0].tolist() == [-0.5, 0.5]
    assert hits(TASK, scores) == [False, True, True, True]
    assert hits(TASK, calibrated(scores, content_free)) == [True, True, True, True]


def test_the_scores_of_an_even_input_calibrate_themselves_away(
    model: LanguageModel, tokenizer: Tokenizer
) -> None:
    scores = label_scores(
        lambda p: [one.nats for one in likelihoods(model, p)], TASK, tokenizer, (), ["N/A"]
    )
    assert np.abs(calibrated(scores, scores)).max() == 0


class Says(torch.nn.Module):
    """A context module that foretells the same tokens in turn, from a position on."""

    def __init__(self, tokens: Sequence[int], first: int, vocab_size: int) -> None:
        super().__init__()
        self.tokens, self.first, self.vocab_size = torch.tensor(tokens), first, vocab_size

    def forward(self, x: torch.Tensor, view: BatchView, state: Any = None) -> torch.Tensor:
        if state is not None:
            state.length += x.shape[1]
        token = self.tokens[(view.positions - self.first).clamp(0, len(self.tokens) - 1)]
        return torch.nn.functional.one_hot(token, self.vocab_size).float()

    def new_state(self, batch: int, max_time: int) -> State:
        return SimpleNamespace(length=0)


@pytest.mark.parametrize("answer", ["fine film", '"Fine Film."', "dull film", "film"])
def test_a_short_answer_ends_with_its_line(tokenizer: Tokenizer, answer: str) -> None:
    task = Task("t", None, TASK.train, (Example("a bore", answer),))
    (prompt,) = prompt_tokens(task, tokenizer, TASK.train[:1], ["a bore"])
    size = tokenizer.vocab_size
    says = Says(tokenizer.encode(" fine film\nand more"), len(prompt) - 1, size)
    model = LanguageModel(
        vocab_size=size, dim=size, context=says, max_context=96, tied=False, spec={}
    )
    model.unembed.weight = torch.nn.Parameter(torch.eye(size))
    expected = answer not in ("dull film", "film")
    assert answer_shortly(model, task, tokenizer, TASK.train[:1]) == [expected]


def test_a_prompt_without_room_loses_its_first_examples(
    model: LanguageModel, tokenizer: Tokenizer
) -> None:
    shots, texts = TASK.train[:3], [item.text for item in TASK.test]
    whole = prompt_tokens(TASK, tokenizer, shots, texts)
    room = sorted(map(len, whole))[1]
    fitted = prompt_tokens(TASK, tokenizer, shots, texts, room)
    fewer = prompt_tokens(TASK, tokenizer, shots[1:], texts)
    assert fitted == [a if len(a) <= room else b for a, b in zip(whole, fewer, strict=True)]
    assert num_too_long(TASK, tokenizer, shots, room) == sum(len(a) > room for a in whole) > 0
    assert num_too_long(TASK, tokenizer, shots, None) == 0
    answer = max(len(tokenizer.encode(label)) for label in (" bad", " good"))
    assert room_of(model, TASK, tokenizer) == 96 - answer
    with pytest.raises(ConfigError, match="room for 3"):
        prompt_tokens(TASK, tokenizer, shots, texts, 3)


def test_answers_are_compared_as_people_read_them() -> None:
    assert normalised(' "The  Baker." ') == normalised("the baker") == "the baker"
    assert normalised("-5") != normalised("5")
    assert normalised("?") == "?"
