"""The option that names the columns of files."""

from typing import Annotated

import typer

Columns = Annotated[
    str,
    typer.Option(
        help="Which column is which, as in prompt=question,completion=reply.",
        metavar="OURS=THEIRS,...",
    ),
]
