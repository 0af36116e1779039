"""One row of a table with its place, and the document in one of its fields."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from foundling.data.documents import Document, gathered
from foundling.data.faults import SourceError

Row = tuple[str, dict[str, Any]]
"""FILE:LINE or FILE#ROW, and the values by their names."""


def row_of(where: str, value: Any) -> Row | SourceError:
    """A value that a file of JSON holds at `where`, which must be an object."""
    if not isinstance(value, dict):
        return SourceError("broken JSON", f"{where}: a JSON {type(value).__name__}, not an object.")
    return where, value


def documents_of(
    rows: Iterable[Row | SourceError], text_field: str
) -> Iterator[Document | SourceError]:
    """The document in the field `text_field` of each row."""
    for found in rows:
        yield found if isinstance(found, SourceError) else document_of(*found, text_field)


def document_of(where: str, row: dict[str, Any], text_field: str) -> Document | SourceError:
    """The document in the field `text_field` of a row; `where` names file and row."""
    if text_field not in row:
        return no_field(where, text_field, list(row))
    text = row[text_field]
    if not isinstance(text, str):
        given = json.dumps(text, default=str)[:40]
        return SourceError("not a text", f'{where}: the field "{text_field}" is {given}.')
    if not text.strip():
        return SourceError("empty text", f'{where}: the field "{text_field}" is empty.')
    try:
        with gathered(where, [text]) as document:
            return document
    except UnicodeEncodeError as error:
        return half_a_pair(where, text, error)


def half_a_pair(where: str, text: str, error: UnicodeEncodeError) -> SourceError:
    """What is wrong with a text that cannot be written as UTF-8."""
    return SourceError(
        "not Unicode",
        f"{where}: half of a surrogate pair (U+{ord(text[error.start]):04X}) "
        f"at character {error.start} of the text.",
    )


def no_field(where: str, name: str, there: Sequence[str]) -> SourceError:
    held = ", ".join(map(str, there)) or "none"
    return SourceError(
        "missing field",
        f'{where}: no field "{name}"; it has: {held}. Name the right one as the text field.',
    )
