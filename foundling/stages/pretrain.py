"""Pretraining: a model from scratch, on text, by the cross-entropy of the next token."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from foundling import models
from foundling.base import runtime
from foundling.base.config import ConfigError
from foundling.data.store import TokenStore
from foundling.data.text import TextData, validation_batches
from foundling.generation.engine import Engine
from foundling.metrics.perplexity import measure
from foundling.models import interchange
from foundling.models.language_model import LanguageModel
from foundling.objectives import Pretrain
from foundling.runs.run import Run
from foundling.stages.assembly import Machine, Parts, train
from foundling.stages.settings import StageConfig, TrainingSettings, ValidationSettings
from foundling.text.tokenizer import Tokenizer
from foundling.training.interrupt import Interrupted
from foundling.training.loop import Record, Seam, untouched


class PretrainTraining(TrainingSettings):
    """How long, how precisely and on what the loop runs."""

    steps: int = Field(1000, gt=0)
    z_loss: float = Field(0.0, ge=0)
    """Weight of logsumexp² beside the cross-entropy."""


class PretrainValidation(ValidationSettings):
    """When and on how much the model is validated, and what it writes then."""

    max_tokens: int | None = Field(None, gt=1)
    """The validation split's first tokens; None: the whole split."""


class PretrainConfig(StageConfig):
    """Everything that a pretraining run is made of."""

    context: int = Field(256, gt=1)
    """Tokens in a row: the longest context that the model learns to use."""
    data: str | None = None
    """A folder that `foundling data prepare` wrote."""
    model: dict[str, Any] = Field(default_factory=dict)
    training: PretrainTraining = PretrainTraining()
    validation: PretrainValidation = PretrainValidation()

    def resolved(self) -> "PretrainConfig":
        """With the model's defaults written out."""
        settings = models.rung_settings(self.model)
        return self.model_copy(update={"model": settings.resolved().values()})


def pretrain(
    config: PretrainConfig, out: Path, *, resume: bool = False, seam: Seam = untouched
) -> Run:
    """Train from scratch, or go on where the run in `out` stopped.

    `seam` is where proofs and demonstrations put faults in.

    Raises:
        ConfigError: the settings or the data are at fault; nothing was changed.
        Interrupted: SIGINT or SIGTERM came; the state is saved.
        TrainingStopped: training stopped itself; the last good checkpoint is intact.
    """
    config = config.resolved()
    if config.data is None:
        raise ConfigError("data: give --data DIR, a folder that `foundling data prepare` wrote.")
    store = TokenStore.open(Path(config.data))
    tokenizer = store.tokenizer()
    data = TextData(
        store.split("train"),
        context=config.context,
        batch_size=config.training.batch_size,
        seed=config.seed,
        decode=tokenizer.decode,
    )

    def build() -> LanguageModel:
        runtime.seed_everything(config.seed, "weights")
        return models.build(config.model, vocab_size=tokenizer.vocab_size, context=config.context)

    model = build()
    machine = Machine.of(config.training, model, config.context, out if resume else None)
    for prompt in config.validation.prompts:
        tokenizer.encode(prompt)  # one that cannot be encoded is an error now, not hours later
    epochs = config.training.steps * config.training.batch_size / data.rows_per_epoch
    parts = Parts(
        stage="pretrain",
        model=model,
        tokenizer=tokenizer,
        data=data,
        objective=lambda: Pretrain(config.training.z_loss, compiled=config.training.compile),
        facts={
            "parent": None,
            "data": config.data,
            "data_fingerprint": data.fingerprint,
            "store_fingerprint": store.fingerprint,
        },
        steps=config.training.steps,
        plan=f"{config.training.batch_size * config.context:,} tokens, {epochs:.1f} epochs",
        validate=_validator(config, store, tokenizer, model, machine),
        load_model=lambda folder: interchange.load_weights(model, folder),
        restart_model=lambda: model.load_state_dict(build().state_dict()),
    )
    return train(config, parts, machine, out, resume=resume, seam=seam)


def _validator(
    config: PretrainConfig,
    store: TokenStore,
    tokenizer: Tokenizer,
    model: LanguageModel,
    machine: Machine,
) -> Callable[[Callable[[], bool]], Iterable[Record]]:
    settings, split = config.validation, store.split("validation")
    token_bytes = torch.from_numpy(tokenizer.token_bytes) if store.manifest.lossless else None

    def validate(interrupted: Callable[[], bool]) -> Iterator[Record]:
        def check() -> None:
            if interrupted():
                raise Interrupted

        batches = validation_batches(
            split,
            context=config.context,
            batch_size=settings.batch_size,
            max_tokens=settings.max_tokens,
        )
        result = measure(
            model,
            batches,
            token_bytes=token_bytes,
            device=machine.device,
            precision=machine.precision,
            check=check,
        )
        yield {
            "split": "validation",
            "loss_nats": result.loss_nats,
            "bits_per_byte": result.bits_per_byte,
            "num_targets": result.count,
            "loss_by_position": result.by_position,
        }
        if settings.prompts:
            check()
            yield {"split": "samples", "samples": write_samples(model, tokenizer, settings)}

    return validate


def write_samples(
    model: LanguageModel, tokenizer: Tokenizer, settings: ValidationSettings
) -> list[dict[str, str]]:
    """Each prompt with its continuation."""
    engine = Engine(model, tokenizer)
    return [
        {
            "prompt": prompt,
            "text": engine.generate(
                prompt, max_tokens=settings.sample_tokens, sampling=settings.sampling, slide=True
            ),
        }
        for prompt in settings.prompts
    ]
