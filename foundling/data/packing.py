"""Which examples share a row: best-fit-decreasing bin packing of their lengths."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foundling.base.config import ConfigError

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Packing:
    """The items of row `i` are `items[starts[i]:starts[i + 1]]`, the longest first."""

    items: Indices
    starts: Indices

    def row(self, index: int) -> Indices:
        return self.items[self.starts[index] : self.starts[index + 1]]

    def __len__(self) -> int:
        return len(self.starts) - 1


def pack(lengths: npt.ArrayLike, capacity: int) -> Packing:
    """Put items into rows of `capacity`, each item whole, in few rows.

    From the longest to the shortest, each goes where the least room is left over. The number of
    rows depends on the lengths but not on their order; which of several items of one length goes
    where does depend on it. Lengths 5, 3, 4, 2, 2 in rows of 8: [5, 3], [4, 2, 2].

    Raises:
        ConfigError: an item is longer than a row, or has no length.

    Source: Johnson et al. 1974, Worst-Case Performance Bounds for Simple One-Dimensional Packing
    Algorithms: at most 11/9 · optimum + 4 rows.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    if len(sizes) and not 1 <= sizes.min() <= sizes.max() <= capacity:
        wrong = sizes[(sizes < 1) | (sizes > capacity)][0]
        raise ConfigError(f"length {wrong}: an item must have 1 to {capacity} tokens, a row's.")
    order = np.argsort(-sizes, kind="stable")
    row_of = np.array(_rows_of(sizes, capacity), dtype=np.int64)
    by_row = np.argsort(row_of, kind="stable")
    counts = np.bincount(row_of) if len(row_of) else np.zeros(0, dtype=np.int64)
    return Packing(order[by_row], np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def _rows_of(sizes: Indices, capacity: int) -> list[int]:
    """The row of each item, the items from the longest to the shortest.

    All items of one length are placed together: a row that has just taken one and has room for
    another is the best fit for it again.
    """
    open: list[list[int]] = [[] for _ in range(capacity + 1)]  # rows by the room that they have
    some = 0  # bit r is set where open[r] holds a row: the best fit is a matter of shifting
    rows: list[int] = []
    num_rows = 0
    values, counts = np.unique(sizes, return_counts=True)
    for length, count in zip(values[::-1].tolist(), counts[::-1].tolist(), strict=True):
        while count:
            fitting = some >> length
            room = length + (fitting & -fitting).bit_length() - 1 if fitting else capacity
            each = room // length
            wanted = -(-count // each)
            if fitting:
                taken = open[room][-wanted:]
                del open[room][-wanted:]
                some ^= 0 if open[room] else 1 << room
            else:
                taken = list(range(num_rows, num_rows + wanted))
                num_rows += wanted
            placed = min(count, each * len(taken))
            count -= placed
            last = placed - each * (len(taken) - 1)  # what the last of these rows takes
            rows.extend(row for row in taken[:-1] for _ in range(each))
            rows.extend([taken[-1]] * last)
            for left, those in (
                (room - each * length, taken[:-1]),
                (room - last * length, taken[-1:]),
            ):
                if left and those:
                    open[left].extend(those)
                    some |= 1 << left
    return rows
