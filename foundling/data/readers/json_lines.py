"""Reads JSON lines: a row is the object on one line."""

import codecs
import json
from collections.abc import Iterable, Iterator

from foundling.data.readers.fields import Row, row_of
from foundling.data.readers.source_file import SourceFile
from foundling.data.source_errors import SourceError, WrongEncoding


def rows(file: SourceFile) -> Iterator[Row | SourceError]:
    for number, line in enumerate(_lines(file.chunks()), start=1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if line.strip():  # the last, for one, is blank
            yield _parsed(f"{file.name}:{number}", line)


def _parsed(where: str, line: bytes) -> Row | SourceError:
    try:
        return row_of(where, json.loads(line.decode()))
    except UnicodeDecodeError as error:
        return WrongEncoding("not UTF-8", f"{where}: not UTF-8 at byte {error.start} of the line.")
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
