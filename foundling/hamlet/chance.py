"""Chance: draws that use `Random.random` alone, so a seed means the same in every Python."""

from collections.abc import Sequence
from itertools import accumulate
from random import Random
from typing import TypeVar

T = TypeVar("T")


def pick(rng: Random, items: Sequence[T]) -> T:
    """One item, uniformly."""
    return items[int(rng.random() * len(items))]


def weighted(rng: Random, items: Sequence[T], weights: Sequence[float]) -> T:
    """One item, with a probability in proportion to its weight."""
    ends = list(accumulate(weights))
    draw = rng.random() * ends[-1]
    return next(item for item, end in zip(items, ends, strict=True) if draw < end)


def between(rng: Random, low: int, high: int) -> int:
    """An integer from low to high, both included."""
    return low + int(rng.random() * (high - low + 1))


def shuffled(rng: Random, items: Sequence[T]) -> list[T]:
    """The items in a random order (Fisher and Yates)."""
    result = list(items)
    for i in range(len(result) - 1, 0, -1):
        j = int(rng.random() * (i + 1))
        result[i], result[j] = result[j], result[i]
    return result


def sample(rng: Random, items: Sequence[T], n: int) -> list[T]:
    """n items without replacement, in random order; all of them where there are fewer."""
    pool = list(items)
    n = min(n, len(pool))
    for i in range(n):
        j = i + int(rng.random() * (len(pool) - i))
        pool[i], pool[j] = pool[j], pool[i]
    return pool[:n]
