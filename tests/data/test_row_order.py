"""The order of rows at the size of the largest corpora: a permutation that needs no buffer."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from foundling.data.row_order import RowOrder, _mix, permuted

ROWS = 10**12
CONTEXT = 4096
SIZES = st.integers(1, ROWS) | st.just(ROWS)


def replaced(image: int, size: int, key: int) -> int:
    """The inverse of `permuted`: the rounds in reverse."""
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = image >> half, image & mask
        for turn in reversed(range(4)):
            left, right = right ^ (_mix(left, key + turn) & mask), left
        image = left << half | right
        if image < size:
            return image


@settings(deadline=None)
@given(SIZES, st.integers(0, 2**63 - 1), st.data())
def test_every_row_has_one_place_and_every_place_one_row(
    size: int, key: int, data: st.DataObject
) -> None:
    """What has an inverse on both sides is a permutation."""
    index = data.draw(st.integers(0, size - 1))
    image = permuted(index, size, key)
    assert 0 <= image < size
    assert replaced(image, size, key) == index
    assert permuted(replaced(index, size, key), size, key) == index


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 2**32), st.integers(0, 10 * ROWS))
def test_a_window_of_an_epoch_repeats_no_row_and_is_spread_over_the_text(
    seed: int, first: int
) -> None:
    order = RowOrder(ROWS, CONTEXT, seed)
    first -= first % ROWS // (ROWS - 2000) * 2000  # within one epoch
    starts = [order.start_of(sample) for sample in range(first, first + 2000)]
    assert len(set(starts)) == 2000
    assert len({start % CONTEXT for start in starts}) == 1
    assert min(starts) >= 0
    assert max(starts) < (ROWS + 1) * CONTEXT
    tenths = [0] * 10
    for start in starts:
        tenths[min(9, start * 10 // (ROWS * CONTEXT))] += 1
    assert all(120 < count < 290 for count in tenths)  # 200 each, six deviations wide
    neighbours = sum(abs(a - b) < ROWS * CONTEXT // 1000 for a, b in pairwise(starts))
    assert neighbours < 40  # 4 by chance


def test_epochs_differ_in_order_and_cut() -> None:
    order = RowOrder(ROWS, CONTEXT, seed=1)
    starts = [order.start_of(epoch * ROWS) for epoch in range(50)]
    assert len({start // CONTEXT for start in starts}) == 50
    assert len({start % CONTEXT for start in starts}) > 40


def test_the_last_sample_is_as_near_as_the_first() -> None:
    order = RowOrder(ROWS, CONTEXT, seed=1)
    again = RowOrder(ROWS, CONTEXT, seed=1)
    for sample in (0, ROWS - 1, ROWS, 10**15):
        assert order.start_of(sample) == again.start_of(sample)
