"""Preferences: the chosen answer gains on the rejected one, measured from a reference."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor

from foundling.base.config import ConfigError, Section
from foundling.models.batch import PreferenceBatch
from foundling.models.language_model import LanguageModel
from foundling.objectives.answers import Answers, answer_log_probs, lengths
from foundling.objectives.contract import LossSum
from foundling.objectives.reference_log_probs import ReferenceLogProbs

Loss = Literal["sigmoid", "ipo", "hinge", "robust", "normalised", "simpo"]
Pairs = Float[Tensor, "batch pairs"]


class _Uses(NamedTuple):
    """The options that a loss reads; `beta` it is without having been given."""

    options: tuple[str, ...]
    beta: float


USES: dict[str, _Uses] = {
    "sigmoid": _Uses(("label_smoothing",), 0.1),
    "ipo": _Uses(("lengths",), 0.1),
    "hinge": _Uses((), 0.1),
    "robust": _Uses(("label_smoothing",), 0.1),
    "normalised": _Uses(("label_smoothing",), 5.0),
    "simpo": _Uses(("gamma",), 2.0),
}


class DpoSettings(Section):
    """The loss of a pair; Δ is how much more log π(chosen) than log π(rejected) rose.

    sigmoid: −(1 − ε) log σ(βΔ) − ε log σ(−βΔ), cDPO where ε > 0; ipo: (Δ − 1/2β)²; hinge:
    max(0, 1 − βΔ); robust: (−(1 − ε) log σ(βΔ) + ε log σ(−βΔ)) / (1 − 2ε); normalised: sigmoid
    with log-probabilities per token; simpo: −log σ(βδ − γ), with δ of the log-probabilities per
    token and no reference.

    Source: Rafailov et al. 2023 (DPO), equation 7; Mitchell 2023, A note on DPO with noisy
    preferences; Azar et al. 2023 (IPO), equation 17; Zhao et al. 2023 (SLiC-HF); Chowdhury et al.
    2024 (robust), equation 12; Lambert et al. 2024 (Tülu 3), equation 6; Meng et al. 2024 (SimPO),
    equation 6; Pang et al. 2024 (the likelihood of the chosen answer beside it), equation 1.
    """

    loss: Loss = "sigmoid"
    beta: float | None = Field(None, gt=0)
    """None: 0.1; 5 for normalised, 2 for simpo."""
    label_smoothing: float | None = Field(None, ge=0, lt=0.5)
    """ε, the share of the labels that is thought to be wrong; None: 0, or 0.1 for robust."""
    lengths: Literal["sum", "mean"] | None = None
    """ipo's log-probabilities: of the whole answer, as in the paper, or per token. None: sum."""
    gamma: float | None = Field(None, ge=0)
    """The margin that simpo asks for; None: 1."""
    nll: float = Field(0.0, ge=0)
    """+ nll · (−log π(chosen) per token), which keeps the chosen answers likely."""

    @model_validator(mode="after")
    def _used(self) -> "DpoSettings":
        options = ("label_smoothing", "lengths", "gamma")
        for name in options:
            if getattr(self, name) is not None and name not in USES[self.loss].options:
                takers = ", ".join(loss for loss, uses in USES.items() if name in uses.options)
                raise ValueError(f'loss = "{self.loss}" does not use {name} ({takers} do)')
        if self.loss == "robust" and self.label_smoothing == 0:
            raise ValueError('loss = "robust" with label_smoothing = 0 is "sigmoid"; say so')
        return self

    @property
    def has_reference(self) -> bool:
        return self.loss != "simpo"

    def resolved(self) -> "DpoSettings":
        """With every number that None stands for, where the loss reads it."""
        uses = USES[self.loss]
        defaults = {
            "label_smoothing": 0.1 if self.loss == "robust" else 0.0,
            "lengths": "sum",
            "gamma": 1.0,
        }
        filled = {
            name: default
            for name, default in defaults.items()
            if name in uses.options and getattr(self, name) is None
        }
        beta = uses.beta if self.beta is None else self.beta
        return self.model_copy(update={**filled, "beta": beta})

    def per_token(self) -> bool:
        """Whether the loss looks at the mean of an answer's tokens in place of their sum."""
        return self.loss in ("normalised", "simpo") or self.lengths == "mean"


def pair_loss(settings: DpoSettings, delta: Pairs) -> Pairs:
    """The loss of each pair whose log-ratios differ by `delta`, without the NLL term.

    At the reference `delta` is 0, and sigmoid, robust and normalised are ln 2.
    """
    given = settings.resolved()
    assert given.beta is not None
    beta, smoothing = given.beta, given.label_smoothing or 0.0
    right, wrong = -F.logsigmoid(beta * delta), -F.logsigmoid(-beta * delta)
    of: dict[str, Callable[[], Tensor]] = {
        "sigmoid": lambda: (1 - smoothing) * right + smoothing * wrong,
        "normalised": lambda: (1 - smoothing) * right + smoothing * wrong,
        "robust": lambda: ((1 - smoothing) * right - smoothing * wrong) / (1 - 2 * smoothing),
        "ipo": lambda: (delta - 1 / (2 * beta)).square(),
        "hinge": lambda: (1 - beta * delta).relu(),
        "simpo": lambda: -F.logsigmoid(beta * delta - (given.gamma or 0.0)),
    }
    return of[given.loss]()


class Dpo:
    """The mean over pairs of `pair_loss`, plus the chosen answer's NLL if asked for.

    Metrics are sums over pairs: `accuracy` (1 where Δ > 0; a tie is wrong), `margin` (βΔ), and
    `ranking` (1 where log π alone prefers the chosen answer); `chosen_change` and
    `rejected_change` (of the log-probability of the answer, in nats, since the reference);
    `chosen_length` and `rejected_length` (targets); `longer` (1 where the chosen answer is the
    longer one, ½ where both are equally long); `nll` (nats per token of the chosen answer); and,
    where no gradient is wanted, `entropy` (summed over the targets of both answers).

    Raises:
        ConfigError: the loss needs a reference and has none, or has one and needs none.
    """

    batch_type = PreferenceBatch

    def __init__(
        self, settings: DpoSettings | None = None, reference: ReferenceLogProbs | None = None
    ) -> None:
        self.settings = (settings or DpoSettings()).resolved()
        self.reference = reference
        if self.settings.has_reference and reference is None:
            raise ConfigError(f'loss = "{self.settings.loss}": needs a reference; give one.')
        if not self.settings.has_reference and reference is not None:
            raise ConfigError(f'loss = "{self.settings.loss}": uses no reference; give none.')

    def __call__(self, model: LanguageModel, batch: PreferenceBatch) -> LossSum:
        settings, there = self.settings, batch.pair_ids >= 0
        log_probs, entropy = answer_log_probs(model, batch)
        sizes = lengths(batch).to(log_probs)
        per_token = log_probs / sizes.clamp(min=1)
        changes = log_probs
        if self.reference is not None:
            changes = log_probs - self.reference.log_probs(batch).to(log_probs)
        used = changes / sizes.clamp(min=1) if settings.per_token() else changes
        delta = used[..., 0] - used[..., 1]
        each = pair_loss(settings, delta)
        if settings.nll:
            each = each - settings.nll * per_token[..., 0]
        each = each * there
        with torch.no_grad():
            metrics = self._metrics(log_probs, changes, sizes, delta, there)
            if entropy is not None:
                metrics["entropy"] = entropy
        return LossSum(each.sum(), there.sum(), each.detach().sum(1), metrics)

    def _metrics(
        self,
        log_probs: Answers,
        changes: Answers,
        sizes: Answers,
        delta: Pairs,
        there: Bool[Tensor, "batch pairs"],
    ) -> dict[str, Tensor]:
        assert self.settings.beta is not None
        chosen, rejected = sizes.unbind(-1)
        found = {
            "accuracy": delta > 0,
            "margin": self.settings.beta * delta,
            "ranking": log_probs[..., 0] > log_probs[..., 1],
            "chosen_length": chosen,
            "rejected_length": rejected,
            "longer": (chosen > rejected) + 0.5 * (chosen == rejected),
            "nll": -log_probs[..., 0] / chosen.clamp(min=1),
        }
        if self.reference is not None:
            found |= {"chosen_change": changes[..., 0], "rejected_change": changes[..., 1]}
        return {name: (value * there).to(log_probs).sum() for name, value in found.items()}


def at_the_reference(settings: DpoSettings) -> float:
    """The loss of a pair where the model is the reference, without the NLL term: ln 2 for DPO."""
    assert settings.has_reference
    nothing = torch.zeros(1, 1, dtype=torch.float64)
    value = pair_loss(settings, nothing).item()
    assert math.isfinite(value)
    return value
