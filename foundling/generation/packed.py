"""Transformers on a CPU by our own kernels: a batch of spans is one call."""

import ctypes
import mmap
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foundling.generation.kernels.library import Batch, Op, available, library
from foundling.generation.kernels.low_rank import AdaptedMatrix, adapted
from foundling.generation.kernels.weights import Format, PackedMatrix
from foundling.generation.runners import Span
from foundling.models.adapters import merged_weight
from foundling.models.attention import Attention, Norm, SelfAttention
from foundling.models.blocks import Block
from foundling.models.language_model import LanguageModel
from foundling.models.positions import sinusoids
from foundling.models.rope import Rope
from foundling.models.token_rows import rows_of
from foundling.models.transformer import Transformer

KINDS = ("embed", "angles", "norm", "linear", "heads", "attend", "activate", "softcap", "pick")
ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "relu2")


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
    layers: tuple[PackedLayer, ...]
    head: PackedMatrix
    embed: Float[Tensor, "vocab dim"] | None
    """None: the rows of the head."""
    base: "PackedModel | None" = None
    """Whose matrices it shares."""

    @classmethod
    def pack(cls, model: LanguageModel, format: Format) -> "PackedModel":
        """Adapters are merged. In int4 the head stays in int8, as its errors reach every logit."""
        context = model.context
        layers = []
        if isinstance(context, Transformer):
            for index, block in enumerate(context.blocks):
                assert isinstance(block, Block)
                rope = context.ropes[context.rope_of[index]]
                name, window = f"context.blocks.{index}.", context.windows[index]
                layers.append(_layer(model, name, block, rope, window, format))
        else:
            assert isinstance(context, Attention)
            layers.append(_layer(model, "context.", context, context.rope, None, format))
        head, embed = _vocabulary(model, "int8" if format == "int4" else format)
        return cls(model, tuple(layers), head, embed)

    def with_adapters(self, model: LanguageModel) -> "PackedModel":
        """A model with adapters over this one, whose matrices it shares.

        Only where it has learned rows of tokens, embedding and head are its own.
        """
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
            head, embed = _vocabulary(model, head.format)
        return PackedModel(model, tuple(layers), head, embed, self)


def _vocabulary(model: LanguageModel, format: Format) -> tuple[PackedMatrix, Tensor | None]:
    """The head, and the embedding where that is another matrix."""
    unembed = merged_weight(model, "embed.weight" if model.tied else "unembed.weight")
    embed = None if model.tied else merged_weight(model, "embed.weight").float().contiguous()
    return PackedMatrix.pack(unembed, format), embed


def _blocks(model: LanguageModel) -> list[Block | Attention]:
    context = model.context
    if isinstance(context, Attention):
        return [context]
    assert isinstance(context, Transformer)
    return [block for block in context.blocks if isinstance(block, Block)]


def _layer(
    model: LanguageModel,
    prefix: str,
    block: Block | Attention,
    rope: Rope | None,
    window: int | None,
    format: Format,
) -> PackedLayer:
    def pack(*names: str) -> PackedMatrix:
        weights = [merged_weight(model, f"{prefix}{name}.weight") for name in names]
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


class PackedRunner:
    """Reads spans by the kernels, row by row in an order that depends on nothing but the row.

    So a sequence's logits are the same, bit for bit, whatever else is in the batch, however its
    prompt is cut into spans, and with any number of threads.

    Args:
        model: a model, or one packed already.
        precision: of the weights where they are not quantised. What bf16, int8 and int4 multiply is
            rounded to bf16 or, 32 numbers at a time, to 8 bits where the processor has such
            products (AVX512-BF16, VNNI); it stays in fp32 elsewhere.
        cache_bytes: memory for keys and values, taken as blocks are first written; None: 1 GiB, or
            what the longest context needs.
    """

    can_rewind = True

    def __init__(
        self,
        model: LanguageModel | PackedModel,
        *,
        precision: Literal["fp32", "bf16"] = "fp32",
        quantize: Literal["none", "int8", "int4"] = "none",
        cache_bytes: int | None = None,
        block_size: int = 32,
    ) -> None:
        kernels = library()
        assert kernels is not None, "the caller asks whether it supports the model"
        assert block_size % 16 == 0, "keys lie in tiles of 16 tokens"
        self._kernels = kernels
        if isinstance(model, LanguageModel):
            model = PackedModel.pack(model, precision if quantize == "none" else quantize)
        self.packed = model
        self.vocab_size = model.head.rows
        sizes = [
            (a.num_kv_heads * a.head_dim, a.num_kv_heads * kernels.padded_width(a.head_dim))
            for a in (layer.attention for layer in model.layers)
        ]
        self.block_size = block_size
        stride = block_size * sum(map(sum, sizes))
        longest = -(-(model.model.max_context or 0) // block_size) * stride * 4
        room = max(1 << 30, longest) if cache_bytes is None else cache_bytes
        self.num_blocks: int | None = max(1, room // (4 * stride))
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        memory = mmap.mmap(-1, 4 * stride * self.num_blocks, flags=private)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        blocks = torch.frombuffer(memory, dtype=torch.float32).view(self.num_blocks, stride)
        widths = [block_size * width for pair in sizes for width in pair]
        parts = torch.split(blocks, widths, dim=1)
        self._cache = list(zip(parts[::2], parts[1::2], strict=True))
        self._capacity = 0
        self._reserve(64)

    @staticmethod
    def supports(model: LanguageModel) -> bool:
        """Whether the kernels are there for such a model on its device."""
        context = model.context
        known = isinstance(context, Attention) or (
            isinstance(context, Transformer) and context.length_rope is None
        )
        return known and next(model.parameters()).device.type == "cpu" and available()

    def forward(self, spans: Sequence[Span]) -> Float[Tensor, "rows vocab"]:
        """The logits that the spans want, in their order, in fp32."""
        tokens, positions, tables = array("i"), array("i"), array("i")
        picks, blocks = array("i"), array("i")
        for span in spans:
            count = len(span.tokens)
            self._check(span)
            tokens.extend(span.tokens)
            positions.extend(range(span.start, span.start + count))
            tables.extend([len(blocks)] * count)
            blocks.extend(span.blocks)
            picks.extend(range(len(tokens) - span.num_logits, len(tokens)))
        if len(tokens) > self._capacity:
            self._reserve(len(tokens))
        logits = torch.empty(len(picks), self.vocab_size)
        for op in self._last:
            op.out = logits.data_ptr()
        pointers = (a.buffer_info()[0] for a in (tokens, positions, picks, tables, blocks))
        batch = Batch(len(tokens), len(picks), *pointers, self._workspace.data_ptr())
        program, threads = self._program, min(torch.get_num_threads(), self._capacity)
        self._kernels.run(program, len(program), ctypes.byref(batch), threads)
        return logits

    def _check(self, span: Span) -> None:
        """The kernels read and write wherever they are told."""
        stop, bound = span.start + len(span.tokens), self.packed.model.max_context
        rows = self.vocab_size if self.packed.embed is None else len(self.packed.embed)
        assert min(span.tokens) >= 0, "a token is negative"
        assert max(span.tokens) < rows, "a token has no row"
        assert bound is None or stop <= bound, "a span is longer than the context"
        assert stop <= len(span.blocks) * self.block_size, "a span has too few blocks"
        assert span.start >= 0, "a span starts before its text"
        assert 0 <= span.num_logits <= len(span.tokens), "more logits than tokens are wanted"

    def forget(self, sequence: int) -> None:
        """Its keys and values lie in blocks, which are the scheduler's."""

    def _reserve(self, rows: int) -> None:
        """Room for so many rows at once, at least."""
        self._capacity = 1 << (rows - 1).bit_length()
        writer = _Writer(self.packed, self._cache, self.block_size, self._capacity)
        writer.write()
        self._kept = writer.kept
        self._program = (Op * len(writer.ops))(*writer.ops)
        self._last = [self._program[index] for index in writer.last]
        self._workspace = torch.empty(self._capacity * writer.widest)


class _Writer:
    """Writes the program of a model: each operation with its buffers and weights."""

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
        """The operations that write logits."""
        self.picked = 0

    def write(self) -> None:
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
        embed = {"matrix": packed.head} if packed.embed is None else {"input": packed.embed}
        self.add("embed", out=x, width=dim, scale=embed_scale, other=positions, **embed)
        ropes = dict.fromkeys(layer.rope for layer in packed.layers)
        angles = {rope: self.angles(rope, f"angles {n}") for n, rope in enumerate(ropes)}
        for layer, cache in zip(packed.layers, self.cache, strict=True):
            x = self.layer(x, layer, cache, angles[layer.rope], layer is packed.layers[-1])
        x, logits = self.norm(context.norm, x), torch.empty(0)  # each call has its own logits
        self.last.append(len(self.ops))
        self.linear(x, packed.head, None, logits, scale=1 / divisor)
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
        hidden = self.hidden(x, layer) if block.parallel else None
        o, post = attention.o, block.attention_post_norm
        self.join(x, mixed, layer.o, o.bias, post, scale=scale, add=residual)
        if hidden is None:
            hidden = self.hidden(x, layer)
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

    def hidden(self, x: Tensor, layer: PackedLayer) -> Tensor:
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
