"""From logits to the next token: penalties, temperature, top-k, top-p, min-p, or the most likely.

A draw is a function of the logits, the settings and one uniform number, and that number is a
function of the seed, the prompt, the number of the sample and the index of the token. So a token
does not depend on what is generated beside it, and one that is drawn again is the same.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from foundling.base.config import Section
from foundling.models.finite import check_finite

CANDIDATES = 1024
"""Among so many tokens those that hold the share of top_p are sought first."""


class Sampling(Section):
    """How a token is chosen; the filters apply in the order top_k, top_p, min_p.

    Penalties and `logit_bias` change the logits before the temperature, in the order
    repetition_penalty, frequency_penalty, presence_penalty, logit_bias.
    """

    temperature: float = Field(1.0, ge=0, allow_inf_nan=False)
    """0 takes the most likely token, the lowest id of equals."""
    top_k: int | None = Field(None, gt=0)
    """Keep the k most likely tokens."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Keep the fewest most likely tokens that hold this share of the probability."""
    min_p: float | None = Field(None, ge=0, le=1)
    """Keep the tokens at least this share as likely as the most likely one."""
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    """Taken from the logit of every token that was generated before."""
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    """Taken from the logit of a token once for each time that it was generated before."""
    repetition_penalty: float = Field(1.0, ge=0.01, le=100)
    """Divides the positive logits, and multiplies the negative ones, of all tokens of the prompt
    and of what was generated."""
    logit_bias: dict[int, Annotated[float, Field(ge=-1e30, le=1e30)]] = Field(default_factory=dict)
    """Added to the logits of these tokens."""
    seed: int = 0

    def changed(self, settings: Mapping[str, Any]) -> "Sampling":
        """With other settings.

        Raises:
            ConfigError: there is no such setting, or a value is out of its range.
        """
        return Sampling.parse({**self.values(), **settings}) if settings else self

    @property
    def penalises(self) -> bool:
        return (self.presence_penalty, self.frequency_penalty, self.repetition_penalty) != (0, 0, 1)


class RandomStream:
    """The uniform numbers of one generated text, each a function of its index alone."""

    def __init__(self, seed: int, prompt: Sequence[int], sample: int = 0) -> None:
        content = f"{seed} {sample} {' '.join(map(str, prompt))}".encode()
        self._key = hashlib.blake2b(content, digest_size=32).digest()

    def uniform(self, index: int) -> float:
        """The number in [0, 1) with which token `index` is drawn."""
        digest = hashlib.blake2b(index.to_bytes(8, "little"), key=self._key, digest_size=8).digest()
        return (int.from_bytes(digest, "little") >> 11) / 2**53


def choose(
    logits: Float[Tensor, " vocab"],
    sampling: Sampling,
    uniform: float,
    *,
    prompt: Sequence[int] = (),
    counts: Mapping[int, int] | None = None,
    allowed: Bool[Tensor, " vocab"] | None = None,
) -> int:
    """Draw one token with a uniform number; see `pick`.

    Args:
        prompt: the tokens of the prompt, which the repetition penalty counts.
        counts: how often each token was generated before, for the penalties.
        allowed: the tokens that a grammar permits here; None: all.

    Source: Fan et al. 2018 (top-k); Holtzman et al. 2020 (top-p); Nguyen et al. 2024 (min-p);
    Keskar et al. 2019 (repetition penalty); OpenAI's API (the other penalties).
    """
    logits = penalised(logits, sampling, prompt, counts or {})
    if allowed is not None:
        logits = logits.masked_fill(~allowed, float("-inf"))
    if sampling.temperature == 0:
        return int(logits.argmax())
    return pick(keep(logits[None], sampling)[0], uniform)


def pick(probabilities: Float[Tensor, " vocab"], uniform: float) -> int:
    """The first token whose cumulative probability exceeds `uniform`."""
    cumulative = probabilities.double().cumsum(0)
    # Scaled by the sum as it was rounded, so that every number below 1 finds a token.
    return int(torch.searchsorted(cumulative, uniform * float(cumulative[-1]), right=True))


def penalised(
    logits: Float[Tensor, " vocab"],
    sampling: Sampling,
    prompt: Sequence[int],
    counts: Mapping[int, int],
) -> Float[Tensor, " vocab"]:
    """The logits after penalties and `logit_bias`; the same tensor where there are none.

    Raises:
        NotFiniteError: they are too large to be multiplied.
    """
    if not sampling.penalises and not sampling.logit_bias:
        return logits
    logits = logits.clone()
    if sampling.repetition_penalty != 1:
        seen = torch.tensor(sorted({*prompt, *counts}))
        found = logits[seen]
        factor = sampling.repetition_penalty
        logits[seen] = torch.where(found > 0, found / factor, found * factor)
    if counts:
        made, times = torch.tensor(list(counts)), torch.tensor(list(counts.values()))
        logits[made] -= sampling.frequency_penalty * times + sampling.presence_penalty
    if sampling.logit_bias:
        ids = torch.tensor(list(sampling.logit_bias))
        logits[ids] += torch.tensor(list(sampling.logit_bias.values()))
    check_finite(logits.amax())
    return logits


def keep(logits: Float[Tensor, "batch vocab"], sampling: Sampling) -> Float[Tensor, "batch vocab"]:
    """The probabilities that are left after temperature and filters, adding up to 1."""
    # The largest is taken away first: a tiny temperature must not make it infinite.
    logits = logits.float() - logits.max(-1, keepdim=True).values.float()
    # Within fp32: there 0 / 0, and -inf / inf, would be NaN.
    temperature = min(max(sampling.temperature, 1e-30), 1e30)
    probabilities = (logits / temperature).softmax(-1)
    if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
        least = probabilities.topk(sampling.top_k).values[:, -1:]
        probabilities = _only(probabilities, probabilities >= least)
    if sampling.top_p is not None:
        probabilities = _only(probabilities, _nucleus(probabilities, sampling.top_p))
    if sampling.min_p is not None:
        least = sampling.min_p * probabilities.max(-1, keepdim=True).values
        probabilities = _only(probabilities, probabilities >= least)
    return probabilities


def _nucleus(probabilities: Tensor, top_p: float) -> Bool[Tensor, "batch vocab"]:
    """The fewest most likely tokens that hold this share, of equals those with the lowest ids."""
    size = probabilities.shape[-1]
    for count in (min(CANDIDATES, size), size):  # to order all takes far longer
        ordered = probabilities.topk(count).values
        shares = ordered.cumsum(-1)
        if bool((shares[:, -1] >= top_p).all()):
            break
    # One at least: a share below fp32's smallest number is 0 there.
    number = (shares - ordered < top_p).sum(-1, keepdim=True).clamp(min=1)
    least = ordered.gather(-1, number - 1)
    above, equal = probabilities > least, probabilities == least
    lacking = number - above.sum(-1, keepdim=True)
    return above | (equal & (equal.cumsum(-1) <= lacking))


def _only(probabilities: Tensor, kept: Tensor) -> Tensor:
    left = probabilities * kept
    return left / left.sum(-1, keepdim=True)
