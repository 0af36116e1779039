"""What a model and an objective are fed: batches of tokens, and where they come from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from foundling.intervals import Intervals

IGNORE = -100
"""The target of a position at which no loss is due."""
ANCHOR = -101
"""The target of a position at which no token is due, only nearness to a reference model."""


@dataclass(frozen=True)
class BatchView:
    """What a context module may know of a batch beside the embeddings.

    `positions` restart at 0 with each document, so position `p` at time `t` says that the
    document began at time `t - p`. `documents` is None where every row is one document: that is
    known on the host, and lets attention take its fastest path.
    """

    positions: Int[Tensor, "batch time"]
    documents: Int[Tensor, "batch time"] | None = None


@dataclass(frozen=True)
class TokenBatch:
    """Packed rows of tokens; a row may hold several documents.

    `targets` is the next token, ANCHOR, or IGNORE where no loss is due. `documents` numbers the
    documents of a row, or is None where every row is one document. `target_ids` numbers each
    target among all targets of a finite data set (-1 where there is none), so that what was
    computed of it before is found again; None where there is no such number.
    """

    tokens: Int[Tensor, "batch time"]
    targets: Int[Tensor, "batch time"]
    positions: Int[Tensor, "batch time"]
    documents: Int[Tensor, "batch time"] | None = None
    target_ids: Int[Tensor, "batch time"] | None = None

    @property
    def view(self) -> BatchView:
        return BatchView(self.positions, self.documents)

    def rows(self, start: int, stop: int) -> "TokenBatch":
        """The rows `start` to `stop`, as a batch of its own."""
        return self._each(lambda tensor: tensor[start:stop])

    def chosen(self, rows: Sequence[int]) -> "TokenBatch":
        """These rows in this order, as a batch of its own."""
        index = torch.tensor(rows, device=self.tokens.device)
        return self._each(lambda tensor: tensor[index])

    def to(self, device: torch.device) -> "TokenBatch":
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def _each(self, change: Callable[[Tensor], Tensor]) -> "TokenBatch":
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{k: change(v) for k, v in parts.items() if v is not None})


@runtime_checkable
class Data(Protocol):
    """An endless sequence of samples, in batches; a sample is a row and has a global index.

    Batch `i` holds the samples at the places `i · batch_size` to `(i + 1) · batch_size` among
    those that are not skipped: a pure function of the seed, `i` and what is skipped.
    """

    fingerprint: str
    """Of the tokens, their order and the settings."""
    batch_size: int

    def batch(self, index: int, skipped: Intervals = ()) -> TokenBatch: ...

    def describe(self, sample: int) -> Mapping[str, Any]:
        """Where a sample comes from and how it reads, for people."""
        ...


def whole_document(tokens: Int[Tensor, "batch time"], start: int = 0) -> BatchView:
    """The view of rows that are one document each, beginning at position `start`."""
    batch, time = tokens.shape
    positions = torch.arange(start, start + time, device=tokens.device)
    return BatchView(positions.expand(batch, time))
