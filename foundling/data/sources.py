"""Every document of the inputs, one at a time, with what was skipped and how much has been read."""

import codecs
import io
import json
import logging
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from foundling.data.documents import Document, gathered
from foundling.data.inputs import expand
from foundling.data.readers import (
    ROW_READERS,
    TEXT_ENDINGS,
    hub,
    is_text,
    items_of,
    plain_text,
    row_reader_of,
)
from foundling.data.readers.fields import text_in
from foundling.data.readers.source_file import SourceFile
from foundling.data.source_errors import SourceError, good_items

OnError = Literal["stop", "skip"]
Newlines = Literal["keep", "lf"]

STANDARD_INPUT = "-"

log = logging.getLogger(__name__)


class Sources:
    """The documents in the order of `inputs`; a folder's files are sorted.

    Args:
        inputs: files, folders, globs, "-" (standard input), `hub:owner/name[:config][@split]`.
        text_field: the field of a row that holds the text; "doc.text" is one within another.
        separator: splits text files into documents; without it a file is one document.
        encoding: of files without a byte order mark.
        newlines: "lf" makes each line end in "\\n" alone.
        spool: the folder for standard input and for a document that is too long for memory.
    """

    def __init__(
        self,
        inputs: Sequence[str | Path],
        *,
        text_field: str = "text",
        separator: str | None = None,
        encoding: str = "utf-8",
        newlines: Newlines = "keep",
        on_error: OnError = "stop",
        spool: Path | None = None,
    ) -> None:
        if separator == "":
            raise SourceError("separator", "--separator is empty; leave it out to have none.")
        self._encoding = _known_encoding(encoding)
        files = [given for given in inputs if str(given) != STANDARD_INPUT]
        self.sizes: dict[str, int | None] = {}
        self._kept: Path | None = None
        if len(files) < len(inputs):
            assert spool is not None
            self._kept = _keep_standard_input(spool)
            self.sizes[STANDARD_INPUT] = self._kept.stat().st_size
        self.ignored = Counter[str]()
        if files or not inputs:
            found, self.ignored = expand(files, (*TEXT_ENDINGS, *ROW_READERS))
            self.sizes |= found
        self.skipped: Counter[str] = Counter()  # by reason
        self.undivided = 0  # text files without the separator
        self.bytes_read = 0
        known = [size for size in self.sizes.values() if size is not None]
        self.total_bytes = sum(known) if len(known) == len(self.sizes) else None
        self._text_field, self._separator = text_field, separator
        self._newlines, self._on_error, self._spool = newlines, on_error, spool

    @property
    def read_once(self) -> str | None:
        """The first input that can be read only once: a pipe."""
        pipes = (f for f, size in self.sizes.items() if size is None and not hub.is_on_hub(f))
        return next(pipes, None)

    @property
    def is_one_document(self) -> bool:
        """Whether there is but one document, as its kind tells before it is read."""
        texts = [is_text(self._file(name).path) and size != 0 for name, size in self.sizes.items()]
        return self._separator is None and texts == [True]

    def __iter__(self) -> Iterator[Document]:
        """Read everything from the start.

        Raises:
            SourceError: something is unreadable and `on_error` is "stop": one error for all files.
        """
        self.skipped.clear()
        self.bytes_read = self.undivided = 0
        yield from good_items(
            ((size is None, self._found(name, size)) for name, size in self.sizes.items()),
            self._drop if self._on_error == "skip" else None,
            advice=" --on-error skip leaves out what cannot be read.",
            on_encoding=" --encoding NAME reads another encoding, such as latin-1 or utf-16.",
        )
        num_texts = sum(is_text(self._file(name).path) for name in self.sizes)
        if self._separator is not None and 0 < num_texts == self.undivided:
            shown = json.dumps(self._separator, ensure_ascii=False)
            hint = " Where lines end in CRLF, say --newlines lf." if "\n" in self._separator else ""
            raise SourceError(
                "separator", f"--separator {shown}: does not occur in any text file.{hint}"
            )

    def _drop(self, fault: SourceError) -> None:
        self.skipped[fault.reason] += 1

    def _found(self, name: str, size: int | None) -> Iterator[Document | SourceError]:
        before, file = self.bytes_read, self._file(name)
        try:
            for found in items_of(file, self._documents, "document"):
                self.bytes_read = before + file.bytes_read
                yield found
        except SourceError as error:  # the rest of the file cannot be read
            yield error
        self.bytes_read = before + (file.bytes_read if size is None else size)

    def _file(self, name: str) -> SourceFile:
        kept = self._kept if name == STANDARD_INPUT else None
        return SourceFile(name, self.sizes[name], self._encoding, self._text_field, kept)

    def _documents(self, file: SourceFile) -> Iterator[Document | SourceError]:
        if is_text(file.path):
            strings = self._settled(file.strings())
            parts = yield from plain_text.read(file.name, strings, self._separator, self._spool)
            self.undivided += parts == 1
            return
        for found in row_reader_of(file.path)(file):
            yield found if isinstance(found, SourceError) else self._document(*found)

    def _document(self, where: str, row: dict[str, Any]) -> Document | SourceError:
        try:
            text = text_in(where, row, self._text_field)
        except SourceError as error:
            return error
        with gathered(where, self._settled([text])) as document:
            return document

    def _settled(self, strings: Iterable[str]) -> Iterator[str]:
        if self._newlines == "keep":
            yield from strings
            return
        decoder = io.IncrementalNewlineDecoder(None, translate=True)
        for string in strings:
            yield decoder.decode(string)
        yield decoder.decode("", final=True)


def _known_encoding(name: str) -> str:
    try:
        "".encode(name)
        return codecs.lookup(name).name
    except LookupError:
        raise SourceError(
            "encoding",
            f"--encoding {name}: no such encoding of text (utf-8, utf-16, latin-1, cp1252, "
            "shift_jis, ...).",
        ) from None


def _keep_standard_input(folder: Path) -> Path:
    """Standard input as a file, since text is read twice: JSON lines or a text, as it begins."""
    file = folder / "standard-input"
    with file.open("wb") as stream:
        shutil.copyfileobj(sys.stdin.buffer, stream)
    with file.open("rb") as stream:
        line = next((line for line in stream if line.strip()), b"")
    try:
        has_rows = isinstance(json.loads(line), dict)
    except ValueError:
        has_rows = False
    log.info("standard input is read as %s.", "JSON lines" if has_rows else "text")
    return file.rename(file.with_suffix(".jsonl" if has_rows else ".txt"))
