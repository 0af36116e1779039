"""One row of a table with its source, and the text in one of its fields."""

import json
from collections.abc import Sequence
from typing import Any

from foundling.data.source_errors import SourceError

Row = tuple[str, dict[str, Any]]
"""FILE:LINE or FILE#ROW, and the values by their names."""


def row_of(where: str, value: Any) -> Row | SourceError:
    """A value that a file of JSON holds at `where`, which must be an object."""
    if not isinstance(value, dict):
        return SourceError("broken JSON", f"{where}: a JSON {type(value).__name__}, not an object.")
    return where, value


def without_gaps(value: Any) -> Any:
    """A value of a typed table, without the keys of objects that hold null.

    Such a table gives every object all keys that any of them has.
    """
    if isinstance(value, dict):
        return {key: without_gaps(inner) for key, inner in value.items() if inner is not None}
    return [without_gaps(inner) for inner in value] if isinstance(value, list) else value


def text_in(where: str, row: dict[str, Any], field: str) -> str:
    """The text in a field of a row; "doc.text" is also the field "text" of the object "doc".

    Raises:
        SourceError: there is no such field, or no text in it.
    """
    value: Any = row
    for name in [field] if field in row else field.split("."):
        if not isinstance(value, dict) or name not in value:
            raise no_field(where, field, list(row))
        value = value[name]
    if not isinstance(value, str):
        given = json.dumps(value, default=str)[:40]
        raise SourceError("not a text", f'{where}: the field "{field}" is {given}.')
    if not value.strip():
        raise SourceError("empty text", f'{where}: the field "{field}" is empty.')
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise half_a_pair(where, value, error) from None
    return value


def half_a_pair(where: str, text: str, error: UnicodeEncodeError) -> SourceError:
    """What is wrong with a text that cannot be written as UTF-8."""
    return SourceError(
        "not Unicode",
        f"{where}: half of a surrogate pair (U+{ord(text[error.start]):04X}) "
        f"at character {error.start} of the text.",
    )


def no_field(where: str, name: str, there: Sequence[str]) -> SourceError:
    fields = ", ".join(map(str, there)) or "none"
    return SourceError(
        "missing field",
        f'{where}: no field "{name}"; it has: {fields}. Name the right one by --text-field.',
    )
