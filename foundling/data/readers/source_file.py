"""One input while it is read: unpacked, decoded, and how much of it has been read."""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO

import zstandard

from foundling.data.source_errors import SourceError, WrongEncoding

READ_BYTES = 1 << 20

_MARKS = {  # the longer ones first: one begins with another
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8",
}


@dataclass
class SourceFile:
    """An input by its name; `size` is unknown for a pipe or the hub."""

    name: str
    size: int | None
    encoding: str = "utf-8"  # unless the file has a byte order mark
    column: str | None = None  # the only one that is needed
    kept: Path | None = None  # where standard input has been written to
    bytes_read: int = 0  # before unpacking

    @property
    def path(self) -> str:
        return str(self.kept or self.name)

    @property
    def is_packed(self) -> bool:
        return self.path.lower().endswith((".gz", ".zst"))

    def unpacked(self) -> Iterator[bytes]:
        """The bytes of the file, unpacked when it is compressed."""
        try:
            with open(self.path, "rb") as raw:
                for chunk in unpacked(self.path, raw):
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
            raise SourceError(
                "unreadable", f"{self.name}: {str(error.strerror).lower()}."
            ) from None

    def chunks(self) -> Iterator[bytes]:
        """The text of the file in UTF-8, whatever its encoding; not checked where that is UTF-8."""
        chunks = self.unpacked()
        head = b""
        while len(head) < 4 and (chunk := next(chunks, b"")):
            head += chunk
        marked = (encoding for mark, encoding in _MARKS.items() if head.startswith(mark))
        encoding = next(marked, self.encoding)
        chunks = chain([head], chunks)
        return chunks if encoding == "utf-8" else self._transcoded(chunks, encoding)

    def _transcoded(self, chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            for chunk in chunks:
                yield decoder.decode(chunk).encode()
            yield decoder.decode(b"", final=True).encode()
        except UnicodeError as error:
            raise WrongEncoding(
                "wrong encoding", f"{self.name}: not {encoding}: {error}."
            ) from None

    def strings(self) -> Iterator[str]:
        """The text of the file in pieces; a byte order mark is dropped.

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
                    if text.count("\0") > len(text) // 4:
                        raise WrongEncoding(
                            "wrong encoding",
                            f"{self.name}: much of it is NUL, as in UTF-16 without its mark.",
                        )
                yield text
                offset += len(chunk)
                line += text.count("\n")
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            held_over = len(decoder.getstate()[0])  # the begin of a character, from before
            at = offset - held_over + error.start
            line += error.object.count(b"\n", 0, error.start)
            raise WrongEncoding(
                "not UTF-8", f"{self.name}:{line}: not UTF-8 at byte {at} of the file."
            ) from None


def read_text(file: str | Path) -> str:
    """All of a text file, with its line ends as they are.

    Raises:
        SourceError: it cannot be opened, or is not UTF-8 and without the mark of another encoding.
    """
    return "".join(SourceFile(str(file), None).strings())


def unpacked(name: str, raw: IO[bytes]) -> Iterator[bytes]:
    """The bytes of a stream, unpacked as the file's name says.

    Raises:
        EOFError, OSError, zlib.error, zstandard.ZstdError: it is corrupt or cut short.
    """
    if name.lower().endswith(".gz"):
        with gzip.GzipFile(fileobj=raw) as stream:
            while chunk := stream.read(READ_BYTES):
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
