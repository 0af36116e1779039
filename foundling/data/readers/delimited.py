"""Reads CSV and TSV files with a header: a row is a record, which quotes may spread over lines."""

import csv
from collections.abc import Iterable, Iterator
from itertools import chain

from foundling.data.readers.fields import Row
from foundling.data.readers.source_file import SourceFile
from foundling.data.source_errors import SourceError

FIELD_CHARACTERS = 1 << 28  # the csv module's own limit, 131,072, is below many documents


def rows(file: SourceFile) -> Iterator[Row | SourceError]:
    """The records by the names of the header, each with the line that it begins on.

    Raises:
        SourceError: there is no usable header, or a quote goes wrong: what follows is uncertain.
    """
    csv.field_size_limit(max(csv.field_size_limit(), FIELD_CHARACTERS))
    lines = _lines(file.strings())
    first = next(lines, "")
    delimiter = "\t" if ".tsv" in file.name.lower()[-8:] else _delimiter(first)
    reader = csv.reader(chain([first] if first else [], lines), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    line = 0
    try:
        for record in reader:
            where, line = f"{file.name}:{line + 1}", reader.line_num
            if not record:
                continue  # a blank line
            if header is None:
                header = _checked(where, record)
            elif len(record) != len(header):
                yield SourceError(
                    "wrong number of fields",
                    f"{where}: {len(record)} fields, but the header has {len(header)}.",
                )
            else:
                yield where, dict(zip(header, record, strict=True))
    except csv.Error as error:
        raise SourceError("broken CSV", f"{file.name}:{line + 1}: {error}.") from None


def _delimiter(header: str) -> str:
    """A semicolon where it stands in the header and no comma does, as spreadsheets write it."""
    return ";" if ";" in header and "," not in header else ","


def _checked(where: str, names: list[str]) -> list[str]:
    names = [name.strip() for name in names]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SourceError("bad header", f'{where}: the header names "{twice}" more than once.')
    return names


def _lines(strings: Iterable[str]) -> Iterator[str]:
    rest: list[str] = []
    for string in strings:
        *whole, last = string.split("\n")
        for line in whole:
            yield "".join([*rest, line, "\n"])
            rest.clear()
        rest.append(last)
    if any(rest):
        yield "".join(rest)
