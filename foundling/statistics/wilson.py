"""The interval in which a share lies, by Wilson's score."""

from scipy import stats

Interval = tuple[float, float]


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval | None:
    """The interval of a share of which `successes` among `n` were seen; None if n is 0.

    8 of 10: 0.490 to 0.943.

    Source: Wilson 1927, Probable Inference, the Law of Succession, and Statistical Inference.
    """
    if n == 0:
        return None
    found = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)
