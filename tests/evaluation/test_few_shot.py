"""The few-shot learner: scores against an oracle, planted scorers, calibration by hand."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from planted import Planted, text

from foundling import models
from foundling.base.config import ConfigError
from foundling.evaluation.choices import Choice
from foundling.evaluation.few_shot import (
    Answers,
    Learner,
    Prompts,
    Shot,
    normalised,
    shot_of,
    shot_task,
)
from foundling.evaluation.model_scorer import ModelScorer
from foundling.evaluation.score_cache import _spelled
from foundling.evaluation.scorer import Question, Scorer
from foundling.evaluation.tasks import Example, Task
from foundling.models.batch import BatchView
from foundling.models.language_model import LanguageModel, State
from foundling.text.chat import Message, render_prompt
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


def asking(*texts: str) -> Task:
    return Task("films", TASK.labels, TASK.train, tuple(Example(text, "good") for text in texts))


def shots_of(examples: Sequence[Example]) -> list[Shot]:
    return [shot_of(TASK, example) for example in examples]


def behind(scorer: Scorer, task: Task, examples: Sequence[Example]) -> Prompts:
    return Learner(scorer, shot_task(task)).behind([shots_of(examples)] * len(task.test))


def asked(scorer: Scorer, task: Task, examples: Sequence[Example]) -> Answers:
    items = [item for item in behind(scorer, task, examples).items if item is not None]
    return Learner(scorer, shot_task(task)).ask(items)


def first_prompt(item: Choice | None) -> str:
    assert item is not None
    return text(item.pairs[0][0])


def planted(prompt: str, after: str) -> float:
    return -1.0


def test_a_prompt_reads_as_the_template_says() -> None:
    (item,) = behind(Planted(planted), asking("So it is."), TASK.train[:2]).items
    prompt = first_prompt(item)
    assert prompt == "film 0\nAnswer: bad\n\nfilm 1\nAnswer: good\n\nSo it is.\nAnswer:"
    (item,) = behind(Planted(planted), asking("So it is."), ()).items
    assert [first_prompt(item)] == ["So it is.\nAnswer:"]


def test_no_item_is_among_its_own_examples() -> None:
    with pytest.raises(ConfigError, match="among the examples"):
        behind(Planted(planted), asking("new", "FILM  2"), TASK.train[:3])


def test_prompts_begin_like_training_and_answers_keep_their_space(
    model: LanguageModel, tokenizer: Tokenizer
) -> None:
    scorer = ModelScorer(model, tokenizer, "m", "")
    (item,) = behind(scorer, asking("a fine film"), ()).items
    assert item is not None
    pairs = scorer.encode(item.pairs)
    for tokens, _ in pairs:
        assert tokens[0] == tokenizer.begin_of_text
        assert tokenizer.decode(tokens) == "a fine film\nAnswer:"
    assert [tokenizer.decode(label) for _, label in pairs] == [" bad", " good"]


def test_a_planted_perfect_scorer_gives_one_and_a_uniform_one_chance() -> None:
    right = {item.text: " " + item.answer for item in TASK.test}

    def perfect(prompt: str, continuation: str) -> float:
        asked = prompt.split("\n\n")[-1].removesuffix("\nAnswer:")
        return 0.0 if right.get(asked) == continuation else -5.0

    shots = TASK.draw(4, 1)
    found = asked(Planted(perfect), TASK, shots).right
    assert (found["sum"], found["calibrated"]) == ([True] * 4, [True] * 4)
    for way in ("sum", "calibrated"):
        found = asked(Planted(planted), TASK, shots).right
        assert sum(found[way]) / len(found[way]) == TASK.chance
        assert found[way] == [0.5] * 4  # each as if it were drawn


def test_calibration_worked_by_hand() -> None:
    scores = dict(zip(TEXTS, [[-1.0, -2.0], [-0.2, -3.0], [-1.5, -4.0], [-3.0, -1.0]], strict=True))
    scores["N/A"] = [-0.5, -2.5]

    def mind(prompt: str, after: str) -> float:
        return scores[prompt.removesuffix("\nAnswer:")][after == " good"]

    found = asked(Planted(mind), TASK, ())
    assert list(found.chosen[0].scores["calibrated"]) == [-0.5, 0.5]
    assert found.right["sum"] == [False, True, True, True]
    assert found.right["calibrated"] == [True, True, True, True]


def test_the_scores_of_an_even_input_calibrate_themselves_away(
    model: LanguageModel, tokenizer: Tokenizer
) -> None:
    (found,) = asked(ModelScorer(model, tokenizer, "m", ""), asking("N/A"), ()).chosen
    assert max(map(abs, found.scores["calibrated"])) == 0


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
    shots = [shot_of(task, TASK.train[0])]
    (item,) = Learner(Planted(planted), shot_task(task)).behind([shots]).items
    prompt = [tokenizer.begin_of_text, *tokenizer.encode(first_prompt(item))]
    size = tokenizer.vocab_size
    says = Says(tokenizer.encode(" fine film\nand more"), len(prompt) - 1, size)
    model = LanguageModel(
        vocab_size=size, dim=size, context=says, max_context=96, tied=False, spec={}
    )
    model.unembed.weight = torch.nn.Parameter(torch.eye(size))
    expected = answer not in ("dull film", "film")
    learner = Learner(ModelScorer(model, tokenizer, "m", ""), shot_task(task))
    (item,) = learner.behind([shots]).items
    assert item is not None
    assert learner.ask([item]).right["sum"] == [expected]


def lengths(scorer: ModelScorer, prompts: Prompts) -> list[int]:
    pairs = [item.pairs[0] for item in prompts.items if item is not None]
    return [len(prompt) for prompt, _ in scorer.encode(pairs)]


def test_a_prompt_without_room_loses_its_first_examples(
    model: LanguageModel, tokenizer: Tokenizer
) -> None:
    shots, scorer = TASK.train[:3], ModelScorer(model, tokenizer, "m", "")
    whole = behind(scorer, TASK, shots)
    assert whole.num_shortened == 0
    answer = max(len(tokenizer.encode(label)) for label in (" bad", " good"))
    model.max_context = sorted(lengths(scorer, whole))[1] + answer - 1
    fitted = behind(scorer, TASK, shots)
    fewer = behind(Planted(planted), TASK, shots[1:])
    room = sorted(lengths(scorer, whole))[1]
    long = [length > room for length in lengths(scorer, whole)]
    assert fitted.items == tuple(
        b if is_long else a for a, b, is_long in zip(whole.items, fewer.items, long, strict=True)
    )
    assert fitted.num_shortened == sum(long) > 0
    model.max_context = 3
    assert behind(scorer, TASK, shots).items == (None,) * 4


def test_calibration_is_behind_the_examples_that_are_left() -> None:
    seen: list[str] = []

    def mind(prompt: str, after: str) -> float:
        seen.append(prompt)
        return -1.0

    narrow = Planted(mind, max_characters=70)
    asked(narrow, asking("a text of " + "many " * 3 + "words"), TASK.train[:2])
    fronts = {tuple(prompt.split("\n\n")[:-1]) for prompt in seen}
    assert fronts == {("film 1\nAnswer: good",)}


def test_answers_are_compared_as_people_read_them() -> None:
    assert normalised(' "The  Baker." ') == normalised("the baker") == "the baker"
    assert normalised("-5") != normalised("5")
    assert normalised("?") == "?"


def test_examples_may_be_turns_of_the_models_own_template(
    model: LanguageModel, tokenizer: Tokenizer
) -> None:
    scorer = ModelScorer(model, tokenizer, "m", "", chats=True)
    task = shot_task(asking("a fine film"), in_turns=True)
    learner = Learner(scorer, task)
    (item,) = learner.behind([shots_of(TASK.train[:2])]).items
    assert item is not None
    turns = [
        Message("user", "film 0\nAnswer:"),
        Message("assistant", "bad"),
        Message("user", "film 1\nAnswer:"),
        Message("assistant", "good"),
        Message("user", "a fine film\nAnswer:"),
    ]
    pairs = scorer.encode(item.pairs)
    assert [prompt for prompt, _ in pairs] == [render_prompt(turns, tokenizer)] * 2
    assert [tokenizer.decode(answer) for _, answer in pairs] == ["bad", "good"]
    neutral = scorer.encode(item.neutral)[0][0]
    assert neutral == render_prompt([*turns[:-1], Message("user", "N/A\nAnswer:")], tokenizer)
    with torch.inference_mode():
        logits = model.logits(model.hidden(torch.tensor([[*pairs[1][0], *pairs[1][1]]])))[0]
    log_probs, front = logits.log_softmax(-1), len(pairs[1][0])
    expected = sum(
        float(log_probs[front + place - 1, token]) for place, token in enumerate(pairs[1][1])
    )
    (chosen,) = learner.ask([item]).chosen
    assert chosen.scores["sum"][1] == pytest.approx(expected, abs=1e-4)
    asked = item.pairs[0][0]
    assert isinstance(asked, Question)
    assert asked.plain == (
        "Q: film 0\nAnswer:\nA: bad\n\nQ: film 1\nAnswer:\nA: good\n\nQ: a fine film\nAnswer:\nA:"
    )
    opened = replace(task, items=(replace(task.items[0], opening="Films:\n"),))
    for shots, place in ((shots_of(TASK.train[:1]), 0), ([], -1)):
        (item,) = Learner(scorer, opened).behind([shots]).items
        assert item is not None
        prompt = tokenizer.decode(scorer.encode(item.pairs)[0][0])
        assert prompt.count("Films:") == 1
        assert "Films:\n" + ("film 0" if place == 0 else "a fine film") in prompt


def test_answers_behind_other_examples_are_kept_apart() -> None:
    spelled = {
        tuple(_spelled(one))
        for one in (Question("a"), Question("a", (("b", "c"),)), Question("a", (("b", "d"),)), "a")
    }
    assert len(spelled) == 4
