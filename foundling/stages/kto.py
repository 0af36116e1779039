"""Tuning on labelled answers: good ones gain on the parent, bad ones lose."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from foundling.base.config import ConfigError
from foundling.data.conversations import LabelledConversation, SourcedPair
from foundling.data.pairs import PreferenceData
from foundling.data.reading import read_labelled
from foundling.objectives.kto import Kto, KtoSettings
from foundling.runs.run import Run
from foundling.stages.assembly import run_stage
from foundling.stages.dpo import (
    AT_START,
    PreferenceConfig,
    ReferenceSettings,
    pack_pairs,
    pair_facts,
    pair_plan,
    reference_log_probs,
    resolve_pairs,
)
from foundling.stages.job import Check, Job, Stage
from foundling.stages.reading import Split, read_rows
from foundling.stages.written import measure_written, silence
from foundling.training.loop import Seam, untouched


class KtoConfig(PreferenceConfig):
    """Everything that a run on labelled answers is made of."""

    kto: KtoSettings = KtoSettings()
    reference: ReferenceSettings = ReferenceSettings()


def kto(config: KtoConfig, out: Path, *, resume: bool = False, seam: Seam = untouched) -> Run:
    """Tune a model on labelled answers, or resume the run in `out`; see `run_stage`."""
    return run_stage(KTO, config, out, resume=resume, seam=seam)


KtoJob = Job[KtoConfig, PreferenceData]


def _read(job: KtoJob, files: Sequence[str], split: Split) -> list[LabelledConversation]:
    data = job.config.data
    found, report = read_labelled(
        files,
        format=data.format,
        columns=data.columns,
        on_error=data.on_error,
        repair=data.repair,
    )
    job.log(report.lines())
    return found


def _pack(
    job: KtoJob, learned: list[LabelledConversation], held_out: list[LabelledConversation]
) -> tuple[PreferenceData, PreferenceData]:
    return pack_pairs(job, mismatched(learned), mismatched(held_out, learned))


def mismatched(
    answers: Sequence[LabelledConversation], spare: Sequence[LabelledConversation] = ()
) -> list[SourcedPair]:
    """Each answer beside that to another prompt, the one next shorter than it.

    Args:
        spare: answers to draw from where there are none to other prompts.

    Raises:
        ConfigError: all answers are to one prompt, or are the same.
    """
    by_length = sorted(range(len(answers)), key=lambda index: (_length(answers[index]), index))
    pairs: dict[int, SourcedPair] = {}
    for place, index in enumerate(by_length):
        answer = answers[index]
        near = chain(reversed(range(place)), range(place + 1, len(answers)))
        for other in chain((answers[by_length[at]] for at in near), spare):
            ending = other.messages[len(other.prompt) :]
            if other.prompt != answer.prompt and ending != answer.messages[answer.given :]:
                break
        else:
            raise ConfigError(
                f"{answer.where}: the KL is estimated from answers to other prompts, and there are "
                "none; give rows with several prompts."
            )
        where = f"{answer.where} ({'good' if answer.label else 'bad'})"
        mismatch = (*answer.prompt, *ending)
        pairs[index] = SourcedPair(
            where, answer.messages, mismatch, answer.given, answer.label, tools=answer.tools
        )
    return [pairs[index] for index in range(len(answers))]


def _length(answer: LabelledConversation) -> int:
    return sum(len(message.content) for message in answer.messages[answer.given :])


def _objective(job: KtoJob, data: PreferenceData) -> Kto:
    reference = reference_log_probs(job, data, job.config.reference)
    return Kto(job.config.kto, reference, torch.tensor(data.pairs.labels))


def _begin(job: KtoJob) -> None:
    """Check that at the start no answer has gained or lost.

    Raises:
        ConfigError: some has: the reference is not the model that training starts from.
    """
    _, found = job.measured(job.objective, [job.train.batch(0)])
    if not (abs(found["margin"]) <= AT_START[job.machine.precision]):
        raise ConfigError(
            f"at step 0 the margin is {found['margin']:.6f}, not 0: the reference is not the model "
            f"that training starts from; delete {job.out} and the stored reference, and start a "
            "new run."
        )


def _validate(job: KtoJob, check: Check) -> dict[str, Any]:
    written = measure_written(job, check)
    return {**job.measure(check), **written, "alarm": silence(written)}


KTO = Stage(
    name="kto",
    config=KtoConfig,
    read=read_rows(_read, "labelled answers"),
    pack=_pack,
    objective=_objective,
    validate=_validate,
    resolve=resolve_pairs,
    begin=_begin,
    facts=pair_facts,
    plan=lambda job: f"{pair_plan(job)}, β = {job.config.kto.beta:g}",
)
