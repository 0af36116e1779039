"""A transformer as a program of the kernels: operations, each with its buffers and weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from foundling.generation.kernels.library import Op
from foundling.generation.kernels.low_rank import AdaptedMatrix
from foundling.generation.kernels.weights import PackedMatrix
from foundling.generation.packed import PackedLayer, PackedModel
from foundling.models.attention import Attention, Norm
from foundling.models.blocks import Block
from foundling.models.positions import sinusoids
from foundling.models.rope import Rope
from foundling.models.transformer import Transformer

KINDS = ("embed", "angles", "norm", "linear", "heads", "attend", "activate", "softcap", "pick")
ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "relu2")


class Program:
    """What is done with a batch of at most `capacity` rows, operation by operation."""

    def __init__(
        self,
        packed: PackedModel,
        cache: Sequence[tuple[Tensor, Tensor]],
        block_size: int,
        capacity: int,
    ) -> None:
        self.packed, self.cache = packed, cache
        self.block_size, self.capacity = block_size, capacity
        self.ops: list[Op] = []
        self.buffers: dict[tuple[str, int], Tensor] = {}
        self.kept: list[Tensor | PackedMatrix] = []
        """What the program points to."""
        self.widest = 0
        self.last: list[int] = []
        """The operations that write logits, behind all others."""
        self.picked = 0
        self.hidden: Tensor
        """Where the vectors are whose logits those are."""
        self._write()

    def _write(self) -> None:
        model, packed = self.packed.model, self.packed
        context, dim = model.context, packed.head.columns
        assert isinstance(context, Transformer | Attention)
        x = self.buffer("x", dim)
        embed_scale, positions, divisor = 1.0, None, 1.0
        if isinstance(context, Transformer):
            embed_scale, divisor = context.embed_scale, context.logit_divisor
            if context.position_embed is not None:
                positions = context.position_embed.weight.detach().float()
            elif context.sinusoidal:
                assert model.max_context is not None
                positions = sinusoids(torch.arange(model.max_context), dim)
        self.add("embed", out=x, width=dim, scale=embed_scale, other=positions, matrix=packed.embed)
        ropes = dict.fromkeys(layer.rope for layer in packed.layers)
        angles = {rope: self.angles(rope, f"angles {n}") for n, rope in enumerate(ropes)}
        for layer, cache in zip(packed.layers, self.cache, strict=True):
            x = self.layer(x, layer, cache, angles[layer.rope], layer is packed.layers[-1])
        self.hidden, logits = self.norm(context.norm, x), torch.empty(0)  # each call has its own
        self.last.append(len(self.ops))
        self.linear(self.hidden, packed.head, None, logits, scale=1 / divisor)
        if model.logit_softcap is not None:
            self.last.append(len(self.ops))
            self.add("softcap", width=packed.head.rows, softcap=model.logit_softcap)

    def layer(
        self,
        x: Tensor,
        layer: PackedLayer,
        cache: tuple[Tensor, Tensor],
        angles: Tensor | None,
        is_last: bool,
    ) -> Tensor:
        """Adds the operations of a block; where its result is."""
        block, attention = layer.block, layer.attention
        normed = self.norm(block.attention_norm, x)
        qkv = self.linear(normed, layer.qkv, layer.qkv_bias, self.buffer("qkv", layer.qkv.rows))
        mixed = self.attend(qkv, layer, cache, angles)
        if is_last:
            x, mixed = self.pick(x, "picked"), self.pick(mixed, "picked heads")
        if isinstance(block, Attention):
            return self.linear(mixed, layer.o, None, x, add=1)
        assert layer.down is not None
        scale, residual = block.residual_scale, int(block.residual)
        hidden = self.mlp(x, layer) if block.parallel else None
        o, post = attention.o, block.attention_post_norm
        self.join(x, mixed, layer.o, o.bias, post, scale=scale, add=residual)
        if hidden is None:
            hidden = self.mlp(x, layer)
        down, post = block.mlp.down, block.mlp_post_norm
        add = int(block.residual or block.parallel)
        self.join(x, hidden, layer.down, down.bias, post, scale=scale, add=add)
        return x

    def attend(
        self,
        qkv: Tensor,
        layer: PackedLayer,
        cache: tuple[Tensor, Tensor],
        angles: Tensor | None,
    ) -> Tensor:
        attention = layer.attention
        shape: dict[str, Any] = {
            "heads": attention.num_heads,
            "kv_heads": attention.num_kv_heads,
            "head_dim": attention.head_dim,
            "block_size": self.block_size,
            "block_stride": cache[0].stride(0),
            "keys": cache[0].data_ptr(),
            "values": cache[1].data_ptr(),
        }
        norms: dict[str, Any] = {}
        if isinstance(attention.q_norm, Norm) and isinstance(attention.k_norm, Norm):
            query, key = _factors(attention.q_norm), _factors(attention.k_norm)
            norms = {"weight": query, "bias": key, "eps": attention.q_norm.eps}
        turning = 0 if angles is None else angles.shape[1]
        self.add(
            "heads", out=qkv, width=qkv.shape[1], other=angles, turning=turning,
            whole=int(attention.whole_norm), **norms, **shape,
        )  # fmt: skip
        mixed = self.buffer("heads", attention.num_heads * attention.head_dim)
        self.add(
            "attend", input=qkv, out=mixed, scale=attention.scale, window=layer.window or 0,
            softcap=attention.softcap or 0.0, **shape,
        )  # fmt: skip
        return mixed

    def mlp(self, x: Tensor, layer: PackedLayer) -> Tensor:
        """What the last matrix of the MLP multiplies."""
        block, up, down = layer.block, layer.up, layer.down
        assert isinstance(block, Block)
        assert up is not None
        assert down is not None
        normed = self.norm(block.mlp_norm, x)
        both = self.linear(normed, up, layer.up_bias, self.buffer("up", up.rows))
        out, kind = self.buffer("hidden", down.columns), ACTIVATIONS.index(block.mlp.activation)
        gated = int(block.mlp.gate is not None)
        self.add("activate", input=both, out=out, width=down.columns, activation=kind, gated=gated)
        return out

    def join(
        self,
        out: Tensor,
        x: Tensor,
        matrix: PackedMatrix,
        bias: Tensor | None,
        norm: nn.Module,
        **options: Any,
    ) -> None:
        """A product into the residual stream, normed first where there is a norm behind it."""
        if isinstance(norm, Norm):
            product = self.linear(x, matrix, bias, self.buffer("product", matrix.rows))
            self.add_norm(product, norm, out, **options)
        else:
            self.linear(x, matrix, bias, out, **options)

    def norm(self, norm: nn.Module, x: Tensor) -> Tensor:
        if not isinstance(norm, Norm):
            return x
        return self.add_norm(x, norm, self.buffer("normed", x.shape[1]))

    def add_norm(self, x: Tensor, norm: Norm, out: Tensor, **options: Any) -> Tensor:
        bias = None if norm.bias is None else norm.bias.detach().float()
        self.add(
            "norm", input=x, out=out, width=x.shape[1], weight=_factors(norm), bias=bias,
            eps=norm.eps, **options,
        )  # fmt: skip
        return out

    def linear(
        self, x: Tensor, matrix: PackedMatrix, bias: Tensor | None, out: Tensor, **options: Any
    ) -> Tensor:
        self.widest = max(self.widest, matrix.columns + 32)
        bias = None if bias is None else bias.detach().float()
        self.add("linear", input=x, out=out, matrix=matrix, bias=bias, **options)
        if isinstance(matrix, AdaptedMatrix):
            low = self.linear(x, matrix.a, None, self.buffer("low", matrix.a.rows))
            self.linear(low, matrix.b, None, out, **{**options, "add": 1})
        return out

    def angles(self, rope: Rope | None, name: str) -> Tensor | None:
        if rope is None:
            return None
        out = self.buffer(name, rope.dim)
        magnitude = rope.scaling.magnitude if rope.scaling is not None else 1.0
        self.add("angles", input=rope.frequencies(), out=out, width=rope.dim, scale=magnitude)
        return out

    def pick(self, x: Tensor, name: str) -> Tensor:
        """The rows whose logits are wanted; all that follows is of these alone."""
        self.picked = 1
        out = self.buffer(name, x.shape[1])
        self.add("pick", input=x, out=out, width=x.shape[1])
        return out

    def buffer(self, name: str, width: int) -> Tensor:
        """Room for a vector of each row; the same for all layers."""
        key = (name, width)
        if key not in self.buffers:
            self.buffers[key] = torch.empty(self.capacity, width)
        return self.buffers[key]

    def add(self, kind: str, *, scale: float = 1.0, **fields: Any) -> None:
        op = Op(kind=KINDS.index(kind), picked=self.picked, scale=scale)
        for name, value in fields.items():
            if isinstance(value, Tensor):
                assert value.dtype == torch.float32
                assert value.is_contiguous()
                self.kept.append(value)
                value = value.data_ptr()
            elif isinstance(value, PackedMatrix):
                self.kept.append(value)
                value = value.pointers()
            setattr(op, name, value)
        self.ops.append(op)


def _factors(norm: Norm) -> Tensor:
    """What a norm multiplies its vectors by."""
    weight = norm.weight.detach().float()
    return 1.0 + weight if norm.unit_offset else weight
