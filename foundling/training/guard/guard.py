"""Decides what is done about a step: floats in, a verdict out."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from foundling.training.guard.detector import Detector, log, median
from foundling.training.guard.settings import GuardSettings

CANARIES = 10  # looks at the canary that are remembered
RECENT_CANARIES = 3
CANARY_FLOOR = math.log(1.13)
"""The smallest rise of the canary's loss that counts. Measured on recorded runs."""
DOUBTS = 3
"""Looks in a row at which only the canary must be anomalous."""
HEALTHY_UPDATE = 0.02
"""What a step changes, as a share of the weights' norm, at the peak of a learning rate that suits.

Measured with the default settings: 0.015 to 0.03 on transformers; 0.6 at 30 times that rate.
"""
LARGE_UPDATE = 0.1
"""From such a share on, a rise of the loss in the first steps counts sooner."""
KEPT_UPDATES = 256
SKIP_SPAN = 10  # steps within which skipped batches count together


@dataclass(frozen=True)
class Signals:
    """What is known of a step before it changes anything.

    Losses are means in nats; `max_loss` is the largest micro-batch's; `gradient_norm` is taken
    before clipping.
    """

    loss: float
    max_loss: float
    gradient_norm: float

    @property
    def finite(self) -> bool:
        return all(map(math.isfinite, (self.loss, self.max_loss, self.gradient_norm)))


@dataclass(frozen=True)
class Update:
    """How far a step moved the weights.

    `norm` is that of the change, divided by the share of the full learning rate that was used.
    `relative` is the change's share of the weights' norm, divided by the schedule's share alone, so
    that a rate that amendments lowered shows.
    """

    norm: float
    relative: float


@dataclass(frozen=True)
class Evidence:
    """What the guard has been told of a step so far."""

    signals: Signals
    replayed: bool = False
    """The signals are those of the step computed a second time."""
    canary: float | None = None
    """The loss on the canary, measured now; None: not asked for yet."""
    defect: str = ""
    """What is damaged in the weights or the optimizer's state beyond doubt, in words."""


class Kind(StrEnum):
    STEP = "step"
    REPLAY = "replay"
    """Compute the step again and ask again."""
    CANARY = "canary"
    """Measure the canary and ask again."""
    SKIP = "skip"
    REWIND = "rewind"
    STOP = "stop"


@dataclass(frozen=True)
class Verdict:
    kind: Kind
    reason: str = ""
    """What was out of line; with STEP: what turned out to be harmless."""
    to: int = 0
    """REWIND: the step to go back to; STOP: the last healthy one."""
    batches: int = 0
    """REWIND: how many batches from there on are left out; 0: none, the fault may be gone."""
    rate_cut: float | None = None
    damaged: bool = False
    """STOP: the model is."""


STEP = Verdict(Kind.STEP)


@dataclass(frozen=True)
class Act:
    """One thing that was done, as `events.jsonl` remembers it."""

    kind: Kind
    step: int
    to: int = 0
    batches: int = 0


class Guard:
    """Anomalous steps are computed again, then skipped, rolled back, at last trained more slowly.

    Each rung of this ladder is tried only when the one before did not help, and every kind of act
    has a budget, so that it ends. `state` is what belongs to the model's step and goes back with
    it; `acts` are what was done and stay.
    """

    def __init__(self, settings: GuardSettings, acts: list[Act] | None = None) -> None:
        self.settings = settings
        self.acts = acts or []
        self.reset()

    def reset(self) -> None:
        """As before the first step."""
        self.detector = Detector(
            self.settings.window, self.settings.threshold, self.settings.loss_floor
        )
        self.canaries: list[tuple[float, float]] = []
        """Logarithms: the canary's loss, and the level of the training loss at that time."""
        self.doubts = 0
        """At how many looks in a row only the canary was anomalous."""
        self.updates: deque[tuple[int, float]] = deque(maxlen=KEPT_UPDATES)
        """The relative updates of the last steps."""

    def check(self, step: int, evidence: Evidence) -> Verdict:
        """What to do with a step whose signals are known and that has changed nothing yet."""
        signals = asdict(evidence.signals)
        objection = self.detector.objection(signals, shaken=self._shaken())
        rising = None if objection else self.detector.rising_for(evidence.signals.loss)
        is_time = step % self.settings.canary_every == 0 or self.doubts > 0
        if objection and not evidence.replayed:
            return Verdict(Kind.REPLAY, objection)
        if evidence.canary is None:
            if objection or rising or is_time:
                return Verdict(Kind.CANARY, objection or "")
            return Verdict(Kind.STEP, "computed again, the step is healthy" * evidence.replayed)
        anomaly = self._anomaly(evidence)
        if rising and not anomaly and self._rose_too(evidence.canary):
            anomaly = f"the canary has risen to {evidence.canary:.4g}"
        alone = anomaly and not (objection or rising or evidence.defect)
        if alone and self.doubts + 1 < DOUBTS:
            return STEP
        if anomaly:
            unseen = self.settings.canary_every + self.doubts
            since = unseen if alone else self.detector.drift.rising_for
            what = objection or (rising and f"the loss has been rising for {rising} steps")
            reason = f"{what}; {anomaly}" if what else anomaly
            return self._go_back(step, max(0, step - since), reason, damaged=True)
        if objection:
            return self._skip(step, f"{objection}; the canary is healthy ({evidence.canary:.4g})")
        if rising:
            return Verdict(
                Kind.STEP, f"the loss has been rising for {rising} steps, and the canary has not"
            )
        return STEP

    def check_update(self, step: int, update: Update) -> Verdict:
        """Whether the update of a step, which is made, may stay: STEP, REWIND or STOP."""
        objection = self.detector.objection({"update_norm": update.norm})
        if not objection:
            return STEP
        return self._go_back(step, step, objection, damaged=True, relative=update.relative)

    def damaged(self, step: int, reason: str) -> Verdict:
        """What to do about a model that is known to be damaged: REWIND or STOP."""
        return self._go_back(step, step, reason, damaged=True)

    def accept(self, step: int, evidence: Evidence, update: Update) -> None:
        """Take a step that was made for healthy."""
        if self.detector.rising_for(evidence.signals.loss):
            self.detector.drift.rebase()
        doubts, self.doubts = self.doubts, 0
        if evidence.canary is not None and self._anomaly(evidence):
            self.doubts = doubts + 1
        elif evidence.canary is not None:
            expected = self.detector.streams["loss"].expectation()
            level = expected.center if expected else log(evidence.signals.loss)
            self.canaries.append((log(evidence.canary), level))
            del self.canaries[:-CANARIES]
        self.updates.append((step, update.relative))
        self.detector.accept({**asdict(evidence.signals), "update_norm": update.norm})

    def healthy_before(self, onset: int) -> int:
        """The last step of those to go back to that had time to prove itself; 0 if none had."""
        every = self.settings.snapshot_every
        return max(0, (onset - self.settings.healthy_after) // every * every)

    def oldest_needed(self, step: int) -> int:
        """The last step whose state is needed if the model must be rolled back from here."""
        deepest = [act.to - self.settings.snapshot_every for act in self._incident(step)]
        return max(0, min([self.healthy_before(step), *deepest]))

    def state(self) -> dict[str, Any]:
        """In plain types, for a checkpoint."""
        return {
            "detector": self.detector.state(),
            "canaries": list(self.canaries),
            "doubts": self.doubts,
            "updates": list(self.updates),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.reset()
        self.detector.load_state(state["detector"])
        self.canaries = [(canary, level) for canary, level in state["canaries"]]
        self.doubts = state["doubts"]
        self.updates.extend((step, relative) for step, relative in state["updates"])

    def _anomaly(self, evidence: Evidence) -> str:
        """In words, why the model and not the data is at fault; empty: it is healthy."""
        if evidence.defect:
            return evidence.defect
        canary = evidence.canary
        if canary is None or not math.isfinite(canary):
            return f"the canary's loss is {canary}"
        if not self.canaries:
            return ""
        found = log(canary)
        usual = median([known for known, _ in self.canaries[-RECENT_CANARIES:]])
        anomaly = found > usual + CANARY_FLOOR
        expected = self.detector.streams["loss"].expectation(shaken=self._shaken())
        if expected is not None:  # how much harder than most batches it is
            anomaly = anomaly or found > expected.limit + median(
                [at - level for at, level in self.canaries]
            )
        return f"the canary's loss is {canary:.4g}, was {math.exp(usual):.4g}" if anomaly else ""

    def _shaken(self) -> bool:
        """Whether every step so far, of only a few, changed much of the model."""
        largest = max((relative for _, relative in self.updates), default=0.0)
        return largest > LARGE_UPDATE and not self.detector.streams["loss"].known

    def _rose_too(self, canary: float) -> bool:
        """Whether the canary has risen by at least half of what the loss has."""
        stream, levels = self.detector.streams["loss"], self.detector.drift.levels
        expected = stream.expectation()
        if expected is None or not self.canaries:
            return True
        rise = expected.center - min(levels)
        return log(canary) - min(known for known, _ in self.canaries) > rise / 2

    def _skip(self, step: int, reason: str) -> Verdict:
        skips = [act for act in self.acts if act.kind is Kind.SKIP]
        if len(skips) >= self.settings.max_skips:
            return Verdict(Kind.STOP, f"{reason}; {len(skips)} batches have been skipped already")
        last_back = max((i for i, a in enumerate(self.acts) if a.kind is Kind.REWIND), default=-1)
        near = [
            act
            for act in self.acts[last_back + 1 :]
            if act.kind is Kind.SKIP and step - SKIP_SPAN < act.step <= step
        ]
        if len(near) >= self.settings.patience:
            why = f"{reason}; {len(near)} batches were skipped just before"
            return self._go_back(step, near[0].step, why, damaged=False)
        return Verdict(Kind.SKIP, reason)

    def _go_back(
        self, step: int, onset: int, reason: str, *, damaged: bool, relative: float = 0.0
    ) -> Verdict:
        """`relative`: of the update that is refused, where it is the update."""
        incident = self._incident(step)
        spent = [act.batches for act in incident if act.batches]
        to, past = min([self.healthy_before(onset), *(act.to for act in incident)]), step + 1
        backs = sum(act.kind is Kind.REWIND for act in self.acts)
        if backs >= self.settings.max_rewinds:
            why = f"{reason}; the run has been rolled back {backs} times already"
            return Verdict(Kind.STOP, why, to, damaged=damaged)
        if damaged and not incident:
            return Verdict(Kind.REWIND, reason, to)
        if self._shaken():  # not the samples are at fault, the rate is
            return Verdict(Kind.REWIND, reason, to, past - to, self._rate_cut(to, relative))
        if not spent:
            return Verdict(Kind.REWIND, reason, to, past - to)
        to = max(0, to - self.settings.snapshot_every)  # it did not help: deeper
        if len(spent) == 1:
            return Verdict(Kind.REWIND, reason, to, max(past - to, 2 * spent[0]))
        return Verdict(Kind.REWIND, reason, to, past - to, self._rate_cut(to, relative))

    def _rate_cut(self, to: int, refused: float) -> float:
        """What to multiply the learning rate by, so that the updates since `to` would be healthy.

        A rate far too high is thus left at once, not in steps that each look healthy for a while.
        """
        made = [relative for step, relative in self.updates if step >= to]
        peak = max([HEALTHY_UPDATE, *filter(math.isfinite, [*made, refused])])
        return min(self.settings.rate_cut, HEALTHY_UPDATE / peak)

    def _incident(self, step: int) -> list[Act]:
        """The last rollbacks between which the run never was healthy."""
        incident: list[Act] = []
        for act in reversed([act for act in self.acts if act.kind is Kind.REWIND]):
            if not act.to <= step <= act.step + self.settings.cooldown:
                break
            incident.insert(0, act)
            step = act.step
        return incident
