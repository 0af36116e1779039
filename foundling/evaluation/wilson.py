"""The interval in which a share lies, by Wilson's score."""

import math


def wilson_interval(successes: float, count: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95% interval of a share of which `successes` among `count` were seen.

    8 of 10: 0.490 to 0.943. Nothing seen at all: 0 to 1.

    Source: Wilson 1927, Probable Inference, the Law of Succession, and Statistical Inference.
    """
    if not 0 <= successes <= count:
        raise ValueError(f"{successes} successes among {count}.")
    if count == 0:
        return 0.0, 1.0
    share, spread = successes / count, z * z / count
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)
