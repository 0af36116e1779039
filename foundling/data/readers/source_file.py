"""One input while it is read: what to take from it, its bytes unpacked, and how far reading is."""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import zstandard

from foundling.data.faults import SourceError

READ_BYTES = 1 << 20


@dataclass
class SourceFile:
    """An input by its name; `size` is unknown for a pipe or the hub."""

    name: str
    size: int | None
    text_field: str = "text"
    separator: str | None = None
    spool: Path | None = None  # the folder for the text of a document that is too long for memory
    bytes_read: int = 0  # before unpacking

    def chunks(self) -> Iterator[bytes]:
        """The bytes of the file, unpacked when it is compressed."""
        try:
            with open(self.name, "rb") as raw:
                for chunk in _unpacked(self.name, raw):
                    yield chunk
                    try:
                        self.bytes_read = raw.tell()
                    except OSError:  # a pipe
                        self.bytes_read += len(chunk)
        except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
            raise SourceError(
                "corrupt file", f"{self.name}: corrupt or cut short: {error}"
            ) from None
        except (FileNotFoundError, PermissionError) as error:
            raise SourceError("unreadable", f"{self.name}: {error.strerror}.") from None

    def strings(self) -> Iterator[str]:
        """The text of the file in pieces; the mark of its encoding goes.

        Raises:
            SourceError: it is not UTF-8; the message names the line.
        """
        decoder = codecs.getincrementaldecoder("utf-8")()
        offset, line, first = 0, 1, True
        try:
            for chunk in self.chunks():
                text = decoder.decode(chunk)
                if first and text:
                    text, first = text.removeprefix("\ufeff"), False
                yield text
                offset += len(chunk)
                line += text.count("\n")
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            held_over = len(decoder.getstate()[0])  # the begin of a character, from before
            at = offset - held_over + error.start
            line += error.object.count(b"\n", 0, error.start)
            raise SourceError(
                "not UTF-8", f"{self.name}:{line}: not UTF-8 at byte {at} of the file."
            ) from None


def _unpacked(name: str, raw: IO[bytes]) -> Iterator[bytes]:
    if name.lower().endswith(".gz"):
        with gzip.GzipFile(fileobj=raw) as unpacked:
            while chunk := unpacked.read(READ_BYTES):
                yield chunk
    elif name.lower().endswith(".zst"):
        yield from _zstd(raw)
    else:
        while chunk := raw.read(READ_BYTES):
            yield chunk


def _zstd(raw: IO[bytes]) -> Iterator[bytes]:
    # zstandard's own stream_reader takes a file that is cut short for a whole one.
    frame = None
    while packed := raw.read(1 << 16):
        while packed:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            yield frame.decompress(packed)
            packed = frame.unused_data if frame.eof else b""
            if frame.eof:
                frame = None
    if frame is not None:
        raise EOFError("the last frame has no end")
