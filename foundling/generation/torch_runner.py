"""Attention over blocks by torch: spans as the rows of a padded batch."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from foundling.base.precision import PRECISIONS, autocast
from foundling.generation.runners import Span
from foundling.models.attention import Attention, KeyValueCache, SelfAttention
from foundling.models.batch import BatchView
from foundling.models.language_model import LanguageModel
from foundling.models.transformer import Transformer

BLOCK_SIZE = 16
LEAST_BYTES = 1 << 30


class TorchRunner:
    """Reads spans on any device; made for GPUs.

    Products of other shapes add in another order, so a sequence's logits depend, by rounding, on
    how many are beside it and on how it is cut into spans.
    """

    block_size = BLOCK_SIZE
    can_rewind = True

    def __init__(
        self, model: LanguageModel, *, cache_bytes: int | None = None, precision: str = "fp32"
    ) -> None:
        assert self.supports(model), "the caller asks"
        assert model.max_context is not None
        self._model, self._precision = model, PRECISIONS[precision]
        weight = model.embed.weight
        self._device = weight.device
        layers = attentions(model)
        widths = [2 * layer.num_kv_heads * layer.head_dim for layer in layers]
        block_bytes = BLOCK_SIZE * sum(widths) * weight.element_size()
        longest = -(-model.max_context // BLOCK_SIZE)
        self.num_blocks: int | None = (
            max(LEAST_BYTES // block_bytes, longest)
            if cache_bytes is None
            else max(1, cache_bytes // block_bytes)
        )
        self._memory = [
            tuple(
                torch.zeros(
                    self.num_blocks * BLOCK_SIZE,
                    layer.num_kv_heads,
                    layer.head_dim,
                    dtype=weight.dtype,
                    device=self._device,
                )
                for _ in range(2)
            )
            for layer in layers
        ]

    @staticmethod
    def supports(model: LanguageModel) -> bool:
        """Whether all that the model remembers are keys and values that stay as they are."""
        context = model.context
        if isinstance(context, Transformer):
            return context.length_rope is None
        return isinstance(context, Attention)

    @torch.inference_mode()
    def forward(self, spans: Sequence[Span]) -> Float[Tensor, "rows vocab"]:
        """The logits that the spans want, in their order, on the CPU.

        Spans of like lengths are read together.
        """
        groups = defaultdict[int, list[int]](list)
        for index, span in enumerate(spans):
            groups[(len(span.tokens) - 1).bit_length()].append(index)
        found: dict[int, Tensor] = {}
        for group in groups.values():
            rows = self._read([spans[index] for index in group])
            found |= dict(zip(group, rows, strict=True))
        return torch.cat([found[index] for index in range(len(spans))])

    def _read(self, spans: Sequence[Span]) -> list[Float[Tensor, "rows vocab"]]:
        lengths = [len(span.tokens) for span in spans]
        tokens = torch.zeros(len(spans), max(lengths), dtype=torch.long)
        for row, span in zip(tokens, spans, strict=True):
            row[: len(span.tokens)] = torch.tensor(span.tokens)
        cache = _Padded(spans, self._memory, self._device)
        with autocast(self._device, self._precision):
            hidden = self._model.hidden(tokens.to(self._device), BatchView(cache.positions), cache)
            wanted = [
                row[length - span.num_logits : length]
                for row, length, span in zip(hidden, lengths, spans, strict=True)
            ]
            logits = self._model.logits(torch.cat(wanted)).cpu()
        return list(torch.split(logits, [span.num_logits for span in spans]))

    def forget(self, sequence: int) -> None:
        """Its keys and values lie in blocks, which are the scheduler's."""


class _Padded(KeyValueCache):
    """The keys and values of some sequences, in blocks.

    Where a row has fewer tokens than others, its last ones are repeated: nobody sees them.
    """

    def __init__(
        self,
        spans: Sequence[Span],
        memory: Sequence[tuple[Tensor, ...]],
        device: torch.device,
    ) -> None:
        super().__init__()
        self._memory = memory
        starts = torch.tensor([span.start for span in spans])[:, None]
        counts = torch.tensor([len(span.tokens) for span in spans])[:, None]
        last, steps = starts + counts - 1, torch.arange(int(counts.max()))
        places = torch.arange(int(last.max()) + 1).minimum(last)
        width = max(len(span.blocks) for span in spans)
        blocks = torch.tensor([[*span.blocks, *[0] * (width - len(span.blocks))] for span in spans])
        slots = blocks.gather(1, places // BLOCK_SIZE) * BLOCK_SIZE + places % BLOCK_SIZE
        positions = (starts + steps).minimum(last)
        self._is_new = (steps < counts).to(device)
        self._new = slots.gather(1, positions).to(device)[self._is_new]
        self._slots = slots.to(device)
        self.positions: Int[Tensor, "batch time"] = positions.to(device)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        found = []
        for memory, given in zip(self._memory[layer], (keys, values), strict=True):
            memory[self._new] = given.transpose(1, 2)[self._is_new].to(memory.dtype)
            found.append(memory[self._slots].transpose(1, 2).to(given.dtype))
        return found[0], found[1]

    def mask(self, view: BatchView, window: int | None) -> Bool[Tensor, "batch 1 time total"]:
        key = torch.arange(self._slots.shape[1], device=self._slots.device)
        query = view.positions[:, :, None]
        mask = key <= query
        if window is not None:
            mask = mask & (key > query - window)
        return mask[:, None]


def attentions(model: LanguageModel) -> list[SelfAttention]:
    """The self-attention of each layer."""
    return [part for part in model.modules() if isinstance(part, SelfAttention)]
