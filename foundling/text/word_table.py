"""Encodes much text fast: each word is encoded once, and found in a table from then on."""

from collections.abc import Iterable

import numpy as np

from foundling.text.vocabulary import Vocabulary

MOST_BYTES = 1 << 26
"""Of the table, about; a full one begins anew."""
ENTRY_BYTES = 250
"""Of an entry, beside its characters and tokens."""


class WordTable:
    """The tokens of words, as they are written to a file.

    The tokens of a text are those of `Vocabulary.encode`, which splits most texts where they are
    cut here anyway. A tokenizer whose texts cannot be cut encodes them whole.

    Args:
        dtype: of the tokens that are returned, such as "<u2".
    """

    def __init__(self, vocabulary: Vocabulary, dtype: str) -> None:
        self._vocabulary, self._dtype = vocabulary, np.dtype(dtype)
        self._cuts = vocabulary.word_cuts
        self._table: dict[str, bytes] = {}
        self._size = 0

    def encode(self, text: str) -> bytes:
        """The ids of `text`, with nothing added before or after.

        Raises:
            ConfigError: the vocabulary of characters lacks one of the text's.
        """
        words = None if self._cuts is None else self._cuts.words(text)
        if words is None:
            return self.packed(self._vocabulary.encode(text))
        self._learn(set(words))
        return b"".join(map(self._table.__getitem__, words))

    def encode_within(self, before: str, text: str, after: str) -> bytes:
        """The tokens that begin in `text`, where it stands between other text.

        Raises:
            ConfigError: as `encode`.
        """
        if not (before or after):
            return self.encode(text)
        return self.packed(self._vocabulary.encode_within([(before, text, after)])[0])

    def packed(self, ids: Iterable[int]) -> bytes:
        return np.fromiter(ids, self._dtype).tobytes()

    def _learn(self, words: set[str]) -> None:
        if not (new := words.difference(self._table)):
            return
        assert self._cuts is not None
        parts = {word: self._cuts.parts(word) for word in new}
        needed = {part for some in parts.values() for part in some}
        self._size += ENTRY_BYTES * len(new | needed) + sum(map(len, new | needed))
        if self._size > MOST_BYTES:
            self._table.clear()
            self._size = 0
            self._learn(words)
            return
        missing = list(needed.difference(self._table))
        ids = self._vocabulary.encode_batch(missing)
        self._table.update(zip(missing, map(self.packed, ids), strict=True))
        for word, some in parts.items():
            self._table[word] = b"".join(map(self._table.__getitem__, some))
