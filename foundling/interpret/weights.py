"""Which token attends to which: the softmax weights of every head, recorded and summed up."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foundling.base.config import ConfigError
from foundling.models.attending import Parts, attention_scores
from foundling.models.attention import MaskAndAngles, SelfAttention
from foundling.models.language_model import LanguageModel

SUMMARIES = ("mean", "max", "rollout")


@dataclass(frozen=True)
class LayerAttention:
    """What one layer does with one text.

    `weights` are softmax(scale · q·k), so rows sum to 1; `values` stand once for each query
    head; `output` is what the fast path gave behind `o`, before the residual stream.
    """

    layer: int
    weights: Float[Tensor, "heads time time"]
    values: Float[Tensor, "heads time head_dim"]
    output: Float[Tensor, "time dim"]
    module: SelfAttention

    def recomputed(self) -> Float[Tensor, "time dim"]:
        """The output again, from the weights: weights · values, then `o`."""
        mixed = self.weights.to(self.values) @ self.values
        result: Tensor = self.module.o(mixed.transpose(0, 1).flatten(1))
        return result

    def error(self) -> float:
        """How far `recomputed` is from `output`, over the largest output where that is above 1."""
        with torch.no_grad():
            difference = (self.recomputed() - self.output).abs().max()
        return float(difference / self.output.abs().max().clamp(min=1))


def attention_modules(model: LanguageModel) -> list[SelfAttention]:
    """The self-attention of every layer, from the first on.

    Raises:
        ConfigError: the model has none.
    """
    found = [module for module in model.context.modules() if isinstance(module, SelfAttention)]
    if not found:
        raise ConfigError(
            f'model.rung = "{model.spec["rung"]}": has no attention to look at; '
            "give a model of the rung attention or transformer."
        )
    return found


def each_layer(model: LanguageModel, tokens: Sequence[int]) -> Iterator[LayerAttention]:
    """The layers of one reading of `tokens`, one by one, for texts of any length.

    One forward pass keeps what goes into and comes out of every layer's attention; the weights,
    heads · time · time of them, are made when their layer comes.

    Raises:
        ConfigError: no attention, no token, or more than the model reads.
    """
    modules = attention_modules(model)
    if not tokens:
        raise ConfigError("the text has no token to look at.")
    if model.max_context is not None and len(tokens) > model.max_context:
        raise ConfigError(
            f"the text has {len(tokens):,} tokens and the model reads at most "
            f"{model.max_context:,}: give a shorter one."
        )
    passed: list[tuple[Tensor, MaskAndAngles, Tensor]] = []

    def keep(_: nn.Module, given: tuple[Any, ...], output: Tensor) -> None:
        passed.append((given[0], given[1], output))

    hooks = [module.register_forward_hook(keep) for module in modules]
    try:
        with torch.no_grad():
            model.eval().hidden(torch.tensor([list(tokens)], device=model.embed.weight.device))
    finally:
        for hook in hooks:
            hook.remove()
    for layer, (module, (x, layout, output)) in enumerate(zip(modules, passed, strict=True)):
        with torch.no_grad():
            query, key, value = module.projected(x, layout)
            products = query[0].float() @ module.repeated(key)[0].float().mT
            scores = attention_scores(products, module.scale, module.softcap)
            weights = _weights(scores, layout)
        yield LayerAttention(layer, weights, module.repeated(value)[0], output[0], module)


def _weights(
    scores: Float[Tensor, "heads time time"], layout: MaskAndAngles
) -> Float[Tensor, "heads time time"]:
    if layout.mask is None:
        time = scores.shape[1]
        mask = torch.ones(time, time, dtype=torch.bool, device=scores.device).tril()
    else:
        mask = layout.mask.whole() if isinstance(layout.mask, Parts) else layout.mask
        mask = mask[0, 0]
    return scores.masked_fill(~mask, float("-inf")).softmax(dim=-1)


def attention_weights(
    model: LanguageModel, tokens: Sequence[int]
) -> Float[Tensor, "layers heads time time"]:
    """The softmax weights of every layer and head over one text, in fp32; see `each_layer`."""
    return torch.stack([layer.weights for layer in each_layer(model, tokens)])


def recomputation_error(model: LanguageModel, tokens: Sequence[int]) -> float:
    """How far the outputs recomputed from the weights are from those of the fast path.

    The largest `error` of any layer. The weights are what the model used where this is below
    1e-5 (in fp32).
    """
    return max(layer.error() for layer in each_layer(model, tokens))


def without_sink(weights: Float[Tensor, "*n to from"]) -> Float[Tensor, "*n to from"]:
    """The weights without those to the first position, on which many heads rest; rows sum to 1.

    The first row, which sees nothing else, stays, and so does one that attends to nothing else.
    Source: Xiao et al. 2023, Efficient Streaming Language Models with Attention Sinks.
    """
    kept = weights.clone()
    kept[..., 0] = 0
    rest = kept.sum(-1, keepdim=True)
    return torch.where(rest > 0, kept / rest.where(rest > 0, 1), weights)


def rollout(
    weights: Float[Tensor, "layers to from"], *, residual: bool = True
) -> Float[Tensor, "layers to from"]:
    """How much of each position's embedding is in each vector after every layer.

    Layer by layer the product of (weights + 1) / 2, where the 1 is the residual stream; without
    one, of the weights alone. The weights are means over heads. Rows sum to 1.
    Source: Abnar and Zuidema 2020, Quantifying Attention Flow in Transformers, equation 1.
    """
    same = torch.eye(weights.shape[-1], device=weights.device, dtype=weights.dtype)
    flow, after = same, []
    for layer in weights:
        flow = ((layer + same) / 2 if residual else layer) @ flow
        after.append(flow)
    return torch.stack(after)


def summarise(
    weights: Float[Tensor, "layers heads to from"],
    how: str,
    *,
    sink: bool = True,
    residual: bool = True,
) -> Float[Tensor, "layers to from"]:
    """The heads of each layer in one table, of tokens or of words.

    `mean` and `rollout` (see there) have rows that sum to 1; a `max` has not. Without `sink` the
    first position is left out and the rest sums to 1 again: of the mean, so that a head which rests
    on the sink counts as little as it moves; of each head under `max`.

    Raises:
        ValueError: no such summary.
    """
    if how not in SUMMARIES:
        raise ValueError(f'summary "{how}": no such summary ({", ".join(SUMMARIES)}).')
    if how == "max":
        return (weights if sink else without_sink(weights)).amax(1)
    mean = weights.mean(1) if sink else without_sink(weights.mean(1))
    return mean if how == "mean" else rollout(mean, residual=residual)
