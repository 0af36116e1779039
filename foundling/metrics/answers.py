"""How well a model predicts the answers of a data set, and its distance from another model."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from foundling.metrics.objective import measure_objective
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
    count, sums = measure_objective(
        model,
        Sft(reference=reference),
        batches,
        device=device,
        precision=precision,
        check=check,
    )
    return Answers(
        count,
        sums["cross_entropy"] / count,
        sums["entropy"] / count,
        sums["kl"] / count if "kl" in sums else None,
    )
