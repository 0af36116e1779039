"""ORPO: learn from preferences in one stage, without a reference model.

Source: Hong et al. 2024, ORPO: Monolithic Preference Optimization without Reference Model,
equations 3 to 7.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from foundling.base.config import Section
from foundling.models.batch import PreferenceBatch
from foundling.models.language_model import LanguageModel
from foundling.objectives import LossSum
from foundling.objectives.answers import answer_log_probs, lengths
from foundling.stages.dpo import (
    PreferenceConfig,
    pack_pairs,
    pair_facts,
    pair_plan,
    read_preferences,
    resolve_pairs,
)
from foundling.stages.job import Stage
from foundling.stages.reading import read_rows


class OrpoSettings(Section):
    """How much the odds ratio counts beside the likelihood of the chosen answer."""

    strength: float = Field(0.1, ge=0)
    """λ."""


class OrpoConfig(PreferenceConfig):
    """Everything that a run of this stage is made of."""

    orpo: OrpoSettings = OrpoSettings()


class Orpo:
    """−log p(chosen) − λ · log σ(log odds(chosen) − log odds(rejected)), the mean over pairs.

    log p is the mean log-probability per token of an answer, and odds = p / (1 − p). Metrics are
    sums over pairs: `nll`, `log_odds_ratio`, and `accuracy` (1 where the ratio is above 0).
    """

    batch_type = PreferenceBatch

    def __init__(self, settings: OrpoSettings) -> None:
        self.settings = settings

    def __call__(self, model: LanguageModel, batch: PreferenceBatch) -> LossSum:
        log_probs, _ = answer_log_probs(model, batch)
        per_token = log_probs / lengths(batch).to(log_probs).clamp(min=1)
        odds = log_odds(per_token)
        ratio, nll = odds[..., 0] - odds[..., 1], -per_token[..., 0]
        there = batch.pair_ids >= 0  # a row may hold fewer pairs than its neighbours
        each = (nll - self.settings.strength * F.logsigmoid(ratio)) * there
        metrics = {"nll": nll, "log_odds_ratio": ratio, "accuracy": ratio > 0}
        return LossSum(
            each.sum(),
            there.sum(),
            each.detach().sum(1),
            {name: (value * there).detach().to(each).sum() for name, value in metrics.items()},
        )


def log_odds(log_prob: Tensor) -> Tensor:
    """log(p / (1 − p)); p = 1 is taken for as near to it as the precision allows."""
    nearly_one = -torch.finfo(log_prob.dtype).eps
    log_prob = log_prob.clamp(max=nearly_one)
    return log_prob - torch.log(-torch.expm1(log_prob))


ORPO = Stage(
    name="orpo",
    config=OrpoConfig,
    read=read_rows(read_preferences, "pairs"),
    pack=pack_pairs,
    objective=lambda job, pairs: Orpo(job.config.orpo),
    resolve=resolve_pairs,
    facts=pair_facts,
    plan=lambda job: f"{pair_plan(job)}, λ = {job.config.orpo.strength:g}",
)
