"""Batches of preferences: pairs packed into rows, in an order that the seed gives."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from foundling.base.config import ConfigError
from foundling.base.intervals import Intervals, kept
from foundling.data.encoded_pairs import CHOSEN, PROMPT, REJECTED, EncodedPairs
from foundling.data.epochs import Epochs, padded_length
from foundling.data.packing import Indices
from foundling.models.batch import IGNORE, PreferenceBatch

NO_PAIR = -1


class PreferenceData:
    """Pairs in rows of `row_length` tokens; a sample is a row, and a pair is whole in one.

    Each epoch shuffles the pairs, packs them as tightly as it can and shuffles the rows; every
    epoch has equally many. Without `packing` a row is one pair, padded to the longest of its
    batch. With `shared_prompts` a prompt stands once before its two answers, which only models
    that support tree masks keep apart; without, each answer has its own.

    Raises:
        ConfigError: a pair is longer than a row.
    """

    def __init__(
        self,
        pairs: EncodedPairs,
        *,
        row_length: int,
        batch_size: int,
        seed: int,
        packing: bool = True,
        shared_prompts: bool = True,
        decode: Callable[[Sequence[int]], str] = str,
    ) -> None:
        self.pairs, self.row_length, self.batch_size = pairs, row_length, batch_size
        self.packing, self.shared_prompts, self.decode = packing, shared_prompts, decode
        self.sizes = pairs.row_lengths(shared=shared_prompts)
        longest = int(self.sizes.argmax())
        if self.sizes[longest] > row_length:
            raise ConfigError(
                f"{pairs.where[longest]}: {self.sizes[longest]:,} tokens, but row_length = "
                f"{row_length:,}; give longer rows or a shorter max_length."
            )
        self.epochs = Epochs(self.sizes, row_length, seed, packing=packing)
        self.rows_per_epoch = self.epochs.rows_per_epoch
        identity = (
            f"{pairs.fingerprint}/{row_length}/{batch_size}/{seed}/{packing}/{shared_prompts}"
        )
        self.fingerprint = hashlib.sha256(identity.encode()).hexdigest()

    @property
    def efficiency(self) -> float:
        """The share of the rows' tokens that are a pair's; 1 is no padding at all."""
        return float(self.sizes.sum()) / (self.rows_per_epoch * self.row_length)

    def batch(self, index: int, skipped: Intervals = ()) -> PreferenceBatch:
        samples = range(index * self.batch_size, (index + 1) * self.batch_size)
        return self._rows([self.epochs.row(kept(skipped, sample)) for sample in samples])

    def ordered_batches(self, batch_size: int | None = None) -> Iterator[PreferenceBatch]:
        """Every pair once, in an order that does not depend on the seed, the long ones first.

        The last batch may have fewer rows.
        """
        for rows in self.epochs.in_order(batch_size or self.batch_size):
            yield self._rows(rows)

    def of(self, indices: Sequence[int]) -> Iterator[PreferenceBatch]:
        """These pairs, each in a row and a batch of its own."""
        for index in indices:
            yield self._rows([np.array([index])])

    def describe(self, sample: int) -> dict[str, Any]:
        """Where the pairs of a row come from, and their texts."""
        indices = self.epochs.row(sample).tolist()
        return {
            "pairs": indices,
            "where": [self.pairs.where[index] for index in indices],
            "prompts": [self._text(index, PROMPT) for index in indices],
            "chosen": [self._text(index, CHOSEN) for index in indices],
            "rejected": [self._text(index, REJECTED) for index in indices],
        }

    def _text(self, index: int, part: int) -> str:
        return self.decode(self.pairs.part(index, part)[0].tolist())

    def _rows(self, rows: Sequence[Indices]) -> PreferenceBatch:
        time = self.row_length
        if not self.packing:
            longest = max(int(self.sizes[indices].sum()) for indices in rows)
            time = padded_length(longest, self.row_length)
        most = max(map(len, rows))
        batch = _Arrays(len(rows), time, most, self.pairs.pad)
        write = batch.write_shared if self.shared_prompts else batch.write_apart
        for row, indices in enumerate(rows):
            batch.begin_row(row)
            for slot, index in enumerate(indices):
                batch.pair_ids[row, slot] = index
                parts = [self.pairs.part(int(index), part) for part in (PROMPT, CHOSEN, REJECTED)]
                write(slot, parts[0][0], parts[1:])
        return batch.finished(shared=self.shared_prompts)


Part = tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]


class _Arrays:
    """The arrays of a batch while they are written, all padding to begin with.

    What is left of a row after its pairs is a document of its own, all of it at position 0: a row
    may be longer than any document that the model can read.
    """

    def __init__(self, rows: int, time: int, pairs: int, pad: int) -> None:
        shape = (rows, time)
        self.tokens = np.full(shape, pad, dtype=np.int64)
        self.targets = np.full(shape, IGNORE, dtype=np.int64)
        self.positions = np.zeros(shape, dtype=np.int64)
        self.documents = np.zeros(shape, dtype=np.int64)
        self.seen_until = np.full(shape, time, dtype=np.int64)
        self.answers = np.full(shape, NO_PAIR, dtype=np.int64)
        self.pair_ids = np.full((rows, pairs), NO_PAIR, dtype=np.int64)
        self.row = self.at = self.document = 0

    def begin_row(self, row: int) -> None:
        self._end_row()
        self.row, self.at, self.document = row, 0, 0

    def write_shared(self, slot: int, prompt: npt.NDArray[np.int32], sides: list[Part]) -> None:
        """Prompt, chosen, rejected: one document, the prompt's last token in both branches."""
        start, stem = self.at, len(prompt) - 1
        self._write(prompt[:-1], 0)
        for side, answer in enumerate(sides):
            at = self._write_answer(prompt[-1:], answer, stem, number=2 * slot + side)
            self.seen_until[self.row, at] = at.stop
        self.seen_until[self.row, start : start + stem] = self.at
        self.document += 1

    def write_apart(self, slot: int, prompt: npt.NDArray[np.int32], sides: list[Part]) -> None:
        """Prompt and chosen, then prompt and rejected: two documents."""
        for side, answer in enumerate(sides):
            self._write(prompt[:-1], 0)
            self._write_answer(prompt[-1:], answer, len(prompt) - 1, number=2 * slot + side)
            self.document += 1

    def finished(self, *, shared: bool) -> PreferenceBatch:
        self._end_row()
        return PreferenceBatch(
            torch.from_numpy(self.tokens),
            torch.from_numpy(self.targets),
            torch.from_numpy(self.positions),
            torch.from_numpy(self.documents),
            torch.from_numpy(self.answers),
            torch.from_numpy(self.pair_ids),
            torch.from_numpy(self.seen_until) if shared else None,
        )

    def _write_answer(
        self, last: npt.NDArray[np.int32], answer: Part, stem: int, *, number: int
    ) -> slice:
        """The prompt's last token and the answer without its own; the answer as targets."""
        tokens, learned = answer
        at = self._write(np.concatenate((last, tokens[:-1])), stem)
        self.targets[self.row, at] = np.where(learned, tokens, IGNORE)
        self.answers[self.row, at] = np.where(learned, number, NO_PAIR)
        return at

    def _write(self, tokens: npt.NDArray[np.int32], position: int) -> slice:
        at = slice(self.at, self.at + len(tokens))
        self.tokens[self.row, at] = tokens
        self.positions[self.row, at] = np.arange(position, position + len(tokens))
        self.documents[self.row, at] = self.document
        self.at = at.stop
        return at

    def _end_row(self) -> None:
        self.documents[self.row, self.at :] = self.document
