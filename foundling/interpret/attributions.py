"""What a prediction rests on: gradients of the words before it, and heads taken away."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from foundling.base.config import ConfigError
from foundling.evaluation.likelihood import likelihoods
from foundling.interpret.weights import attention_modules
from foundling.interpret.words import Reading, read
from foundling.models.language_model import LanguageModel
from foundling.text.tokenizer import Tokenizer

Part = tuple[float, float]
"""Where a part of a path begins and ends, as shares of the way."""
STEPS, MOST_STEPS = 32, 512
"""Steps of integrated gradients at the start, and the most that they are refined to."""
GAP = 0.05
"""How far integrated gradients may be from adding up: of the difference, or nats below 1 nat."""
AT_ONCE = 16  # points of the path in one pass


@dataclass(frozen=True)
class Attribution:
    """How much each word adds to the log-probability of a continuation, in nats.

    Summed over a word's tokens. Without `steps`, gradient · embedding: to first order what making
    the word's embedding a share s larger adds, over s. With `steps`, integrated gradients: the sum
    of `scores` is `difference`, `log_prob` less that behind a text of nothing but the mean
    embedding, to within `gap` nats: so far are the parts of the path off, all added up. `steps`
    says at how many places of the path it took gradients.
    """

    reading: Reading
    continuation: str
    log_prob: float
    scores: Float[Tensor, " words"]
    steps: int = 0
    difference: float = 0.0
    gap: float = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether the scores add up to what they explain."""
        return self.gap <= GAP * max(1.0, abs(self.difference))


def attribute(
    model: LanguageModel,
    tokenizer: Tokenizer,
    text: str | Reading,
    continuation: str,
    *,
    steps: int = 0,
    most_steps: int | None = None,
) -> Attribution:
    """What each word of a text, which may have been read, does for what follows it, as " lane".

    Norms make a model nearly blind to the length of an embedding, so gradient · input is small
    where a word matters much; `steps` from the mean embedding do not have this fault. Up to
    `most_steps` (None: `steps`), those parts of the path are halved over which the gradients do
    not add up to the change of the log-probability, until all of them together do.

    Source: Shrikumar et al. 2016, Not Just a Black Box, section 2 (gradient · input); Sundararajan
    et al. 2017, equation 1 (integrated gradients, here at the middle of each step) and section 5
    (the sum is checked, and steps added).

    Raises:
        ConfigError: no continuation, no text, or more than the model reads.
    """
    reading, ids = _reading(text, tokenizer), tokenizer.encode(continuation)
    row = [*reading.tokens, *ids]
    if not ids or not reading.tokens:
        raise ConfigError("the text or its continuation has no token.")
    if steps < 0:
        raise ConfigError(f"steps = {steps}: must be 0 (gradient · input) or more.")
    if model.max_context is not None and len(row) - 1 > model.max_context:
        raise ConfigError(
            f"the text has {len(row) - 1:,} tokens with its continuation and the model reads at "
            f"most {model.max_context:,}: give a shorter one."
        )
    tokens = torch.tensor([row], device=model.embed.weight.device)
    path = _Path(model, tokens, len(reading.tokens), from_mean=steps > 0)
    (log_prob,) = path.log_probs([1.0])
    if not steps:
        by_token, gap, difference = path.gradients([1.0])[0], 0.0, 0.0
    else:
        by_token, gap, difference, steps = _integrated(path, steps, most_steps or steps)
    scores = reading.membership.to(by_token) @ by_token
    return Attribution(reading, continuation, log_prob, scores, steps, difference, gap)


def _integrated(
    path: "_Path", steps: int, most_steps: int
) -> tuple[Float[Tensor, " length"], float, float, int]:
    """The integral of the gradients by token, its gap, what it is to add up to, and the steps."""
    ends = [number / steps for number in range(steps + 1)]
    values = dict(zip(ends, path.log_probs(ends), strict=True))
    parts, spent = path.parts(list(pairwise(ends))), steps
    while True:
        difference = values[1.0] - values[0.0]
        gaps = {
            (a, b): abs(float(added.sum()) - values[b] + values[a])
            for (a, b), added in parts.items()
        }
        gap, allowed = sum(gaps.values()), GAP * max(1.0, abs(difference))
        if gap <= allowed or spent + 2 > most_steps:
            return torch.stack(list(parts.values())).sum(0), gap, difference, spent
        worst = sorted(gaps, key=lambda part: -gaps[part])[: (most_steps - spent) // 2]
        kept = gap - np.cumsum([gaps[part] for part in worst])
        halved = worst[: 1 + int((kept > allowed / 2).sum())]
        middles = [sum(part) / 2 for part in halved]
        values |= zip(middles, path.log_probs(middles), strict=True)
        parts |= path.parts(
            [half for (a, b), m in zip(halved, middles, strict=True) for half in ((a, m), (m, b))]
        )
        spent += 2 * len(halved)
        for part in halved:
            del parts[part]


class _Path:
    """The straight line from a text of nothing (share 0) to a text (share 1), in embeddings.

    Nothing is the mean embedding, or zero. What is continued stays as it is.
    """

    def __init__(
        self, model: LanguageModel, tokens: Int[Tensor, "1 time"], length: int, *, from_mean: bool
    ) -> None:
        self.model, self.tokens, self.length = model.eval(), tokens, length
        with torch.no_grad():
            self.own = model.embed(tokens[:, :-1])
            self.away = torch.zeros_like(self.own)
            self.away[:, :length] = self.own[:, :length]
            if from_mean:
                every = torch.arange(model.embed.weight.shape[0], device=tokens.device)
                means = [model.embed(some).double().sum(0) for some in torch.split(every, 8192)]
                mean = torch.stack(means).sum(0) / len(every)
                self.away[:, :length] -= mean.to(self.own)

    def log_probs(self, shares: Sequence[float]) -> list[float]:
        """The log-probability of the continuation at each share of the way, in nats."""
        with torch.no_grad():
            return [x for some in self._at(shares) for x in self._log_prob(some).tolist()]

    def gradients(self, shares: Sequence[float]) -> Float[Tensor, "shares length"]:
        """How fast the log-probability grows along the whole way, by token, at each share."""
        found = []
        for some in self._at(shares):
            with torch.enable_grad():
                total = self._log_prob(some.requires_grad_()).sum()
                (gradient,) = torch.autograd.grad(total, some)
            found.append((gradient * self.away).sum(-1)[:, : self.length].cpu())
        return torch.cat(found)

    def parts(self, ends: Sequence[Part]) -> dict[Part, Float[Tensor, " length"]]:
        """What each part of the way adds, by token: the gradient at its middle by its length."""
        slopes = self.gradients([(a + b) / 2 for a, b in ends])
        return {(a, b): slope * (b - a) for (a, b), slope in zip(ends, slopes, strict=True)}

    def _at(self, shares: Sequence[float]) -> Iterator[Float[Tensor, "batch time dim"]]:
        for some in torch.split(torch.tensor(shares).to(self.own), AT_ONCE):
            yield self.own - (1 - some)[:, None, None] * self.away

    def _log_prob(self, embedded: Float[Tensor, "batch time dim"]) -> Float[Tensor, " batch"]:
        hook = self.model.embed.register_forward_hook(lambda *_: embedded)
        try:
            return _log_prob(self.model, self.tokens.expand(len(embedded), -1), self.length)
        finally:
            hook.remove()


def _log_prob(
    model: LanguageModel, tokens: Int[Tensor, "batch time"], length: int
) -> Float[Tensor, " batch"]:
    """The log-probability of all tokens from `length` on, in nats."""
    hidden = model.hidden(tokens[:, :-1])[:, length - 1 :]
    table = model.logits(hidden).log_softmax(-1)
    return table.gather(2, tokens[:, length:, None]).sum((1, 2))


@contextmanager
def without_head(model: LanguageModel, layer: int, head: int) -> Iterator[None]:
    """What one head hands to the output projection is zero in here.

    Raises:
        ValueError: no such layer or head.
    """
    modules = attention_modules(model)
    if not 0 <= layer < len(modules) or not 0 <= head < modules[layer].num_heads:
        raise ValueError(
            f"layer {layer}, head {head}: the model has layers 0 to {len(modules) - 1} with heads "
            f"0 to {modules[0].num_heads - 1}."
        )
    width = modules[layer].head_dim

    def zero(_: nn.Module, given: tuple[Any, ...]) -> tuple[Tensor]:
        mixed = given[0].clone()
        mixed[..., head * width : (head + 1) * width] = 0
        return (mixed,)

    hook = modules[layer].o.register_forward_pre_hook(zero)
    try:
        yield
    finally:
        hook.remove()


@dataclass(frozen=True)
class Ablation:
    """What each head does for one continuation against another.

    `log_odds` is log p(first) - log p(second) of the whole model, in nats. `changes` is what it
    becomes without a head, less that: below 0 where the head speaks for the first.
    """

    log_odds: float
    changes: Float[Tensor, "layers heads"]


def ablate_heads(
    model: LanguageModel,
    tokenizer: Tokenizer,
    text: str | Reading,
    continuations: tuple[str, str],
) -> Ablation:
    """Take away one head after the other and see which of two continuations of a text loses.

    Raises:
        ConfigError: no attention, no token, or more than the model reads.
    """
    modules = attention_modules(model)
    prompt = _reading(text, tokenizer).tokens
    first, second = (tokenizer.encode(continuation) for continuation in continuations)
    whole = _log_odds(model, prompt, first, second)
    changes = torch.zeros(len(modules), modules[0].num_heads)
    for layer, module in enumerate(modules):
        for head in range(module.num_heads):
            with without_head(model, layer, head):
                changes[layer, head] = _log_odds(model, prompt, first, second) - whole
    return Ablation(whole, changes)


def _reading(text: str | Reading, tokenizer: Tokenizer) -> Reading:
    return text if isinstance(text, Reading) else read(text, tokenizer)


def _log_odds(
    model: LanguageModel, prompt: Sequence[int], first: Sequence[int], second: Sequence[int]
) -> float:
    one, other = likelihoods(model, [(prompt, first), (prompt, second)])
    return one.nats - other.nats
