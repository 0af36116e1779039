"""Reads text files: one document a file, or several with a separator between them."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter

from foundling.data.documents import Document, gathered
from foundling.data.faults import SourceError
from foundling.data.readers.source_file import SourceFile


def read(file: SourceFile) -> Iterator[Document]:
    strings = file.strings()
    whole = file.separator is None
    bits = (
        ((0, s) for s in strings) if file.separator is None else split_at(strings, file.separator)
    )
    count = 0
    for _, group in groupby(bits, key=itemgetter(0)):
        source = file.name if whole else f"{file.name}#{count + 1}"
        texts = map(itemgetter(1), group)
        with gathered(source, texts, whole_file=whole, folder=file.spool) as document:
            if not document.blank:
                count += 1
                yield document
    if not count:
        what = "white space" if whole else "white space and separators"
        raise SourceError("empty file", f"{file.name}: nothing but {what}.")


def split_at(strings: Iterable[str], separator: str) -> Iterator[tuple[int, str]]:
    """Bits of the text between separators, each with the number of its document."""
    number, rest = 0, ""
    for string in strings:
        *whole, rest = (rest + string).split(separator)
        for text in whole:
            yield number, text
            number += 1
        safe = max(0, len(rest) - len(separator) + 1)  # after it a separator may have begun
        yield number, rest[:safe]
        rest = rest[safe:]
    yield number, rest
