"""Refuses a model whose outputs are not finite."""

from math import isfinite

from torch import Tensor

from foundling.base.config import ConfigError


class NotFiniteError(ConfigError):
    """A model computed NaN or infinity."""


def check_finite(values: Tensor) -> None:
    """Check what was computed from logits, such as their maximum or their log-probabilities.

    Raises:
        NotFiniteError: a value is NaN or infinite.
    """
    # A single number is asked for its value: torch takes several times as long.
    if not (isfinite(values.item()) if values.numel() == 1 else values.isfinite().all()):
        raise NotFiniteError(
            "the model's logits are not finite (NaN or infinite): its weights are damaged, or too "
            "large for the precision; check the weights, or try --precision fp32."
        )
