"""The formats that text comes in, each by the ending of a file's name.

A reader yields the documents of one file, and a `SourceError` in the place of a document that is
at fault; it raises one when the rest of the file cannot be read. Each document must be done with
before the next is asked for.
"""

from collections.abc import Callable, Iterator

from foundling.data.documents import Document
from foundling.data.faults import SourceError
from foundling.data.readers import hub, json_lines, parquet, plain_text
from foundling.data.readers.source_file import SourceFile

Reader = Callable[[SourceFile], Iterator[Document | SourceError]]

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


def reader_of(name: str) -> Reader | None:
    """What reads the input of this name, if anything does."""
    if hub.is_on_hub(name):
        return hub.read
    return next((READERS[end] for end in READERS if name.lower().endswith(end)), None)
