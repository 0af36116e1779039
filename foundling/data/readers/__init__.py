"""The formats that text and rows come in, each by the ending of a file's name.

A row reader yields the rows of one file, and a `SourceError` in the place of one that is at fault;
it raises one when the rest of the file cannot be read. A document is a text file, a part of one
between separators, or a field of a row.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from foundling.data.readers import delimited, hub, json_array, json_lines, parquet
from foundling.data.readers.fields import Row
from foundling.data.readers.source_file import SourceFile
from foundling.data.source_errors import SourceError

RowReader = Callable[[SourceFile], Iterator[Row | SourceError]]

PACKINGS = ("", ".gz", ".zst")
TEXT_ENDINGS = tuple(ending + packing for ending in (".txt", ".md") for packing in PACKINGS)
TABLE_ENDINGS = tuple(end + packing for end in (".json", ".csv", ".tsv") for packing in PACKINGS)
ROW_READERS: dict[str, RowReader] = {
    ending + packing: reader
    for ending, reader in {
        ".jsonl": json_lines.rows,
        ".json": json_array.rows,
        ".csv": delimited.rows,
        ".tsv": delimited.rows,
        ".parquet": parquet.rows,
    }.items()
    for packing in PACKINGS
}

Item = TypeVar("Item")


def is_text(name: str) -> bool:
    return not hub.is_on_hub(name) and name.lower().endswith(TEXT_ENDINGS)


def kinds(endings: Iterable[str]) -> str:
    """The endings for a message, which says of the packed ones only that there are some."""
    plain = [ending for ending in endings if not ending.endswith(PACKINGS[1:])]
    return f"{', '.join(plain)}; also as {' or '.join(PACKINGS[1:])}"


def row_reader_of(name: str) -> RowReader:
    """What reads the rows of the input of this name, whose ending is known."""
    if hub.is_on_hub(name):
        return hub.rows
    return next(ROW_READERS[end] for end in ROW_READERS if name.lower().endswith(end))


def items_of(
    file: SourceFile, read: Callable[[SourceFile], Iterator[Item]], what: str
) -> Iterator[Item]:
    """What `read` finds in a file.

    Raises:
        SourceError: it finds nothing, or the rest of the file cannot be read.
    """
    if os.path.islink(file.path) and not os.path.exists(file.path):
        target = os.readlink(file.path)
        raise SourceError("broken link", f"{file.name}: a broken link to {target}.")
    if file.size == 0:
        raise SourceError("empty file", f"{file.name}: the file is empty.")
    empty = True
    for found in read(file):
        empty = False
        yield found
    if empty:
        raise SourceError("empty file", f"{file.name}: holds no {what}.")
