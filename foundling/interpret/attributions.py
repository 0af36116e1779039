"""What a prediction rests on: gradients of the words before it, and heads taken away."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from foundling.base.config import ConfigError
from foundling.evaluation.likelihood import likelihoods
from foundling.interpret.weights import attention_modules
from foundling.interpret.words import Reading, read
from foundling.models.language_model import LanguageModel
from foundling.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Attribution:
    """How much each word adds to the log-probability of a continuation, in nats.

    Summed over a word's tokens. Without `steps`, gradient · embedding: to first order what making
    the word's embedding a share s larger adds, over s. With `steps`, integrated gradients: the sum
    of `scores` is `log_prob` less that behind a text of nothing but the mean embedding.
    """

    reading: Reading
    continuation: str
    log_prob: float
    scores: Float[Tensor, " words"]


def attribute(
    model: LanguageModel, tokenizer: Tokenizer, text: str, continuation: str, *, steps: int = 0
) -> Attribution:
    """What each word of `text` does for what follows it, such as " lane".

    Norms make a model nearly blind to the length of an embedding, so gradient · input is small
    where a word matters much; 32 `steps` from the mean embedding do not have this fault.
    Source: Shrikumar et al. 2016, Not Just a Black Box, section 2 (gradient · input); Sundararajan
    et al. 2017, equation 1 (integrated gradients, here at the middle of each step).

    Raises:
        ConfigError: no continuation, no text, or more than the model reads.
    """
    reading, ids = read(text, tokenizer), tokenizer.encode(continuation)
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
    length = len(reading.tokens)
    tokens = torch.tensor([row], device=model.embed.weight.device)
    own = model.embed.weight.detach()[tokens[:, :-1]]
    away = torch.zeros_like(own)
    away[:, :length] = own[:, :length]
    if steps:
        away[:, :length] -= model.embed.weight.detach().mean(0)
    shares = (torch.arange(steps, device=own.device) + 0.5) / steps if steps else own.new_ones(1)
    path = (own - (1 - shares.to(own))[:, None, None] * away).requires_grad_()
    hook = model.embed.register_forward_hook(lambda *_: path)
    try:
        with torch.enable_grad():
            total = _log_prob(model, tokens.expand(len(path), -1), length).sum()
            (gradient,) = torch.autograd.grad(total, path)
    finally:
        hook.remove()
    with torch.no_grad():
        log_prob = _log_prob(model, tokens, length).item()
    by_token = (gradient.mean(0) * away[0]).sum(-1)[:length].cpu()
    scores = reading.membership.to(by_token) @ by_token
    return Attribution(reading, continuation, log_prob, scores)


def _log_prob(
    model: LanguageModel, tokens: Int[Tensor, "batch time"], length: int
) -> Float[Tensor, " batch"]:
    """The log-probability of all tokens from `length` on, in nats."""
    hidden = model.eval().hidden(tokens[:, :-1])[:, length - 1 :]
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
    model: LanguageModel, tokenizer: Tokenizer, text: str, continuations: tuple[str, str]
) -> Ablation:
    """Take away one head after the other and see which of two continuations loses.

    Raises:
        ConfigError: no attention, no token, or more than the model reads.
    """
    modules = attention_modules(model)
    prompt = read(text, tokenizer).tokens
    first, second = (tokenizer.encode(continuation) for continuation in continuations)
    whole = _log_odds(model, prompt, first, second)
    changes = torch.zeros(len(modules), modules[0].num_heads)
    for layer, module in enumerate(modules):
        for head in range(module.num_heads):
            with without_head(model, layer, head):
                changes[layer, head] = _log_odds(model, prompt, first, second) - whole
    return Ablation(whole, changes)


def _log_odds(
    model: LanguageModel, prompt: Sequence[int], first: Sequence[int], second: Sequence[int]
) -> float:
    one, other = likelihoods(model, [(prompt, first), (prompt, second)])
    return one.nats - other.nats
