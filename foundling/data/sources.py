"""The documents of text files, folders, JSON lines, parquet files and the hub, one at a time."""

import codecs
import glob
import gzip
import hashlib
import json
import os
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from foundling.config import ConfigError

OnError = Literal["stop", "skip"]

TEXT_SUFFIXES = (".txt", ".md", ".txt.gz", ".txt.zst")
LINE_SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst")
SUFFIXES = (*TEXT_SUFFIXES, *LINE_SUFFIXES, ".parquet")

READ_BYTES = 1 << 20
MEMORY_CHARACTERS = 1 << 20  # a longer document of a text file is kept on disk
# The tokenizers library takes some 150 bytes a token while it works, and one core a piece.
PIECE_CHARACTERS = 1 << 15


class SourceError(ConfigError):
    """An input cannot be read; the message names the file and the line, `reason` the kind."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Document:
    """One text; a long one lies in a file that the next document overwrites."""

    source: str  # FILE, FILE:LINE, FILE#ROW or FILE#DOCUMENT
    digest: bytes  # of the text, 128 bits
    num_characters: int
    num_bytes: int  # in UTF-8
    whole_file: bool  # it is all that its file holds
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


class Sources:
    """Every document of some inputs, in the order given; a folder's files are sorted.

    Args:
        inputs: files, folders, globs, `hub:owner/name[:config][@split]`.
        separator: what parts the documents of a text file; without it a file is one document.
        spool: the folder for the text of a document that is too long for memory.
    """

    def __init__(
        self,
        inputs: Sequence[str | Path],
        *,
        text_field: str = "text",
        separator: str | None = None,
        on_error: OnError = "stop",
        spool: Path | None = None,
    ) -> None:
        if not inputs:
            raise SourceError("no input", "No input was given.")
        if separator == "":
            raise SourceError("separator", "separator is empty; leave it out to have none.")
        self.ignored: Counter[str] = Counter()  # files in folders that are not read, by suffix
        self.files = [file for given in inputs for file in self._expand(str(given))]
        self.sizes = {file: _size(file) for file in self.files}
        self.skipped: Counter[str] = Counter()  # by reason
        self.bytes_read = 0
        self._text_field, self.separator = text_field, separator
        self._on_error, self._spool = on_error, spool

    @property
    def total_bytes(self) -> int | None:
        """The size of all files; unknown when one is a pipe or on the hub."""
        sizes = [size for size in self.sizes.values() if size is not None]
        return sum(sizes) if len(sizes) == len(self.files) else None

    @property
    def read_once(self) -> str | None:
        """The first input that is gone once it is read: a pipe."""
        return next((f for f in self.files if not _on_hub(f) and not Path(f).is_file()), None)

    def __iter__(self) -> Iterator[Document]:
        """Read everything from the start.

        Raises:
            SourceError: something is unreadable and `on_error` is "stop".
        """
        self.skipped.clear()
        self.bytes_read = 0
        for file in self.files:
            before = self.bytes_read
            try:
                yield from self._documents(file)
            except SourceError as error:  # the rest of the file cannot be read
                self._fault(error)
            self.bytes_read = before + (self.sizes[file] or 0)

    def _fault(self, error: SourceError) -> None:
        if self._on_error == "stop":
            raise error
        self.skipped[error.reason] += 1

    # ------------------------------------------------------------------ which files

    def _expand(self, given: str) -> list[str]:
        if _on_hub(given):
            return [given]
        path = Path(given)
        if path.is_dir():
            return self._folder(path)
        if path.exists():
            if not _suffix(path):
                raise SourceError(
                    "unknown suffix", f"{given}: not a kind that is read ({', '.join(SUFFIXES)})."
                )
            return [given]
        if not glob.has_magic(given):
            raise SourceError("missing", f"{given}: no such file or folder.")
        found = sorted(glob.glob(given, recursive=True))
        if not found:
            raise SourceError("missing", f"{given}: nothing matches this pattern.")
        if {given} == set(found):
            raise SourceError("missing", f"{given}: cannot be opened.")
        files: list[str] = []
        for name in found:
            if Path(name).is_dir():
                continue
            if _suffix(Path(name)):
                files.append(name)
            else:
                self.ignored[Path(name).suffix or "no suffix"] += 1
        if not files:
            raise SourceError(
                "no text", f"{given}: none of {len(found)} matches is read ({', '.join(SUFFIXES)})."
            )
        return files

    def _folder(self, folder: Path) -> list[str]:
        files: list[str] = []
        others: Counter[str] = Counter()
        for parent, folders, names in os.walk(folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in names:
                path = Path(parent) / name
                if _suffix(path) and not name.startswith("."):
                    files.append(str(path))
                else:
                    others["hidden" if name.startswith(".") else path.suffix or "no suffix"] += 1
        if not files:
            held = ", ".join(f"{n} {suffix}" for suffix, n in sorted(others.items())) or "nothing"
            raise SourceError(
                "no text", f"{folder}: holds no text to read ({', '.join(SUFFIXES)}), only {held}."
            )
        self.ignored += others
        return sorted(files)

    # ------------------------------------------------------------------ what is in a file

    def _documents(self, file: str) -> Iterator[Document]:
        if _on_hub(file):
            yield from self._rows(file, _hub_rows(file), "#")
            return
        suffix = _suffix(Path(file))
        if self.sizes[file] == 0:
            raise SourceError("empty file", f"{file}: the file is empty.")
        if suffix == ".parquet":
            yield from self._rows(file, self._parquet_rows(file), "#")
        elif suffix in LINE_SUFFIXES:
            yield from self._rows(file, _lines(self._chunks(file)), ":")
        else:
            yield from self._texts(file)

    def _rows(self, file: str, rows: Iterable[Any], mark: str) -> Iterator[Document]:
        count = 0
        for number, row in enumerate(rows, start=1):
            where = f"{file}{mark}{number}"
            try:
                if isinstance(row, bytes):
                    if not row.strip():
                        continue  # a blank line, such as the last
                    row = _json_object(where, row, first=number == 1)
                text = _field(where, row, self._text_field)
                with closing(_Builder(self._spool)) as builder:
                    builder.add(where, text)
                    yield builder.document(where, whole_file=False)
                count += 1
            except SourceError as error:
                self._fault(error)
                count += 1
        if not count:
            raise SourceError("empty file", f"{file}: holds no document.")

    def _texts(self, file: str) -> Iterator[Document]:
        strings = _decoded(file, self._chunks(file))
        if self.separator is None:
            with closing(_Builder(self._spool)) as builder:
                for string in strings:
                    builder.add(file, string)
                if builder.blank:
                    raise SourceError("empty file", f"{file}: nothing but white space.")
                yield builder.document(file, whole_file=True)
            return
        number = 0
        builder = _Builder(self._spool)
        try:
            for string, ends in split_at(strings, self.separator):
                builder.add(file, string)
                if ends and not builder.blank:
                    number += 1
                    yield builder.document(f"{file}#{number}", whole_file=False)
                if ends:
                    builder.close()
                    builder = _Builder(self._spool)
        finally:
            builder.close()
        if not number:
            raise SourceError("empty file", f"{file}: nothing but white space and separators.")

    def _chunks(self, file: str) -> Iterator[bytes]:
        """The bytes of a file, unpacked when it is compressed."""
        before = self.bytes_read
        try:
            with open(file, "rb") as raw:
                for chunk in _unpacked(file, raw):
                    yield chunk
                    try:
                        self.bytes_read = before + raw.tell()
                    except OSError:  # a pipe
                        self.bytes_read += len(chunk)
        except (EOFError, zlib.error, gzip.BadGzipFile, _CorruptError) as error:
            raise SourceError("corrupt file", f"{file}: corrupt or cut short: {error}") from None
        except (FileNotFoundError, PermissionError) as error:
            raise SourceError("unreadable", f"{file}: {error.strerror}.") from None

    def _parquet_rows(self, file: str) -> Iterator[Any]:
        import pyarrow
        import pyarrow.parquet

        before = self.bytes_read
        try:
            with pyarrow.parquet.ParquetFile(file) as table:
                names = table.schema_arrow.names
                if self._text_field not in names:
                    raise SourceError("missing field", _no_field(file, self._text_field, names))
                done, total = 0, max(1, table.metadata.num_rows)
                for batch in table.iter_batches(batch_size=256, columns=[self._text_field]):
                    for value in batch.column(0):
                        yield {self._text_field: value.as_py()}
                    done += batch.num_rows
                    self.bytes_read = before + (self.sizes[file] or 0) * done // total
        except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
            line = " ".join(str(error).split())
            raise SourceError("corrupt file", f"{file}: not readable as parquet: {line}") from None


class _Builder:
    """Takes a document's text bit by bit, on disk once it is long."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._hash = hashlib.blake2b(digest_size=16)
        self._parts: list[str] = []
        self._file: IO[str] | None = None
        self._characters = self._bytes = 0
        self.blank = True

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, where: str, text: str) -> None:
        try:
            raw = text.encode()
        except UnicodeEncodeError as error:
            raise SourceError(
                "not Unicode",
                f"{where}: half of a surrogate pair (U+{ord(text[error.start]):04X}) "
                f"at character {error.start} of the text.",
            ) from None
        self._hash.update(raw)
        self._bytes += len(raw)
        self._characters += len(text)
        self.blank = self.blank and not text.strip()
        if self._file is None and self._characters > MEMORY_CHARACTERS and self._parts:
            self._file = tempfile.TemporaryFile(  # noqa: SIM115 (closed in close)
                "w+", encoding="utf-8", newline="", dir=self._folder
            )
            self._file.writelines(self._parts)
            self._parts.clear()
        if self._file is None:
            self._parts.append(text)
        else:
            self._file.write(text)

    def document(self, source: str, whole_file: bool) -> Document:
        return Document(
            source,
            self._hash.digest(),
            self._characters,
            self._bytes,
            whole_file,
            tuple(self._parts),
            self._file,
        )


# ---------------------------------------------------------------------- bytes to text


class _CorruptError(Exception):
    pass


def _unpacked(file: str, raw: IO[bytes]) -> Iterator[bytes]:
    if file.endswith(".gz"):
        with gzip.GzipFile(fileobj=raw) as unpacked:
            while chunk := unpacked.read(READ_BYTES):
                yield chunk
    elif file.endswith(".zst"):
        yield from _zstd(raw)
    else:
        while chunk := raw.read(READ_BYTES):
            yield chunk


def _zstd(raw: IO[bytes]) -> Iterator[bytes]:
    # zstandard's own stream_reader takes a file that is cut short for a whole one.
    import zstandard

    frame = None
    try:
        while packed := raw.read(1 << 16):
            while packed:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                yield frame.decompress(packed)
                packed = frame.unused_data if frame.eof else b""
                if frame.eof:
                    frame = None
    except zstandard.ZstdError as error:
        raise _CorruptError(str(error)) from None
    if frame is not None:
        raise _CorruptError("the last frame has no end")


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest: list[bytes] = []
    for chunk in chunks:
        *whole, last = chunk.split(b"\n")
        for line in whole:
            yield b"".join([*rest, line])
            rest.clear()
        rest.append(last)
    yield b"".join(rest)


def _decoded(file: str, chunks: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, line, first = 0, 1, True
    try:
        for chunk in chunks:
            pending = len(decoder.getstate()[0])
            text = decoder.decode(chunk)
            if first and text:
                text, first = text.removeprefix("\ufeff"), False
            yield text
            offset += len(chunk)
            line += text.count("\n")
        pending = len(decoder.getstate()[0])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        line += error.object.count(b"\n", 0, error.start)
        at = offset - pending + error.start
        raise SourceError(
            "not UTF-8", f"{file}:{line}: not UTF-8 at byte {at} of the file."
        ) from None


def _json_object(where: str, line: bytes, first: bool) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig" if first else "utf-8"))
    except UnicodeDecodeError as error:
        raise SourceError(
            "not UTF-8", f"{where}: not UTF-8 at byte {error.start} of the line."
        ) from None
    except (ValueError, RecursionError) as error:
        raise SourceError("broken JSON", f"{where}: not a JSON object: {error}") from None


def _field(where: str, row: Any, name: str) -> str:
    if not isinstance(row, dict):
        raise SourceError("broken JSON", f"{where}: a JSON {type(row).__name__}, not an object.")
    if name not in row:
        raise SourceError("missing field", _no_field(where, name, list(row)))
    text = row[name]
    if not isinstance(text, str):
        raise SourceError(
            "not a text", f'{where}: the field "{name}" is {json.dumps(text, default=str)[:40]}.'
        )
    if not text.strip():
        raise SourceError("empty text", f'{where}: the field "{name}" is empty.')
    return text


def _no_field(where: str, name: str, there: Sequence[str]) -> str:
    held = ", ".join(map(str, there)) or "none"
    return f'{where}: no field "{name}"; it has: {held}. Name the right one as the text field.'


# ---------------------------------------------------------------------- text to pieces


def cut(strings: Iterable[str], size: int = PIECE_CHARACTERS) -> Iterator[str]:
    """The same text in pieces of at most `size` characters, wherever the input was cut.

    A piece begins with the first character of a line or with the space before a word, where the
    pre-tokenizer of our byte-level BPE begins a word too: the tokens of the pieces, one after the
    other, are those of the whole. Text without such a place is cut anyhow.
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


def split_at(strings: Iterable[str], separator: str) -> Iterator[tuple[str, bool]]:
    """Bits of the text between separators; the flag says that a document ends with this bit."""
    rest = ""
    for string in strings:
        *whole, rest = (rest + string).split(separator)
        yield from ((text, True) for text in whole)
        safe = max(0, len(rest) - len(separator) + 1)  # after it a separator may have begun
        yield rest[:safe], False
        rest = rest[safe:]
    yield rest, True


def _between(strings: Iterable[str], start: int, stop: int | None) -> Iterator[str]:
    at = 0
    for string in strings:
        end = None if stop is None else max(0, stop - at)
        yield string[max(0, start - at) : end]
        at += len(string)
        if stop is not None and at >= stop:
            return


# ---------------------------------------------------------------------- names


def _on_hub(given: str) -> bool:
    return given.startswith("hub:")


def _suffix(path: Path) -> str | None:
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)


def _size(file: str) -> int | None:
    return None if _on_hub(file) or not Path(file).is_file() else Path(file).stat().st_size


def _hub_rows(given: str) -> Iterator[Any]:
    """The rows of `hub:owner/name[:config][@split]`, over the network."""
    name, _, split = given.removeprefix("hub:").partition("@")
    name, _, config = name.partition(":")
    try:
        import datasets
    except ImportError:
        raise SourceError(
            "missing package", f'{given}: needs the datasets package: pip install "foundling[hub]".'
        ) from None
    try:
        rows = datasets.load_dataset(name, config or None, split=split or "train", streaming=True)
        yield from rows
    except Exception as error:  # of several HTTP libraries and of datasets itself
        line = " ".join(str(error).split())
        raise SourceError("hub", f"{given}: {type(error).__name__}: {line}") from None
