"""Faults put into a run on purpose, at the loop's one seam."""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from foundling.base.ranks import rank
from foundling.base.sharded import local
from foundling.training.state import TrainingState


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    `site`: loss, gradient, parameter, optimizer, batch or process. `kind`: nan, inf, scale (by
    `factor`), corrupt (tokens), flip (one bit), rate (learning rate times `factor`) or kill.
    A fault with `samples` hits whenever one of these is in the batch; else it hits at `step`.
    A sticky fault hits every time, another only the first time.
    """

    site: str
    kind: str
    step: int = -1
    samples: range | None = None
    sticky: bool = False
    factor: float = 1000.0
    rank: int | None = None


@dataclass
class FaultPlan:
    """Call it as the loop's seam."""

    faults: Sequence[Fault]
    hits: list[tuple[int, Fault]] = field(default_factory=list)

    def __call__(self, site: str, step: int, samples: Sequence[int], value: Any) -> Any:
        for fault in self.faults:
            if SITES[fault.site] == site and self._is_due(fault, step, samples):
                self.hits.append((step, fault))
                value = _strike(fault, samples, value)
        return value

    def _is_due(self, fault: Fault, step: int, samples: Sequence[int]) -> bool:
        if fault.rank is not None and fault.rank != rank():
            return False
        if not fault.sticky and any(hit is fault for _, hit in self.hits):
            return False
        if fault.samples is not None:
            return any(sample in fault.samples for sample in samples)
        return step == fault.step


SITES = {
    "loss": "loss",
    "gradient": "gradient",
    "parameter": "state",
    "optimizer": "state",
    "process": "state",
    "batch": "batch",
}


def _strike(fault: Fault, samples: Sequence[int], value: Any) -> Any:
    match fault.site:
        case "loss":
            change = torch.tensor(CONSTANTS.get(fault.kind, fault.factor))
            return replace(value, total=value.total * change)
        case "gradient":
            gradient = next(p.grad for p in value.parameters() if p.grad is not None)
            _damage(gradient, fault)
        case "parameter":
            _damage(next(value.model.parameters()).data, fault)
        case "optimizer" if fault.kind == "rate":
            rates = value.optimizer.full_rates
            rates.update({part: rate * fault.factor for part, rate in rates.items()})
        case "optimizer":
            state: TrainingState = value
            _damage(next(t for t in state.optimizer.state().values() if t.ndim == 2), fault)
        case "batch":
            rows = range(len(value))
            if fault.samples is not None:
                rows = [row for row, sample in enumerate(samples) if sample in fault.samples]
            targets = value.targets.clone()
            noise = torch.Generator().manual_seed(1)
            for row in rows:  # targets that nobody can guess: rare tokens, in no order
                low = int(targets.max()) // 2
                targets[row] = torch.randint(low, 2 * low, targets[row].shape, generator=noise)
            return replace(value, targets=targets)
        case "process":
            os.kill(os.getpid(), signal.SIGKILL)
    return value


CONSTANTS = {"nan": float("nan"), "inf": float("inf")}


def _damage(tensor: torch.Tensor, fault: Fault) -> None:
    """Damage a tensor, or this rank's part of it."""
    with torch.no_grad():
        flat = local(tensor).view(-1)
        if fault.kind == "flip":  # the highest bit of the exponent
            place = int(flat.abs().argmax())
            flat[place : place + 1].view(torch.int32).bitwise_xor_(1 << 30)
        elif fault.kind == "scale":
            flat *= fault.factor
        else:
            flat[len(flat) // 2] = CONSTANTS[fault.kind]
