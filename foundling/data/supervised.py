"""Batches of instruction data: examples packed into rows, in an order that the seed gives."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from foundling.base.config import ConfigError
from foundling.base.intervals import Intervals, kept
from foundling.data.epochs import Epochs, padded_length
from foundling.data.examples import Examples
from foundling.models.batch import IGNORE, TokenBatch


class SupervisedData:
    """Examples in rows of `context` tokens.

    A sample is a row. Each epoch shuffles the examples, packs them as tightly as it can and
    shuffles the rows; every epoch has equally many. Without `packing` a row is one example, padded
    to the longest of its batch.

    Raises:
        ConfigError: an example is longer than `context`.
    """

    def __init__(
        self,
        examples: Examples,
        *,
        context: int,
        batch_size: int,
        seed: int,
        packing: bool = True,
        decode: Callable[[Sequence[int]], str] = str,
    ) -> None:
        self.examples, self.context, self.batch_size = examples, context, batch_size
        self.seed, self.packing, self.decode = seed, packing, decode
        longest = int(examples.lengths.argmax())
        if examples.lengths[longest] > context:
            raise ConfigError(
                f"{examples.where[longest]}: {examples.lengths[longest]:,} tokens, but "
                f"row_length = {context:,}; give a longer data.row_length or a shorter "
                "data.max_length."
            )
        self.epochs = Epochs(examples.lengths, context, seed, packing=packing)
        self.rows_per_epoch = self.epochs.rows_per_epoch
        identity = f"{examples.fingerprint}/{context}/{batch_size}/{seed}/{packing}"
        self.fingerprint = hashlib.sha256(identity.encode()).hexdigest()

    @property
    def efficiency(self) -> float:
        """The share of the rows' tokens that are an example's; 1 is no padding at all."""
        return self.examples.num_tokens / (self.rows_per_epoch * self.context)

    @property
    def num_targets(self) -> int:
        """All learned tokens, each of which is a target once an epoch."""
        return self.examples.num_targets

    def batch(self, index: int, skipped: Intervals = ()) -> TokenBatch:
        samples = range(index * self.batch_size, (index + 1) * self.batch_size)
        return self.samples([kept(skipped, sample) for sample in samples])

    def samples(self, samples: Sequence[int]) -> TokenBatch:
        """The rows of these samples."""
        return self._rows([self.examples_of(sample) for sample in samples])

    def ordered_batches(self, batch_size: int | None = None) -> Iterator[TokenBatch]:
        """Every example once, in an order that does not depend on the seed, the long ones first.

        The last batch may have fewer rows.
        """
        for rows in self.epochs.in_order(batch_size or self.batch_size):
            yield self._rows(rows)

    def describe(self, sample: int) -> dict[str, Any]:
        """Where the examples of a row come from, and its text."""
        indices = self.examples_of(sample)
        tokens = [token for index in indices for token in self.examples.rendered(index).tokens]
        return {
            "examples": indices.tolist(),
            "where": [self.examples.where[index] for index in indices],
            "text": self.decode(tokens),
        }

    def examples_of(self, sample: int) -> npt.NDArray[np.int64]:
        """The examples that a sample holds, in their order in the row."""
        return self.epochs.row(sample)

    def _rows(self, rows: Sequence[npt.NDArray[np.int64]]) -> TokenBatch:
        """The batch whose rows hold these examples, one after the other, and then padding.

        Three examples of 3, 2 and 1 tokens in a row of 8, of which the last tokens are learned:
        positions 0 1 2 0 1 0 0 1, documents 0 0 0 1 1 2 3 3.
        """
        examples, shape = self.examples, (len(rows), self._time(rows))
        tokens = np.full(shape, examples.pad, dtype=np.int64)
        targets = np.full(shape, IGNORE, dtype=np.int64)
        target_ids = np.full(shape, -1, dtype=np.int64)
        positions = np.tile(np.arange(shape[1]), (shape[0], 1))
        documents = np.zeros(shape, dtype=np.int64)
        for row, indices in enumerate(rows):
            at = 0
            for document, index in enumerate(indices):
                start, stop = examples.offsets[index], examples.offsets[index + 1]
                end = at + int(stop - start)
                tokens[row, at:end] = examples.tokens[start:stop]
                following = slice(start + 1, stop)
                learned = examples.learned[following]
                targets[row, at : end - 1] = np.where(learned, examples.tokens[following], IGNORE)
                target_ids[row, at : end - 1] = examples.target_ids[following]
                positions[row, at:end] = np.arange(end - at)
                documents[row, at:end] = document
                at = end
            if self.packing:  # padding is a document of its own
                positions[row, at:] = np.arange(shape[1] - at)
                documents[row, at:] = len(indices)
        return TokenBatch(
            torch.from_numpy(tokens),
            torch.from_numpy(targets),
            torch.from_numpy(positions),
            torch.from_numpy(documents) if self.packing else None,
            torch.from_numpy(target_ids),
        )

    def _time(self, rows: Sequence[npt.NDArray[np.int64]]) -> int:
        if self.packing:
            return self.context
        longest = max(int(self.examples.lengths[indices].sum()) for indices in rows)
        return padded_length(longest, self.context)
