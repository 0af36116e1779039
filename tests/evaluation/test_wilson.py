"""Wilson's interval against published and worked values."""

import pytest

from foundling.evaluation.wilson import wilson_interval


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
    found = wilson_interval(successes, count)
    assert found == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


def test_it_is_symmetric_and_nothing_seen_says_nothing() -> None:
    low, high = wilson_interval(8, 10)
    assert wilson_interval(2, 10) == (pytest.approx(1 - high), pytest.approx(1 - low))
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_more_successes_than_cases_are_a_fault() -> None:
    with pytest.raises(ValueError, match="5 successes among 4"):
        wilson_interval(5, 4)
