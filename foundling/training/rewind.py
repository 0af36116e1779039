"""Carries out what the guard decides: computes again, leaves samples out, rolls back."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from foundling.base import intervals
from foundling.base.group import ALONE, Group
from foundling.base.ranks import is_first, largest_over_ranks
from foundling.models.batch import Data
from foundling.runs import checkpoint as checkpoints
from foundling.runs.run import Run
from foundling.training.amendments import Amendments
from foundling.training.attempt import Attempt
from foundling.training.guard.guard import Act, Evidence, Guard, Kind, Update, Verdict
from foundling.training.state import Snapshot, TrainingState

EXCERPT = 160  # characters of a sample that the events show
KEPT_LOSSES = 512  # of single sequences, in an event


class TrainingStopped(Exception):
    """Training stopped itself; the last good checkpoint is intact."""


@dataclass
class Healer:
    """Carries out the guard's decisions.

    Every act is written down before it is done (an intent, on the disk) and once more after (a
    commit). What an act changes beside the state in memory, the amendments in the manifest and the
    checkpoints of undone steps, can be done twice without harm, so that a run that was killed in
    the middle finishes the act when it is resumed and ends the same.

    The step goes back with the model and the data do not: the samples from the step rolled back to
    until the anomaly are left out for good. Steps that had been healthy are never trained on other
    samples for it, so any older state leads there again, in memory or on disk.
    """

    guard: Guard
    state: TrainingState
    run: Run
    data: Data
    canary: Callable[[], float]
    """The mean loss on a fixed batch."""
    observe: Callable[[Mapping[str, Any]], None] = lambda record: None
    initial: Amendments = field(default_factory=Amendments)
    """What the run was told to leave out from the start."""
    settle: Callable[[], None] = lambda: None
    """Waits until no checkpoint is being written."""
    group: Group = ALONE
    """The processes, which share the reading of checkpoints."""
    restoring: Callable[[], None] = lambda: None
    """Told before a state is restored, which may be from disk and take long."""
    snapshots: deque[Snapshot] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.amendments = amended(self.initial, self.run.events())

    def begin(self, step: int) -> bool:
        """Keep the state in memory if it is time; False: it was damaged, and is rolled back.

        What counts as damage later does not depend on whether there was room for a copy.
        """
        settings = self.guard.settings
        known = any(snapshot.progress.step == step for snapshot in self.snapshots)
        if step % settings.snapshot_every or known:
            return True
        if defect := self.state.defect():
            self.went_bad(defect)
            return False
        self.state.measure()
        room = settings.snapshot_mb * 10**6 - self.state.snapshot_bytes()
        while self.snapshots and (
            len(self.snapshots) >= settings.snapshots
            or sum(snapshot.nbytes for snapshot in self.snapshots) > room
        ):
            self.snapshots.popleft()
        if settings.snapshots and room >= 0:
            self.snapshots.append(self.state.snapshot())
        return True

    def judge(
        self, attempt: Attempt, again: Callable[[], Attempt]
    ) -> tuple[Attempt, Evidence] | None:
        """The attempt whose gradients may be used; None: it was skipped or rolled back.

        Raises:
            TrainingStopped: the guard knows no further way.
        """
        step = self.state.progress.step
        evidence = Evidence(attempt.signals)
        fault = ""
        while True:
            verdict = self.guard.check(step, evidence)
            if verdict.kind is Kind.REPLAY:
                fault, attempt = verdict.reason, again()
                evidence = replace(evidence, signals=attempt.signals, replayed=True)
            elif verdict.kind is Kind.CANARY:
                (canary,) = largest_over_ranks(self.canary())
                evidence = replace(evidence, canary=canary, defect=self.state.defect())
            else:
                break
        if verdict.kind is Kind.STEP:
            if fault:
                self._note("transient", step, f"{fault}; computed again, the step was healthy")
            elif verdict.reason:
                self._note("hard data", step, verdict.reason)
            return attempt, evidence
        self._act(verdict, attempt)
        return None

    def accept(self, step: int, evidence: Evidence, update: Update) -> bool:
        """Take the update that was made for healthy; False: it was not, and is rolled back."""
        verdict = self.guard.check_update(step, update)
        if verdict.kind is not Kind.STEP:
            self._act(verdict)
            return False
        self.guard.accept(step, evidence, update)
        last = self.guard.acts[-1] if self.guard.acts else None
        if last and last.kind is Kind.REWIND and not last.batches and last.step == step:
            self._note(
                "transient", step, "repeated, the steps were healthy: the data were not at fault"
            )
        return True

    def went_bad(self, reason: str) -> None:
        """Go back from a model that is damaged beyond doubt."""
        self._act(self.guard.damaged(self.state.progress.step, reason))

    def _act(self, verdict: Verdict, attempt: Attempt | None = None) -> None:
        self.settle()
        step = self.state.progress.step
        intent: dict[str, Any] = {"act": verdict.kind, "step": step, **self._plan(verdict)}
        intent["message"] += f": {verdict.reason}"
        number = self._log("intent", intent | self._sequences(attempt))
        if verdict.kind is Kind.REWIND or verdict.damaged:
            self._restore(verdict.to)
        self.amendments = carry_out(self.run, self.initial, intent)
        self.run.log({"id": number, "phase": "commit", "time": _now()})
        self.guard.acts.append(_act_of(intent))
        self.observe({"split": "event", **intent})
        if verdict.kind is Kind.STOP:
            raise TrainingStopped(
                f"step {step}: {verdict.reason}. The newest healthy checkpoint is intact; "
                "events.jsonl and the report have the samples. Look at them; then resume "
                "with a larger guard.max_skips or guard.max_rewinds, or start a new run with "
                "a lower learning rate."
            )

    def _plan(self, verdict: Verdict) -> dict[str, Any]:
        """What an act consists of, for the events."""
        step = self.state.progress.step
        if verdict.kind is Kind.STOP:
            back = {"to": verdict.to} if verdict.damaged else {}
            return {"kind": "stop", "message": "stopped", **back}
        past = self._sample(step + 1, -1) + 1
        if verdict.kind is Kind.SKIP:
            first = self._sample(step, 0)
            words = f"skipped samples {first:,} to {past - 1:,}"
            return {"kind": "skip", "message": words, "skipped": [first, past]}
        words, back = f"rolled back to step {verdict.to:,}", {"to": verdict.to}
        if not verdict.batches:
            return {"kind": "replay", "message": f"{words} to repeat the steps", **back}
        first = self._sample(verdict.to, 0)
        past = max(past, self._sample(verdict.to + verdict.batches, -1) + 1)
        plan = {**back, "batches": verdict.batches, "skipped": [first, past]}
        words += f", skipped samples {first:,} to {past - 1:,}"
        if verdict.rate_cut is not None:
            plan["rate_cut"] = [verdict.to, verdict.rate_cut, self.guard.settings.warmup_steps]
            words += f", learning rate × {verdict.rate_cut:.3g} from there"
        return {"kind": "rewind", "message": words, **plan}

    def _sample(self, step: int, row: int) -> int:
        return intervals.kept(self.amendments.skipped, step * self.data.batch_size + row)

    def _restore(self, to: int) -> None:
        """Take up the newest state up to a step; the steps in between are then done again alike."""
        self.restoring()
        seconds = self.state.progress.seconds
        self.state.reload_frozen()
        while self.snapshots and self.snapshots[-1].progress.step > to:
            self.snapshots.pop()
        saved = checkpoints.newest_whole(self.run.checkpoints, to, self.group)
        if self.snapshots and (not saved or self.snapshots[-1].progress.step >= saved.step):
            self.state.restore(self.snapshots[-1])
        elif saved:
            self.state.read(saved)
        else:
            self.state.restart()
        self.state.progress.seconds = seconds

    def _sequences(self, attempt: Attempt | None) -> dict[str, Any]:
        """The losses of the batch's sequences, and where the worst of them come from."""
        if attempt is None:
            return {}
        worst = []
        for sample, loss in attempt.worst():
            origin = dict(self.data.describe(sample))
            origin["text"] = str(origin.get("text", ""))[:EXCERPT]
            worst.append({"sample": sample, "loss_nats": _number(loss), **origin})
        losses = [_number(loss) for loss in attempt.row_losses[:KEPT_LOSSES]]
        return {"sequence_losses_nats": losses, "worst_sequences": worst}

    def _note(self, kind: str, step: int, message: str, attempt: Attempt | None = None) -> None:
        event = {"kind": kind, "step": step, "message": message}
        self._log("note", event | self._sequences(attempt))
        self.observe({"split": "event", **event})

    def _log(self, phase: str, event: Mapping[str, Any]) -> int:
        number = len(self.run.events()) + 1
        self.run.log({"id": number, "phase": phase, "time": _now(), **event})
        return number


def carry_out(run: Run, initial: Amendments, intent: Mapping[str, Any]) -> Amendments:
    """Do what an act changes on disk; doing it twice does no harm."""
    amendments = amended(initial, run.events())
    run.amend({"amendments": amendments.values()})
    if intent["act"] == Kind.REWIND and is_first():
        checkpoints.drop_after(run.checkpoints, intent["to"])
    return amendments


def amended(initial: Amendments, events: Iterable[Mapping[str, Any]]) -> Amendments:
    """The amendments that a run began with, and those that its acts made since."""
    amendments = initial
    for event in events:
        if "skipped" in event:
            amendments = amendments.skip(*event["skipped"])
        if "rate_cut" in event:
            amendments = amendments.cut(*event["rate_cut"])
    return amendments


def finish(run: Run, initial: Amendments) -> list[str]:
    """Finish the act in the middle of which a run was killed; what was finished, in words."""
    run.mend_events()
    unfinished = [event for event in run.events() if not event["done"]]
    for event in unfinished:
        carry_out(run, initial, event)
        run.log({"id": event["id"], "phase": "commit", "time": _now()})
    return [f"finished at step {event['step']:,}: {event['message']}" for event in unfinished]


def acts_of(events: Iterable[Mapping[str, Any]]) -> list[Act]:
    """What was done, for the guard to know which rungs of its ladder are spent."""
    return [_act_of(event) for event in events if "act" in event]


def _act_of(event: Mapping[str, Any]) -> Act:
    return Act(Kind(event["act"]), event["step"], event.get("to", 0), event.get("batches", 0))


def _number(value: float) -> float | str:
    return round(value, 6) if math.isfinite(value) else str(value)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
