"""The verb that learns a task in two ways."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from foundling.cli.app import Json, Out, Set, app, numbers, report_json, say


@app.command()
def adapt(
    run: Annotated[
        str, typer.Argument(help="A run, a checkpoint, a model folder, or hub:owner/name.")
    ],
    task: Annotated[Path, typer.Option(help="Labelled examples to learn from.", metavar="FILE")],
    out: Out,
    test: Annotated[
        Path | None,
        typer.Option(help="The test items; without it some of --task.", metavar="FILE"),
    ] = None,
    text: Annotated[str | None, typer.Option(help="The column of the text.")] = None,
    answer: Annotated[str | None, typer.Option(help="The column of the answer.")] = None,
    columns: Annotated[
        str | None,
        typer.Option(help="Names of the columns of a file without a header.", metavar="NAME,..."),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(help=r"Of a .txt file's lines: (?P<label>\w+) (?P<text>.*)", metavar="REGEX"),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Words for the answers.", metavar="0=negative,...")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(help=r"How an example reads. Default: {text}\nAnswer: {answer}"),
    ] = None,
    limit: Annotated[int, typer.Option(help="The most test items.")] = 200,
    seeds: Annotated[int, typer.Option(help="Draws and orders of the examples.")] = 3,
    shots: Annotated[
        str | None, typer.Option(help="Examples in the prompt.", metavar="0,1,2,...")
    ] = None,
    sizes: Annotated[
        str | None, typer.Option(help="Examples to fine-tune on.", metavar="8,32,...")
    ] = None,
    keep_runs: Annotated[bool, typer.Option(help="Keep the runs of fine-tuning.")] = False,
    settings: Set = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> None:
    """Learn a task from the prompt and by fine-tuning: one curve, and where they cross.

    The same command again goes on with what --out does not hold yet.
    """
    from foundling.base.config import override
    from foundling.evaluation.tasks import Columns, Template, parse_labels, read_task
    from foundling.experiments import adapt as adapting
    from foundling.training.interrupt import Interrupted

    values = override({"seeds": seeds}, settings)
    for name, given in (("shots", shots), ("sizes", sizes)):
        if given is not None:
            values[name] = numbers(name, given)
    config = adapting.AdaptConfig.parse(values)
    found = read_task(
        task,
        test,
        columns=Columns(text, answer, _names(columns), pattern),
        labels=parse_labels(labels) if labels is not None else None,
        template=Template() if template is None else Template(template.replace("\\n", "\n")),
        limit=limit,
        seed=config.seed,
    )
    try:
        report = adapting.adapt(run, found, config, out, keep_runs=keep_runs)
    except (Interrupted, KeyboardInterrupt):
        say("interrupted; what was measured is saved. The same command again goes on.")
        raise typer.Exit(130) from None
    result = adapting.read_adapt(out)
    _table(result)
    for sentence in result["verdict"]:
        say(sentence)
    say(f"report: {report}")
    report_json(result, as_json)


def _names(columns: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in columns.split(",")) if columns is not None else ()


def _table(result: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from foundling.statistics.learning_curve import WAYS

    table = Table("learned", "examples", "accuracy", "95% interval", "seeds")
    for column in table.columns[1:]:
        column.justify = "right"
    for way, points in result["curves"].items():
        for place, point in enumerate(points):
            table.add_row(
                "" if place else WAYS[way],
                f"{point['number']:,}",
                f"{point['mean']:.1%}",
                f"{point['low']:.1%} – {point['high']:.1%}",
                str(point["num_seeds"]),
                end_section=place == len(points) - 1,
            )
    Console(stderr=True).print(table)
