"""The value of an objective and of its metrics on a data set."""

from collections.abc import Callable, Iterable

import torch

from foundling.base.precision import autocast
from foundling.base.ranks import sum_over_ranks
from foundling.base.sharded import measuring
from foundling.models.batch import Batch, share_of
from foundling.models.language_model import LanguageModel
from foundling.objectives import Objective


def measure_objective(
    model: LanguageModel,
    objective: Objective,
    batches: Iterable[Batch],
    *,
    device: torch.device,
    precision: torch.dtype,
    check: Callable[[], None] = lambda: None,
) -> tuple[int, dict[str, float]]:
    """What is counted, and the sums of the loss (`loss`) and of each metric over all of it.

    Each process works its share of every batch. `check` is called between batches and may raise.
    """
    sums: dict[str, float] = {"count": 0.0}
    with measuring(model), torch.no_grad():
        for batch in batches:
            check()
            with autocast(device, precision):
                loss = objective(model, share_of(batch).to(device))
            figures = {"count": loss.count, "loss": loss.total, **loss.metrics}
            for name, value in figures.items():
                sums[name] = sums.get(name, 0.0) + float(value.double())
    count, *others = sum_over_ranks(*sums.values())
    return int(count), dict(zip([*sums][1:], others, strict=True))
