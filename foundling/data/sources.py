"""Every document of some inputs, one at a time, with what was skipped and how far reading is."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from foundling.data.documents import Document
from foundling.data.faults import SourceError
from foundling.data.inputs import expand
from foundling.data.readers import hub, plain_text, reader_of
from foundling.data.readers.source_file import SourceFile

OnError = Literal["stop", "skip"]


class Sources:
    """The documents in the order of `inputs`; a folder's files are sorted.

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
        if separator == "":
            raise SourceError("separator", "separator is empty; leave it out to have none.")
        self.sizes, self.ignored = expand(inputs)
        self.skipped: Counter[str] = Counter()  # by reason
        self.bytes_read = 0
        known = [size for size in self.sizes.values() if size is not None]
        self.total_bytes = sum(known) if len(known) == len(self.sizes) else None
        self._text_field, self._separator = text_field, separator
        self._on_error, self._spool = on_error, spool

    @property
    def read_once(self) -> str | None:
        """The first input that is gone once it is read: a pipe."""
        pipes = (f for f, size in self.sizes.items() if size is None and not hub.is_on_hub(f))
        return next(pipes, None)

    @property
    def is_one_document(self) -> bool:
        """Whether there is but one document, as its kind tells before it is read."""
        kinds = [reader_of(file) for file in self.sizes]
        return self._separator is None and kinds == [plain_text.read]

    def __iter__(self) -> Iterator[Document]:
        """Read everything from the start.

        Raises:
            SourceError: something is unreadable and `on_error` is "stop".
        """
        self.skipped.clear()
        self.bytes_read = 0
        for name, size in self.sizes.items():
            before = self.bytes_read
            file = SourceFile(name, size, self._text_field, self._separator, self._spool)
            try:
                for found in _documents(file):
                    self.bytes_read = before + file.bytes_read
                    if isinstance(found, SourceError):
                        self._fault(found)
                    else:
                        yield found
            except SourceError as error:  # the rest of the file cannot be read
                self._fault(error)
            self.bytes_read = before + (file.bytes_read if size is None else size)

    def _fault(self, error: SourceError) -> None:
        if self._on_error == "stop":
            raise error
        self.skipped[error.reason] += 1


def _documents(file: SourceFile) -> Iterator[Document | SourceError]:
    if file.size == 0:
        raise SourceError("empty file", f"{file.name}: the file is empty.")
    read = reader_of(file.name)
    assert read is not None
    empty = True
    for found in read(file):
        empty = False
        yield found
    if empty:
        raise SourceError("empty file", f"{file.name}: holds no document.")
