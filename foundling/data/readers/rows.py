"""The text of one row of a table, or what is wrong with the row."""

import json
from collections.abc import Sequence
from typing import Any

from foundling.data.documents import Document, gathered
from foundling.data.faults import SourceError


def document_of(where: str, row: Any, text_field: str) -> Document | SourceError:
    """The document in the field `text_field` of a row; `where` names file and row."""
    if not isinstance(row, dict):
        return SourceError("broken JSON", f"{where}: a JSON {type(row).__name__}, not an object.")
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
