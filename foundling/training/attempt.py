"""One forward and backward pass over a batch, of which nothing is kept yet."""

import math
from dataclasses import dataclass

from foundling.training.guard.guard import Signals


@dataclass(frozen=True)
class Attempt:
    """What a pass gave; its gradients, divided and clipped, lie in the parameters."""

    samples: list[int]
    """The global index of each row of the batch."""
    row_losses: list[float]
    """The mean loss of each row in nats."""
    num_tokens: int
    loss_nats: float
    metrics: dict[str, float]
    """Means over the targets."""
    signals: Signals

    def worst(self, count: int = 5) -> list[tuple[int, float]]:
        """The samples with the highest losses, with these; what is not finite comes first."""
        order = sorted(
            zip(self.samples, self.row_losses, strict=True),
            key=lambda row: (math.isfinite(row[1]), -row[1] if math.isfinite(row[1]) else 0.0),
        )
        return order[:count]
