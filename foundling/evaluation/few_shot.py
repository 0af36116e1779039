"""How a model does a task by examples in its prompt: label scores, calibration, short answers."""

import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from foundling.base.config import ConfigError
from foundling.evaluation.likelihood import TokenPair
from foundling.evaluation.tasks import Example, Task, key_of
from foundling.generation.engine import Engine
from foundling.generation.sampling import Sampling
from foundling.models.language_model import LanguageModel
from foundling.text.tokenizer import Tokenizer

SEPARATOR = "\n\n"
CONTENT_FREE = "N/A"
"""Source: Zhao et al. 2021, Calibrate Before Use, section 5."""

Scorer = Callable[[Sequence[TokenPair]], list[float]]
"""The log-probability of each continuation given its prompt, in nats."""
Scores = npt.NDArray[np.float64]


def prompt_texts(task: Task, shots: Sequence[Example], texts: Sequence[str]) -> list[str]:
    """The examples, then each text, up to where its answer begins.

    Raises:
        ConfigError: a text is itself among the examples.
    """
    template = task.template
    known = {key_of(shot.text) for shot in shots}
    shown = [template.prompt(shot.text) + template.completion(shot.answer) for shot in shots]
    for text in texts:
        if key_of(text) in known:
            raise ConfigError(f'"{text[:60]}": to be asked, and among the examples of its prompt.')
    return [SEPARATOR.join([*shown, template.prompt(text)]) for text in texts]


def prompt_tokens(
    task: Task,
    tokenizer: Tokenizer,
    shots: Sequence[Example],
    texts: Sequence[str],
    room: int | None = None,
) -> list[list[int]]:
    """The prompts as tokens, begun as a text is begun in training.

    A prompt of more than `room` tokens is left without its first examples, as many as it takes.

    Raises:
        ConfigError: a text is itself among the examples, or does not fit even without any.
    """
    begin = [] if tokenizer.begin_name is None else [tokenizer.begin_of_text]
    encoded = tokenizer.encode_batch(prompt_texts(task, shots, texts))
    prompts = [[*begin, *tokens] for tokens in encoded]
    long = [i for i, prompt in enumerate(prompts) if room is not None and len(prompt) > room]
    if long and not shots:
        text = texts[long[0]]
        raise ConfigError(
            f'"{text[:60]}": {len(prompts[long[0]]):,} tokens, but there is room for {room}.'
        )
    if long:
        fewer = prompt_tokens(task, tokenizer, shots[1:], [texts[i] for i in long], room)
        for i, prompt in zip(long, fewer, strict=True):
            prompts[i] = prompt
    return prompts


def continuation_tokens(
    task: Task, tokenizer: Tokenizer, answers: Sequence[str]
) -> list[list[int]]:
    """Each answer as tokens, encoded by itself, with the spaces that the template has before it."""
    return tokenizer.encode_batch([task.template.completion(answer) for answer in answers])


def num_too_long(
    task: Task, tokenizer: Tokenizer, shots: Sequence[Example], room: int | None
) -> int:
    """How many test items have a prompt of more than `room` tokens with all these examples."""
    prompts = prompt_tokens(task, tokenizer, shots, [example.text for example in task.test])
    return 0 if room is None else sum(len(prompt) > room for prompt in prompts)


def room_of(model: LanguageModel, task: Task, tokenizer: Tokenizer) -> int | None:
    """The tokens that a prompt may have so that the longest answer fits behind it."""
    bound = model.max_context
    return None if bound is None else bound - answer_tokens(task, tokenizer)


def answer_tokens(task: Task, tokenizer: Tokenizer) -> int:
    """The tokens of the longest answer there is."""
    answers = task.labels or sorted({example.answer for example in (*task.train, *task.test)})
    return max(map(len, continuation_tokens(task, tokenizer, answers)))


def label_scores(
    score: Scorer,
    task: Task,
    tokenizer: Tokenizer,
    shots: Sequence[Example],
    texts: Sequence[str],
    room: int | None = None,
) -> Scores:
    """The log-probability of each label (second axis) as the answer to each text (first axis)."""
    assert task.labels, "a classification"
    labels = continuation_tokens(task, tokenizer, task.labels)
    prompts = prompt_tokens(task, tokenizer, shots, texts, room)
    nats = score([(prompt, label) for prompt in prompts for label in labels])
    return np.array(nats, dtype=np.float64).reshape(len(texts), len(labels))


def calibrated(scores: Scores, content_free: Scores) -> Scores:
    """The scores less those of an input that says nothing, after the same examples.

    Worked: (−1, −2) prefers the first label; where "N/A" has (−0.5, −2.5) it becomes (−0.5, 0.5),
    which prefers the second.

    Source: Zhao et al. 2021, Calibrate Before Use, section 5: W = diag(p_content_free)⁻¹, b = 0.
    """
    return scores - content_free.reshape(1, -1)


def hits(task: Task, scores: Scores) -> list[bool]:
    """Which test items have their own label as the best; of equals the first one counts."""
    assert task.labels, "a classification"
    best = scores.argmax(axis=1)
    return [task.labels[i] == item.answer for i, item in zip(best, task.test, strict=True)]


def classify(
    score: Scorer,
    task: Task,
    tokenizer: Tokenizer,
    shots: Sequence[Example],
    room: int | None = None,
) -> tuple[list[bool], list[bool]]:
    """Which test items are classified rightly: as the scores are, and calibrated."""
    texts = [example.text for example in task.test]
    scores = label_scores(score, task, tokenizer, shots, texts, room)
    content_free = label_scores(score, task, tokenizer, shots, [CONTENT_FREE], room)
    return hits(task, scores), hits(task, calibrated(scores, content_free))


def answer_shortly(
    model: LanguageModel, task: Task, tokenizer: Tokenizer, shots: Sequence[Example]
) -> list[bool]:
    """Which test items are answered rightly: the likeliest token each time, to the end of a line.

    An answer may have as many tokens as the longest one of the task.
    """
    engine, most = Engine(model, tokenizer), answer_tokens(task, tokenizer)
    texts, room = [example.text for example in task.test], room_of(model, task, tokenizer)
    prompts = prompt_tokens(task, tokenizer, shots, texts, room)
    greedy, right = Sampling(temperature=0.0), []
    for prompt, item in zip(prompts, task.test, strict=True):
        text = engine.generate(prompt, max_tokens=most + 1, sampling=greedy, stop=["\n"])
        right.append(normalised(text) == normalised(item.answer))
    return right


def normalised(answer: str) -> str:
    """An answer but for case, white space, quotes around it and punctuation after it."""
    text = " ".join(unicodedata.normalize("NFKC", answer).split()).casefold()
    return text.strip("\"'“”‘’«» ").rstrip(".!?,;: ") or text
