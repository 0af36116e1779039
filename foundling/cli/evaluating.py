"""The verb that measures models and lays them side by side."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foundling.base.shorthand import Shorthand, names
from foundling.cli.app import Config, Json, Set, app, numbers, report_json, say, settings_of
from foundling.cli.shorthands import with_shorthands

if TYPE_CHECKING:
    from foundling.evaluation.evaluate import Watch

DATA_ROOT = "FOUNDLING_DATA_ROOT"
SHORTHANDS = (
    Shorthand(
        "--probes", "probes", "What to measure, as common_sense,bias,my_probe.py (default: all).",
        "NAME,...", read=names,
    ),
    Shorthand("--limit", "limit", "The most items of any one set.", "N", int),
    Shorthand("--seed", "seed", "The seed of all random draws.", "N", int),
    Shorthand(
        "--data-root", "data_root",
        "A folder with benchmark files, such as bench/copa.jsonl, risk/truthfulqa.csv.",
        "DIR", envvar=DATA_ROOT,
    ),
    Shorthand("--device", "device", "cpu, cuda, or auto.", "NAME"),
    Shorthand("--precision", "precision", "fp32, bf16 or auto (default: fp32).", "NAME"),
    Shorthand(
        "--chat/--no-chat", "chat",
        "Ask by the chat template, or in plain text (default: as tuned).", kind=bool,
    ),
    Shorthand(
        "--template", "template",
        "The chat template: chatml, one of the model's by name, or a file (default: its own).",
        "NAME|FILE",
    ),
    Shorthand(
        "--begin-mark/--no-begin-mark", "begin_mark",
        "Put the begin mark before a text (default: as the tokenizer has it).", kind=bool,
    ),
    Shorthand(
        "--village/--no-village", "village",
        "Ask about the embedded village (default: models that have read of it).", kind=bool,
    ),
    Shorthand(
        "--only-task/--all-tasks", "in_context.only_tasks",
        "Learn in context the tasks of --task alone.", kind=bool,
    ),
    Shorthand(
        "--task", "in_context.tasks",
        "A file or folder of examples to learn from in the prompt, repeatable.",
        "PATH", list[str],
    ),
    Shorthand(
        "--shots", "in_context.shots", "Numbers of examples in the prompt, as 0,1,2,4.",
        "N,...", read=numbers,
    ),
    Shorthand("--draws", "in_context.draws", "Draws of the examples.", "N", int),
    Shorthand(
        "--text", "language_modelling.texts",
        "A file of text to compute perplexity on, repeatable.", "FILE", list[str],
    ),
    Shorthand(
        "--prompts", "toxicity.prompts refusal.prompts",
        "JSON lines of prompt and refuse (true, false).", "FILE",
    ),
    Shorthand("--lexicon", "toxicity.lexicon", "Offensive words, one a line.", "FILE"),
    Shorthand(
        "--classifier", "toxicity.classifier", "What `classifier train` wrote.", "DIR"
    ),
    Shorthand(
        "--num-samples", "toxicity.num_samples consistency.num_samples",
        "Samples of each prompt.", "N", int,
    ),
    Shorthand(
        "--lm-eval", "lm_eval.tasks",
        "Tasks of lm-evaluation-harness too, as local_copa,hellaswag; needs the extra lm-eval.",
        "TASKS", read=names,
    ),
    Shorthand("--lm-eval-shots", "lm_eval.shots", "Examples before each of their items.", "N", int),
)  # fmt: skip


@app.command()
@with_shorthands(SHORTHANDS)
def evaluate(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN...", help="Runs, checkpoints, model folders, or hub:owner/name."
        ),
    ] = None,
    config: Config = None,
    *,
    given: Mapping[Shorthand, Any],
    settings: Set = [],  # noqa: B006 - typer copies it
    out: Annotated[
        Path, typer.Option(help="The folder to write; answers there are not asked again.")
    ] = Path("evaluation"),
    as_json: Json = False,
) -> None:
    """Measure models by probes and lay them side by side."""
    from rich.console import Console

    from foundling.evaluation.evaluate import evaluate as measure
    from foundling.evaluation.evaluate import parse_evaluation
    from foundling.reports.evaluation_differences import differences
    from foundling.reports.evaluation_report import write_evaluation_report
    from foundling.reports.evaluation_table import headlines

    named = settings_of(config, _flags(given, None), settings).get("probes")
    parsed, probes = parse_evaluation(settings_of(config, _flags(given, named), settings))
    try:
        with _bars() as watch:
            content = measure(runs or [], probes, parsed, out, watch=watch)
    except KeyboardInterrupt:
        say(f"interrupted; the answers are kept in {out}. The same command resumes it.")
        raise typer.Exit(130) from None
    report = write_evaluation_report(content, out, "Evaluation")
    table = headlines(content)
    if table.row_count:
        Console(stderr=True).print(table)
        if len(content["subjects"]) > 1:
            Console(stderr=True).print(differences(content))
    else:
        say("no headline figure; the report says what was not measured, and why.")
    say(f"report: {report}")
    report_json(content, as_json)


def _flags(given: Mapping[Shorthand, Any], named: Any) -> dict[str, Any]:
    """The settings of all flags; a flag that no chosen probe reads is reported."""
    from foundling.evaluation.probes import PROBES

    left_out = {probe.name for probe in PROBES} - set(named) if isinstance(named, list) else set()
    flags: dict[str, Any] = {}
    for flag, value in given.items():
        settings = flag.settings(value)
        readers = [key.partition(".")[0] for key in settings]
        if left_out.issuperset(readers):
            say(f"{flag.flag}: read by {' and '.join(readers)}, not among --probes.")
        flags |= {
            key: one for key, one in settings.items() if key.partition(".")[0] not in left_out
        }
    return flags


@contextmanager
def _bars() -> Iterator["Watch"]:
    """A progress bar per model and probe; a plain line where standard error is no terminal."""
    from rich import progress as bar
    from rich.console import Console

    columns = (
        bar.TextColumn("{task.description}"),
        bar.BarColumn(),
        bar.MofNCompleteColumn(),
        bar.TimeElapsedColumn(),
    )
    tasks: dict[str, Any] = {}
    totals: dict[str, int] = {}
    console = Console(stderr=True)
    with bar.Progress(*columns, console=console, disable=not console.is_terminal) as bars:

        def watch(what: str, asked: int, answered: int) -> None:
            if what not in tasks:
                if not console.is_terminal:
                    say(f"{what} …")
                tasks[what], totals[what] = bars.add_task(what, total=None), 0
            totals[what] += asked
            bars.update(tasks[what], total=totals[what] or None, advance=answered)

        yield watch
