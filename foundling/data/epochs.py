"""Which items share a row in each epoch, in an order that the seed gives."""

from collections.abc import Iterator

import numpy as np

from foundling.base.runtime import derive_seed
from foundling.data.packing import Indices, Packing, pack

ROUND_TO = 16  # an unpacked batch is as long as a multiple of it: fewer shapes to compile
PLANS_KEPT = 2  # a batch may end one epoch and begin the next


class Epochs:
    """Rows of items of these lengths: row `i` of epoch `e` is a pure function of seed, `e`, `i`.

    Each epoch shuffles the items, packs them as tightly as it can and shuffles the rows; every
    epoch has equally many. Without `packing` a row is one item.
    """

    def __init__(self, lengths: Indices, capacity: int, seed: int, *, packing: bool) -> None:
        self.lengths, self.capacity, self.seed, self.packing = lengths, capacity, seed, packing
        self._plans: dict[int, Packing] = {}
        self._in_order = self._pack(np.arange(len(lengths)))
        self.rows_per_epoch = len(self._in_order)

    def row(self, sample: int) -> Indices:
        """The items of a row, numbered on from epoch to epoch, in their order in the row."""
        epoch, row = divmod(sample, self.rows_per_epoch)
        return self._plan(epoch).row(row)

    def in_order(self, size: int) -> Iterator[list[Indices]]:
        """Every item once, in an order that does not depend on the seed, `size` rows at a time.

        The long ones come first; the last portion may have fewer rows.
        """
        for first in range(0, len(self._in_order), size):
            stop = min(first + size, len(self._in_order))
            yield [self._in_order.row(row) for row in range(first, stop)]

    def _plan(self, epoch: int) -> Packing:
        if epoch not in self._plans:
            size, key = len(self.lengths), derive_seed(self.seed, "examples", epoch)
            packed = self._pack(permutation(size, key))
            order = permutation(len(packed), derive_seed(self.seed, "rows", epoch))
            rows = [packed.row(row) for row in order]
            starts = np.cumsum([0, *map(len, rows)])
            self._plans[epoch] = Packing(np.concatenate(rows), starts)
            if len(self._plans) > PLANS_KEPT:
                del self._plans[next(iter(self._plans))]
        return self._plans[epoch]

    def _pack(self, order: Indices) -> Packing:
        lengths = self.lengths[order]
        if self.packing:
            packed = pack(lengths, self.capacity)
        else:
            by_length = np.argsort(-lengths, kind="stable")
            packed = Packing(by_length, np.arange(len(order) + 1))
        return Packing(order[packed.items], packed.starts)


def permutation(size: int, key: int) -> Indices:
    """A pseudo-random order of `range(size)` that no library's version changes.

    Source: Steele et al. 2014, SplitMix; each index is sorted by its scrambled value.
    """
    z = np.arange(1, size + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(z ^ (z >> np.uint64(31)), kind="stable")


def padded_length(longest: int, capacity: int) -> int:
    """How long the rows of an unpacked batch are whose longest item has `longest` tokens."""
    return min(capacity, -(-longest // ROUND_TO) * ROUND_TO)
