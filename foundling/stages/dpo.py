"""Preference tuning: chosen answers gain on rejected ones, measured from the parent."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import Field, model_validator

from foundling.base.config import ConfigError, Section
from foundling.base.ranks import on_first
from foundling.data.conversations import SourcedPair
from foundling.data.encoded_pairs import EncodedPairs
from foundling.data.pairs import PreferenceData
from foundling.data.reading import read_pairs
from foundling.metrics.pairs import Preferences, measure_preferences
from foundling.objectives import Dpo
from foundling.objectives.dpo import DpoSettings, at_the_reference
from foundling.objectives.reference_log_probs import (
    LiveLogProbs,
    ReferenceLogProbs,
    store_log_probs,
    verify_log_probs,
)
from foundling.runs.run import Run
from foundling.stages.assembly import run_stage
from foundling.stages.job import Check, Job, Stage
from foundling.stages.reading import Split, fit_rows, read_rows
from foundling.stages.settings import TrainingSettings, TunedConfig, TunedData
from foundling.stages.votes import Votes, is_database
from foundling.stages.written import WrittenSettings, measure_written, silence
from foundling.training.guard.settings import GuardSettings
from foundling.training.loop import Seam, untouched

logger = logging.getLogger(__name__)

NUM_VERIFIED = 8
AT_START = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""How far loss and margin may be off at step 0, where the model still is the reference, with β up
to 0.1; a larger one makes more of the same rounding."""
USUAL_BETA = 0.1


class PreferenceSettings(TunedData):
    """The preferences that are learned from, and how they become rows of tokens."""

    row_length: int | None = Field(None, gt=1)
    """Tokens in a row; None: the context, at most 1,024, or the longest pair if that is more; less
    where an epoch would not fill one step."""
    who: Literal["all", "people", "simulated"] = "all"
    """Whose votes count, of a database."""
    without: tuple[str, ...] = ()
    """Annotators, or sources of answers, whose votes do not count."""
    shared_prompts: bool | None = None
    """A prompt is computed once for both answers; None: where the rung can."""
    validation_fraction: float = Field(0.1, gt=0, lt=1)


class ReferenceSettings(Section):
    """The model that the answers' gain is measured from: always the parent."""

    kind: Literal["stored", "live"] = "stored"
    """stored: its log-probabilities, computed once; live: it reads every batch too (under adapters
    it is the model without them)."""
    store: str | None = None
    """The folder of the stored ones; None: in the run. Runs of one parent may share it."""

    @model_validator(mode="after")
    def _used(self) -> "ReferenceSettings":
        if self.kind == "live" and self.store is not None:
            raise ValueError('kind = "live" does not use store')
        return self


class PreferenceTraining(TrainingSettings):
    """How long, how precisely and on what the loop runs; 1 epoch where nothing is said."""

    batch_size: int = Field(8, gt=0)
    """Rows; with data.packing a row holds several pairs."""


class PreferenceValidation(WrittenSettings):
    """When and on how much the model is validated, and what it answers then."""

    batch_size: int = Field(8, gt=0)
    max_chosen_fall: float = Field(0.1, gt=0)
    """Nats per token by which the chosen answers may become less likely without an alarm."""


class PreferenceGuard(GuardSettings):
    """When a step counts as abnormal, and what is done about it.

    A pair's loss begins at ln 2, the same for all, and spreads as the model learns: some batches
    then have twice the loss of others and are healthy.
    """

    loss_floor: float = Field(3.0, gt=1)


class PreferenceConfig(TunedConfig):
    """What a run that learns from preferences needs to know, whatever its loss."""

    data: PreferenceSettings = PreferenceSettings()
    training: PreferenceTraining = PreferenceTraining()
    validation: PreferenceValidation = PreferenceValidation()
    guard: PreferenceGuard = PreferenceGuard()


class DpoConfig(PreferenceConfig):
    """Everything that a preference-tuning run is made of."""

    dpo: DpoSettings = DpoSettings()
    reference: ReferenceSettings = ReferenceSettings()

    @model_validator(mode="after")
    def _used(self) -> "DpoConfig":
        if not self.dpo.has_reference and self.reference != ReferenceSettings():
            raise ValueError(f'loss = "{self.dpo.loss}" does not use reference')
        return self

    def with_shared_reference(self, store: str) -> "DpoConfig":
        reference = self.reference
        if not self.dpo.has_reference or reference.kind == "live" or reference.store is not None:
            return self
        return self.model_copy(update={"reference": reference.model_copy(update={"store": store})})


def dpo(config: DpoConfig, out: Path, *, resume: bool = False, seam: Seam = untouched) -> Run:
    """Tune a model on preferences, or resume the run in `out`; see `run_stage`."""
    return run_stage(DPO, config, out, resume=resume, seam=seam)


C = TypeVar("C", bound=PreferenceConfig)
DpoJob = Job[DpoConfig, PreferenceData]

# ------------------------------------------------------------------ the data


def read_preferences(
    job: Job[C, PreferenceData], files: Sequence[str], split: Split
) -> list[SourcedPair]:
    """The pairs of the files, then those that the votes in databases amount to.

    What the votes amount to is kept with the run as a file, which the resumed run reads.
    """
    data, found, lines = job.config.data, list[SourcedPair](), list[str]()
    own = [file for file in files if Path(file).parent == job.out.resolve()]  # kept votes
    rows = [file for file in files if file not in own and not is_database(file)]
    if rows:
        found, report = read_pairs(
            rows,
            format=data.format,
            columns=data.columns,
            on_error=data.on_error,
            repair=data.repair,
        )
        lines += report.lines()
    if own:
        some, report = read_pairs(own)
        found, lines = found + some, lines + report.lines()
    kept, prefix = dict[str, str](), "" if split == "train" else "validation-"
    for number, place in enumerate((file for file in files if is_database(file)), 1):
        # One process reads: votes may arrive meanwhile.
        votes = on_first(partial(Votes.read, place, who=data.who, without=data.without))
        name = f"{prefix}votes-{number}.jsonl"
        kept[place], job.kept[name] = str((job.out / name).resolve()), votes.write
        job.facts.setdefault("votes", []).append(votes.name)
        found, lines = found + votes.pairs, [*lines, *votes.report]
    if split == "train" and not kept and not own and (data.who != "all" or data.without):
        raise ConfigError("data.who, data.without: only votes in a database have annotators.")
    job.log(lines)
    which = "files" if split == "train" else "validation"
    named = {which: tuple(kept.get(file, file) for file in files)}
    job.config = job.config.model_copy(update={"data": data.model_copy(update=named)})
    return found


def pack_pairs(
    job: Job[C, PreferenceData], learned: list[SourcedPair], held_out: list[SourcedPair]
) -> tuple[PreferenceData, PreferenceData]:
    """Both splits as packed rows, prompts shared where the rung can."""
    settings, shared = job.config.data, _shares(job)
    splits = [_encoded(job, some) for some in (learned, held_out)]
    longest = max(int(some.row_lengths(shared=shared).max()) for some in splits)
    lengths = splits[0].row_lengths(shared=shared)
    row_length = fit_rows(job, lengths, longest)
    train, validation = (
        PreferenceData(
            pairs,
            row_length=row_length,
            batch_size=job.config.training.batch_size,
            seed=job.config.seed,
            packing=settings.packing,
            shared_prompts=shared,
            decode=job.tokenizer.decode,
        )
        for pairs in splits
    )
    return train, validation


def _shares(job: Job[C, PreferenceData]) -> bool:
    asked, can = job.config.data.shared_prompts, job.model.supports_tree_mask
    rung = job.model.spec["rung"]
    if asked and not can:
        raise ConfigError(
            f"data.shared_prompts = true: the rung {rung} cannot keep two answers to one "
            "prompt apart; leave it out, or give false."
        )
    if asked is None and not can:
        logger.info(f"the rung {rung} cannot share a prompt: each answer reads its own.")
    return can if asked is None else asked


def _encoded(job: Job[C, PreferenceData], sourced: list[SourcedPair]) -> EncodedPairs:
    settings = job.config.data
    pairs, report = EncodedPairs.make(
        sourced,
        job.tokenizer,
        max_length=min(settings.max_length or job.context, job.context),
        style=settings.style,
        special_tokens=settings.special_tokens,
        on_long=settings.on_long,
        on_error=settings.on_error,
    )
    job.log(report.lines())
    return pairs


def resolve_pairs(job: Job[C, PreferenceData]) -> C:
    """The settings with what followed from model and data written out."""
    found = {"row_length": job.train.row_length, "shared_prompts": job.train.shared_prompts}
    return job.config.model_copy(update={"data": job.config.data.model_copy(update=found)})


def _resolve(job: DpoJob) -> DpoConfig:
    return resolve_pairs(job).model_copy(update={"dpo": job.config.dpo.resolved()})


def pair_facts(job: Job[C, PreferenceData]) -> dict[str, Any]:
    """For the manifest: what was learned from."""
    return {
        "data": list(job.config.data.files),
        "pairs": len(job.train.pairs),
        "packing_efficiency": round(job.train.efficiency, 4),
    }


def pair_plan(job: Job[C, PreferenceData]) -> str:
    """What a step takes, in words."""
    data, batch_size = job.train, job.config.training.batch_size
    each = len(data.pairs) / data.rows_per_epoch * batch_size
    prompts = "once a pair" if data.shared_prompts else "once an answer"
    return f"{batch_size} rows, about {each:.0f} pairs, prompts {prompts}"


# ------------------------------------------------------------------ objective and reference


def _objective(job: DpoJob, data: PreferenceData) -> Dpo:
    settings = job.config.dpo
    needed = settings.has_reference
    return Dpo(settings, reference_log_probs(job, data, job.config.reference) if needed else None)


def reference_log_probs(
    job: Job[C, PreferenceData], data: PreferenceData, settings: ReferenceSettings
) -> ReferenceLogProbs:
    """The parent's log-probabilities of both answers, live or computed once and checked now."""
    if settings.kind == "live":
        return LiveLogProbs(job.reference)
    device, precision = job.machine.device, job.machine.precision
    with job.origin.untuned(job.machine, job.sharding) as model:
        stored = store_log_probs(
            model,
            data.ordered_batches(),
            len(data.pairs),
            Path(settings.store or job.out / "reference"),
            job.reference_key({"pairs": data.pairs.fingerprint}),
            device=device,
            precision=precision,
        )
        generator = torch.Generator().manual_seed(job.config.seed)
        some = torch.randperm(len(data.pairs), generator=generator)[:NUM_VERIFIED].tolist()
        verify_log_probs(stored, model, data.of(some), device=device, precision=precision)
    return stored


def _begin(job: DpoJob) -> None:
    """Check that the loss at the start is what it must be at the reference.

    Raises:
        ConfigError: it is not: the reference is not the model that training starts from.
    """
    settings = job.config.dpo
    if not settings.has_reference:
        return
    assert settings.beta is not None, "resolved"
    allowed = AT_START[job.machine.precision] * max(1.0, settings.beta / USUAL_BETA)
    objective = job.objective
    assert isinstance(objective, Dpo)
    plain = Dpo(settings.model_copy(update={"nll": 0.0}), objective.reference)
    _, found = job.measured(plain, [job.train.batch(0)])
    expected = at_the_reference(settings)
    off = abs(found["loss"] - expected)
    if not (off <= allowed * max(1.0, expected) and abs(found["margin"]) <= allowed):
        raise ConfigError(
            f"at step 0 the loss is {found['loss']:.6f} and the margin {found['margin']:.6f}, not "
            f"{expected:.6f} and 0: the reference is not the model that training starts from; "
            f"delete {job.out} and the stored reference, and start a new run."
        )


# ------------------------------------------------------------------ validation


def _validate(job: DpoJob, check: Check) -> dict[str, Any]:
    found = measure_preferences(
        job.model,
        job.held_out,
        job.validation.ordered_batches(job.config.validation.batch_size),
        device=job.machine.device,
        precision=job.machine.precision,
        check=check,
    )
    written = measure_written(job, check)
    fall = _displacement(found, job.config.validation.max_chosen_fall)
    alarm = "; ".join(filter(None, (fall, silence(written)))) or None
    return {**found.values(), "bits_per_byte": None, **written, "alarm": alarm}


def _displacement(found: Preferences, allowed: float) -> str | None:
    """What is wrong where the chosen answers, too, have become less likely."""
    change = found.chosen_change_per_token
    if change is None or change >= -allowed:
        return None
    return (
        f"displacement: the chosen answers have become less likely by {-change:.3f} nats per "
        f"token, more than {allowed:g}; a lower learning rate, a higher dpo.beta or dpo.nll "
        "hold them."
    )


def _plan(job: DpoJob) -> str:
    settings = job.config.dpo
    return f"{pair_plan(job)}, loss {settings.loss}, β = {settings.beta:g}"


DPO = Stage(
    name="dpo",
    config=DpoConfig,
    read=read_rows(read_preferences, "pairs"),
    pack=pack_pairs,
    objective=_objective,
    validate=_validate,
    resolve=_resolve,
    begin=_begin,
    facts=pair_facts,
    plan=_plan,
)
