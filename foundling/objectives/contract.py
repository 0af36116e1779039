"""What every objective gives the loop: sums, never means."""

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from foundling.models.batch import Batch
from foundling.models.language_model import LanguageModel


@dataclass(frozen=True)
class LossSum:
    """A loss over some targets; micro-batches and ranks add up exactly.

    `total` in nats, with gradients; `count` of targets, or of pairs; `rows` the part of
    `total` of each row of the batch, without gradients; `metrics` further sums by name.
    """

    total: Float[Tensor, ""]
    count: Int[Tensor, ""]
    rows: Float[Tensor, " batch"]
    metrics: dict[str, Float[Tensor, ""]] = field(default_factory=dict)


@runtime_checkable
class Objective(Protocol):
    """What a stage minimises, over batches of `batch_type`."""

    @property
    def batch_type(self) -> type[Batch]: ...

    def __call__(self, model: LanguageModel, batch: Any) -> LossSum: ...
