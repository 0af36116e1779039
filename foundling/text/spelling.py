"""How a token of each kind of vocabulary stands for bytes."""

import re
from collections.abc import Mapping
from typing import Any, Literal

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
