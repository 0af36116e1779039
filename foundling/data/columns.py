"""The columns of files by the names that the user gives them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from foundling.base.config import ConfigError, suggest
from foundling.data.readers.fields import Row


def parse_columns(given: Any) -> Any:
    """The file's name of each column by the format's, where they are given as one text.

    >>> parse_columns("prompt=q, completion=reply")
    {'prompt': 'q', 'completion': 'reply'}

    Raises:
        ConfigError: a part is no OURS=THEIRS.
    """
    if not isinstance(given, str):
        return given
    columns = {}
    for part in filter(None, given.split(",")):
        ours, equals, theirs = (text.strip() for text in part.partition("="))
        if not (ours and equals and theirs):
            raise ConfigError(f'columns "{given}": expected OURS=THEIRS, as in prompt=question.')
        columns[ours] = theirs
    return columns


Columns = Annotated[dict[str, str], BeforeValidator(parse_columns)]


def renaming(rows: Iterable[Row], columns: Mapping[str, str]) -> Callable[[Row], Row]:
    """Gives a row's columns the names that the user says they have in the format.

    Raises:
        ConfigError: none of `rows` has one of these columns.
    """
    known = list(dict.fromkeys(name for _, row in rows for name in row))
    for ours, theirs in columns.items():
        if theirs not in known:
            raise ConfigError(
                f'columns: {ours} = "{theirs}": no such column {suggest(theirs, known)}'
            )

    def renamed(row: Row) -> Row:
        where, values = row
        if not columns:
            return row
        others = {n: v for n, v in values.items() if n not in (*columns, *columns.values())}
        return where, {ours: values.get(theirs) for ours, theirs in columns.items()} | others

    return renamed
