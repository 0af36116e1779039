"""What a model under preference tuning writes of itself: how far from its parent, or nothing."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from foundling.base.ranks import on_first
from foundling.base.runtime import derive_seed
from foundling.base.sharded import gathered
from foundling.data.encoded_pairs import PROMPT
from foundling.metrics.answers import measure_answers
from foundling.metrics.continuations import sampled_continuations
from foundling.models.batch import IGNORE, TokenBatch
from foundling.stages.job import Check, Job
from foundling.stages.settings import TunedValidation

SILENT = 0.5
"""A larger share of empty answers is an alarm."""


class WrittenSettings(TunedValidation):
    """How many answers are sampled at a validation, and how much of each."""

    kl_prompts: int = Field(8, ge=0)
    """Held-out prompts that are continued to measure the KL to the parent; 0: it is not."""
    kl_tokens: int = Field(32, gt=0)
    """Tokens of each continuation."""


def measure_written(job: Job[Any, Any], check: Check) -> dict[str, float | None]:
    """Figures of answers that the model samples itself to held-out prompts.

    `kl_nats`: KL(model ‖ parent) per token; `answer_tokens`: their mean length, ends included, of
    at most `kl_tokens`; `empty_answers`: the share of those that end before they begin.
    """
    settings, pairs = job.config.validation, job.validation.pairs
    prompts = [
        pairs.part(index, PROMPT)[0].tolist()
        for index in range(min(settings.kl_prompts, len(pairs)))
    ]
    ends = frozenset(job.tokenizer.stop_ids)

    def written() -> list[TokenBatch]:
        return list(
            sampled_continuations(
                job.model,
                prompts,
                max_tokens=settings.kl_tokens,
                ends=ends,
                seed=derive_seed(job.config.seed, "continuations"),
                check=check,
            )
        )

    with gathered(job.model):
        batches = on_first(written)
    if not batches:
        return {"kl_nats": None, "answer_tokens": None, "empty_answers": None}
    found = measure_answers(
        job.model,
        batches,
        job.passing_reference,
        device=job.machine.device,
        precision=job.machine.precision,
        check=check,
    )
    answers = [batch.targets[batch.targets != IGNORE].tolist() for batch in batches]
    return {
        "kl_nats": found.kl_nats,
        "answer_tokens": sum(map(len, answers)) / len(answers),
        "empty_answers": sum(answer[0] in ends for answer in answers) / len(answers),
    }


def silence(written: Mapping[str, float | None]) -> str | None:
    """What is wrong where the model answers many prompts with nothing at all."""
    empty = written["empty_answers"]
    if empty is None or empty <= SILENT:
        return None
    return (
        f"silence: {empty:.0%} of the sampled answers are empty: the model ends its turn at once; "
        "at step 0 that is the parent's, or the chat template is not the one that it learned "
        "(data.template)."
    )
