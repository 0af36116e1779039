"""A bounded sample of the text, on disk, which depends on the text and not on its order."""

import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO


class TextSample:
    """A context; keeps the texts with the lowest keys, at most `limit` bytes of them."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self._below = 1 << 64  # keys at or above it are not kept
        self._new()

    def __enter__(self) -> "TextSample":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def offer(self, key: int, text: str) -> None:
        """Keep `text` unless `key`, a random 64-bit number, is too high."""
        if key >= self._below:
            return
        self._keep(key, text.encode())
        while self._size > self._limit and self._below > 1:
            self._below //= 2
            with self._file as old:
                self._new()
                for key, raw in _records(old):
                    if key < self._below:
                        self._keep(key, raw)

    def texts(self) -> Iterator[str]:
        for _, raw in _records(self._file):
            yield raw.decode()

    def _new(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
        self._size = 0

    def _keep(self, key: int, raw: bytes) -> None:
        self._file.write(struct.pack("<QI", key, len(raw)) + raw)
        self._size += len(raw)


def _records(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    file.seek(0)
    while head := file.read(12):
        key, size = struct.unpack("<QI", head)
        yield key, file.read(size)
