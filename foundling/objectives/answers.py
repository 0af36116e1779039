"""The log-probabilities of the answers of a preference batch."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from foundling.models.batch import IGNORE, PreferenceBatch
from foundling.models.language_model import LanguageModel
from foundling.models.token_rows import head_of
from foundling.objectives.losses import anchored_cross_entropy, linear_log_probs

Answers = Float[Tensor, "batch pairs 2"]
"""A number for each answer, the chosen one first; 0 where a row holds fewer pairs."""


def answer_log_probs(model: LanguageModel, batch: PreferenceBatch) -> tuple[Answers, Tensor | None]:
    """log π(answer | prompt) of each answer, in nats, and the sum of the targets' entropies.

    The entropy comes for nothing where no gradient is wanted, and is None elsewhere.
    """
    hidden, head = model.at(batch.tokens, batch.view, batch.indices), head_of(model)
    targets, cap = supervised_targets(batch), model.logit_softcap
    if torch.is_grad_enabled():
        return summed(batch, linear_log_probs(hidden, head, targets, softcap=cap)), None
    loss = anchored_cross_entropy(hidden, head, targets, softcap=cap)
    return summed(batch, -loss.cross_entropy), loss.entropy.sum()


def supervised_targets(batch: PreferenceBatch) -> Int[Tensor, " targets"]:
    """The supervised targets, row by row."""
    return batch.targets[batch.targets != IGNORE]


def summed(batch: PreferenceBatch, values: Float[Tensor, " targets"]) -> Answers:
    """What each answer's targets add up to: values 1 2 3 with answers 0 0 1 give [[[3, 3]]]."""
    rows, pairs = batch.pair_ids.shape
    row = torch.arange(rows, device=values.device)[:, None] * (2 * pairs)
    index = (row + batch.answers)[batch.targets != IGNORE]
    flat = values.new_zeros(rows * pairs * 2).index_add(0, index, values)
    return flat.view(rows, pairs, 2)


def lengths(batch: PreferenceBatch) -> Answers:
    """How many targets each answer has, in fp32."""
    return summed(batch, torch.ones_like(supervised_targets(batch), dtype=torch.float32))
