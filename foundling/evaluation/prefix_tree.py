"""Token sequences as a tree of their prefixes, and the order in which a model reads it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Subtree:
    """The rows `first` to `stop`, which have `depth` tokens in common that are read already."""

    first: int
    stop: int
    depth: int


class PrefixTree:
    """The prefixes of sorted, different token sequences, numbered depth first.

    Row `i` begins with `shared[i]` tokens of the row before it; the tokens after them are nodes
    of its own, with consecutive numbers. So the nodes of neighbouring rows are one range, and the
    branch of node `n` is the range from `n` to `until[n]`.

    Rows (5, 6), (5, 6, 7), (5, 8): tokens 5 6 7 8, depth 0 1 2 1, until 4 3 3 4.
    """

    def __init__(self, rows: Sequence[tuple[int, ...]]) -> None:
        assert all(a < b for a, b in pairwise(rows)), "sorted and different"
        self.lengths = np.array([len(row) for row in rows], dtype=np.int64)
        self.shared = np.array([0, *(_in_common(a, b) for a, b in pairwise(rows))], dtype=np.int64)
        self.tokens = np.concatenate(
            [np.array(row[shared:]) for row, shared in zip(rows, self.shared, strict=True)]
        ).astype(np.int64)
        own = self.lengths - self.shared
        self.ends = np.cumsum(own)  # of each row's nodes
        self.starts = self.ends - own
        self.depth = (
            np.arange(len(self.tokens)) - np.repeat(self.starts, own) + np.repeat(self.shared, own)
        )
        self.until = np.empty_like(self.tokens)
        closes = np.full(int(self.lengths.max()), len(self.tokens))
        for row in reversed(range(len(rows))):
            own_depths = slice(int(self.shared[row]), int(self.lengths[row]))
            self.until[self.starts[row] : self.ends[row]] = closes[own_depths]
            closes[self.shared[row] :] = self.starts[row]

    def nodes_of(self, rows: Ints, indices: Ints) -> Ints:
        """The node at each index of a row."""
        wanted = np.argsort(rows, kind="stable")
        result = np.empty_like(indices)
        path = np.zeros(int(self.lengths.max()), dtype=np.int64)
        at = 0
        for row in range(len(self.lengths)):
            path[self.shared[row] : self.lengths[row]] = np.arange(self.starts[row], self.ends[row])
            begin = at
            while at < len(wanted) and rows[wanted[at]] == row:
                at += 1
            result[wanted[begin:at]] = path[indices[wanted[begin:at]]]
        return result

    def passes(self, most: int) -> Iterator[tuple[int, int]]:
        """Ranges of at most `most` nodes that hold every node once, in order.

        What a range needs of the nodes before it is the path to its first node, all of it read
        by the time its turn comes and not overwritten since, if each range is written behind that
        path.
        """
        todo: list[_Subtree | tuple[int, int]] = [_Subtree(0, len(self.lengths), 0)]
        while todo:
            part = todo.pop()
            if not isinstance(part, _Subtree):
                yield part
                continue
            start, stop = self._node(part.first, part.depth), int(self.ends[part.stop - 1])
            if stop - start <= most:
                if stop > start:
                    yield start, stop
                continue
            stem = min(
                int(self.lengths[part.first]),
                int(self.shared[part.first + 1 : part.stop].min(initial=self.lengths.max())),
            )
            end = start + stem - part.depth
            for begin in range(start, end, most):
                yield begin, min(begin + most, end)
            todo.extend(reversed(self._split(part.first, part.stop, stem, most)))

    def _node(self, row: int, depth: int) -> int:
        return int(self.starts[row] - self.shared[row] + depth)

    def _split(self, first: int, stop: int, depth: int, most: int) -> list[_Subtree]:
        """The branches behind a stem of `depth` tokens, as many together as fit one pass."""
        begins = [first, *(first + 1 + np.flatnonzero(self.shared[first + 1 : stop] == depth))]
        parts: list[_Subtree] = []
        for begin, end in zip(begins, [*begins[1:], stop], strict=True):
            before = parts[-1].first if parts else int(begin)
            if parts and int(self.ends[end - 1]) - self._node(before, depth) <= most:
                parts[-1] = _Subtree(before, int(end), depth)
            else:
                parts.append(_Subtree(int(begin), int(end), depth))
        return parts


def _in_common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """How many tokens two sequences begin with alike."""
    short = min(len(a), len(b))
    if a[:short] == b[:short]:
        return short
    low, high = 0, short
    while low < high:  # slices compare in C
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[:middle] == b[:middle] else (low, middle - 1)
    return low
