"""What a model and an objective are fed: batches of tokens, and where they come from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from foundling.base import ranks
from foundling.base.intervals import Intervals

IGNORE = -100
"""The target of a position that is not supervised."""
ANCHOR = -101
"""The target of a position where no token is supervised, only nearness to a reference model."""


@dataclass(frozen=True)
class BatchView:
    """What a context module may know of a batch beside the embeddings.

    `positions` restart at 0 with each document, so position `p` at time `t` says that the
    document began at time `t - p`. `documents` is None where every row is one document: that is
    known on the host, and lets attention take its fastest path.

    With `seen_until`, a document is a tree that is written out depth first: a token at time `t`
    is seen from there on up to time `seen_until[t]`, excluded, which is where its branch ends.
    Positions count from the root, so each branch continues its stem. Of a stream, the tree
    grows out of all that was read before. Only context modules that say so support tree masks.

    7 8 that continues as 4 5 or as 6: tokens 7 8 4 5 6, positions 0 1 2 3 2, seen_until 5 5 4 4 5.
    """

    positions: Int[Tensor, "batch time"]
    documents: Int[Tensor, "batch time"] | None = None
    seen_until: Int[Tensor, "batch time"] | None = None


@dataclass(frozen=True)
class TokenBatch:
    """Packed rows of tokens; a row may hold several documents.

    `targets` is the next token, ANCHOR, or IGNORE where none is supervised. `documents` numbers the
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

    @property
    def indices(self) -> Int[Tensor, " targets"]:
        """Where in the flattened rows the supervised targets are."""
        return _places(self.targets)

    @property
    def row_counts(self) -> Int[Tensor, " batch"]:
        """How many targets each row has."""
        return (self.targets != IGNORE).sum(1)

    def rows(self, start: int, stop: int) -> "TokenBatch":
        """The rows `start` to `stop`, as a batch of its own."""
        return _each(self, lambda tensor: tensor[start:stop])

    def chosen(self, rows: Sequence[int]) -> "TokenBatch":
        """These rows in this order, as a batch of its own."""
        index = torch.tensor(rows, device=self.tokens.device)
        return _each(self, lambda tensor: tensor[index])

    def blank(self) -> "TokenBatch":
        """The same rows without a target."""
        ids = None if self.target_ids is None else torch.full_like(self.target_ids, -1)
        return replace(self, targets=torch.full_like(self.targets, IGNORE), target_ids=ids)

    def to(self, device: torch.device) -> "TokenBatch":
        return _each(self, lambda tensor: tensor.to(device, non_blocking=True))

    def __len__(self) -> int:
        return self.tokens.shape[0]


@dataclass(frozen=True)
class PreferenceBatch:
    """Packed rows of pairs: a prompt, the answer that was chosen and the one that was rejected.

    A row holds whole pairs. `answers` says which answer of its row a target belongs to: 2 · place
    of the pair in the row, plus 1 for the rejected one; -1 where none is supervised. `pair_ids`
    numbers each pair of a row among all of a data set; -1 where a row holds fewer.

    With `seen_until` (see BatchView) a pair is one document, whose prompt stands once: all of the
    prompt but its last token, then in one branch that token and the chosen answer, and in another
    that token, once more, and the rejected one. Without, each answer has a document and a prompt
    of its own.

    Prompt 7 8 9, chosen 4 5, rejected 6: tokens 7 8 9 4 9, targets - - 4 5 6, positions
    0 1 2 3 2, seen_until 5 5 4 4 5, answers -1 -1 0 0 1.
    """

    tokens: Int[Tensor, "batch time"]
    targets: Int[Tensor, "batch time"]
    positions: Int[Tensor, "batch time"]
    documents: Int[Tensor, "batch time"]
    answers: Int[Tensor, "batch time"]
    pair_ids: Int[Tensor, "batch pairs"]
    seen_until: Int[Tensor, "batch time"] | None = None

    @property
    def view(self) -> BatchView:
        return BatchView(self.positions, self.documents, self.seen_until)

    @property
    def indices(self) -> Int[Tensor, " targets"]:
        """Where in the flattened rows the supervised targets are."""
        return _places(self.targets)

    @property
    def row_counts(self) -> Int[Tensor, " batch"]:
        """How many pairs each row has."""
        return (self.pair_ids >= 0).sum(1)

    def rows(self, start: int, stop: int) -> "PreferenceBatch":
        """The rows `start` to `stop`, as a batch of its own."""
        return _each(self, lambda tensor: tensor[start:stop])

    def blank(self) -> "PreferenceBatch":
        """The same rows without a pair."""
        return replace(
            self,
            targets=torch.full_like(self.targets, IGNORE),
            answers=torch.full_like(self.answers, -1),
            pair_ids=torch.full_like(self.pair_ids, -1),
        )

    def to(self, device: torch.device) -> "PreferenceBatch":
        return _each(self, lambda tensor: tensor.to(device, non_blocking=True))

    def __len__(self) -> int:
        return self.tokens.shape[0]


Batch = TokenBatch | PreferenceBatch
AnyBatch = TypeVar("AnyBatch", TokenBatch, PreferenceBatch)
Rows = TypeVar("Rows", bound=TokenBatch | PreferenceBatch)


def share_of(batch: Rows) -> Rows:
    """The rows that this process works; see `passes_over`."""
    return _rows_or_blank(batch, ranks.share(len(batch)))


def passes_over(batch: Rows, rows: int | None) -> list[tuple[range, Rows]]:
    """This process's share of a batch, at most `rows` at a time, with where each part lies.

    The parts of all processes make up the batch. All have equally many, as processes whose weights
    are sharded must: a part without rows is one row without targets.
    """
    mine, largest = ranks.share(len(batch)), -(-len(batch) // ranks.world())
    step = rows or largest
    parts = [mine[first : first + step] for first in range(0, largest, step)]
    return [(part, _rows_or_blank(batch, part)) for part in parts]


def _rows_or_blank(batch: Rows, part: range) -> Rows:
    return cast(Rows, batch.rows(part.start, part.stop) if part else batch.rows(0, 1).blank())


def _places(targets: Int[Tensor, "batch time"]) -> Int[Tensor, " targets"]:
    return (targets.flatten() != IGNORE).nonzero()[:, 0]


def _each(batch: AnyBatch, change: Callable[[Tensor], Tensor]) -> AnyBatch:
    """The batch with each of its tensors changed."""
    parts = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(batch, **{k: change(v) for k, v in parts.items() if v is not None})


@runtime_checkable
class Data(Protocol):
    """An endless sequence of samples, in batches; a sample is a row and has a global index.

    Batch `i` holds the samples at the indices `i · batch_size` to `(i + 1) · batch_size` among
    those that are not skipped: a pure function of the seed, `i` and what is skipped.
    """

    fingerprint: str
    """A hash of the tokens, their order and the settings."""
    batch_size: int

    def batch(self, index: int, skipped: Intervals = ()) -> Batch: ...

    def describe(self, sample: int) -> Mapping[str, Any]:
        """Where a sample comes from and how it reads, for people."""
        ...


def whole_document(tokens: Int[Tensor, "batch time"], start: int = 0) -> BatchView:
    """The view of rows that are one document each, beginning at position `start`."""
    batch, time = tokens.shape
    positions = torch.arange(start, start + time, device=tokens.device)
    return BatchView(positions.expand(batch, time))
