"""Fine-tuning: the cross-entropy of the supervised targets, anchored to a reference model."""

import math

import torch.nn.functional as F
from torch import Tensor

from foundling.base.config import ConfigError
from foundling.models.batch import IGNORE, TokenBatch
from foundling.models.language_model import LanguageModel
from foundling.models.token_rows import head_of
from foundling.objectives.contract import LossSum
from foundling.objectives.losses import anchored_cross_entropy, rows_of_a_chunk
from foundling.objectives.reference import Reference

COMPILED_ROWS = 256
"""The most rows of a chunk when compiled; the targets are padded to a multiple of it.

Measured: 12 batches of 900 to 2,800 targets, vocabulary 72, width 384, bf16: 23 s with compiling,
251 s where each count of targets is compiled anew.
"""


class Sft:
    """−log π(target) + strength · KL(π ‖ reference), summed over the supervised targets.

    The KL is exact, over the whole vocabulary, at each supervised target, and where plain
    text whose target is ANCHOR. Only the targets that are tokens are counted. With a reference and
    strength 0 it is measured only, and the loss and its gradient are bit for bit those without a
    reference.
    """

    batch_type = TokenBatch

    def __init__(
        self,
        strength: float = 0.0,
        reference: Reference | None = None,
        compiled: bool = False,
    ) -> None:
        if not (math.isfinite(strength) and strength >= 0):
            raise ConfigError(f"strength = {strength}: the anchor's strength must be from 0 up.")
        if strength and reference is None:
            raise ConfigError(
                f"strength = {strength}: an anchor needs a reference; give one, or 0."
            )
        self.strength, self.reference, self.compiled = strength, reference, compiled

    def __call__(self, model: LanguageModel, batch: TokenBatch) -> LossSum:
        indices = batch.indices
        size, chunk, missing = len(indices), None, 0
        if self.compiled:  # equal chunks, so that one compiled kernel serves every batch
            chunk = min(COMPILED_ROWS, rows_of_a_chunk(model.vocab_size))
            missing = -size % chunk
        reference_hidden = reference_weight = None
        if self.reference is not None:
            reference_hidden = F.pad(self.reference.hidden(batch), (0, 0, 0, missing))
            reference_weight = self.reference.weight
        hidden = model.at(batch.tokens, batch.view, F.pad(indices, (0, missing)))
        loss = anchored_cross_entropy(
            hidden,
            head_of(model),  # now: the pass before has gathered it, if it is sharded
            F.pad(batch.targets.flatten()[indices], (0, missing), value=IGNORE),
            reference_hidden=reference_hidden,
            reference_weight=reference_weight,
            strength=self.strength,
            softcap=model.logit_softcap,
            chunk_rows=chunk,
            compiled=self.compiled,
        )
        each = (loss.cross_entropy + self.strength * loss.kl)[:size]
        answers = batch.targets >= 0
        rows = each.new_zeros(len(batch)).index_add(0, indices // batch.targets.shape[1], each)
        metrics: dict[str, Tensor] = {
            "cross_entropy": loss.cross_entropy.sum(),
            "entropy": loss.entropy.sum(),
        }
        if self.reference is not None:
            kl, is_answer = loss.kl[:size], batch.targets.flatten()[indices] >= 0
            metrics["kl"] = kl[is_answer].sum()
            metrics["text_kl"] = kl[~is_answer].sum()
        return LossSum(loss.total, answers.sum(), rows, metrics)
