"""The value of an objective and of its metrics on a data set."""

from collections.abc import Callable, Iterable

import torch

from foundling.base.precision import autocast
from foundling.models.batch import Batch
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

    `check` is called between batches and may raise.
    """
    count, sums = 0, dict[str, float]()
    model.eval()
    with torch.no_grad():
        for batch in batches:
            check()
            with autocast(device, precision):
                loss = objective(model, batch.to(device))
            count += int(loss.count)
            for name, value in {"loss": loss.total, **loss.metrics}.items():
                sums[name] = sums.get(name, 0.0) + float(value.double())
    return count, sums
