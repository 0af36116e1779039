"""The few-shot learner: items behind examples in the prompt, asked without any gradient."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import compress
from random import Random

from foundling.base.config import ConfigError
from foundling.evaluation.choices import By, Choice, Chosen, choose, ways_of
from foundling.evaluation.scorer import Pair, Question, Scorer, Writing
from foundling.evaluation.tasks import Example, Task, key_of
from foundling.hamlet.chance import pick

SEPARATOR = "\n\n"
CONTENT_FREE = "N/A"
"""Source: Zhao et al. 2021, Calibrate Before Use, section 5."""
SHORTENED = 0.1
"""The largest share of prompts that may hold fewer examples than the others, for want of room."""


@dataclass(frozen=True)
class Shot:
    """An example with all its possible answers, of which `gold` is right.

    `pairs` are prompt and continuation of each; `neutral` the same continuations where nothing is
    asked, empty where that makes no sense. `key` tells texts apart, but for case and white space.
    """

    pairs: tuple[tuple[str, str], ...]
    gold: int
    key: str
    neutral: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        """The example with its right answer."""
        return "".join(self.pairs[self.gold])

    def with_random_answer(self, rng: Random, pool: Sequence["Shot"]) -> "Shot":
        """The example with a random answer, drawn as often as each is right in the pool.

        So a model that only repeats the commonest answer gains nothing over it. Where examples have
        no answers in common, as in a multiple choice, each of its own is drawn as often.

        Source: Min et al. 2022, Rethinking the Role of Demonstrations, section 4, who draw
        labels evenly.
        """
        other = pick(rng, pool)
        if len(self.pairs) == 1:
            return replace(self, pairs=((self.pairs[0][0], other.pairs[0][1]),))
        if [after for _, after in self.pairs] == [after for _, after in other.pairs]:
            return replace(self, gold=other.gold)
        return replace(self, gold=pick(rng, range(len(self.pairs))))


@dataclass(frozen=True)
class Asked:
    """An item to be asked behind `opening` and examples of the pool."""

    id: str
    shot: Shot
    pool: Sequence[Shot]
    opening: str = ""


@dataclass(frozen=True)
class ShotTask:
    """Items of one kind.

    `has_own_pools`: each item brings examples of its own, in an order; `is_written`: the answer is
    what the model writes to the end of the line; `is_given`: the user named the task; `in_turns`:
    examples and items are turns of a conversation; `notes`: what was left out of the file, in
    words.
    """

    name: str
    title: str
    items: tuple[Asked, ...]
    separator: str = SEPARATOR
    has_own_pools: bool = False
    is_written: bool = False
    is_given: bool = False
    in_turns: bool = False
    notes: tuple[str, ...] = ()

    @property
    def has_choices(self) -> bool:
        """Whether there is something to choose from; else the likeliest text must be the answer."""
        return len(self.items[0].shot.pairs) > 1

    @property
    def most_shots(self) -> int:
        """How many examples every item can have: none of them its own text."""
        return min(sum(shot.key != item.shot.key for shot in item.pool) for item in self.items)


def shot_task(task: Task, separator: str = SEPARATOR, *, in_turns: bool = False) -> ShotTask:
    """Texts with labels, or with short answers, as items behind examples."""
    pool = tuple(shot_of(task, example) for example in task.train)
    items = tuple(
        Asked(f"{task.name} {number}", shot_of(task, example), pool)
        for number, example in enumerate(task.test)
    )
    written = task.labels is None
    return ShotTask(
        task.name, task.name, items, separator,
        is_written=written, in_turns=in_turns, notes=task.notes,
    )  # fmt: skip


def shot_of(task: Task, example: Example) -> Shot:
    """An example as the task's template puts it."""

    def answers(text: str) -> tuple[tuple[str, str], ...]:
        prompt, labels = task.template.prompt(text), task.labels or (example.answer,)
        return tuple((prompt, task.template.completion(label)) for label in labels)

    key = key_of(example.text)
    if task.labels is None:
        return Shot(answers(example.text), 0, key)
    gold = task.labels.index(example.answer)
    return Shot(answers(example.text), gold, key, answers(CONTENT_FREE))


# ---------------------------------------------------------------------- the learner


@dataclass(frozen=True)
class Prompts:
    """Items behind examples, None where there is no room; `num_shortened` hold fewer of them."""

    items: tuple[Choice | None, ...]
    num_shortened: int


@dataclass(frozen=True)
class Answers:
    """The accuracy of each item, from 0 to 1, by each way of reading the answer.

    `nats` are the log-probabilities of completions, where there is nothing to choose from.
    """

    right: dict[By, list[float]]
    chosen: list[Chosen] = field(default_factory=list)
    nats: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Learner:
    """A model that is to learn a task from the examples in its prompt."""

    scorer: Scorer
    task: ShotTask

    def behind(self, shots: Sequence[Sequence[Shot]]) -> Prompts:
        """Each item behind its examples, without the first of those that do not fit.

        Raises:
            ConfigError: an item is itself among its examples.
        """
        for item, examples in zip(self.task.items, shots, strict=True):
            if item.shot.key in {shot.key for shot in examples}:
                text = item.shot.pairs[0][0][:60]
                raise ConfigError(f'"{text}": to be asked, and among the examples of its prompt.')
        found: list[Choice | None] = [None] * len(shots)
        left, skip, num_shortened = list(range(len(shots))), 0, 0
        while left:
            choices = [_behind(self.task.items[n], shots[n][skip:], self.task) for n in left]
            fits = self._fits(choices)
            for n, choice in compress(zip(left, choices, strict=True), fits):
                found[n] = choice
            long = [n for n, fit in zip(left, fits, strict=True) if not fit]
            num_shortened = num_shortened or len(long)
            skip += 1
            left = [n for n in long if len(shots[n]) >= skip]
        return Prompts(tuple(found), num_shortened)

    def ask(self, items: Sequence[Choice]) -> Answers:
        """Ask items that fit behind their examples.

        Among equally likely answers each counts as drawn. Calibrated scores are those less the
        scores of an input that says nothing behind the same examples.

        Source: Zhao et al. 2021, Calibrate Before Use, section 5: W = diag(p)⁻¹, b = 0.
        """
        if self.task.has_choices:
            chosen = choose(self.scorer, items)
            ways = ways_of(chosen)
            return Answers({way: [one.is_right(way) for one in chosen] for way in ways}, chosen)
        scored = self.scorer.score([item.pairs[0] for item in items])
        nats = [one.log_prob for one in scored if one is not None]
        if self.task.is_written:
            return Answers({"sum": self._written(items)}, nats=nats)
        return Answers(
            {"sum": [float(one.is_greedy) for one in scored if one is not None]}, nats=nats
        )

    def _written(self, items: Sequence[Choice]) -> list[float]:
        """Whether what is written is right: the likeliest token each time, to the end of a line.

        An answer may have as many tokens as the longest one of the task.
        """
        _, num_tokens = self._longest
        texts = self.scorer.generate(
            [item.pairs[0][0] for item in items], Writing(num_tokens + 1, stop=("\n",))
        )
        answers = [item.pairs[0][1] for item in items]
        return [
            float(samples is not None and normalised(samples[0]) == normalised(answer))
            for samples, answer in zip(texts, answers, strict=True)
        ]

    def _fits(self, choices: Sequence[Choice]) -> list[bool]:
        """Which items fit with every answer; where it is written, with the longest there is."""
        asked: list[Sequence[Pair]] = [(*choice.pairs, *choice.neutral) for choice in choices]
        if self.task.is_written:
            line = self._longest[0] + "\n"
            asked = [((choice.pairs[0][0], line),) for choice in choices]
        fits = iter(self.scorer.fits([pair for pairs in asked for pair in pairs]))
        return [min([next(fits) for _ in pairs]) for pairs in asked]

    @cached_property
    def _longest(self) -> tuple[str, int]:
        """The answer that has most tokens, encoded by itself, and how many."""
        shots = [*self.task.items[0].pool, *(item.shot for item in self.task.items)]
        answers = list(dict.fromkeys(shot.pairs[0][1] for shot in shots))
        scored = self.scorer.score([("", answer) for answer in answers])
        lengths = {a: s.num_tokens for a, s in zip(answers, scored, strict=True) if s is not None}
        return max(lengths.items(), key=lambda length: length[1], default=("", 0))


def _behind(item: Asked, shots: Sequence[Shot], task: ShotTask) -> Choice:
    put = _in_turns if task.in_turns else _in_text
    pairs, neutral = (
        put(item, shots, pairs, task) for pairs in (item.shot.pairs, item.shot.neutral)
    )
    return Choice(item.id, pairs, item.shot.gold, neutral=neutral)


def _in_text(
    item: Asked, shots: Sequence[Shot], pairs: Sequence[tuple[str, str]], task: ShotTask
) -> tuple[Pair, ...]:
    front = item.opening + "".join(shot.text + task.separator for shot in shots)
    return tuple((front + prompt, after) for prompt, after in pairs)


def _in_turns(
    item: Asked, shots: Sequence[Shot], pairs: Sequence[tuple[str, str]], task: ShotTask
) -> tuple[Pair, ...]:
    """What is asked is a user's turn, and what follows the assistant's, without the spaces between.

    What stands before all examples begins the first turn.
    """
    turns = [shot.pairs[shot.gold] for shot in shots]
    before = [(prompt.strip(), after.strip()) for prompt, after in turns]
    opening = item.opening
    if before and opening:
        before[0], opening = (opening + before[0][0], before[0][1]), ""
    return tuple(
        (Question(opening + prompt.strip(), tuple(before)), after.strip())
        for prompt, after in pairs
    )


def normalised(answer: str) -> str:
    """An answer without case, extra white space, surrounding quotes and final punctuation."""
    text = " ".join(unicodedata.normalize("NFKC", answer).split()).casefold()
    return text.strip("\"'“”‘’«» ").rstrip(".!?,;: ") or text
