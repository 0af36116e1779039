"""The formats that text and rows come in, each by the ending of a file's name.

A reader yields the documents, or the rows, of one file, and a `SourceError` in the place of one
that is at fault; it raises one when the rest of the file cannot be read. Each document must be
done with before the next is asked for.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from foundling.data.documents import Document
from foundling.data.faults import SourceError
from foundling.data.readers import delimited, hub, json_array, json_lines, parquet, plain_text
from foundling.data.readers.fields import Row
from foundling.data.readers.source_file import SourceFile

Reader = Callable[[SourceFile], Iterator[Document | SourceError]]
RowReader = Callable[[SourceFile], Iterator[Row | SourceError]]

READERS: dict[str, Reader] = {
    ".txt": plain_text.read,
    ".md": plain_text.read,
    ".txt.gz": plain_text.read,
    ".txt.zst": plain_text.read,
    ".jsonl": json_lines.read,
    ".jsonl.gz": json_lines.read,
    ".jsonl.zst": json_lines.read,
    ".parquet": parquet.read,
}

ROW_READERS: dict[str, RowReader] = {
    ".jsonl": json_lines.rows,
    ".jsonl.gz": json_lines.rows,
    ".jsonl.zst": json_lines.rows,
    ".json": json_array.rows,
    ".csv": delimited.rows,
    ".csv.gz": delimited.rows,
    ".csv.zst": delimited.rows,
    ".tsv": delimited.rows,
    ".tsv.gz": delimited.rows,
    ".tsv.zst": delimited.rows,
    ".parquet": parquet.rows,
}

_Any = TypeVar("_Any")


def reader_of(name: str) -> Reader | None:
    """What reads the documents of the input of this name, if anything does."""
    return hub.read if hub.is_on_hub(name) else _by_ending(name, READERS)


def row_reader_of(name: str) -> RowReader | None:
    """What reads the rows of the input of this name, if anything does."""
    return hub.rows if hub.is_on_hub(name) else _by_ending(name, ROW_READERS)


def _by_ending(name: str, readers: Mapping[str, _Any]) -> _Any | None:
    return next((readers[end] for end in readers if name.lower().endswith(end)), None)
