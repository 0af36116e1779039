"""What a stage is, and the parts that one run of a stage is put together from."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch

from foundling.base.ranks import on_first
from foundling.base.sharded import gathered
from foundling.metrics.objective import measure_objective
from foundling.metrics.perplexity import measure
from foundling.models.batch import Batch, Data, PreferenceBatch, TokenBatch
from foundling.objectives import Objective
from foundling.objectives.reference import DisabledAdapter, FrozenModel
from foundling.stages.forgetting import Forgetting, resolved
from foundling.stages.machine import Machine
from foundling.stages.origin import Origin, from_parent
from foundling.stages.parent_answers import ParentAnswers
from foundling.stages.samples import sample_request, samples
from foundling.stages.settings import StageConfig, TunedConfig
from foundling.statistics.wilson import wilson
from foundling.training.activations import checkpoint_activations
from foundling.training.interrupt import Interrupted
from foundling.training.loop import Record
from foundling.training.sharding import Sharding

logger = logging.getLogger(__name__)

CANARY_ROWS = 8
Check = Callable[[], None]
"""Call regularly; raises Interrupted when the run should stop."""


class Rows(Data, Protocol):
    """Data that a stage learns from: rows, of which an epoch has so many."""

    rows_per_epoch: int


Config = TypeVar("Config", bound=StageConfig)
Batches = TypeVar("Batches", bound=Rows)


@dataclass(frozen=True)
class Stage(Generic[Config, Batches]):
    """A kind of training: what is read, how it becomes batches, what is minimised and measured.

    Every function is given the job, whose parts are there in the order origin, read, pack,
    resolve; `objective` and all that comes after find the model on its device.
    """

    name: str
    config: type[Config]
    read: Callable[["Job[Config, Batches]"], tuple[Any, Any]]
    """What is learned from, and what is held out."""
    pack: Callable[["Job[Config, Batches]", Any, Any], tuple[Batches, Any]]
    """Both as batches."""
    objective: Callable[["Job[Config, Batches]", Batches], Objective]
    """What is minimised, on the batches of either split."""
    validate: Callable[["Job[Config, Batches]", Check], dict[str, Any]] = lambda job, check: (
        job.measure(check)
    )
    """The figures of a validation; `loss_nats` decides which checkpoint is the best."""
    origin: Callable[[Config, Path, bool], Origin] = from_parent  # type: ignore[assignment]
    """The model that a new run or (True) a resumed one begins with."""
    resolve: Callable[["Job[Config, Batches]"], Config] = lambda job: job.config
    """The settings with all that followed from parent and data written out."""
    data: Callable[["Job[Config, Batches]"], Data] = lambda job: job.train
    """What the loop is fed."""
    begin: Callable[["Job[Config, Batches]"], None] = lambda job: None
    """Checks that are made once, before the first step of a new run."""
    facts: Callable[["Job[Config, Batches]"], Mapping[str, Any]] = lambda job: {}
    """For the manifest. What ends in `fingerprint` must be the same when the run resumes."""
    plan: Callable[["Job[Config, Batches]"], str] = lambda job: f"{job.train.batch_size} rows"
    """What a step takes, in words."""


class Job(Generic[Config, Batches]):
    """One run of a stage.

    Raises:
        ConfigError: settings, parent or data are at fault; nothing was written.
    """

    config: Config
    """Complete: with all that followed from parent and data."""
    train: Batches
    validation: Any

    def __init__(
        self, stage: Stage[Config, Batches], config: Config, out: Path, *, resume: bool
    ) -> None:
        self.stage, self.out, self.resume = stage, out, resume
        self.origin = origin = stage.origin(config, out, resume)
        self.parent, self.tokenizer = origin.parent, origin.tokenizer
        self.model, self.context = origin.model, origin.context
        self.machine = Machine.of(
            config.training, self.model, self.context, out if resume else None
        )
        self.origin.hold(self.machine)
        self.sharding = Sharding(config.distributed, self.machine.device, self.machine.precision)
        if config.training.checkpoint_activations:
            checkpoint_activations(self.model)
        self.kept: dict[str, Callable[[Path], None]] = {}
        """What the run's folder holds beside the parent: how a file of this name is written."""
        self.facts: dict[str, Any] = {}
        """For the manifest, beside the stage's own."""
        self.config = config.model_copy(
            update={
                "parent": self.parent.facts["source"] if self.parent else None,
                "context": self.context,
                "forgetting": resolved(config.forgetting, self.parent),
            }
        )
        if isinstance(config, TunedConfig) and self.tokenizer.template is not None:
            options = dict(self.tokenizer.template.options)
            data = config.data.model_copy(update={"template_options": options})
            self.config = self.config.model_copy(update={"data": data})
        self.forgetting = Forgetting(
            self.config.forgetting,
            self.parent.tokenizer() if self.parent else self.tokenizer,
            self.context,
            config.validation.batch_size,
            self.machine,
        )
        self.parent_answers = ParentAnswers(self)
        for prompt in config.validation.prompts:
            # One that cannot be encoded is an error now, not hours later.
            sample_request(prompt, self.tokenizer, config)
        self.train, self.validation = stage.pack(self, *stage.read(self))
        training = self.config.training
        self.steps = training.num_steps(self.train.rows_per_epoch)
        training = training.model_copy(update={"steps": self.steps, "epochs": None})
        self.config = self.config.model_copy(update={"training": training})
        self.config = stage.resolve(self)
        self.data = stage.data(self)

    @cached_property
    def objective(self) -> Objective:
        """What is minimised in training."""
        return self.stage.objective(self, self.train)

    @cached_property
    def held_out(self) -> Objective:
        """The same on what is held out."""
        return self.stage.objective(self, self.validation)

    @cached_property
    def reference(self) -> FrozenModel | DisabledAdapter:
        """The parent, as it was."""
        return self.origin.reference(self.machine, self.sharding)

    @property
    def passing_reference(self) -> FrozenModel | DisabledAdapter:
        """The same for a measurement: where training needs none, it is gone afterwards."""
        kept = self.__dict__.get("reference")
        return kept if kept is not None else self.origin.reference(self.machine, self.sharding)

    def reference_key(self, data: Mapping[str, str]) -> dict[str, str]:
        """What the parent's values on some data depend on."""
        assert self.parent is not None, "only what has a parent has a reference"
        return {
            "weights": self.parent.facts["fingerprint"],
            **data,
            "precision": str(self.machine.precision),
            "device": self.machine.device.type,
            "torch": torch.__version__,
        }

    @property
    def epochs(self) -> float:
        return self.steps * self.config.training.batch_size / self.train.rows_per_epoch

    def log(self, lines: Iterable[str]) -> None:
        """Report what was read."""
        for line in lines:
            logger.info(line)

    def keep(self, folder: Path) -> None:
        """Write into the folder of a new run what the run starts from."""
        if self.parent is not None:
            self.parent.copy_to(folder)
        for name, write in self.kept.items():
            write(folder / name)

    def measured(
        self, objective: Objective, batches: Iterable[Batch], check: Check = lambda: None
    ) -> tuple[int, dict[str, float]]:
        """What is counted in some batches, and the means of loss (`loss`) and metrics."""
        count, sums = measure_objective(
            self.model,
            objective,
            batches,
            device=self.machine.device,
            precision=self.machine.precision,
            check=check,
        )
        return count, {name: value / count for name, value in sums.items()}

    def measure(self, check: Check) -> dict[str, Any]:
        """The figures of a validation: the means of the loss and of the metrics.

        A metric that is called `accuracy` gets its 95% interval.
        """
        batches = self.validation.ordered_batches(self.config.validation.batch_size)
        count, found = self.measured(self.held_out, batches, check)
        figures: dict[str, Any] = {"loss_nats": found.pop("loss"), "bits_per_byte": None, **found}
        if "accuracy" in found:
            figures["accuracy_interval"] = wilson(round(found["accuracy"] * count), count)
        kind = "num_pairs" if self.objective.batch_type is PreferenceBatch else "num_targets"
        return {**figures, kind: count}

    def canary(self) -> Callable[[], float]:
        """The loss on the first rows of the data, which tells of the model, not of the data."""
        batch = self.data.batch(0).rows(0, CANARY_ROWS)
        if not isinstance(batch, TokenBatch):
            return lambda: self.measured(self.objective, [batch])[1]["loss"]
        device, precision = self.machine.device, self.machine.precision
        return lambda: (
            measure(
                self.model, [batch], token_bytes=None, device=device, precision=precision
            ).loss_nats
        )

    def validate(self, interrupted: Callable[[], bool]) -> Iterator[Record]:
        """The records of one validation.

        Raises:
            Interrupted: `interrupted()` was true.
        """

        def check() -> None:
            if interrupted():
                raise Interrupted

        record = {"split": "validation", **self.stage.validate(self, check)}
        record |= self.forgetting.measure(self.model, check)
        yield record | self.parent_answers.measure(check)
        if self.config.validation.prompts:
            check()
            with gathered(self.model):
                told = on_first(lambda: samples(self.model, self.tokenizer, self.config))
            yield {"split": "samples", "samples": told}
