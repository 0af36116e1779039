"""Pretraining batches: rows of a token store in an order that is a pure function of the seed."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from foundling.base.config import ConfigError
from foundling.base.intervals import Intervals, kept
from foundling.data.row_order import RowOrder
from foundling.data.store import TokenSplit
from foundling.models.batch import IGNORE, TokenBatch


class TextData:
    """Samples from one split of a token store.

    A sample is a row of `context` tokens. Each epoch cuts the token stream into rows from a
    different offset and visits them in a different order, so that a small corpus is seen under many
    alignments; within an epoch each row comes once.

    Raises:
        ConfigError: the split is shorter than one row.
    """

    def __init__(
        self,
        split: TokenSplit,
        *,
        context: int,
        batch_size: int,
        seed: int,
        decode: Callable[[Sequence[int]], str] = str,
    ) -> None:
        self.split, self.context, self.batch_size, self.seed = split, context, batch_size, seed
        self.decode = decode
        self.rows_per_epoch = rows_per_epoch(split.num_tokens, context)
        if self.rows_per_epoch < 1:
            raise ConfigError(
                f"context = {context}: the training split has only {split.num_tokens} tokens; it "
                f"needs at least {2 * context + 1}. Give more text or a shorter context."
            )
        self._order = RowOrder(self.rows_per_epoch, context, seed)
        identity = f"{split.fingerprint}/{context}/{batch_size}/{seed}"
        self.fingerprint = hashlib.sha256(identity.encode()).hexdigest()

    def batch(self, index: int, skipped: Intervals = ()) -> TokenBatch:
        indices = range(index * self.batch_size, (index + 1) * self.batch_size)
        return self.samples([kept(skipped, i) for i in indices])

    def samples(self, samples: Sequence[int]) -> TokenBatch:
        """The rows of these samples."""
        return rows_at(self.split, [self.start_of(sample) for sample in samples], self.context)

    def describe(self, sample: int) -> dict[str, Any]:
        """The documents that a sample lies in, by their number in the split, and its text."""
        start = self.start_of(sample)
        stop = start + self.context
        first, last = self.split.document_of(start), self.split.document_of(stop - 1)
        tokens = self.split.read(start, stop).tolist()
        return {"token": start, "documents": [first, last], "text": self.decode(tokens)}

    def start_of(self, sample: int) -> int:
        """Where in the token stream a sample begins."""
        return self._order.start_of(sample)


def rows_per_epoch(num_tokens: int, context: int) -> int:
    """Rows of `context` tokens in an epoch; below 1 the text is too short."""
    # The last target needs one token more; an offset of up to a row may be cut off.
    return (num_tokens - 1) // context - 1


def validation_batches(
    split: TokenSplit, *, context: int, batch_size: int, max_tokens: int | None
) -> Iterator[TokenBatch]:
    """The split from its beginning in rows that do not overlap: every token is a target once.

    The last row is filled with IGNORE. `max_tokens` bounds how much of the split is read.
    """
    stop = split.num_tokens if max_tokens is None else min(split.num_tokens, max_tokens)
    starts = list(range(0, stop - 1, context))
    for first in range(0, len(starts), batch_size):
        yield rows_at(split, starts[first : first + batch_size], context, stop=stop)


@dataclass(frozen=True)
class Place:
    """Where a row begins in the tokens of a split."""

    split: TokenSplit
    start: int
    length: int | None = None
    """Tokens after which the row is cut: what comes next is a document of its own."""


def rows_at(
    split: TokenSplit, starts: list[int], context: int, stop: int | None = None
) -> TokenBatch:
    """The rows of `context` tokens that begin at `starts`; beyond `stop` there are no targets."""
    return rows_of([Place(split, start) for start in starts], context, stop)


def rows_of(places: Sequence[Place], context: int, stop: int | None = None) -> TokenBatch:
    """The rows of `context` tokens that begin at these places; beyond `stop` there are no targets.

    The token after a document's last one begins another document and is no target. That after a
    cut is one: it is predicted from its piece alone.
    """
    tokens = np.zeros((len(places), context), dtype=np.int64)
    targets = np.full((len(places), context), IGNORE, dtype=np.int64)
    positions = np.tile(np.arange(context), (len(places), 1))
    documents = np.zeros((len(places), context), dtype=np.int64)
    for row, place in enumerate(places):
        split, start = place.split, place.start
        limit = split.num_tokens if stop is None else stop
        found = split.read(start, min(start + context + 1, limit))
        tokens[row, : min(len(found), context)] = found[:context]
        targets[row, : len(found) - 1] = found[1:]
        borders = split.document_starts(start + 1, start + len(found)) - start
        targets[row, borders - 1] = IGNORE
        if place.length is not None:
            borders = np.union1d(borders, np.arange(place.length, context, place.length))
        for border in borders[borders < context]:
            positions[row, border:] = np.arange(context - border)
            documents[row, border:] += 1
    return TokenBatch(
        torch.from_numpy(tokens),
        torch.from_numpy(targets),
        torch.from_numpy(positions),
        torch.from_numpy(documents) if documents.any() else None,
    )
