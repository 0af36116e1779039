"""How well a model tells chosen from rejected answers, and what training did to either."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from foundling.metrics.objective import measure_objective
from foundling.models.batch import PreferenceBatch
from foundling.models.language_model import LanguageModel
from foundling.objectives import Objective
from foundling.statistics.wilson import wilson


@dataclass(frozen=True)
class Preferences:
    """Means over pairs, in nats unless said otherwise."""

    count: int
    loss_nats: float
    accuracy: float
    """The share of pairs whose chosen answer gained more on the reference; a tie is wrong."""
    ranking: float
    """The share whose chosen answer is the likelier one by the model alone."""
    longer: float
    """The share whose chosen answer is the longer one; a tie counts half."""
    margin: float
    chosen_length: float
    rejected_length: float
    entropy_nats: float
    """Per token."""
    chosen_change: float | None
    """How the whole answer's log-probability moved since the reference; None without one."""
    rejected_change: float | None

    @property
    def chosen_change_per_token(self) -> float | None:
        return None if self.chosen_change is None else self.chosen_change / self.chosen_length

    def values(self) -> dict[str, Any]:
        """The figures of a validation record, shares with their 95% intervals."""

        def interval(share: float) -> list[float]:
            return list(wilson(round(share * self.count), self.count) or (0.0, 1.0))

        return {
            "loss_nats": self.loss_nats,
            "num_pairs": self.count,
            "accuracy": self.accuracy,
            "accuracy_interval": interval(self.accuracy),
            "ranking_accuracy": self.ranking,
            "ranking_interval": interval(self.ranking),
            "longer_accuracy": self.longer,
            "margin": self.margin,
            "chosen_change": self.chosen_change,
            "rejected_change": self.rejected_change,
            "chosen_change_per_token": self.chosen_change_per_token,
            "chosen_length": self.chosen_length,
            "rejected_length": self.rejected_length,
            "entropy_nats": self.entropy_nats,
        }


def measure_preferences(
    model: LanguageModel,
    objective: Objective,
    batches: Iterable[PreferenceBatch],
    *,
    device: torch.device,
    precision: torch.dtype,
    check: Callable[[], None] = lambda: None,
) -> Preferences:
    """Score every pair of `batches`; `check` is called between them and may raise."""
    count, sums = measure_objective(
        model, objective, batches, device=device, precision=precision, check=check
    )
    targets = sums["chosen_length"] + sums["rejected_length"]
    referred = "chosen_change" in sums
    return Preferences(
        count,
        sums["loss"] / count,
        sums["accuracy"] / count,
        sums["ranking"] / count,
        sums["longer"] / count,
        sums["margin"] / count,
        sums["chosen_length"] / count,
        sums["rejected_length"] / count,
        sums["entropy"] / targets,
        sums["chosen_change"] / count if referred else None,
        sums["rejected_change"] / count if referred else None,
    )
