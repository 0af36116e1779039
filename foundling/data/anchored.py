"""Answers to learn from, beside plain text on which only the distance from the parent counts."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch

from foundling.base.intervals import Intervals, kept
from foundling.data.mixed_text import MixedText
from foundling.data.supervised import SupervisedData
from foundling.data.text import TextData
from foundling.models.batch import ANCHOR, IGNORE, TokenBatch


class AnchoredData:
    """Batches of a supervised data set with rows of text behind; text targets are ANCHOR.

    With 3 answer rows and 2 text rows a batch, samples 0 1 2 are rows of answers, 3 4 of text,
    5 6 7 of answers again, and so on.
    """

    def __init__(self, answers: SupervisedData, text: TextData | MixedText) -> None:
        assert answers.packing, "rows are as long as the context"
        assert answers.context == text.context
        self.answers, self.text = answers, text
        self.batch_size = answers.batch_size + text.batch_size
        identity = f"{answers.fingerprint}/{text.fingerprint}"
        self.fingerprint = hashlib.sha256(identity.encode()).hexdigest()

    def batch(self, index: int, skipped: Intervals = ()) -> TokenBatch:
        first = index * self.batch_size
        samples = [self._split(kept(skipped, first + row)) for row in range(self.batch_size)]
        parts = []
        if answers := [number for is_text, number in samples if not is_text]:
            parts.append(self.answers.samples(answers))
        if text := [number for is_text, number in samples if is_text]:
            parts.append(_only_near(self.text.samples(text)))
        # Back into the order of the samples, of which the answers came first.
        order = sorted(range(len(samples)), key=lambda row: samples[row][0])
        back = sorted(range(len(order)), key=order.__getitem__)
        return _joined(parts).chosen(back)

    def describe(self, sample: int) -> Mapping[str, Any]:
        is_text, number = self._split(sample)
        return self.text.describe(number) if is_text else self.answers.describe(number)

    def _split(self, sample: int) -> tuple[bool, int]:
        """Whether a sample is text, and its number among those of its kind."""
        block, row = divmod(sample, self.batch_size)
        if row < self.answers.batch_size:
            return False, block * self.answers.batch_size + row
        return True, block * self.text.batch_size + row - self.answers.batch_size


def _only_near(batch: TokenBatch) -> TokenBatch:
    anchored = torch.where(batch.targets == IGNORE, IGNORE, ANCHOR)
    documents = batch.documents
    return TokenBatch(
        batch.tokens,
        anchored,
        batch.positions,
        torch.zeros_like(batch.tokens) if documents is None else documents,
        torch.full_like(batch.tokens, -1),
    )


def _joined(parts: Sequence[TokenBatch]) -> TokenBatch:
    names = [field.name for field in fields(TokenBatch)]
    return TokenBatch(*(torch.cat([getattr(part, name) for part in parts]) for name in names))
