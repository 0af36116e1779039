"""The order in which the rows of a text are visited, found at any index without a table."""

from dataclasses import dataclass

from foundling.base.runtime import derive_seed


@dataclass(frozen=True)
class RowOrder:
    """Each epoch cuts the text into rows from an offset of its own and visits each row once.

    No buffer is shuffled: the order of an epoch is a permutation of all its rows, computed row by
    row, so it takes no memory and any sample is as near as the first, whatever their number.
    """

    rows_per_epoch: int
    context: int
    """Tokens in a row."""
    seed: int

    def start_of(self, sample: int) -> int:
        """The token that a sample begins at; samples are numbered on from epoch to epoch."""
        epoch, row = divmod(sample, self.rows_per_epoch)
        offset = derive_seed(self.seed, "offset", epoch) % self.context
        key = derive_seed(self.seed, "order", epoch)
        return offset + self.context * permuted(row, self.rows_per_epoch, key)


def permuted(index: int, size: int, key: int) -> int:
    """The image of `index` under a pseudo-random permutation of `range(size)`, without a table.

    Four Feistel rounds over the next even power of two, walked until the result is in range.

    Source: Black and Rogaway 2002, Ciphers with Arbitrary Finite Domains, section 4.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(4):
            left, right = right, left ^ (_mix(right, key + turn) & mask)
        index = left << half | right
        if index < size:
            return index


def _mix(value: int, key: int) -> int:
    """Scramble 64 bits. Source: Steele et al. 2014, SplitMix."""
    z = (value + key * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return z ^ (z >> 31)
