"""One document, and the pieces it is cut into."""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

MEMORY_CHARACTERS = 1 << 20  # a longer document of a text file is kept on disk
# The tokenizers library takes some 150 bytes a token while it works, and one core a piece.
PIECE_CHARACTERS = 1 << 15


@dataclass(frozen=True)
class Document:
    """One text; a long one is kept in a file until the next document is asked for."""

    source: str  # FILE, FILE:LINE, FILE#ROW or FILE#DOCUMENT
    digest: bytes  # of the text, 128 bits
    num_characters: int
    num_bytes: int  # in UTF-8
    blank: bool  # nothing but white space
    whole_file: bool  # the file holds nothing else
    _parts: tuple[str, ...]
    _spool: IO[str] | None

    def pieces(
        self, start: int = 0, stop: int | None = None, size: int = PIECE_CHARACTERS
    ) -> Iterator[str]:
        """The characters from `start` to `stop`, cut where a word or a line begins."""
        return cut(_between(self._strings(), start, stop), size)

    @property
    def text(self) -> str:
        return "".join(self._strings())

    def _strings(self) -> Iterator[str]:
        if self._spool is None:
            yield from self._parts
            return
        self._spool.seek(0)
        while string := self._spool.read(MEMORY_CHARACTERS):
            yield string


@contextmanager
def gathered(
    source: str, strings: Iterable[str], *, whole_file: bool = False, folder: Path | None = None
) -> Iterator[Document]:
    """The document that `strings` make up, kept in a file in `folder` once it is long."""
    digest = hashlib.blake2b(digest_size=16)
    num_characters = num_bytes = 0
    blank = True
    parts: list[str] = []
    spool: IO[str] | None = None
    with ExitStack() as files:
        for string in strings:
            raw = string.encode()
            digest.update(raw)
            num_bytes += len(raw)
            num_characters += len(string)
            blank = blank and not string.strip()
            if spool is None and num_characters > MEMORY_CHARACTERS and parts:
                spool = files.enter_context(
                    tempfile.TemporaryFile("w+", encoding="utf-8", newline="", dir=folder)
                )
                spool.writelines(parts)
                parts.clear()
            if spool is None:
                parts.append(string)
            else:
                spool.write(string)
        yield Document(
            source,
            digest.digest(),
            num_characters,
            num_bytes,
            blank,
            whole_file,
            tuple(parts),
            spool,
        )


def cut(strings: Iterable[str], size: int = PIECE_CHARACTERS) -> Iterator[str]:
    """The same text in pieces of at most `size` characters, however the input came in parts.

    A piece begins with the first character of a line or with the space before a word; text without
    such a place is cut anywhere.
    """
    buffer, start = "", 0
    for string in strings:
        buffer, start = buffer[start:] + string, 0
        while len(buffer) - start > size:
            end = _border(buffer, start + size // 2, start + size)
            yield buffer[start:end]
            start = end
    if start < len(buffer):
        yield buffer[start:]


def _border(text: str, low: int, high: int) -> int:
    at = high
    while (at := text.rfind("\n", low, at)) >= 0:
        if not text[at + 1].isspace():
            return at + 1
    at = high
    while (at := text.rfind(" ", low + 1, at)) >= 0:
        if not text[at - 1].isspace() and not text[at + 1].isspace():
            return at
    return high


def _between(strings: Iterable[str], start: int, stop: int | None) -> Iterator[str]:
    at = 0
    for string in strings:
        end = None if stop is None else max(0, stop - at)
        yield string[max(0, start - at) : end]
        at += len(string)
        if stop is not None and at >= stop:
            return
