"""Instruction tuning: a pretrained model learns to answer, held near what it was by a KL anchor."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from foundling.base.config import ConfigError, Section
from foundling.data.anchored import AnchoredData
from foundling.data.conversations import SourcedConversation
from foundling.data.examples import Examples, LengthReport
from foundling.data.mixed_text import text_data
from foundling.data.reading import read_conversations
from foundling.data.supervised import SupervisedData
from foundling.metrics.answers import measure_answers
from foundling.objectives import Sft
from foundling.objectives.reference import StoredHidden, store_hidden, verify
from foundling.runs.run import Run
from foundling.stages.assembly import run_stage
from foundling.stages.job import Check, Job, Stage
from foundling.stages.reading import Split, fit_rows, read_rows
from foundling.stages.settings import TrainingSettings, TunedConfig, TunedData
from foundling.text.chat import Learn
from foundling.text.tokenizer import Tokenizer
from foundling.training.loop import Seam, untouched
from foundling.training.optimizers import OptimizerSettings


class InstructionData(TunedData):
    """The conversations that are learned from, and how they become rows of tokens."""

    learn: Learn = "all"
    """The answers that are learned of a conversation of several turns: all, or the last."""


class AnchorSettings(Section):
    """How the model is held near the one it started from: + strength · KL(model ‖ parent)."""

    strength: float = Field(0.1, ge=0)
    """λ; 0 is plain instruction tuning."""
    reference: Literal["model", "stored"] = "model"
    """model: the parent reads every batch too; stored: its hidden states, computed once."""
    store: str | None = None
    """The folder of the stored ones; None: in the run. Runs that differ in λ may share it."""

    text_rows: int = Field(0, ge=0)
    """Rows of pretraining text in each step beside the answers, which add the KL alone; read only
    where strength is above 0."""

    @model_validator(mode="after")
    def _used(self) -> "AnchorSettings":
        if self.reference == "stored" and self.text_rows:
            raise ValueError('reference = "stored" holds no text: text_rows needs "model"')
        if self.reference == "model" and self.store is not None:
            raise ValueError('reference = "model" does not use store')
        return self


class SftTraining(TrainingSettings):
    """How long, how precisely and on what the loop runs; 3 epochs where nothing is said."""

    default_epochs = 3.0

    batch_size: int = Field(16, gt=0)


class SftConfig(TunedConfig):
    """Everything that an instruction-tuning run is made of."""

    data: InstructionData = InstructionData()
    anchor: AnchorSettings = AnchorSettings()
    training: SftTraining = SftTraining()
    optimizer: OptimizerSettings = OptimizerSettings(kind="adamw", learning_rate=2e-4)

    def with_shared_reference(self, store: str) -> "SftConfig":
        if self.anchor.reference == "model" or self.anchor.store is not None:
            return self
        return self.model_copy(update={"anchor": self.anchor.model_copy(update={"store": store})})


def sft(config: SftConfig, out: Path, *, resume: bool = False, seam: Seam = untouched) -> Run:
    """Tune a model on answers, or resume the run in `out`; see `run_stage`."""
    return run_stage(SFT, config, out, resume=resume, seam=seam)


SftJob = Job[SftConfig, SupervisedData]


def _read(job: SftJob, files: Sequence[str], split: Split) -> list[SourcedConversation]:
    settings = job.config.data
    found, report = read_conversations(
        files,
        repair=settings.repair,
        format=settings.format,
        columns=settings.columns,
        on_error=settings.on_error,
    )
    job.log(report.lines())
    return found


def _pack(
    job: SftJob, learned: list[SourcedConversation], held_out: list[SourcedConversation]
) -> tuple[SupervisedData, SupervisedData]:
    settings = job.config.data
    splits = [_examples(job, some) for some in (learned, held_out)]
    row_length = fit_rows(job, splits[0].lengths, max(int(some.lengths.max()) for some in splits))
    train, validation = (
        SupervisedData(
            examples,
            context=row_length,
            batch_size=job.config.training.batch_size,
            seed=job.config.seed,
            packing=settings.packing,
            decode=job.tokenizer.decode,
        )
        for examples in splits
    )
    return train, validation


def _examples(job: SftJob, conversations: list[SourcedConversation]) -> Examples:
    examples, report = encode(job.config.data, conversations, job.tokenizer, job.context)
    job.log(report.lines())
    return examples


def encode(
    settings: InstructionData,
    conversations: Sequence[SourcedConversation],
    tokenizer: Tokenizer,
    context: int,
) -> tuple[Examples, LengthReport]:
    """The examples that a run with these settings learns from, of at most `context` tokens.

    Raises:
        ConfigError: as `Examples.make`.
    """
    return Examples.make(
        conversations,
        tokenizer,
        max_length=min(settings.max_length or context, context),
        learn=settings.learn,
        style=settings.style,
        special_tokens=settings.special_tokens,
        on_long=settings.on_long,
        on_error=settings.on_error,
    )


def _with_text(job: SftJob) -> SupervisedData | AnchoredData:
    """The answers, with text to stay near the parent on where that is asked for."""
    anchor = job.config.anchor
    if not (anchor.strength and anchor.text_rows):
        return job.train
    if job.config.forgetting.data is None:
        raise ConfigError(
            "anchor.text_rows: there is no pretraining text; name a token store as forgetting.data."
        )
    if not job.config.data.packing:
        raise ConfigError("anchor.text_rows: stands beside packed rows; set data.packing.")
    text = text_data(
        job.forgetting.text(),
        context=job.train.context,
        batch_size=anchor.text_rows,
        seed=job.config.seed,
        decode=job.tokenizer.decode,
    )
    return AnchoredData(job.train, text)


def _objective(job: SftJob, data: SupervisedData) -> Sft:
    anchor, compiled = job.config.anchor, job.config.training.compile
    if anchor.strength == 0:
        return Sft(compiled=compiled)
    stored = anchor.reference == "stored"
    return Sft(anchor.strength, _stored(job, data) if stored else job.reference, compiled=compiled)


def _stored(job: SftJob, data: SupervisedData) -> StoredHidden:
    """The reference's states at all that is learned, computed once and checked now."""
    device, precision = job.machine.device, job.machine.precision
    with job.origin.untuned(job.machine, job.sharding) as model:
        stored = store_hidden(
            model,
            data.ordered_batches(),
            data.num_targets,
            Path(job.config.anchor.store or job.out / "reference"),
            job.reference_key({"examples": data.examples.fingerprint}),
            device=device,
            precision=precision,
        )
        some = next(iter(data.ordered_batches()))
        verify(stored, model, some, device=device, precision=precision)
    return stored


def _validate(job: SftJob, check: Check) -> dict[str, Any]:
    answers = measure_answers(
        job.model,
        job.validation.ordered_batches(job.config.validation.batch_size),
        job.passing_reference,
        device=job.machine.device,
        precision=job.machine.precision,
        check=check,
    )
    return {
        "loss_nats": answers.loss_nats,
        "bits_per_byte": None,
        "num_targets": answers.count,
        "kl_nats": answers.kl_nats,
        "entropy_nats": answers.entropy_nats,
    }


def _resolve(job: SftJob) -> SftConfig:
    data = job.config.data.model_copy(update={"row_length": job.train.context})
    return job.config.model_copy(update={"data": data})


def _facts(job: SftJob) -> dict[str, Any]:
    return {
        "data": list(job.config.data.files),
        "examples": len(job.train.examples),
        "packing_efficiency": round(job.train.efficiency, 4),
    }


def _plan(job: SftJob) -> str:
    config = job.config
    rows = f"{config.training.batch_size} rows of {job.train.context:,} tokens"
    return f"{rows}, {job.train.efficiency:.1%} full, λ = {config.anchor.strength:g}"


SFT = Stage(
    name="sft",
    config=SftConfig,
    read=read_rows(_read, "conversations"),
    pack=_pack,
    objective=_objective,
    validate=_validate,
    resolve=_resolve,
    data=_with_text,
    facts=_facts,
    plan=_plan,
)
