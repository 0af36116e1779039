"""Pretraining: the cross-entropy of the next token."""

from foundling.models.batch import IGNORE, TokenBatch
from foundling.models.language_model import LanguageModel
from foundling.models.token_rows import head_of
from foundling.objectives.contract import LossSum
from foundling.objectives.losses import linear_cross_entropy


class Pretrain:
    """−log p(next token), summed over all targets, plus z_loss · logsumexp² if asked for."""

    batch_type = TokenBatch

    def __init__(self, z_loss: float = 0.0, compiled: bool = False) -> None:
        self.z_loss, self.compiled = z_loss, compiled

    def __call__(self, model: LanguageModel, batch: TokenBatch) -> LossSum:
        hidden = model(batch.tokens, batch.view)
        targets = batch.targets.flatten()
        total, rows, lse = linear_cross_entropy(
            hidden.flatten(0, 1),
            head_of(model),
            targets,
            z_loss=self.z_loss,
            softcap=model.logit_softcap,
            compiled=self.compiled,
        )
        supervised = targets != IGNORE
        metrics = {"cross_entropy": rows.sum()}
        if self.z_loss:
            metrics["z_loss"] = self.z_loss * (lse.square() * supervised).sum()
        return LossSum(total, supervised.sum(), rows.view(batch.targets.shape).sum(1), metrics)
