"""The one training loop: batches in, updates out, everything on record."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from foundling.base import intervals, ranks
from foundling.base.precision import autocast
from foundling.base.ranks import agreed, largest_over_ranks, on_first, sum_over_ranks
from foundling.base.runtime import seed_everything
from foundling.models.batch import Data, passes_over
from foundling.objectives.contract import Objective
from foundling.runs import checkpoint as checkpoints
from foundling.runs.run import Run
from foundling.training.amendments import Amendments
from foundling.training.attempt import Attempt
from foundling.training.guard.guard import Signals, Update
from foundling.training.interrupt import Interrupt, Interrupted
from foundling.training.pulse import Pulse
from foundling.training.rewind import Healer, TrainingStopped
from foundling.training.saving import Saver
from foundling.training.schedules import ScheduleSettings, rate_share
from foundling.training.state import Progress, TrainingState
from foundling.training.stragglers import Stragglers

Record = Mapping[str, Any]
Seam = Callable[[str, int, Sequence[int], Any], Any]
"""(site, step, samples, value) → value: a fault-injection hook, used by tests and the demo."""

ADVICE = "The last checkpoint is intact; start a new run with a lower learning rate."


def untouched(site: str, step: int, samples: Sequence[int], value: Any) -> Any:
    """No fault injected."""
    return value


@dataclass(frozen=True)
class Pace:
    """How far and in what portions the loop goes."""

    steps: int
    micro_batch_size: int | None = None
    """Rows worked at a time; None: the whole batch. Their sums add up to the whole batch's."""
    validate_every: int = 200
    validate_first: bool = False
    """Validate before the first step."""
    patience: int = 0
    """Validations without a new best after which training ends; 0: it never does."""
    stop_below: float = 0.0
    """The validation loss in nats below which training ends."""


@dataclass
class Loop:
    """Trains the state's model on `data` for `objective`.

    `validate(interrupted)` gives the records of a validation, or raises Interrupted when
    `interrupted()` is true; every record goes to the run's metrics first and to `observe` then.
    Randomness is drawn anew from (seed, step) at each step, so a step is a pure function of the
    state before it and of the amendments.
    """

    state: TrainingState
    objective: Objective
    data: Data
    schedule: ScheduleSettings
    pace: Pace
    saver: Saver
    run: Run
    seed: int
    device: torch.device
    precision: torch.dtype
    validate: Callable[[Callable[[], bool]], Iterable[Record]]
    healer: Healer | None = None
    """None: a step that is not finite stops the run."""
    initial_amendments: Amendments = field(default_factory=Amendments)
    observe: Callable[[Record], None] = lambda record: None
    matrix_rate: float | None = None
    """The measured rate of all processes in FLOP/s, to compare with; None: not compared."""
    seam: Seam = untouched
    begin_pass: Callable[[bool], None] = lambda is_last: None
    """Told before each forward and backward pass whether it is the last one of its step."""
    pulse: Pulse = field(default_factory=Pulse)

    def __post_init__(self) -> None:
        self.optimizer = self.state.optimizer
        self.stragglers = Stragglers(self.pulse, self.device)
        self.saver.waiting = self.pulse.goes_on
        if self.healer:
            self.healer.restoring = partial(self.pulse.at, "checkpoint")

    @property
    def progress(self) -> Progress:
        return self.state.progress

    @property
    def amendments(self) -> Amendments:
        return self.healer.amendments if self.healer else self.initial_amendments

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
                    "intact. Mend that (a full disk: free space), then resume with --resume."
                ) from error

    def _train_or_save(self, interrupt: Interrupt) -> None:
        try:
            self._train(interrupt)
            self.saver.finish()
        except Interrupted:
            self._save()
            self.saver.finish()
            raise
        except TrainingStopped:
            if self.healer:
                self._save_healthy()
            raise

    def _train(self, interrupt: Interrupt) -> None:
        if self._validation_is_due():
            self._finish_step(interrupt)  # an interruption had come before it
        while not self._done():
            record = self._step()
            if record is not None:
                self._record(record)
                if straggler := self.stragglers.look(self.progress.step):
                    self._record(straggler)
            if agreed(interrupt.requested):
                raise Interrupted
            if record is not None:
                self._finish_step(interrupt)

    def _finish_step(self, interrupt: Interrupt) -> None:
        if self._validation_is_due() and not self._validate(interrupt):
            return
        step, best = self.progress.step, False
        if self.progress.validated_step == step:
            loss, before = self.progress.validation_loss_nats, self.progress.best_loss_nats
            if loss is not None and (before is None or loss < before):
                best, self.progress.best_loss_nats = True, loss
                self.progress.best_step = step
        wanted = best and self.saver.settings.keep_best
        if wanted or self._done() or step % self.saver.settings.every == 0:
            self._save()

    def _done(self) -> bool:
        step, best, patience = self.progress.step, self.progress.best_loss_nats, self.pace.patience
        if step >= self.pace.steps or best is None:
            return step >= self.pace.steps
        without_best = step - self.progress.best_step
        is_flat = patience > 0 and without_best >= patience * self.pace.validate_every
        return is_flat or best < self.pace.stop_below

    def _validation_is_due(self) -> bool:
        step, every = self.progress.step, self.pace.validate_every
        now = step == self.pace.steps or step % every == 0
        return (
            now and self.progress.validated_step < step and (step > 0 or self.pace.validate_first)
        )

    def _validate(self, interrupt: Interrupt) -> bool:
        """False: the validation showed a damaged model, and the run went back."""

        def interrupted() -> bool:
            if ranks.is_alone():  # all pass the same places
                self.pulse.goes_on()
            else:
                self.pulse.at("validation")
            return agreed(interrupt.requested)

        records = []
        for record in self.validate(interrupted):
            if record["split"] == "validation":
                (loss_nats,) = largest_over_ranks(record["loss_nats"])
                if not math.isfinite(loss_nats):
                    self._went_bad(f"the validation loss is {loss_nats}")
                    return False
                self.progress.validation_loss_nats = loss_nats
            records.append(record)
        # Recorded only now, all of it: an interrupted validation is done anew.
        for record in records:
            self._record({**record, "step": self.progress.step, "tokens": self.progress.tokens})
        self.progress.validated_step = self.progress.step
        return True

    def _went_bad(self, reason: str) -> None:
        if self.healer is None:
            raise TrainingStopped(f"step {self.progress.step}: {reason}. {ADVICE}")
        self.healer.went_bad(reason)

    def _step(self) -> Record | None:
        """One update; None: the guard left the batch out, or went back."""
        started = time.perf_counter()
        step, share = self.progress.step, self._rate_share()
        self.pulse.at("state", step)
        self.seam("state", step, self._samples(step), self.state)
        if self.healer is None:
            attempt = self._attempt(step, share)
            if not attempt.signals.finite:
                raise TrainingStopped(
                    f"step {step}: the loss is {attempt.loss_nats} and the gradient's norm "
                    f"{attempt.signals.gradient_norm}; stopped before they changed the model. "
                    f"{ADVICE}"
                )
            self.optimizer.step()
        else:
            if not self.healer.begin(step):
                return None
            found = self.healer.judge(
                self._attempt(step, share), lambda: self._attempt(step, share)
            )
            if found is None:
                return None
            attempt, evidence = found
            if not self.healer.accept(step, evidence, self._update(step, share)):
                return None
        seconds = time.perf_counter() - started
        self.progress.step = step + 1
        self.progress.tokens += attempt.num_tokens
        self.progress.seconds += seconds
        self.optimizer.zero_grad()  # what comes before the next step may use their memory
        first, *others = self.optimizer.learning_rates().items()
        tokens_per_second = attempt.num_tokens / seconds
        record: dict[str, Any] = {
            "split": "train",
            "step": self.progress.step,
            "tokens": self.progress.tokens,
            "loss_nats": attempt.loss_nats,
            **attempt.metrics,
            "gradient_norm": attempt.signals.gradient_norm,
            "learning_rate": first[1],
            **{f"learning_rate_{part}": rate for part, rate in others},
            "seconds": self.progress.seconds,
            "tokens_per_second": tokens_per_second,
        }
        if self.matrix_rate:
            context = attempt.num_tokens // len(attempt.samples)
            flops = self.state.model.flops_per_token(context) * tokens_per_second
            record["matrix_rate_fraction"] = flops / self.matrix_rate
        return record

    def _update(self, step: int, share: float) -> Update:
        """Make the update, and say how large it was."""
        self.pulse.at("update")
        norm, weights = largest_over_ranks(*self.optimizer.step_measured())
        scheduled = self._scheduled_share(step)
        relative = norm / weights if weights else 0.0
        return Update(norm / (share or 1.0), relative / (scheduled or 1.0))

    def _rate_share(self) -> float:
        step = self.progress.step
        return self._scheduled_share(step) * self.amendments.rate_share(step)

    def _scheduled_share(self, step: int) -> float:
        return rate_share(self.schedule, step, self.pace.steps)

    def _samples(self, step: int) -> list[int]:
        indices = range(step * self.data.batch_size, (step + 1) * self.data.batch_size)
        return [intervals.kept(self.amendments.skipped, index) for index in indices]

    def _attempt(self, step: int, share: float) -> Attempt:
        """Forward and backward over the step's batch, always the same for the same state."""
        self.pulse.at("data")
        samples = self._samples(step)
        # Processes draw differently; the first as one alone does.
        seed_everything(self.seed, "step", step, *([ranks.rank()] if ranks.rank() else []))
        batch = self.data.batch(step, self.amendments.skipped)
        batch = self.seam("batch", step, samples, batch)
        self.optimizer.zero_grad()
        self.optimizer.set_rate_share(share)
        self.state.model.train()
        sums: dict[str, torch.Tensor] = {}
        row_sums = []
        passes = passes_over(batch, self.pace.micro_batch_size)
        for number, (place, rows) in enumerate(passes, 1):
            self.pulse.at("passes")
            part = rows.to(self.device)
            self.begin_pass(number == len(passes))
            with autocast(self.device, self.precision):
                loss = self.objective(self.state.model, part)
            loss = self.seam("loss", step, samples[place.start : place.stop], loss)
            loss.total.backward()
            parts = {"total": loss.total, "count": loss.count, **loss.metrics}
            for name, value in parts.items():
                sums[name] = sums.get(name, 0) + value.detach().double()
            if place:
                row_sums.append(loss.rows)
        self.pulse.at("waiting")
        mine, each = ranks.share(len(batch)), [0.0] * len(batch)
        each[mine.start : mine.stop] = torch.cat(row_sums).tolist() if row_sums else []
        figures = sum_over_ranks(*[value.item() for value in sums.values()], *each)
        total, count, *metrics = figures[: len(sums)]
        losses, counts = figures[len(sums) :], batch.row_counts.clamp(min=1).tolist()
        largest = self._largest_mean(losses, counts)
        self.pulse.at("gradients")
        self.seam("gradient", step, samples, self.state.model)
        norm = self.optimizer.finish_gradients(count)
        return Attempt(
            samples=samples,
            row_losses=[loss / number for loss, number in zip(losses, counts, strict=True)],
            num_tokens=batch.tokens.numel(),
            loss_nats=total / count,
            metrics={name: value / count for name, value in zip([*sums][2:], metrics, strict=True)},
            signals=Signals(total / count, *largest_over_ranks(largest, norm)),
        )

    def _largest_mean(self, losses: Sequence[float], counts: Sequence[int]) -> float:
        """Of the micro-batches that one process would work, however many there are.

        Args:
            losses: of each row of the batch, summed.
            counts: how many targets each row has.
        """
        size = self.pace.micro_batch_size or len(losses)
        parts = [slice(first, first + size) for first in range(0, len(losses), size)]
        means = [sum(losses[part]) / sum(counts[part]) for part in parts]
        return torch.tensor(means).max().item()  # one that is not a number comes first

    def _record(self, record: Record) -> None:
        self.run.append(record)
        self.observe(record)

    def _save_healthy(self) -> None:
        """Keep the state that the guard went back to when it stopped, and none that came after."""
        self.saver.settle()
        if self.progress.step or not on_first(lambda: checkpoints.committed(self.run.checkpoints)):
            self._save()
            self.saver.settle()
            on_first(lambda: checkpoints.drop_after(self.run.checkpoints, self.progress.step))

    def _save(self) -> None:
        self.pulse.at("checkpoint")
        if defect := self.state.defect():
            self._went_bad(defect)
            return
        self.progress.metrics_bytes = self.run.sync_metrics()
        validated = self.progress.validated_step == self.progress.step
        loss = self.progress.validation_loss_nats if validated else None
        step = self.progress.step
        healthy = self.healer.guard.oldest_needed(step) if self.healer else None
        self.saver.save({"validation_loss_nats": loss}, healthy)
