"""Wilson's interval against published and worked values."""

import pytest

from foundling.statistics.wilson import wilson


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_it_is_what_newcombe_prints(successes: int, count: int, low: float, high: float) -> None:
    found = wilson(successes, count)
    assert found == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


def test_it_is_symmetric_and_nothing_seen_says_nothing() -> None:
    low, high = wilson(8, 10)
    assert wilson(2, 10) == (pytest.approx(1 - high), pytest.approx(1 - low))
    assert wilson(0, 0) is None
