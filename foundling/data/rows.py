"""Every row of some inputs, one at a time, with its place."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from foundling.data.faults import SourceError
from foundling.data.inputs import expand
from foundling.data.readers import ROW_READERS, row_reader_of
from foundling.data.readers.rows import Row
from foundling.data.readers.source_file import SourceFile


def read_rows(inputs: Sequence[str | Path]) -> Iterator[Row | SourceError]:
    """The rows in the order of `inputs`, and a SourceError in the place of what is at fault.

    Args:
        inputs: files, folders, globs, `hub:owner/name[:config][@split]`; see ROW_READERS.

    Raises:
        SourceError: at once, if an input is not there or is of no kind that is read.
    """
    sizes, _ = expand(inputs, ROW_READERS)
    return _rows(sizes)


def _rows(sizes: dict[str, int | None]) -> Iterator[Row | SourceError]:
    for name, size in sizes.items():
        if size == 0:
            yield SourceError("empty file", f"{name}: the file is empty.")
            continue
        read = row_reader_of(name)
        assert read is not None
        empty = True
        try:
            for found in read(SourceFile(name, size)):
                empty = False
                yield found
        except SourceError as error:  # the rest of the file cannot be read
            yield error
            continue
        if empty:
            yield SourceError("empty file", f"{name}: holds no row.")
