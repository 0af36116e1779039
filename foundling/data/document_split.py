"""Assigns each document to a split and drops duplicates."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path

from foundling.base.config import ConfigError
from foundling.data.digest_set import DigestSet
from foundling.data.documents import Document
from foundling.data.manifest import SPLITS, SplitName
from foundling.data.sources import Sources

CONTEXT_CHARACTERS = 1024  # on either side of a piece that its tokens may depend on

_ONE_DOCUMENT = (
    "The input is one document, and whole documents are held out: use --validation-tail (0.1 keeps "
    "its last tenth for validation), name --validation inputs, or give a --separator."
)


@dataclass(frozen=True)
class Piece:
    """A document of a split, or the `number`th piece of a long one."""

    split: SplitName
    source: str
    digest: bytes  # of the whole document
    number: int
    text: str
    before: str  # the end of the piece before it
    after: str  # the beginning of the one after it

    @property
    def begins(self) -> bool:
        return not self.before

    @property
    def ends(self) -> bool:
        return not self.after

    @property
    def key(self) -> int:
        """64 pseudo-random bits that depend only on the document and the piece's number."""
        return _random(self.digest + self.number.to_bytes(8, "little"))


class SplitPlan:
    """Assigns every document to a split; each pass over the text gives the same.

    Args:
        inputs: the sources of "train" and, where they are named, those of "validation".
        fraction: the share of the documents of "train" that go to validation in their place; of a
            few documents at least one goes there, and at least one stays.
        tail: the last share of each file, which must be one document, that does.
    """

    def __init__(
        self,
        inputs: Mapping[SplitName, Sources],
        *,
        fraction: float | None,
        tail: float | None,
        seed: int,
        folder: Path,
    ) -> None:
        self.inputs = inputs
        self.duplicates = 0
        self._fraction, self._tail, self._seed, self._folder = fraction, tail, seed, folder
        if fraction is not None and inputs["train"].is_one_document:
            raise ConfigError(_ONE_DOCUMENT)

    @property
    def skipped(self) -> dict[str, int]:
        """The documents that could not be read, by reason."""
        return _sum(sources.skipped for sources in self.inputs.values())

    @property
    def ignored(self) -> dict[str, int]:
        """The files that were not read, by suffix."""
        return _sum(sources.ignored for sources in self.inputs.values())

    def read(self) -> tuple[int, int | None]:
        """Bytes read in this pass, and in all."""
        totals = [sources.total_bytes for sources in self.inputs.values()]
        known = [total for total in totals if total is not None]
        done = sum(sources.bytes_read for sources in self.inputs.values())
        return done, sum(known) if len(known) == len(totals) else None

    def pieces(self) -> Iterator[Piece]:
        """One pass over all text.

        Raises:
            ConfigError: at the end, when a split came out empty.
        """
        threshold = self._threshold  # first: it may take a pass, and each pass counts anew
        self.duplicates = 0
        counts = dict.fromkeys(SPLITS, 0)
        with DigestSet(self._folder) as seen:
            # Validation first: a training document that is in it too is then the duplicate.
            for given in reversed(SPLITS):
                for document in self.inputs.get(given, ()):
                    if not seen.add(document.digest):
                        self.duplicates += 1
                        continue
                    for split, start, stop in self._parts(given, document, threshold):
                        counts[split] += 1
                        yield from _pieces(split, document, start, stop)
        self._refuse_empty(counts)

    def _parts(
        self, given: SplitName, document: Document, threshold: float
    ) -> Iterator[tuple[SplitName, int, int | None]]:
        if self._tail is not None:
            if not document.whole_file:
                raise ConfigError(
                    f"{document.source}: --validation-tail cuts files that are one document each; "
                    "for many documents use --validation-fraction."
                )
            at = int(document.num_characters * (1 - self._tail))
            if at:
                yield "train", 0, at
            if at < document.num_characters:
                yield "validation", at, None
        elif self._chance(document) < threshold:
            yield "validation", 0, None
        else:
            yield given, 0, None

    @cached_property
    def _threshold(self) -> float:
        """The chance below which a document goes to validation, so that neither split is empty."""
        train = self.inputs["train"]
        if self._fraction is None or train.read_once:
            return self._fraction or 0
        low, high = 1.0, 0.0
        for document in train:
            chance = self._chance(document)
            low, high = min(low, chance), max(high, chance)
            if low < self._fraction <= high:
                return self._fraction
        if low > high:  # nothing could be read
            return self._fraction
        if low == high:
            raise ConfigError(_ONE_DOCUMENT)
        # So few documents that chance leaves a split empty: only the lowest is held out, or all
        # but the highest are.
        return math.nextafter(low, 1) if low >= self._fraction else high

    def _chance(self, document: Document) -> float:
        """A number in [0, 1) that depends on a document's text and the seed alone."""
        return (_random(document.digest + str(self._seed).encode()) >> 11) / (1 << 53)

    def _refuse_empty(self, counts: Mapping[SplitName, int]) -> None:
        total = sum(counts.values())
        if self._fraction is not None and total == 1:
            raise ConfigError(_ONE_DOCUMENT)
        advice = "give other validation inputs"
        if self._fraction is not None:
            advice = (
                f"ask for a larger --validation-fraction than {self._fraction}, such as 0.1, or "
                "give --validation inputs"
            )
        for name, count in counts.items():
            if not count:
                raise ConfigError(
                    f"No document is left for {name}: {total} in all, {self.duplicates} "
                    f"duplicates dropped, {sum(self.skipped.values())} skipped; {advice}."
                )


def _pieces(split: SplitName, document: Document, start: int, stop: int | None) -> Iterator[Piece]:
    before = ""
    for number, (text, following) in enumerate(pairwise(chain(document.pieces(start, stop), [""]))):
        after = following[:CONTEXT_CHARACTERS]
        yield Piece(split, document.source, document.digest, number, text, before, after)
        before = text[-CONTEXT_CHARACTERS:]


def _random(raw: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little")


def _sum(counters: Iterator[Counter[str]]) -> dict[str, int]:
    return dict(sorted(sum(counters, Counter[str]()).items()))
