"""How a token of each kind of vocabulary stands for bytes."""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from tokenizers import Tokenizer as Backend

Kind = Literal["bytes", "characters", "sentencepiece", "other"]


def kind_of(settings: Mapping[str, Any]) -> Kind:
    """The kind of vocabulary that a tokenizer.json holds."""
    decoder = settings.get("decoder") or {"type": None}
    steps = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    types = [step["type"] for step in steps]
    if "ByteLevel" in types:
        return "bytes"
    model = settings["model"]
    if types == ["Fuse"] and model.get("type") == "BPE" and not model.get("merges"):
        return "characters"
    replaces = any(
        step["type"] == "Replace" and step.get("content") == " " and _SPACE in str(step["pattern"])
        for step in steps
    )
    if (replaces or "Metaspace" in types) and not set(types) - _SENTENCEPIECE_STEPS:
        return "sentencepiece"
    return "other"


_SPACE = "▁"
BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SENTENCEPIECE_STEPS = {"Replace", "Metaspace", "ByteFallback", "Fuse", "Strip"}


def spell_piece(token: str) -> bytes:
    """The bytes of a sentencepiece token in the middle of a text."""
    byte = BYTE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace(_SPACE, " ").encode()


def spell_bytes(token: str) -> bytes:
    """The bytes of a byte-level BPE token."""
    # As the library: a token that is not wholly of the alphabet (an added one) is its own text.
    if all(character in _BYTE_OF for character in token):
        return bytes(_BYTE_OF[character] for character in token)
    return token.encode()


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte. Source: openai/gpt-2, encoder.py."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    stands_for = {chr(byte): byte for byte in printable}
    return stands_for | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()


class Spelling:
    """The bytes of each token of a vocabulary."""

    def __init__(
        self, backend: Backend, kind: Kind, special: frozenset[int], vocab_size: int
    ) -> None:
        """`special`: ids that stand for no text."""
        self._backend, self._kind, self._special = backend, kind, special
        self._vocab_size = vocab_size

    @cached_property
    def all(self) -> tuple[bytes, ...]:
        """By id, in the middle of a text; none for a special token."""
        return tuple(
            b"" if id in self._special else self._spell(self._backend.id_to_token(id) or "")
            for id in range(self._vocab_size)
        )

    def first(self, id: int) -> bytes:
        """At the start of a text, where sentencepiece drops the space it had added."""
        token = self._backend.id_to_token(id) or ""
        if self._kind != "sentencepiece" or BYTE.fullmatch(token) or id in self._special:
            return self.all[id]
        first: str = self._backend.decoder.decode([token])
        return first.encode()

    def _spell(self, token: str) -> bytes:
        if self._kind == "bytes":
            return spell_bytes(token)
        if self._kind == "sentencepiece":
            return spell_piece(token)
        if self._kind == "characters" or self._backend.decoder is None:
            return token.encode()
        # A decoder that looks at neighbours (WordPiece): the token's text after some other one.
        both: str = self._backend.decoder.decode(["a", token])
        return both.removeprefix("a").encode()
