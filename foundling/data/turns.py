"""Whose turn each sample is: several sources in exact proportions, as a pure function of an index.

The samples of a source are jobs of one sample each, with a first and a last place at which each
keeps the source within one sample of its share; at each place the job whose last place comes first
is taken. That schedule misses no last place, also where shares change.

Source: Baruah, Cohen, Plaxton and Varvel 1996, Proportionate Progress, for one processor.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

NEVER = 1 << 62
BLOCKS_KEPT = 8


@dataclass(frozen=True)
class Leg:
    """From its first sample on, each source has so many parts of every sample."""

    first: int
    parts: tuple[int, ...]


class Turns:
    """An endless sequence of turns.

    In any number of samples from the beginning, each source has had more than its share less one,
    and less than its share plus one. Any sample is found in a time that does not grow with its
    index, since under fixed shares the sequence soon repeats itself.

    Args:
        legs: in order, the first at sample 0; the parts of each add up to the same number.
    """

    def __init__(self, legs: Sequence[Leg]) -> None:
        self.base = sum(legs[0].parts)
        assert legs[0].first == 0
        assert all(sum(leg.parts) == self.base for leg in legs)
        self._legs, self._sources = legs, range(len(legs[0].parts))
        self._firsts = [leg.first for leg in legs]
        shares = [(0,) * len(self._sources)]
        for leg, following in pairwise(legs):
            length = following.first - leg.first
            assert length > 0
            shares.append(tuple(s + length * p for s, p in zip(shares[-1], leg.parts, strict=True)))
        self._shares = shares  # at the beginning of each leg, in parts
        self._known: dict[int, tuple[list[tuple[int, ...]], int]] = {}
        self._blocks: dict[tuple[int, int], _Block] = {}

    def turn(self, sample: int) -> tuple[int, int]:
        """The source of a sample, and how many samples of that source come before it."""
        block, place = self._block_of(sample)
        return block.sources[place], block.earlier[place]

    def counts(self, samples: int) -> list[int]:
        """How many of the first `samples` samples each source has."""
        block, place = self._block_of(samples)
        chosen = block.sources[:place]
        return [before + chosen.count(s) for s, before in enumerate(block.counts)]

    def share(self, source: int, samples: int) -> int:
        """What is due to a source of the first `samples` samples, in parts of `base`."""
        leg = bisect_right(self._firsts, samples) - 1
        begun = samples - self._firsts[leg]
        return self._shares[leg][source] + begun * self._legs[leg].parts[source]

    # ------------------------------------------------------------------ blocks of `base` samples

    def _block_of(self, sample: int) -> tuple["_Block", int]:
        leg = bisect_right(self._firsts, sample) - 1
        number, place = divmod(sample - self._firsts[leg], self.base)
        return self._block(leg, number), place

    def _block(self, leg: int, number: int) -> "_Block":
        """`base` samples of a leg; its last block may have fewer."""
        if (leg, number) not in self._blocks:
            counts = self._counts_before(leg, number)
            first = self._firsts[leg] + number * self.base
            stop = min(first + self.base, self._end(leg))
            self._blocks[leg, number] = self._fill(counts, first, stop)
            if len(self._blocks) > BLOCKS_KEPT:
                del self._blocks[next(iter(self._blocks))]
        return self._blocks[leg, number]

    def _counts_before(self, leg: int, number: int) -> tuple[int, ...]:
        """How many samples each source has had before a block."""
        leads, period = self._leads(leg)
        if number >= len(leads):
            if not period or number > self._last_alike(leg):
                return self._block(leg, number - 1).after
            alike = len(leads) - period + (number - len(leads)) % period
        else:
            alike = number
        parts = self._legs[leg].parts
        return tuple(lead + number * p for lead, p in zip(leads[alike], parts, strict=True))

    def _leads(self, leg: int) -> tuple[list[tuple[int, ...]], int]:
        """The counts before the first blocks of a leg, less their shares in it, and a period.

        After the listed blocks the last `period` of them repeat themselves; 0: the leg is too
        short for that.
        """
        # Each leg begins with what the one before it leaves: in order, so that none asks far back.
        for missing in range(len(self._known), leg + 1):
            self._learn(missing)
        return self._known[leg]

    def _learn(self, leg: int) -> None:
        leads, parts = [self._counts_at(leg)], self._legs[leg].parts
        self._known[leg] = leads, 0
        for number in range(self._last_alike(leg)):
            after = self._block(leg, number).after
            lead = tuple(c - (number + 1) * p for c, p in zip(after, parts, strict=True))
            if lead in leads:
                self._known[leg] = leads, len(leads) - leads.index(lead)
                break
            leads.append(lead)

    def _counts_at(self, leg: int) -> tuple[int, ...]:
        """How many samples each source has had before a leg."""
        if leg == 0:
            return (0,) * len(self._sources)
        length = self._firsts[leg] - self._firsts[leg - 1]
        return self._block(leg - 1, (length - 1) // self.base).after

    def _last_alike(self, leg: int) -> int:
        """The number of blocks none of whose samples has its last place beyond the leg."""
        length = self._end(leg) - self._firsts[leg]
        return max(0, length // self.base - 1)

    def _end(self, leg: int) -> int:
        return self._firsts[leg + 1] if leg + 1 < len(self._firsts) else NEVER

    def _fill(self, counts: tuple[int, ...], first: int, stop: int) -> "_Block":
        had = list(counts)
        opens = [self._reached(s, had[s] * self.base + 1) - 1 for s in self._sources]
        closes = [self._reached(s, (had[s] + 1) * self.base) for s in self._sources]
        sources, earlier = array("H"), array("q")
        for sample in range(first, stop):
            _, source = min((closes[s], s) for s in self._sources if opens[s] <= sample)
            sources.append(source)
            earlier.append(had[source])
            had[source] += 1
            opens[source] = self._reached(source, had[source] * self.base + 1) - 1
            closes[source] = self._reached(source, (had[source] + 1) * self.base)
        return _Block(counts, sources, earlier, tuple(had))

    def _reached(self, source: int, level: int) -> int:
        """The least number of samples of which so many parts are due to a source."""
        leg = bisect_left(self._shares, level, key=lambda shares: shares[source]) - 1
        parts, missing = self._legs[leg].parts[source], level - self._shares[leg][source]
        return self._firsts[leg] - (-missing // parts) if parts else NEVER


@dataclass(frozen=True)
class _Block:
    counts: tuple[int, ...]
    """Samples of each source before the block."""
    sources: "array[int]"
    earlier: "array[int]"
    """Of each sample, how many of its source come before it."""
    after: tuple[int, ...]
