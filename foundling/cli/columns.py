"""The option that names the columns of files."""

from typing import Annotated

import typer

Columns = Annotated[
    str,
    typer.Option(
        help="Which column is which, such as prompt=instruction,completion=reply.",
        metavar="OURS=THEIRS,...",
    ),
]


def parse_columns(given: str) -> dict[str, str]:
    """The file's name of each column by the format's.

    Raises:
        ConfigError: a part is no OURS=THEIRS.
    """
    from foundling.base.config import ConfigError

    columns = {}
    for part in filter(None, given.split(",")):
        ours, equals, theirs = (text.strip() for text in part.partition("="))
        if not (ours and equals and theirs):
            raise ConfigError(f"--columns {given}: expected prompt=instruction,... pairs.")
        columns[ours] = theirs
    return columns
