"""Transformers on a CPU by our own kernels: a batch of spans is one call."""

import ctypes
import mmap
from array import array
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from foundling.generation.kernels.library import Batch, Op, library
from foundling.generation.packed import PackedModel
from foundling.generation.program import Program
from foundling.generation.runners import Span
from foundling.models.language_model import LanguageModel

PIECE = 512
"""The most tokens of a text that are read at once where nothing but its vectors is wanted."""


class PackedRunner:
    """Reads spans by the kernels, row by row in an order that depends on nothing but the row.

    So a sequence's logits are the same, bit for bit, whatever else is in the batch, however its
    prompt is cut into spans, and with any number of threads.

    Args:
        model: a model, or one packed already, which further runners may share.
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
        self._block_bytes = 4 * stride
        longest = -(-(model.model.max_context or 0) // block_size) * self._block_bytes
        room = max(1 << 30, longest) if cache_bytes is None else cache_bytes
        self.num_blocks: int | None = max(1, room // self._block_bytes)
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

    def forward(self, spans: Sequence[Span]) -> Float[Tensor, "rows vocab"]:
        """The logits that the spans want, in their order, in fp32."""
        logits = torch.empty(sum(span.num_logits for span in spans), self.vocab_size)
        self._reserve(sum(len(span.tokens) for span in spans))
        for index in self._program.last:
            self._ops[index].out = logits.data_ptr()
        self._run(spans, len(self._ops))
        return logits

    def hidden(self, tokens: Sequence[int]) -> Float[Tensor, "time dim"]:
        """The vectors after the final norm of a text, which has memory of its own meanwhile.

        Any thread may ask while another one reads on.
        """
        blocks = range(-(-len(tokens) // self.block_size))
        apart = PackedRunner(
            self.packed, cache_bytes=len(blocks) * self._block_bytes, block_size=self.block_size
        )
        found = []
        for start in range(0, len(tokens), PIECE):
            piece = tokens[start : start + PIECE]
            apart._reserve(len(piece))
            apart._run([Span(0, piece, start, len(piece), blocks)], apart._program.last[0])
            found.append(apart._program.hidden[: len(piece)].clone())
        return torch.cat(found)

    def _run(self, spans: Sequence[Span], num_ops: int) -> None:
        """The first operations of the program on the tokens of the spans."""
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
        pointers = (a.buffer_info()[0] for a in (tokens, positions, picks, tables, blocks))
        batch = Batch(len(tokens), len(picks), *pointers, self._workspace.data_ptr())
        threads = min(torch.get_num_threads(), self._capacity)
        self._kernels.run(self._ops, num_ops, ctypes.byref(batch), threads)

    def _check(self, span: Span) -> None:
        """The kernels read and write wherever they are told."""
        stop, bound = span.start + len(span.tokens), self.packed.model.max_context
        assert min(span.tokens) >= 0, "a token is negative"
        assert max(span.tokens) < self.packed.embed.rows, "a token has no row"
        assert bound is None or stop <= bound, "a span is longer than the context"
        assert stop <= len(span.blocks) * self.block_size, "a span has too few blocks"
        assert span.start >= 0, "a span starts before its text"
        assert 0 <= span.num_logits <= len(span.tokens), "more logits than tokens are wanted"

    def forget(self, sequence: int) -> None:
        """Its keys and values lie in blocks, which are the scheduler's."""

    def _reserve(self, rows: int) -> None:
        """Room for so many rows at once, at least."""
        if rows > self._capacity:
            self._capacity = 1 << (rows - 1).bit_length()
            self._program = Program(self.packed, self._cache, self.block_size, self._capacity)
            self._ops = (Op * len(self._program.ops))(*self._program.ops)
            self._workspace = torch.empty(self._capacity * self._program.widest)
