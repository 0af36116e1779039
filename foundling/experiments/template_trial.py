"""The templates of a task, compared by what examples in the prompt help with each."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from foundling.base.config import ConfigError
from foundling.evaluation.few_shot import Learner, Prompts, shot_of, shot_task
from foundling.evaluation.model_scorer import ModelScorer
from foundling.evaluation.scorer import Pair, Question
from foundling.evaluation.tasks import Task, Template, without

TRIALS, TRIAL_SHOTS = 64, 8
"""The examples on which templates are compared, and how many stand before each."""


def right_by_way(learner: Learner, prompts: Prompts) -> dict[str, list[float]]:
    """The accuracy of each test item, by way of reading the answer."""
    right = learner.ask([item for item in prompts.items if item is not None]).right
    names = {"in_context": "sum", "calibrated": "calibrated"}
    return {name: right[way] for name, way in names.items() if way in right}


def try_templates(
    task: Task, templates: Sequence[Template], scorer: ModelScorer
) -> list[dict[str, Any]]:
    """The accuracy in context by each template on examples to learn from, the same for all.

    Raises:
        ConfigError: there are too few examples.
    """
    order = task.draw(len(task.train), 0)
    shots, asked = order[:TRIAL_SHOTS], order[TRIAL_SHOTS:][:TRIALS]
    if not asked:
        raise ConfigError(f"{len(templates)} templates: too few examples to choose between them.")
    found = []
    for template in templates:
        trial, _ = fitting(replace(task, template=template, train=shots, test=asked), scorer)
        learner = Learner(scorer, shot_task(trial, in_turns=scorer.chats))
        before = [shot_of(trial, example) for example in trial.train]
        right = right_by_way(learner, learner.behind([before] * len(trial.test)))["in_context"]
        found.append(
            {
                "template": template.pattern,
                "accuracy": sum(right) / len(right),
                "items": len(right),
                "number": len(before),
            }
        )
    return found


def fitting(task: Task, scorer: ModelScorer) -> tuple[Task, int]:
    """The task without what is too long for the model, and the longest example that is left."""
    every, put = (*task.train, *task.test), task.template
    answers = task.labels or sorted({example.answer for example in every})
    ends = scorer.encode([("", put.completion(answer)) for answer in answers])
    most = max(len(answer) for _, answer in ends) + 1  # and the end of the text
    texts: list[Pair] = [(put.prompt(e.text), put.completion(e.answer)) for e in every]
    if scorer.chats:
        texts = [
            (Question(put.prompt(e.text).strip()), put.completion(e.answer).strip()) for e in every
        ]
    pairs = scorer.encode(texts)
    of = {e: len(front) + most for e, (front, _) in zip(every, pairs, strict=True)}
    bound = scorer.model.max_context or max(of.values())
    long = {example for example, length in of.items() if length > bound}
    less = without(task, long, f"longer than the {bound:,} tokens of the context")
    return less, max(of[example] for example in (*less.train, *less.test))
