"""From logits to the next token: temperature, top-k, top-p, min-p, or the most likely."""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from foundling.base.config import Section
from foundling.models.finite import check_finite


class Sampling(Section):
    """How a token is chosen; the filters apply in the order top_k, top_p, min_p."""

    temperature: float = Field(1.0, ge=0)
    """0 takes the most likely token, the lowest id of equals."""
    top_k: int | None = Field(None, gt=0)
    """Keep the k most likely tokens."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Keep the fewest most likely tokens that hold this share of the probability."""
    min_p: float | None = Field(None, ge=0, le=1)
    """Keep the tokens at least this share as likely as the most likely one."""
    seed: int = 0

    def changed(self, settings: Mapping[str, int | float | None]) -> "Sampling":
        """With other settings.

        Raises:
            ConfigError: there is no such setting, or a value is out of its range.
        """
        return Sampling.parse({**self.values(), **settings}) if settings else self


def choose(
    logits: Float[Tensor, "batch vocab"], sampling: Sampling, generator: torch.Generator
) -> Int[Tensor, " batch"]:
    """Draw one token a row.

    Raises:
        ConfigError: the logits of a row are not finite.

    Source: Fan et al. 2018 (top-k); Holtzman et al. 2020 (top-p); Nguyen et al. 2024 (min-p).
    """
    check_finite(logits.amax(-1))  # one NaN makes the maximum NaN; -inf elsewhere may mask a token
    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = keep(logits, sampling)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]


def keep(logits: Float[Tensor, "batch vocab"], sampling: Sampling) -> Float[Tensor, "batch vocab"]:
    """The probabilities that are left after temperature and filters, adding up to 1."""
    # The largest is taken away first: a tiny temperature must not make it infinite.
    logits = logits.float() - logits.max(-1, keepdim=True).values.float()
    probabilities = (logits / sampling.temperature).softmax(-1)
    if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
        least = probabilities.topk(sampling.top_k).values[:, -1:]
        probabilities = _only(probabilities, probabilities >= least)
    if sampling.top_p is not None:
        ordered, order = probabilities.sort(descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered
        kept = torch.zeros_like(order, dtype=torch.bool)
        kept.scatter_(-1, order, before < sampling.top_p)
        probabilities = _only(probabilities, kept)
    if sampling.min_p is not None:
        least = sampling.min_p * probabilities.max(-1, keepdim=True).values
        probabilities = _only(probabilities, probabilities >= least)
    return probabilities


def _only(probabilities: Tensor, kept: Tensor) -> Tensor:
    left = probabilities * kept
    return left / left.sum(-1, keepdim=True)
