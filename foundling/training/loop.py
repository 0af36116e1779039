"""The one training loop: batches in, updates out, everything on record."""

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from foundling import checkpoint as checkpoints
from foundling.batch import Data
from foundling.checkpoint import Checkpoint, CheckpointSettings
from foundling.models.language_model import LanguageModel
from foundling.objectives.contract import Objective
from foundling.run import Run
from foundling.runtime import autocast, seed_everything
from foundling.training.interrupt import Interrupt, Interrupted
from foundling.training.optimizers import Optimizer
from foundling.training.schedules import ScheduleSettings, rate_share

Record = Mapping[str, Any]


ADVICE = "The last checkpoint is intact; start a new run with a lower learning rate."


class TrainingStopped(Exception):
    """Training stopped itself; the last good checkpoint is intact."""


@dataclass(frozen=True)
class Pace:
    """How far and in what portions the loop goes."""

    steps: int
    micro_batch_size: int | None = None
    """Rows worked at a time; None: the whole batch. Their sums add up to the whole batch's."""
    validate_every: int = 200


@dataclass
class Progress:
    """Where a run stands; all that a checkpoint must remember beside tensors."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    validated_step: int = -1
    validation_loss_nats: float | None = None
    best_loss_nats: float | None = None
    metrics_bytes: int = 0


@dataclass
class Loop:
    """Trains `model` on `data` for `objective`.

    `validate(interrupted)` gives the records of a validation, or raises Interrupted when
    `interrupted()` is true; `save_model(folder)` writes the model; every record goes to the run's
    metrics first and to `observe` then. Randomness is drawn anew from (seed, step) at each step,
    so a step is a pure function of the state before it.
    """

    model: LanguageModel
    objective: Objective
    data: Data
    optimizer: Optimizer
    schedule: ScheduleSettings
    pace: Pace
    checkpointing: CheckpointSettings
    run: Run
    seed: int
    device: torch.device
    precision: torch.dtype
    save_model: Callable[[Path], None]
    validate: Callable[[Callable[[], bool]], Iterable[Record]]
    observe: Callable[[Record], None] = lambda record: None
    matrix_rate: float | None = None
    """The machine's measured rate in FLOP/s, to compare with; None: not compared."""
    progress: Progress = field(default_factory=Progress)

    def train(self) -> None:
        """Run to the last step.

        Raises:
            Interrupted: SIGINT or SIGTERM came; the state is saved.
            TrainingStopped: the loss is not finite, or the disk is full.
        """
        with Interrupt() as interrupt:
            try:
                self._train_or_save(interrupt)
            except OSError as error:
                raise TrainingStopped(
                    f"step {self.progress.step}: {error.strerror or error}; the last checkpoint is "
                    "intact. Mend that (a full disk: free space), then go on with --resume."
                ) from error

    def _train_or_save(self, interrupt: Interrupt) -> None:
        try:
            self._train(interrupt)
        except Interrupted:
            self._save()
            raise

    def resume(self, checkpoint: Checkpoint) -> None:
        """Take over optimizer and progress; the model is loaded by who built it."""
        progress = json.loads((checkpoint.state / "progress.json").read_text("utf-8"))
        self.progress = Progress(**progress)
        self.optimizer.load_state(load_file(checkpoint.state / "optimizer.safetensors"))

    def _train(self, interrupt: Interrupt) -> None:
        if self._validation_is_due():
            self._finish_step(interrupt)  # an interruption had come before it
        while self.progress.step < self.pace.steps:
            self._record(self._step())
            if interrupt.requested:
                raise Interrupted
            self._finish_step(interrupt)

    def _finish_step(self, interrupt: Interrupt) -> None:
        if self._validation_is_due():
            self._validate(interrupt)
        step, best = self.progress.step, False
        if self.progress.validated_step == step:
            loss, before = self.progress.validation_loss_nats, self.progress.best_loss_nats
            if loss is not None and (before is None or loss < before):
                best, self.progress.best_loss_nats = True, loss
        wanted = best and self.checkpointing.keep_best
        if wanted or step == self.pace.steps or step % self.checkpointing.every == 0:
            self._save()

    def _validation_is_due(self) -> bool:
        step = self.progress.step
        now = step == self.pace.steps or (step > 0 and step % self.pace.validate_every == 0)
        return now and self.progress.validated_step < step

    def _validate(self, interrupt: Interrupt) -> None:
        records = []
        for record in self.validate(lambda: interrupt.requested):
            if record["split"] == "validation":
                self.progress.validation_loss_nats = self._finite(record["loss_nats"])
            records.append(record)
        # Recorded only now, all of it: an interrupted validation is done anew.
        for record in records:
            self._record({**record, "step": self.progress.step, "tokens": self.progress.tokens})
        self.progress.validated_step = self.progress.step

    def _finite(self, loss_nats: float) -> float:
        if math.isfinite(loss_nats):
            return loss_nats
        raise TrainingStopped(
            f"step {self.progress.step}: the validation loss is {loss_nats}: the model is damaged. "
            f"{ADVICE}"
        )

    def _step(self) -> Record:
        started = time.perf_counter()
        step = self.progress.step
        seed_everything(self.seed, "step", step)
        batch = self.data.batch(step)
        self.optimizer.zero_grad()
        self.optimizer.set_rate_share(rate_share(self.schedule, step, self.pace.steps))
        self.model.train()
        sums: dict[str, torch.Tensor] = {}
        rows = self.pace.micro_batch_size or len(batch)
        for start in range(0, len(batch), rows):
            part = batch.rows(start, start + rows).to(self.device)
            with autocast(self.device, self.precision):
                loss = self.objective(self.model, part)
            loss.total.backward()  # type: ignore[no-untyped-call]
            parts = {"total": loss.total, "count": loss.count, **loss.metrics}
            for name, value in parts.items():
                sums[name] = sums.get(name, 0) + value.detach().double()
        figures = {name: value.item() for name, value in sums.items()}
        count = figures.pop("count")
        norm = self.optimizer.finish_gradients(count)
        loss_nats = figures.pop("total") / count
        if not (math.isfinite(loss_nats) and math.isfinite(norm)):
            raise TrainingStopped(
                f"step {step}: the loss is {loss_nats} and the gradient's norm {norm}; stopped "
                f"before they changed the model. {ADVICE}"
            )
        self.optimizer.step()
        seconds = time.perf_counter() - started
        self.progress.step = step + 1
        self.progress.tokens += batch.tokens.numel()
        self.progress.seconds += seconds
        first, *others = self.optimizer.learning_rates().items()
        tokens_per_second = batch.tokens.numel() / seconds
        record: dict[str, Any] = {
            "split": "train",
            "step": self.progress.step,
            "tokens": self.progress.tokens,
            "loss_nats": loss_nats,
            **{name: value / count for name, value in figures.items()},
            "gradient_norm": norm,
            "learning_rate": first[1],
            **{f"learning_rate_{part}": rate for part, rate in others},
            "seconds": self.progress.seconds,
            "tokens_per_second": tokens_per_second,
        }
        if self.matrix_rate:
            flops = self.model.flops_per_token(batch.tokens.shape[1]) * tokens_per_second
            record["matrix_rate_fraction"] = flops / self.matrix_rate
        return record

    def _record(self, record: Record) -> None:
        self.run.append(record)
        self.observe(record)

    def _save(self) -> None:
        if not all(torch.isfinite(p).all() for p in self.model.parameters()):
            raise TrainingStopped(f"step {self.progress.step}: a weight is not finite. {ADVICE}")
        self.progress.metrics_bytes = self.run.sync_metrics()
        validated = self.progress.validated_step == self.progress.step
        loss = self.progress.validation_loss_nats if validated else None
        facts = {"validation_loss_nats": loss}
        checkpoints.commit(self.run.checkpoints, self.progress.step, self._write, facts)
        checkpoints.prune(self.run.checkpoints, self.checkpointing)

    def _write(self, folder: Path) -> None:
        self.save_model(folder / "model")
        state = folder / "state"
        state.mkdir()
        save_file(self.optimizer.state(), state / "optimizer.safetensors")
        (state / "progress.json").write_text(json.dumps(vars(self.progress)), "utf-8")
