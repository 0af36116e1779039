"""Packing: nothing lost, nothing cut, as few rows as best-fit-decreasing makes by the book."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundling.base.config import ConfigError
from foundling.data.packing import pack

settings.register_profile("foundling", deadline=None)
settings.load_profile("foundling")
CAPACITY = 24
LENGTHS = st.lists(st.integers(1, CAPACITY), max_size=60)


def test_the_worked_example() -> None:
    packed = pack([5, 3, 4, 2, 2], 8)
    assert [packed.row(row).tolist() for row in range(len(packed))] == [[0, 1], [2, 3, 4]]


def test_nothing_at_all() -> None:
    assert len(pack([], 8)) == 0


def by_the_book(lengths: list[int], capacity: int) -> list[list[int]]:
    """Best-fit-decreasing, an item at a time, looking at every row."""
    rows: list[list[int]] = []
    for length in sorted(lengths, reverse=True):
        fitting = [row for row in rows if sum(row) + length <= capacity]
        if fitting:
            max(fitting, key=sum).append(length)
        else:
            rows.append([length])
    return rows


@given(LENGTHS)
def test_rows_are_those_of_the_book(lengths: list[int]) -> None:
    packed = pack(lengths, CAPACITY)
    ours = [sum(lengths[item] for item in packed.row(row)) for row in range(len(packed))]
    assert sorted(ours) == sorted(map(sum, by_the_book(lengths, CAPACITY)))  # but for equal fits


@given(LENGTHS, st.randoms(use_true_random=False))
def test_every_item_once_no_row_too_full_and_order_changes_no_count(
    lengths: list[int], random: object
) -> None:
    packed = pack(lengths, CAPACITY)
    assert sorted(packed.items.tolist()) == list(range(len(lengths)))
    for row in range(len(packed)):
        assert 0 < sum(lengths[item] for item in packed.row(row)) <= CAPACITY
    shuffled = list(lengths)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert len(pack(shuffled, CAPACITY)) == len(packed)


def test_a_million_lengths_are_packed_tightly() -> None:
    lengths = np.random.default_rng(0).integers(1, 257, 1_000_000)
    packed = pack(lengths, 512)
    sums = np.add.reduceat(lengths[packed.items], packed.starts[:-1])
    assert sums.max() <= 512
    assert lengths.sum() / (512 * len(packed)) > 0.999


@pytest.mark.parametrize("wrong", [0, -1, 9])
def test_a_length_that_fits_no_row_is_refused(wrong: int) -> None:
    with pytest.raises(ConfigError, match=f"length {wrong}: an item must have 1 to 8 tokens"):
        pack([1, wrong], 8)
