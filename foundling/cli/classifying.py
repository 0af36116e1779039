"""The verb that trains a classifier of offensive text."""

from pathlib import Path
from typing import Annotated

import typer

from foundling.cli.app import Json, Out, Program, app, report_json, say
from foundling.cli.evaluating import DATA_ROOT

classifier_app = Program(
    help="Classifiers of offensive text, for the probe of toxicity.", no_args_is_help=True
)
app.add_typer(classifier_app, name="classifier")


@classifier_app.command()
def train(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Tables of text and label.")
    ],
    out: Out,
    hatecheck: Annotated[
        Path | None,
        typer.Option(
            help="HateCheck's test cases, to measure the classifier's error; "
            "default: risk/hatecheck.csv of the data root, if it is there.",
            metavar="FILE",
        ),
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option(envvar=DATA_ROOT, metavar="DIR", help="A folder with benchmark files."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a classifier of offensive text, measure its errors, and write both."""
    from foundling.evaluation.probes.toxicity.validation import train_classifier

    if hatecheck is None and data_root is not None:
        found = data_root / "risk" / "hatecheck.csv"
        hatecheck = found if found.is_file() else None
    errors = train_classifier(files, out, hatecheck)
    say(f"classifier: {out}. Use it with: foundling evaluate RUN --classifier {out}")
    report_json(errors, as_json)
