"""What a prediction rests on: gradients of the words before it, and heads taken away."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foundling.config import ConfigError
from foundling.evaluation.attention import attention_modules
from foundling.evaluation.few_shot import log_probs
from foundling.evaluation.words import Reading, read
from foundling.models.language_model import LanguageModel
from foundling.tokenizer import Tokenizer


@dataclass(frozen=True)
class Attribution:
    """How the log-probability of a continuation changes with each word before it.

    `scores` are gradient · embedding, summed over a word's tokens, in nats: to first order what
    making the word's embedding a share s larger adds, over s. They need not sum to `log_prob`.
    """

    reading: Reading
    continuation: str
    log_prob: float
    scores: Float[Tensor, " words"]


def attribute(
    model: LanguageModel, tokenizer: Tokenizer, text: str, continuation: str
) -> Attribution:
    """Gradient times input of each word of `text` for what follows it, such as " lane".

    Source: Shrikumar et al. 2016, Not Just a Black Box, section 2 (gradient · input).

    Raises:
        ConfigError: no continuation, no text, or more than the model reads.
    """
    reading, ids = read(text, tokenizer), tokenizer.encode(continuation)
    row = [*reading.tokens, *ids]
    if not ids or not reading.tokens:
        raise ConfigError("the text or its continuation has no token.")
    if model.max_context is not None and len(row) - 1 > model.max_context:
        raise ConfigError(
            f"the text has {len(row) - 1:,} tokens with its continuation and the model reads at "
            f"most {model.max_context:,}: give a shorter one."
        )
    embedded: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[0]

    hook = model.embed.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            tokens = torch.tensor([row], device=model.embed.weight.device)
            hidden = model.eval().hidden(tokens[:, :-1])[0, len(reading.tokens) - 1 :]
            table = model.logits(hidden).log_softmax(-1)
            total = table.gather(1, tokens[0, len(reading.tokens) :, None]).sum()
            (gradient,) = torch.autograd.grad(total, embedded)
    finally:
        hook.remove()
    by_token = (gradient * embedded[0].detach()).sum(-1)[0, : len(reading.tokens)].cpu()
    return Attribution(
        reading, continuation, total.item(), reading.membership.to(by_token) @ by_token
    )


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
    one, other = log_probs(model, [(prompt, first), (prompt, second)])
    return one - other
