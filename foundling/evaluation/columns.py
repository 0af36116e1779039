"""The rows of a file of items, which must have the columns that are read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foundling.base.config import ConfigError
from foundling.data.rows import Rows


def read_columns(path: Path, names: Sequence[str] = ()) -> list[tuple[str, dict[str, Any]]]:
    """Every row with its location, FILE:LINE, in the order of the file.

    Raises:
        ConfigError: the file cannot be read, or a row lacks one of the columns.
    """
    rows: list[tuple[str, dict[str, Any]]] = []
    for where, row in Rows([path]):
        for name in names:
            if name not in row:
                columns = ", ".join(filter(None, row)) or "none"
                raise ConfigError(f'{where}: no column "{name}"; it has: {columns}.')
        rows.append((where, row))
    return rows


def text_in(where: str, row: Mapping[str, Any], name: str) -> str:
    """The text in a column, without blanks around it.

    Raises:
        ConfigError: it is empty or no text.
    """
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{where}: {name} = {value!r}: expected a text that is not empty.")
    return value.strip()
