"""Intervals against sets and lists of every index."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundling.base.intervals import Intervals, kept, size, union

PAIRS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12))).map(
    lambda pairs: [(start, start + length) for start, length in pairs]
)


def indices(intervals: Intervals | list[tuple[int, int]]) -> set[int]:
    return {index for start, stop in intervals for index in range(start, stop)}


def rest(intervals: Intervals, count: int) -> list[int]:
    """The first so many indices that no interval holds."""
    held = indices(intervals)
    return [index for index in range(count + len(held)) if index not in held][:count]


@given(PAIRS)
def test_a_union_holds_the_same_indices_sorted_and_apart(pairs: list[tuple[int, int]]) -> None:
    merged = union(pairs)
    assert indices(merged) == indices(pairs)
    assert size(merged) == len(indices(pairs))
    assert all(stop < start for (_, stop), (start, _) in pairwise(merged))
    assert union(reversed(pairs)) == union(merged) == merged


@given(PAIRS)
def test_kept_walks_over_what_is_left(pairs: list[tuple[int, int]]) -> None:
    merged = union(pairs)
    assert [kept(merged, place) for place in range(100)] == rest(merged, 100)


@given(PAIRS, st.integers(0, 60), st.integers(1, 30))
def test_to_skip_what_is_kept_moves_nothing_before_it(
    pairs: list[tuple[int, int]], place: int, count: int
) -> None:
    """What going back relies on: the steps before the one gone back to see the same samples."""
    before = union(pairs)
    after = union([*before, (kept(before, place), kept(before, place + count - 1) + 1)])
    assert [kept(after, p) for p in range(place)] == [kept(before, p) for p in range(place)]
    # The next place now holds what came after the samples left out, and nothing else is gone.
    assert [kept(after, place + p) for p in range(50)] == [
        kept(before, place + count + p) for p in range(50)
    ]


def test_a_worked_example() -> None:
    assert union([(7, 9), (2, 4), (4, 5)]) == ((2, 5), (7, 9))
    assert [kept(((2, 5), (7, 9)), place) for place in range(6)] == [0, 1, 5, 6, 9, 10]
    assert union([]) == ()
    assert kept((), 3) == 3


@pytest.mark.parametrize("wrong", [(3, 3), (4, 2), (-1, 2)])
def test_what_is_no_interval_is_refused(wrong: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"\[{wrong[0]}, {wrong[1]}\]: expected 0 ≤ first"):
        union([(0, 2), wrong])
