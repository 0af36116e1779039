"""Batches of instruction data: examples packed into rows, in an order that the seed gives."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from foundling.batch import IGNORE, TokenBatch
from foundling.config import ConfigError
from foundling.data.examples import Examples
from foundling.data.packing import Packing, pack
from foundling.intervals import Intervals, kept
from foundling.runtime import derive_seed

ROUND_TO = 16  # an unpacked batch is as long as a multiple of it: fewer shapes to compile
PLANS_KEPT = 2  # a batch may end one epoch and begin the next


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
                f"{examples.where[longest]}: {examples.lengths[longest]:,} tokens, but context = "
                f"{context:,}; give a longer context or a shorter max_length."
            )
        self._plans: dict[int, Packing] = {}
        self._in_order = self._pack(np.arange(len(examples)))
        self.rows_per_epoch = len(self._in_order)
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
        places = range(index * self.batch_size, (index + 1) * self.batch_size)
        return self.samples([kept(skipped, place) for place in places])

    def samples(self, samples: Sequence[int]) -> TokenBatch:
        """The rows of these samples."""
        return self._rows([self.examples_of(sample) for sample in samples])

    def ordered_batches(self, batch_size: int | None = None) -> Iterator[TokenBatch]:
        """Every example once, in an order that does not depend on the seed, the long ones first.

        The last batch may have fewer rows.
        """
        size = batch_size or self.batch_size
        for first in range(0, len(self._in_order), size):
            stop = min(first + size, len(self._in_order))
            yield self._rows([self._in_order.row(row) for row in range(first, stop)])

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
        epoch, place = divmod(sample, self.rows_per_epoch)
        plan = self._plan(epoch)
        return plan.row(place)

    def _plan(self, epoch: int) -> Packing:
        if epoch not in self._plans:
            size, key = len(self.examples), derive_seed(self.seed, "examples", epoch)
            packed = self._pack(_permutation(size, key))
            order = _permutation(len(packed), derive_seed(self.seed, "rows", epoch))
            rows = [packed.row(row) for row in order]
            starts = np.cumsum([0, *map(len, rows)])
            self._plans[epoch] = Packing(np.concatenate(rows), starts)
            if len(self._plans) > PLANS_KEPT:
                del self._plans[next(iter(self._plans))]
        return self._plans[epoch]

    def _pack(self, order: npt.NDArray[np.int64]) -> Packing:
        lengths = self.examples.lengths[order]
        if self.packing:
            packed = pack(lengths, self.context)
        else:
            by_length = np.argsort(-lengths, kind="stable")
            packed = Packing(by_length, np.arange(len(order) + 1))
        return Packing(order[packed.items], packed.starts)

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
        return min(self.context, -(-longest // ROUND_TO) * ROUND_TO)


def _permutation(size: int, key: int) -> npt.NDArray[np.int64]:
    """A pseudo-random order of `range(size)` that no library's version changes.

    Source: Steele et al. 2014, SplitMix; each place is sorted by its scrambled number.
    """
    z = np.arange(1, size + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(z ^ (z >> np.uint64(31)), kind="stable")
