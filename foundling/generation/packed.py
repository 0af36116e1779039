"""Transformers as the kernels read them: matrices packed, in few bits or whole."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from foundling.generation.kernels.library import available
from foundling.generation.kernels.low_rank import adapted
from foundling.generation.kernels.weights import Format, PackedMatrix
from foundling.models.adapters import merged_weight
from foundling.models.attention import Attention, SelfAttention
from foundling.models.blocks import Block
from foundling.models.language_model import LanguageModel
from foundling.models.rope import Rope
from foundling.models.stored import StoredModel
from foundling.models.token_rows import rows_of
from foundling.models.transformer import Transformer

Weight = Callable[[str], Tensor]
"""Gives a matrix of a model by its name, adapters and learned rows merged into it."""


@dataclass(frozen=True)
class PackedLayer:
    """What one block multiplies by; query, key and value are one matrix, gate and up another."""

    block: Block | Attention
    attention: SelfAttention
    qkv: PackedMatrix
    qkv_bias: Tensor | None
    o: PackedMatrix
    up: PackedMatrix | None
    up_bias: Tensor | None
    down: PackedMatrix | None
    rope: Rope | None
    window: int | None


@dataclass(frozen=True)
class PackedModel:
    """A model's weights as the kernels read them, which any number of runners may share."""

    model: LanguageModel
    """Of its own weights only those are read that are no matrices: it may hold no others."""
    layers: tuple[PackedLayer, ...]
    head: PackedMatrix
    embed: PackedMatrix
    """The head, where they are one."""
    base: "PackedModel | None" = None
    """Whose matrices it shares."""

    @classmethod
    def pack(cls, model: LanguageModel | StoredModel, format: Format) -> "PackedModel":
        """Adapters are merged. In int4 the head stays in int8, as its errors reach every logit.

        Of a stored model one matrix at a time is in memory beside what is packed.

        Raises:
            NotFiniteError: a weight is NaN or infinite, which few bits cannot hold.
            ConfigError: a matrix cannot be read from its file.
        """
        model, weight = _weights_of(model)
        context = model.context
        # The largest matrices first, while there is least beside them.
        head, embed = _vocabulary(model, weight, "int8" if format == "int4" else format)
        layers = []
        if isinstance(context, Transformer):
            for index, block in enumerate(context.blocks):
                assert isinstance(block, Block)
                rope = context.ropes[context.rope_of[index]]
                name, window = f"context.blocks.{index}.", context.windows[index]
                layers.append(_layer(weight, name, block, rope, window, format))
        else:
            assert isinstance(context, Attention)
            layers.append(_layer(weight, "context.", context, context.rope, None, format))
        return cls(model, tuple(layers), head, embed)

    @staticmethod
    def supports(model: LanguageModel) -> bool:
        """Whether the kernels are there for such a model on its device."""
        context = model.context
        known = isinstance(context, Attention) or (
            isinstance(context, Transformer) and context.length_rope is None
        )
        return known and model.device.type == "cpu" and available()

    def with_adapters(self, model: LanguageModel | StoredModel) -> "PackedModel":
        """A model with adapters over this one, whose matrices it shares.

        Only where it has learned rows of tokens, embedding and head are its own.
        """
        model, weight = _weights_of(model)
        layers = []
        for layer, block in zip(self.layers, _blocks(model), strict=True):
            attention, up, down = block.attention, layer.up, layer.down
            if isinstance(block, Block):
                mlp = block.mlp
                assert up is not None
                assert down is not None
                up = adapted(up, [one for one in (mlp.gate, mlp.up) if one is not None])
                down = adapted(down, [mlp.down])
            qkv = adapted(layer.qkv, [attention.q, attention.k, attention.v])
            o = adapted(layer.o, [attention.o])
            layers.append(
                replace(layer, block=block, attention=attention, qkv=qkv, o=o, up=up, down=down)
            )
        head, embed = self.head, self.embed
        if rows_of(model) or model.vocab_size != head.rows:
            head, embed = _vocabulary(model, weight, head.format)
        return PackedModel(model, tuple(layers), head, embed, self)


def _weights_of(model: LanguageModel | StoredModel) -> tuple[LanguageModel, Weight]:
    if isinstance(model, StoredModel):
        return model.model, model.weight
    return model, partial(merged_weight, model)


def _vocabulary(
    model: LanguageModel, weight: Weight, format: Format
) -> tuple[PackedMatrix, PackedMatrix]:
    """The head and the embedding; where that is another matrix, it is kept as exact as it is."""
    if model.tied:
        head = PackedMatrix.pack(weight("embed.weight"), format)
        return head, head
    head, embed = PackedMatrix.pack(weight("unembed.weight"), format), weight("embed.weight")
    is_bf16 = all(torch.equal(part, part.bfloat16().float()) for part in torch.split(embed, 4096))
    return head, PackedMatrix.pack(embed, "bf16" if is_bf16 else "fp32")


def _blocks(model: LanguageModel) -> list[Block | Attention]:
    context = model.context
    if isinstance(context, Attention):
        return [context]
    assert isinstance(context, Transformer)
    return [block for block in context.blocks if isinstance(block, Block)]


def _layer(
    weight: Weight,
    prefix: str,
    block: Block | Attention,
    rope: Rope | None,
    window: int | None,
    format: Format,
) -> PackedLayer:
    def pack(*names: str) -> PackedMatrix:
        weights = [weight(f"{prefix}{name}.weight") for name in names]
        return PackedMatrix.pack(torch.cat(weights) if len(weights) > 1 else weights[0], format)

    def biases(*linears: nn.Linear) -> Tensor | None:
        found = [linear.bias.detach() for linear in linears if linear.bias is not None]
        return torch.cat(found).float() if found else None

    attention = block.attention
    qkv = (attention.q, attention.k, attention.v)
    up = up_bias = down = None
    if isinstance(block, Block):
        mlp = block.mlp
        up = pack(*(("mlp.gate",) if mlp.gate is not None else ()), "mlp.up")
        up_bias = biases(*((mlp.gate,) if mlp.gate is not None else ()), mlp.up)
        down = pack("mlp.down")
    return PackedLayer(
        block, attention,
        pack("attention.q", "attention.k", "attention.v"), biases(*qkv),
        pack("attention.o"), up, up_bias, down, rope, window,
    )  # fmt: skip
