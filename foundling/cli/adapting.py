"""The verb that learns a task in two ways."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from foundling.base.shorthand import Shorthand, names
from foundling.cli.app import Config, Json, Out, Set, app, numbers, report_json, say, settings_of
from foundling.cli.shorthands import settings_by, with_shorthands

SHORTHANDS = (
    Shorthand("--task", "task.file", "Labelled examples to learn from.", "FILE"),
    Shorthand("--test", "task.test", "The test items; without it some of --task.", "FILE"),
    Shorthand("--text", "task.text", "The column of the text.", "NAME"),
    Shorthand("--answer", "task.answer", "The column of the answer.", "NAME"),
    Shorthand(
        "--columns", "task.columns", "Names of the columns of a file without a header.",
        "NAME,...", read=names,
    ),
    Shorthand(
        "--pattern", "task.pattern", r"Pattern of a .txt file's lines: (?P<label>\w+) (?P<text>.*)",
        "REGEX",
    ),
    Shorthand("--labels", "task.labels", "Words for the answers.", "0=negative,..."),
    Shorthand(
        "--template", "task.templates",
        r"How an example of the task reads, which is no chat template (default: "
        r"{text}\nAnswer: {answer}). Give several: the best one on examples to learn from is "
        "taken.",
        "TEXT", list[str], read=lambda flag, texts: [text.replace("\\n", "\n") for text in texts],
    ),
    Shorthand(
        "--chat/--no-chat", "chat",
        "Examples are turns of the model's own chat template (default: plain text).", kind=bool,
    ),
    Shorthand("--limit", "task.limit", "The most test items.", "N", int),
    Shorthand("--seeds", "seeds", "Draws and orders of the examples.", "N", int),
    Shorthand("--shots", "shots", "Examples in the prompt.", "0,1,2,...", read=numbers),
    Shorthand("--sizes", "sizes", "Examples to fine-tune on.", "8,32,...", read=numbers),
)  # fmt: skip


@app.command()
@with_shorthands(SHORTHANDS)
def adapt(
    run: Annotated[
        str, typer.Argument(help="A run, a checkpoint, a model folder, or hub:owner/name.")
    ],
    out: Out,
    config: Config = None,
    *,
    given: Mapping[Shorthand, Any],
    settings: Set = [],  # noqa: B006 - typer copies it
    keep_runs: Annotated[bool, typer.Option(help="Keep the runs of fine-tuning.")] = False,
    as_json: Json = False,
) -> None:
    """Learn a task from the prompt and by fine-tuning: one curve, and where they cross.

    The same command again measures what --out does not hold yet.
    """
    from foundling.experiments import adapt as adapting
    from foundling.training.interrupt import Interrupted

    values = settings_of(config, settings_by(given), settings)
    parsed, task, templates = adapting.parse_adapt(values)
    try:
        report = adapting.adapt(run, task, parsed, out, templates=templates, keep_runs=keep_runs)
    except (Interrupted, KeyboardInterrupt):
        say("interrupted; what was measured is saved. The same command resumes it.")
        raise typer.Exit(130) from None
    result = adapting.read_adapt(out)
    _table(result)
    for sentence in result["verdict"]:
        say(sentence)
    say(f"report: {report}")
    report_json(result, as_json)


def _table(result: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from foundling.statistics.learning_curve import WAYS

    table = Table("learned", "examples", "accuracy", "95% interval", "seeds")
    for column in table.columns[1:]:
        column.justify = "right"
    for way, points in result["curves"].items():
        for index, point in enumerate(points):
            table.add_row(
                "" if index else WAYS[way],
                f"{point['number']:,}",
                f"{point['mean']:.1%}",
                f"{point['low']:.1%} – {point['high']:.1%}",
                str(point["num_seeds"]),
                end_section=index == len(points) - 1,
            )
    Console(stderr=True).print(table)
