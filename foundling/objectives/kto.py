"""KTO: answers labelled good become likelier than under the reference, bad ones less likely."""

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from foundling.base.config import Section
from foundling.models.batch import PreferenceBatch
from foundling.models.language_model import LanguageModel
from foundling.objectives.answers import answer_log_probs
from foundling.objectives.contract import LossSum
from foundling.objectives.reference_log_probs import ReferenceLogProbs


class KtoSettings(Section):
    """The loss of a labelled answer; r = log π(y|x) − log π_reference(y|x), z an estimate of KL.

    Good: desirable · (1 − σ(β(r − z))); bad: undesirable · (1 − σ(β(z − r))).

    Source: Ethayarajh et al. 2024 (KTO), equations 7 and 8.
    """

    beta: float = Field(0.1, gt=0)
    desirable: float = Field(1.0, gt=0)
    """The weight of good answers."""
    undesirable: float = Field(1.0, gt=0)
    """The weight of bad ones; the paper advises to keep desirable · good answers within 1 to 4/3 of
    undesirable · bad ones."""


class Kto:
    """The mean over labelled answers of the loss that `KtoSettings` describes.

    Each slot of a batch holds a labelled answer in the place of the chosen one and, in the place of
    the rejected one, the answer to another prompt: a mismatched pair. z is the mean of r over the
    mismatched pairs of a row, at least 0 and without a gradient, as the paper estimates it over a
    batch; a row, because micro-batches are whole rows and must add up to their batch.

    Metrics are sums over labelled answers: `accuracy` (1 where r > z for a good answer, r < z for a
    bad one), `margin` (β(r − z), with its sign turned for bad answers), `kl_estimate` (z) and
    `good` (1 for a good answer).

    Args:
        labels: by number (`pair_ids`) whether an answer is good.
    """

    batch_type = PreferenceBatch

    def __init__(
        self, settings: KtoSettings, reference: ReferenceLogProbs, labels: Bool[Tensor, " answers"]
    ) -> None:
        self.settings, self.reference, self.labels = settings, reference, labels

    def __call__(self, model: LanguageModel, batch: PreferenceBatch) -> LossSum:
        settings, there = self.settings, batch.pair_ids >= 0
        log_probs, _ = answer_log_probs(model, batch)
        gains = log_probs - self.reference.log_probs(batch).to(log_probs)
        good = self.labels.to(there.device)[batch.pair_ids.clamp(min=0)]
        z = baseline(gains[..., 1].detach(), there)
        signed = settings.beta * (gains[..., 0] - z) * torch.where(good, 1.0, -1.0)
        weight = torch.where(good, settings.desirable, settings.undesirable)
        each = weight.to(signed) * (1 - signed.sigmoid()) * there
        metrics = {
            "accuracy": signed > 0,
            "margin": signed.detach(),
            "kl_estimate": z.expand_as(signed),
            "good": good,
        }
        return LossSum(
            each.sum(),
            there.sum(),
            each.detach().sum(1),
            {name: (value * there).to(each).sum() for name, value in metrics.items()},
        )


def baseline(
    gains: Float[Tensor, "batch slots"], there: Bool[Tensor, "batch slots"]
) -> Float[Tensor, "batch 1"]:
    """The mean gain of each row's mismatched pairs, at least 0.

    Gains 1 and 3 of a row give 2, gains −1 and −3 give 0.
    """
    mean = (gains * there).sum(1, keepdim=True) / there.sum(1, keepdim=True).clamp(min=1)
    return mean.clamp(min=0)
