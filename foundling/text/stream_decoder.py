"""Decodes tokens that come one at a time."""

import codecs
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foundling.text.vocabulary import Vocabulary


class StreamDecoder:
    """Yields the text of one token after another, never a part of a UTF-8 character.

    Args:
        show_special: special tokens are written by their names, not left out.
        continues: other text precedes the tokens, so that sentencepiece drops no space.
        shown: only these special tokens are written by their names.
    """

    def __init__(
        self,
        vocabulary: "Vocabulary",
        *,
        show_special: bool = False,
        continues: bool = False,
        shown: Collection[int] = (),
    ) -> None:
        self._vocabulary = vocabulary
        self._show_special, self._shown = show_special, shown
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._started = continues
        self._ids: list[int] = []  # only of vocabularies whose tokens depend on their neighbours
        self._given = 0

    def push(self, id: int) -> str:
        """The text that is certain after `id`."""
        vocabulary = self._vocabulary
        if vocabulary.kind == "other":
            self._ids.append(id)
            return self._whole(final=False)
        if id in vocabulary.special_ids:
            return self._decoder.decode(self._special(id))
        raw = vocabulary.bytes_of(id) if self._started else vocabulary.first_bytes(id)
        self._started = True
        return self._decoder.decode(raw)

    def flush(self) -> str:
        """What is left at the end; an incomplete character becomes U+FFFD."""
        if self._vocabulary.kind == "other":
            return self._whole(final=True)
        return self._decoder.decode(b"", final=True)

    def _special(self, id: int) -> bytes:
        is_shown = self._show_special or id in self._shown
        return self._vocabulary.name_of(id).encode() if is_shown else b""

    def _whole(self, final: bool) -> str:
        text = self._vocabulary.decode(self._ids, show_special=self._show_special)
        if not final and text.endswith("\ufffd"):
            return ""
        new, self._given = text[self._given :], max(self._given, len(text))
        return new
