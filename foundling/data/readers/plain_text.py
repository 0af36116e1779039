"""Reads text files: one document a file, or several with a separator between them."""

from collections.abc import Generator, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from foundling.data.documents import Document, gathered
from foundling.data.source_errors import SourceError


def read(
    name: str, strings: Iterable[str], separator: str | None, folder: Path | None
) -> Generator[Document, None, int]:
    """The documents of the text file `name`; returns the number of parts, blank ones included.

    A long document lies in `folder`, until the next is asked for.
    """
    whole = separator is None
    bits = ((0, s) for s in strings) if separator is None else split_at(strings, separator)
    count = parts = 0
    for _, group in groupby(bits, key=itemgetter(0)):
        parts += 1
        source = name if whole else f"{name}#{count + 1}"
        texts = map(itemgetter(1), group)
        with gathered(source, texts, whole_file=whole, folder=folder) as document:
            if not document.blank:
                count += 1
                yield document
    if not count:
        what = "white space" if whole else "white space and separators"
        raise SourceError("empty file", f"{name}: nothing but {what}.")
    return parts


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
