"""Pretraining batches: rows of a token store in an order that is a pure function of the seed."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from foundling.base.config import ConfigError
from foundling.base.intervals import Intervals, kept
from foundling.base.runtime import derive_seed
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
        # The last target needs one token more; an offset of up to a row may be cut off.
        self.rows_per_epoch = (split.num_tokens - 1) // context - 1
        if self.rows_per_epoch < 1:
            raise ConfigError(
                f"context = {context}: the training split has only {split.num_tokens} tokens; it "
                f"needs at least {2 * context + 1}. Give more text or a shorter context."
            )
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
        epoch, row = divmod(sample, self.rows_per_epoch)
        offset = derive_seed(self.seed, "offset", epoch) % self.context
        key = derive_seed(self.seed, "order", epoch)
        return offset + self.context * _permute(row, self.rows_per_epoch, key)


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


def rows_at(
    split: TokenSplit, starts: list[int], context: int, stop: int | None = None
) -> TokenBatch:
    """The rows of `context` tokens that begin at `starts`; beyond `stop` there are no targets.

    The token after a document's last one begins another document and is no target.
    """
    limit = split.num_tokens if stop is None else stop
    tokens = np.zeros((len(starts), context), dtype=np.int64)
    targets = np.full((len(starts), context), IGNORE, dtype=np.int64)
    positions = np.tile(np.arange(context), (len(starts), 1))
    documents = np.zeros((len(starts), context), dtype=np.int64)
    for row, start in enumerate(starts):
        piece = split.read(start, min(start + context + 1, limit))
        tokens[row, : min(len(piece), context)] = piece[:context]
        targets[row, : len(piece) - 1] = piece[1:]
        for border in split.document_starts(start + 1, start + len(piece)) - start:
            targets[row, border - 1] = IGNORE
            if border < context:
                positions[row, border:] = np.arange(context - border)
                documents[row, border:] += 1
    return TokenBatch(
        torch.from_numpy(tokens),
        torch.from_numpy(targets),
        torch.from_numpy(positions),
        torch.from_numpy(documents) if documents.any() else None,
    )


def _permute(index: int, size: int, key: int) -> int:
    """The image of `index` under a pseudo-random permutation of `range(size)`, without a table.

    Four Feistel rounds over the next even power of two, walked until the result is in range.

    Source: Black and Rogaway 2002, Ciphers with Arbitrary Finite Domains, section 4.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(4):
            left, right = right, left ^ (_mix(right, key + turn) & mask)
        index = left << half | right
        if index < size:
            return index


def _mix(value: int, key: int) -> int:
    """Scramble 64 bits. Source: Steele et al. 2014, SplitMix."""
    z = (value + key * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return z ^ (z >> 31)
