"""How well a model gives the answers of a data set, and how far it has gone from another."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from foundling.base.precision import autocast
from foundling.models.batch import TokenBatch
from foundling.models.language_model import LanguageModel
from foundling.objectives import Sft
from foundling.objectives.reference import Reference


@dataclass(frozen=True)
class Answers:
    """Means over all tokens of the answers, in nats."""

    count: int
    loss_nats: float
    entropy_nats: float
    kl_nats: float | None
    """KL(model ‖ reference) of the next token; None without a reference."""


def measure_answers(
    model: LanguageModel,
    batches: Iterable[TokenBatch],
    reference: Reference | None,
    *,
    device: torch.device,
    precision: torch.dtype,
    check: Callable[[], None] = lambda: None,
) -> Answers:
    """Score every target of `batches`; `check` is called between them and may raise."""
    objective, count, sums = Sft(reference=reference), 0, dict[str, float]()
    model.eval()
    with torch.no_grad():
        for batch in batches:
            check()
            with autocast(device, precision):
                loss = objective(model, batch.to(device))
            count += int(loss.count)
            for name, value in loss.metrics.items():
                sums[name] = sums.get(name, 0.0) + float(value.double())
    return Answers(
        count,
        sums["cross_entropy"] / count,
        sums["entropy"] / count,
        sums["kl"] / count if "kl" in sums else None,
    )
