"""The verb that measures models and lays them side by side."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foundling.cli.app import Json, app, numbers, report_json, say

if TYPE_CHECKING:
    from foundling.evaluation.evaluate import Watch
    from foundling.evaluation.probes import Probe

DATA_ROOT = "FOUNDLING_DATA_ROOT"
Files = list[Path] | None
READ_BY = {
    "--text": ("language_modelling",),
    "--task": ("in_context",),
    "--classifier": ("toxicity",),
    "--lexicon": ("toxicity",),
    "--prompts": ("toxicity", "refusal"),
}


@app.command()
def evaluate(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN...", help="Runs, checkpoints, model folders, or hub:owner/name."
        ),
    ] = None,
    probes: Annotated[
        str | None,
        typer.Option(help="What to measure, as common_sense,bias,my_probe.py.  [default: all]"),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="The folder to write; answers there are not asked again.")
    ] = Path("evaluation"),
    limit: Annotated[
        int | None, typer.Option(min=1, help="The most items of any one set.", metavar="N")
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option(
            envvar=DATA_ROOT,
            metavar="DIR",
            help="A folder with benchmark files, such as bench/copa.jsonl, risk/truthfulqa.csv.",
        ),
    ] = None,
    task: Annotated[
        Files,
        typer.Option(
            help="A file or folder of examples to learn from in the prompt, repeatable.",
            metavar="PATH",
        ),
    ] = None,
    text: Annotated[
        Files, typer.Option(help="A text file to foretell, repeatable.", metavar="FILE")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="JSON lines of prompt and refuse (true, false).", metavar="FILE"),
    ] = None,
    lexicon: Annotated[
        Path | None, typer.Option(help="Offensive words, one a line.", metavar="FILE")
    ] = None,
    classifier: Annotated[
        Path | None, typer.Option(help="What --train-classifier wrote.", metavar="DIR")
    ] = None,
    lm_eval: Annotated[
        str | None,
        typer.Option(
            help="Tasks of lm-evaluation-harness too, as local_copa,hellaswag; "
            "needs the extra lm-eval.",
            metavar="TASKS",
        ),
    ] = None,
    lm_eval_shots: Annotated[
        int | None, typer.Option(min=0, help="Examples before each of their items.", metavar="N")
    ] = None,
    shots: Annotated[str, typer.Option(help="Numbers of examples in the prompt.")] = "0,1,2,4,8,16",
    draws: Annotated[int, typer.Option(min=1, help="Draws of the examples.")] = 3,
    num_samples: Annotated[
        int, typer.Option(min=1, help="Texts of each prompt, where they are sampled.")
    ] = 8,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 1,
    chat: Annotated[
        bool | None,
        typer.Option(
            "--chat/--no-chat",
            help="Ask in turns of a conversation, or in plain text.  [default: as tuned]",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, bf16 or auto.")] = "fp32",
    train_classifier: Annotated[
        Files,
        typer.Option(
            help="Train a classifier of offensive text on a file of text and label, repeatable, "
            "write it to --out, and end.",
            metavar="FILE",
        ),
    ] = None,
    hatecheck: Annotated[
        Path | None,
        typer.Option(
            help="HateCheck's test cases, to measure the classifier's error.", metavar="FILE"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure models by probes and lay them side by side."""
    from foundling.base.config import ConfigError

    if data_root is not None and not data_root.is_dir():
        raise ConfigError(f"--data-root {data_root}: no such folder.")
    if train_classifier:
        if runs:
            raise ConfigError("--train-classifier writes a classifier and ends: give no run.")
        _train_classifier(train_classifier, out, hatecheck, data_root, as_json)
        return
    if hatecheck is not None:
        raise ConfigError("--hatecheck measures what --train-classifier trains: give both.")
    if not runs:
        raise ConfigError("no run was given: foundling evaluate RUN...")
    from rich.console import Console

    from foundling.evaluation.evaluate import Reading
    from foundling.evaluation.evaluate import evaluate as measure
    from foundling.evaluation.probes import Setting
    from foundling.reports.evaluation_report import write_evaluation_report
    from foundling.reports.evaluation_table import headlines

    wanted = numbers("shots", shots)
    if min(wanted) < 0:
        raise ConfigError(f"--shots {shots}: expected numbers of examples, from 0.")
    chosen = _chosen(probes, lm_eval, lm_eval_shots, data_root)
    given = {
        "--text": text,
        "--task": task,
        "--classifier": classifier,
        "--lexicon": lexicon,
        "--prompts": prompts,
    }
    for option, readers in READ_BY.items():
        if given[option] and not {one.name for one in chosen} & set(readers):
            say(f"{option}: read by {' and '.join(readers)}, not among --probes.")
    setting = Setting(
        data_root=data_root,
        limit=limit,
        seed=seed,
        tasks=tuple(task or ()),
        texts=tuple(text or ()),
        classifier=classifier,
        lexicon=lexicon,
        prompts=prompts,
        num_samples=num_samples,
        shots=tuple(wanted),
        draws=draws,
    )
    try:
        with _bars() as watch:
            content = measure(
                runs, chosen, setting, out,
                reading=Reading(device, precision, chat), watch=watch,
            )  # fmt: skip
    except KeyboardInterrupt:
        say(f"interrupted; the answers are kept in {out}. The same command again goes on.")
        raise typer.Exit(130) from None
    report = write_evaluation_report(content, out, "Evaluation")
    table = headlines(content)
    if table.row_count:
        Console(stderr=True).print(table)
    else:
        say("no headline figure; the report says what was not measured, and why.")
    say(f"report: {report}")
    report_json(content, as_json)


def _chosen(
    probes: str | None, lm_eval: str | None, lm_eval_shots: int | None, data_root: Path | None
) -> list["Probe"]:
    from foundling.base.config import ConfigError
    from foundling.evaluation.probes.find import find_probes
    from foundling.evaluation.probes.lm_eval import LmEval

    if lm_eval is None and lm_eval_shots is not None:
        raise ConfigError("--lm-eval-shots is of the tasks that --lm-eval names: give both.")
    chosen = find_probes(None if probes is None else _names(probes))
    if lm_eval is None:
        return chosen
    from foundling.evaluation.lm_eval_adapter import find_tasks

    find_tasks(_names(lm_eval), data_root)  # hours before it is their turn
    return [*chosen, LmEval(_names(lm_eval), lm_eval_shots)]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _train_classifier(
    files: list[Path], out: Path, hatecheck: Path | None, data_root: Path | None, as_json: bool
) -> None:
    from foundling.evaluation.probes.toxicity.validation import train_classifier

    if hatecheck is None and data_root is not None:
        found = data_root / "risk" / "hatecheck.csv"
        hatecheck = found if found.is_file() else None
    errors = train_classifier(files, out, hatecheck)
    say(f"classifier: {out}. Use it with: foundling evaluate RUN --classifier {out}")
    report_json(errors, as_json)


@contextmanager
def _bars() -> Iterator["Watch"]:
    """A bar for each model and probe on standard error; a line where that is no terminal."""
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
