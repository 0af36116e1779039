"""Reads JSON files that are one array: a row is an object in it."""

import json
import re
from collections.abc import Iterator

from foundling.data.readers.fields import Row, row_of
from foundling.data.readers.source_file import SourceFile
from foundling.data.source_errors import SourceError

_BLANK = re.compile(r"[ \t\n\r]*")


def rows(file: SourceFile) -> Iterator[Row | SourceError]:
    """The objects one by one, each with the line that it begins on; the text is held in memory.

    Raises:
        SourceError: what is no array, or where an array breaks off or goes wrong.
    """
    text = "".join(file.strings())
    at, line = _after_blank(text, 0), 1
    if text[at : at + 1] != "[":
        raise _not_an_array(file.name, text[at : at + 1])
    decoder, seen = json.JSONDecoder(), 0
    at = _after_blank(text, at + 1)
    if text[at : at + 1] == "]":
        return
    while True:
        line, seen = line + text.count("\n", seen, at), at
        where = f"{file.name}:{line}"
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise SourceError("broken JSON", f"{where}: not a JSON value: {error}") from None
        yield row_of(where, value)
        at = _after_blank(text, at)
        mark, at = text[at : at + 1], _after_blank(text, at + 1)
        if mark == "]" and at >= len(text):
            return
        if mark != ",":
            line += text.count("\n", seen, at)
            what = "text after the array" if mark == "]" else "neither a comma nor the array's end"
            raise SourceError("broken JSON", f"{file.name}:{line}: {what} after an object.")


def _after_blank(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at


def _not_an_array(name: str, begin: str) -> SourceError:
    if begin == "{":
        return SourceError(
            "broken JSON",
            f"{name}: an object, not an array of objects; if it holds one object a line, name "
            "it .jsonl.",
        )
    return SourceError("broken JSON", f"{name}: not a JSON array of objects.")
