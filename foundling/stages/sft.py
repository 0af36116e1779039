"""Instruction tuning: a pretrained model learns to answer, held near what it was by a KL anchor."""

import logging
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from foundling.base.config import ConfigError
from foundling.data.anchored import AnchoredData
from foundling.data.conversations import SourcedConversation
from foundling.data.examples import Examples
from foundling.data.prompt_split import split_by_prompt
from foundling.data.reading import read_conversations
from foundling.data.supervised import SupervisedData
from foundling.data.text import TextData
from foundling.metrics.answers import measure_answers
from foundling.objectives import Sft
from foundling.objectives.reference import (
    Reference,
    StoredHidden,
    store_hidden,
    verify,
)
from foundling.runs.run import Run
from foundling.stages.assembly import Machine, Parts, train
from foundling.stages.forgetting import Forgetting
from foundling.stages.parent import Parent
from foundling.stages.samples import prompt_of, samples
from foundling.stages.sft_config import InstructionData, SftConfig
from foundling.stages.tuned import Tuned
from foundling.training.interrupt import Interrupted
from foundling.training.loop import Record, Seam, untouched

logger = logging.getLogger(__name__)


def sft(config: SftConfig, out: Path, *, resume: bool = False, seam: Seam = untouched) -> Run:
    """Tune a model on answers, or go on where the run in `out` stopped.

    Raises:
        ConfigError: the settings or the data are at fault; nothing was changed.
        Interrupted: SIGINT or SIGTERM came; the state is saved.
        TrainingStopped: training stopped itself; the last good checkpoint is intact.
    """
    parent = Parent.of(config.parent, out, resume=resume)
    return _Sft(config, parent, out, resume).run(resume, seam)


class _Sft:
    """The parts of one run, each made when it is first needed."""

    def __init__(self, config: SftConfig, parent: Parent, out: Path, resume: bool) -> None:
        self.parent, self.out = parent, out
        self.tokenizer = parent.tokenizer_for(config.data.style)
        self.tuned = Tuned(config, parent, self.tokenizer)
        self.model, self.context = self.tuned.model, self.tuned.context
        run = out if resume else None
        self.machine = Machine.of(config.training, self.model, self.context, run)
        self.train, self.validation, self.held_out = self._data(config)
        self.config = self._resolved(config)
        self.forgetting = Forgetting(
            self.config.forgetting,
            parent,
            self.tokenizer,
            self.context,
            config.validation.batch_size,
            self.machine,
        )

    def run(self, resume: bool, seam: Seam) -> Run:
        config, data = self.config, self.train
        for prompt in config.validation.prompts:
            # One that cannot be encoded is an error now, not hours later.
            prompt_of(prompt, self.tokenizer, config.data.style)
        steps = config.training.steps
        assert steps is not None, "resolved"
        epochs = steps * config.training.batch_size / data.rows_per_epoch
        rows = f"{config.training.batch_size} rows, {data.efficiency:.1%} full"
        parts = Parts(
            stage="sft",
            model=self.model,
            tokenizer=self.tokenizer,
            data=self._with_text(),
            objective=self._objective,
            facts={
                "parent": dict(self.parent.facts),
                "data": list(config.data.files),
                "pretraining_data": config.forgetting.data,
                "data_fingerprint": self._with_text().fingerprint,
                "examples": len(data.examples),
                "packing_efficiency": round(data.efficiency, 4),
            },
            steps=steps,
            plan=f"{rows}, {epochs:.1f} epochs; λ = {config.anchor.strength:g}",
            validate=self._validate,
            load_model=self.tuned.load,
            restart_model=self.tuned.restart,
            save_more=self.tuned.save_more,
            begin=self.parent.copy_to,
            validate_first=True,
        )
        return train(config, parts, self.machine, self.out, resume=resume, seam=seam)

    # ------------------------------------------------------------------ the data

    def _data(
        self, config: SftConfig
    ) -> tuple[SupervisedData, SupervisedData, list[SourcedConversation]]:
        settings = config.data
        if not settings.files:
            raise ConfigError("data.files: give --data FILE, the conversations to learn from.")
        learned = self._read(settings, settings.files)
        if settings.validation:
            held_out = self._read(settings, settings.validation)
        else:
            fraction = settings.validation_fraction
            learned, held_out = split_by_prompt(learned, fraction, config.seed)
        train, validation = (self._packed(config, some) for some in (learned, held_out))
        return train, validation, held_out

    def _read(self, settings: InstructionData, files: tuple[str, ...]) -> list[SourcedConversation]:
        found, report = read_conversations(
            files, format=settings.format, on_error=settings.on_error
        )
        for line in report.lines():
            logger.info(line)
        return found

    def _packed(
        self, config: SftConfig, conversations: list[SourcedConversation]
    ) -> SupervisedData:
        settings = config.data
        examples, report = Examples.make(
            conversations,
            self.tokenizer,
            max_length=min(settings.max_length or self.context, self.context),
            learn=settings.learn,
            style=settings.style,
            on_long=settings.on_long,
        )
        for line in report.lines():
            logger.info(line)
        return SupervisedData(
            examples,
            context=self.context,
            batch_size=config.training.batch_size,
            seed=config.seed,
            packing=settings.packing,
            decode=self.tokenizer.decode,
        )

    def _with_text(self) -> SupervisedData | AnchoredData:
        """The answers, with text to stay near the parent on where that is wished for."""
        config = self.config
        if not (config.anchor.strength and config.anchor.text_rows):
            return self.train
        if config.forgetting.data is None:
            raise ConfigError(
                "anchor.text_rows: there is no pretraining text; name a token store as "
                "forgetting.data."
            )
        if not config.data.packing:
            raise ConfigError("anchor.text_rows: stands beside packed rows; set data.packing.")
        text = TextData(
            self.forgetting.store().split("train"),
            context=self.context,
            batch_size=config.anchor.text_rows,
            seed=config.seed,
            decode=self.tokenizer.decode,
        )
        return AnchoredData(self.train, text)

    def _resolved(self, config: SftConfig) -> SftConfig:
        """With all that follows from parent and data written out."""
        steps = config.training.steps_for(self.train.rows_per_epoch, 3)
        training = config.training.model_copy(update={"steps": steps, "epochs": None})
        parent = self.parent.facts["source"]
        return config.model_copy(
            update={
                "parent": parent,
                "context": self.context,
                "training": training,
                "forgetting": config.forgetting.resolved(self.parent),
            }
        )

    # ------------------------------------------------------------------ objective and reference

    def _objective(self) -> Sft:
        strength, compiled = self.config.anchor.strength, self.config.training.compile
        if strength == 0:
            return Sft(compiled=compiled)
        stored = self.config.anchor.reference == "stored"
        return Sft(strength, self._stored() if stored else self.reference, compiled=compiled)

    def _stored(self) -> StoredHidden:
        """The reference's states at all that is learned, computed once and checked now."""
        device, precision = self.machine.device, self.machine.precision
        model, data = self.tuned.untuned().to(device), self.train
        folder = Path(self.config.anchor.store or self.out / "reference")
        key = {
            "weights": self.parent.facts["fingerprint"],
            "examples": data.examples.fingerprint,
            "precision": str(precision),
            "device": device.type,
            "torch": torch.__version__,
        }
        stored = store_hidden(
            model,
            data.ordered_batches(),
            data.num_targets,
            folder,
            key,
            device=device,
            precision=precision,
        )
        some = next(iter(data.ordered_batches()))
        verify(stored, model, some, device=device, precision=precision)
        return stored

    @cached_property
    def reference(self) -> Reference:
        return self.tuned.reference(self.machine)

    # ------------------------------------------------------------------ validation

    def _validate(self, interrupted: Callable[[], bool]) -> Iterator[Record]:
        def check() -> None:
            if interrupted():
                raise Interrupted

        settings, machine = self.config.validation, self.machine
        answers = measure_answers(
            self.model,
            self.validation.ordered_batches(settings.batch_size),
            self.reference,
            device=machine.device,
            precision=machine.precision,
            check=check,
        )
        record: dict[str, Any] = {
            "split": "validation",
            "loss_nats": answers.loss_nats,
            "bits_per_byte": None,
            "num_targets": answers.count,
            "kl_nats": answers.kl_nats,
            "entropy_nats": answers.entropy_nats,
        }
        yield record | self.forgetting.measure(self.model, check)
        if settings.prompts:
            check()
            style = self.config.data.style
            told = samples(self.model, self.tokenizer, settings, style)
            yield {"split": "samples", "samples": told}
