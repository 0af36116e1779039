"""Arithmetic on sets of sample indices, kept as sorted half-open intervals that do not touch."""

from collections.abc import Iterable

Intervals = tuple[tuple[int, int], ...]


def union(intervals: Iterable[tuple[int, int]]) -> Intervals:
    """The same indices, each in one interval.

    Raises:
        ValueError: an interval is empty, reversed or begins below 0.
    """
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(intervals):
        if not 0 <= start < stop:
            raise ValueError(f"[{start}, {stop}]: expected 0 ≤ first < one past the last")
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return tuple(merged)


def kept(skipped: Intervals, index: int) -> int:
    """The `index`th of the indices that no interval holds: kept(((2, 5),), 2) is 5."""
    for start, stop in skipped:
        if index < start:
            break
        index += stop - start
    return index


def size(intervals: Intervals) -> int:
    return sum(stop - start for start, stop in intervals)
