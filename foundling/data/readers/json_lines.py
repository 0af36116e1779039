"""Reads JSON lines: one document in a field of each line's object."""

import codecs
import json
from collections.abc import Iterable, Iterator
from typing import Any

from foundling.data.documents import Document
from foundling.data.faults import SourceError
from foundling.data.readers.rows import document_of
from foundling.data.readers.source_file import SourceFile


def read(file: SourceFile) -> Iterator[Document | SourceError]:
    for number, line in enumerate(_lines(file.chunks()), start=1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.strip():
            continue  # such as the last
        where = f"{file.name}:{number}"
        row = _parsed(where, line)
        yield row if isinstance(row, SourceError) else document_of(where, row, file.text_field)


def _parsed(where: str, line: bytes) -> Any:
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError as error:
        return SourceError("not UTF-8", f"{where}: not UTF-8 at byte {error.start} of the line.")
    except (ValueError, RecursionError) as error:
        return SourceError("broken JSON", f"{where}: not a JSON object: {error}")


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest: list[bytes] = []
    for chunk in chunks:
        *whole, last = chunk.split(b"\n")
        for line in whole:
            yield b"".join([*rest, line])
            rest.clear()
        rest.append(last)
    yield b"".join(rest)
