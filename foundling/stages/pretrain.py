"""Pretraining: a model learns to continue text, by the cross-entropy of the next token."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from foundling import models
from foundling.base import runtime
from foundling.base.config import ConfigError
from foundling.data.mixed_text import MixedText, text_data
from foundling.data.mixture import Mixture
from foundling.data.mixture_plan import MixturePlan
from foundling.data.text import TextData, rows_per_epoch
from foundling.metrics.perplexity import Perplexity
from foundling.models.language_model import LanguageModel
from foundling.objectives import Pretrain
from foundling.runs.run import Run
from foundling.stages.assembly import run_stage
from foundling.stages.job import Check, Job, Stage
from foundling.stages.origin import Origin
from foundling.stages.parent import Parent
from foundling.stages.settings import StageConfig, TrainingSettings, ValidationSettings
from foundling.stages.text_loss import loss_by_source
from foundling.training.loop import Seam, untouched

logger = logging.getLogger(__name__)

CONTEXT = 256
STRETCHES = ("rope_theta", "rope_scaling", "window", "full_layers", "window_rope_theta")
"""Settings of a model that shape no weight: a run from a parent may change them."""


class PretrainTraining(TrainingSettings):
    """How long, how precisely and on what the loop runs; 1000 steps where nothing is said."""

    z_loss: float = Field(0.0, ge=0)
    """Weight of logsumexp² beside the cross-entropy."""

    def num_steps(self, rows_per_epoch: int) -> int:
        if self.steps is None and self.epochs is None:
            return 1000
        return super().num_steps(rows_per_epoch)


class PretrainValidation(ValidationSettings):
    """When and on how much the model is validated, and what it writes then."""

    max_tokens: int | None = Field(None, gt=1)
    """The validation split's first tokens, of a mixture those of each source; None: all."""


class PretrainConfig(StageConfig):
    """Everything that a pretraining run is made of."""

    context: int | None = Field(None, gt=1)
    """Tokens in a row: the longest context that the model learns to use. None: 256, or as many as
    the parent reads. More than that takes another `model.rope_theta` or `model.rope_scaling`."""
    data: str | None = None
    """A folder that `foundling data prepare` wrote, or the file of a mixture (.toml, .json)."""
    model: dict[str, Any] = Field(default_factory=dict)
    """The rung and its settings. From a parent it has the parent's; what of them is given must be
    the same, or shape no weight: dropout, rope_theta, rope_scaling, window, full_layers,
    window_rope_theta."""
    training: PretrainTraining = PretrainTraining()
    validation: PretrainValidation = PretrainValidation()

    def resolved(self) -> "PretrainConfig":
        """With the model's defaults written out."""
        settings = models.rung_settings(self.model)
        return self.model_copy(update={"model": settings.resolved().values()})


PretrainJob = Job[PretrainConfig, TextData | MixedText]


def pretrain(
    config: PretrainConfig, out: Path, *, resume: bool = False, seam: Seam = untouched
) -> Run:
    """Train from scratch or from a parent, or resume the run in `out`; see `run_stage`."""
    return run_stage(PRETRAIN, config, out, resume=resume, seam=seam)


def _origin(config: PretrainConfig, out: Path, resume: bool) -> Origin:
    tokenizer = _text(config).tokenizer()
    parent = _parent(config, out, resume)
    if parent is None:
        context = config.context or CONTEXT

        def new() -> LanguageModel:
            runtime.seed_everything(config.seed, "weights")
            return models.build(config.model, vocab_size=tokenizer.vocab_size, context=context)

        return Origin(new, tokenizer, context)
    if tokenizer.fingerprint != parent.tokenizer().fingerprint:
        raise ConfigError(
            f"data = {config.data}: its tokens are of another tokenizer than the parent's; "
            "prepare it with the parent's tokenizer.json."
        )
    spec = parent.load().spec
    settings = _settings_of(spec, config.model)
    context = _context_of(spec, settings, config.context)
    return Origin(
        lambda: models.with_settings(
            parent.load(dropout=settings.get("dropout", 0.0)),
            **settings,
            context=max(context, spec["context"]),
        ),
        tokenizer,
        context,
        parent,
    )


def _parent(config: PretrainConfig, out: Path, resume: bool) -> Parent | None:
    given = Run.open(out).manifest["parent"] if resume else config.parent
    if given is None:
        return None
    parent = Parent.of(config.parent, out, resume=resume)
    if parent.pretraining_data != config.data:
        return parent
    if parent.seed == config.seed:
        logger.warning(
            f"seed = {config.seed}: the parent read the same text in the same order from its "
            "beginning; give another --set seed=N to read it in another order."
        )
    # It learns from the same text again: there is nothing to forget.
    return replace(parent, pretraining_data=None)


def _settings_of(spec: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The parent's settings with those given, which shape no weight.

    Raises:
        ConfigError: `given` asks for a model of another shape.
    """
    settings = {key: value for key, value in spec.items() if key not in ("vocab_size", "context")}
    asked = models.rung_settings({**settings, **given}).resolved().values()
    asked |= {"family": settings["family"]} if "family" in settings else {}
    free = ("dropout", *STRETCHES)
    for key in sorted(asked.keys() | settings.keys()):
        if key not in free and asked.get(key) != settings.get(key):
            raise ConfigError(
                f"model.{key} = {asked.get(key)}: the parent has {settings.get(key)}; a run from "
                f"a parent has its shape. Leave it out; only {', '.join(free)} may be others."
            )
    return asked


def _context_of(spec: Mapping[str, Any], settings: Mapping[str, Any], given: int | None) -> int:
    """The tokens of a row, more than the parent reads only where its positions reach further.

    Raises:
        ConfigError: they do not.
    """
    known: int = spec["context"]
    if given is None or given <= known:
        return given or known
    positions = settings.get("positions", "rope" if "rope_theta" in settings else None)
    if positions == "learned":
        raise ConfigError(
            f"context = {given}: the parent reads at most {known} tokens, for it has learned a "
            "vector for each position and none beyond; only rotary positions can be stretched."
        )
    if positions == "rope" and all(settings.get(key) == spec.get(key) for key in STRETCHES[:2]):
        raise ConfigError(
            f"context = {given}: the parent reads at most {known} tokens; say how its rotary "
            f"positions reach further, by model.rope_theta (it has {spec['rope_theta']:g}) or by "
            f"model.rope_scaling, such as --set model.rope_scaling.type=yarn --set "
            f"model.rope_scaling.factor={given / known:g} --set "
            f"model.rope_scaling.original_context={known}."
        )
    return given


def _text(config: PretrainConfig) -> Mixture:
    if config.data is None:
        raise ConfigError(
            "data: give --data DIR, a folder that `foundling data prepare` wrote, or a mixture of "
            "several (`foundling data mix`)."
        )
    return Mixture.open(config.data)


def _read(job: PretrainJob) -> tuple[Mixture, Mixture]:
    text = _text(job.config)
    return text, text


def _pack(
    job: PretrainJob, learned: Mixture, held_out: Mixture
) -> tuple[TextData | MixedText, Mixture]:
    data = text_data(
        learned,
        context=job.context,
        batch_size=job.config.training.batch_size,
        seed=job.config.seed,
        num_samples=0 if learned.is_plain else _scheduled_samples(job, learned),
        decode=job.tokenizer.decode,
    )
    return data, held_out


def _scheduled_samples(job: PretrainJob, text: Mixture) -> int:
    """Samples of the training that the mixture's stages are shares of: those planned at its start.

    Raises:
        ConfigError: a resumed run was started with another mixture.
    """
    training = job.config.training
    rows = sum(
        rows_per_epoch(store.manifest.train.num_tokens, job.context)
        for store in text.stores.values()
    )
    planned = training.num_steps(rows) * training.batch_size
    samples = planned
    if job.resume:
        before = Run.open(job.out).manifest.get("mixture")
        if before is None or before["fingerprint"] != text.fingerprint:
            raise ConfigError(
                f"data = {job.config.data}: not the text that the run in {job.out} was started "
                "with: a source, a weight or a stage is another. Give the same mixture, or start a "
                "new run --from this one."
            )
        samples = before["samples"]
    if planned != samples and text.is_scheduled:
        logger.warning(
            f"the mixture's stages were planned for {samples // training.batch_size:,} steps, and "
            "keep their places: "
            + (
                "the steps after that have the weights of the last stage."
                if planned > samples
                else f"with {planned // training.batch_size:,} steps the last ones are left out."
            )
        )
    for warning in MixturePlan.of(text, planned, job.context, samples).warnings:
        logger.warning(warning)
    job.facts["mixture"] = {
        "fingerprint": text.fingerprint,
        "samples": samples,
        **text.values(),
    }
    return samples


def _validate(job: PretrainJob, check: Check) -> dict[str, Any]:
    settings, text = job.config.validation, job.validation
    found = loss_by_source(
        job.model,
        text,
        job.tokenizer,
        context=job.context,
        batch_size=settings.batch_size,
        max_tokens=settings.max_tokens,
        machine=job.machine,
        check=check,
    )
    whole = Perplexity.together(list(found.values()))
    figures = _figures(whole) | {"loss_by_position": whole.by_position}
    if len(found) > 1:
        figures["by_source"] = {name: _figures(of) for name, of in found.items()}
    return figures


def _figures(found: Perplexity) -> dict[str, Any]:
    return {
        "loss_nats": found.loss_nats,
        "bits_per_byte": found.bits_per_byte,
        "num_targets": found.count,
    }


def _resolve(job: PretrainJob) -> PretrainConfig:
    spec = job.model.spec.items()
    settings = {key: value for key, value in spec if key not in ("vocab_size", "context")}
    return job.config.model_copy(update={"model": settings})


PRETRAIN = Stage(
    name="pretrain",
    config=PretrainConfig,
    read=_read,
    pack=_pack,
    objective=lambda job, data: Pretrain(
        job.config.training.z_loss, compiled=job.config.training.compile
    ),
    validate=_validate,
    origin=_origin,
    resolve=_resolve,
    facts=lambda job: {"data": job.config.data, "store_fingerprint": job.validation.fingerprint},
    plan=lambda job: f"{job.config.training.batch_size * job.context:,} tokens",
)
