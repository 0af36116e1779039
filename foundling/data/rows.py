"""Every row of some inputs, one at a time, with its source."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from foundling.data.inputs import expand
from foundling.data.readers import ROW_READERS, items_of, row_reader_of
from foundling.data.readers.fields import Row
from foundling.data.readers.source_file import SourceFile
from foundling.data.source_errors import SourceError, good_items


class Rows:
    """The rows in the order of `inputs`.

    Args:
        inputs: files, folders, globs, `hub:owner/name[:config][@split]`; see ROW_READERS.

    Raises:
        SourceError: an input is not there or is of no kind that is read.
    """

    def __init__(self, inputs: Sequence[str | Path]) -> None:
        self.sizes, self.ignored = expand(inputs, ROW_READERS)

    def __iter__(self) -> Iterator[Row]:
        """Raises SourceError: for all files that are at fault."""
        return self.read(None)

    def read(self, drop: Callable[[SourceError], None] | None, advice: str = "") -> Iterator[Row]:
        """The rows that can be read; see `good_items`."""
        files = (
            (size is None, rows_of(SourceFile(name, size))) for name, size in self.sizes.items()
        )
        return good_items(files, drop, advice=advice)


def rows_of(file: SourceFile) -> Iterator[Row | SourceError]:
    """The rows of one file, and a `SourceError` in the place of one that is at fault."""
    try:
        yield from items_of(file, row_reader_of(file.name), "row")
    except SourceError as error:  # the rest of the file cannot be read
        yield error
