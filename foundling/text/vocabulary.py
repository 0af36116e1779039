"""A vocabulary: text to token ids and back, and the bytes that each token stands for."""

import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer as Backend

from foundling.base.config import ConfigError
from foundling.text.spelling import Kind, Spelling, kind_of
from foundling.text.stream_decoder import StreamDecoder
from foundling.text.word_cuts import WordCuts, word_cuts


class Vocabulary:
    """Tokens and how a text becomes them; `kind` says how a token stands for bytes."""

    def __init__(self, backend: Backend) -> None:
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True  # a text that spells a special token stays text
        self._backend = backend
        self._json: dict[str, Any] = json.loads(backend.to_str())
        self.kind: Kind = kind_of(self._json)

    # ------------------------------------------------------------------ text to tokens

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, with nothing added before or after.

        Raises:
            ConfigError: the vocabulary of characters lacks one of the text's.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, in parallel."""
        if self.kind == "characters":
            for text in texts:
                self.refuse_unknown(text)
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def encode_spelled(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode_batch`, where the special tokens that a text spells are these tokens."""
        if self.kind == "characters":
            for text in texts:
                self.refuse_unknown(self._special_names.sub("", text))
        encodings = self._parsing.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    @cached_property
    def _special_names(self) -> re.Pattern[str]:
        names = sorted(map(self.name_of, self.special_ids), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, names)) or "(?!)")

    @cached_property
    def _parsing(self) -> Backend:
        """The same, but that special tokens are read in a text."""
        backend = Backend.from_str(self._backend.to_str())
        backend.encode_special_tokens = False
        return backend

    def encode_within(self, windows: Sequence[tuple[str, str, str]]) -> list[list[int]]:
        """The tokens that begin in each text, where it stands between a text before and one after.

        Raises:
            ConfigError: the vocabulary of characters lacks one of a text's.
        """
        if self.kind == "characters" or not any(b or a for b, _, a in windows):
            return self.encode_batch([text for _, text, _ in windows])
        encodings = self._backend.encode_batch(
            list(map("".join, windows)), add_special_tokens=False
        )
        found = []
        for (before, text, _), encoding in zip(windows, encodings, strict=True):
            offsets = encoding.offsets
            low = bisect_left(offsets, (len(before),))
            high = bisect_left(offsets, (len(before) + len(text),))
            found.append(encoding.ids[low:high])
        return found

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of `text`, and from which to before which of its characters each one goes.

        Tokens that share a character, such as the bytes of an emoji, all have it whole.

        Raises:
            ConfigError: the vocabulary of characters lacks one of the text's.
        """
        if self.kind == "characters":
            self.refuse_unknown(text)
        encoding = self._backend.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def knows(self, text: str) -> bool:
        """Whether `encode` takes the text: a vocabulary of characters may lack some of its."""
        return self.kind != "characters" or self._characters.issuperset(text)

    def refuse_unknown(self, text: str) -> None:
        """Raises ConfigError: the vocabulary of characters lacks one of the text's."""
        unknown = set(text) - self._characters
        if unknown:
            first = min(unknown, key=text.index)
            raise ConfigError(
                f"{first!r} (U+{ord(first):04X}): not among the {len(self._characters)} characters "
                f"of this tokenizer; it stands at character {text.index(first)} of the text."
            )

    @cached_property
    def word_cuts(self) -> WordCuts | None:
        """Where a text can be cut and keeps its tokens; None where that is not known."""
        return word_cuts(self._json)

    # ------------------------------------------------------------------ tokens to text

    def decode(
        self, ids: Iterable[int], *, show_special: bool = False, continues: bool = False
    ) -> str:
        """The text of `ids`; special tokens are left out unless `show_special`.

        Args:
            continues: other text precedes it, so that sentencepiece drops no space.
        """
        ids = [int(i) for i in ids]
        if self.kind == "other":
            text: str = self._backend.decode(ids, skip_special_tokens=not show_special)
            return text
        decoder = StreamDecoder(self, show_special=show_special, continues=continues)
        return "".join([decoder.push(i) for i in ids]) + decoder.flush()

    def bytes_of(self, id: int) -> bytes:
        """The bytes that one token stands for, in the middle of a text; none for a special one."""
        if not 0 <= id < self.vocab_size:
            raise ValueError(f"token {id}: the vocabulary ends at {self.vocab_size - 1}.")
        return self._spelling.all[id]

    def first_bytes(self, id: int) -> bytes:
        """`bytes_of` at the start of a text, where sentencepiece drops the space it had added."""
        return self._spelling.first(id)

    @cached_property
    def token_bytes(self) -> npt.NDArray[np.int64]:
        """How many bytes each id stands for."""
        return np.array([len(raw) for raw in self._spelling.all], dtype=np.int64)

    def is_lossless(self, text: str) -> bool:
        """Whether `text` comes back from its tokens unchanged."""
        return self.decode(self.encode(text)) == text

    @cached_property
    def vocab_size(self) -> int:
        """One more than the highest id, added tokens included."""
        return 1 + max(self._backend.get_vocab(with_added_tokens=True).values())

    def find(self, name: str) -> int | None:
        """The id of the token called `name`, if there is one."""
        id: int | None = self._backend.token_to_id(name)
        return id

    def special(self, name: str) -> int:
        """The id of a special token, such as "<|user|>".

        Raises:
            ConfigError: this tokenizer has no such token.
        """
        return self._role(name, f'is called "{name}"')

    @cached_property
    def special_ids(self) -> frozenset[int]:
        added = self._backend.get_added_tokens_decoder()
        return frozenset(id for id, token in added.items() if token.special)

    def name_of(self, id: int) -> str:
        """How the vocabulary spells a token; empty where it has a hole."""
        return self._backend.id_to_token(id) or ""

    # ------------------------------------------------------------------ inside

    def _role(self, name: str | None, what: str) -> int:
        id = None if name is None else self.find(name)
        if id is None:
            raise ConfigError(f"This tokenizer has no token that {what}.")
        return id

    @cached_property
    def _characters(self) -> frozenset[str]:
        return frozenset(name for name in self._backend.get_vocab() if len(name) == 1)

    @cached_property
    def _spelling(self) -> Spelling:
        return Spelling(self._backend, self.kind, self.special_ids, self.vocab_size)
