"""The verbs that train."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foundling.base.process import world_size
from foundling.base.shorthand import Shorthand, absolute
from foundling.cli import launching
from foundling.cli.app import Json, Out, Resume, Set, SharedVerb, app, report_json, say
from foundling.cli.shorthands import settings_by, with_shorthands
from foundling.stages import PARENT, STAGES, Entry, find_stages

if TYPE_CHECKING:
    from foundling.stages.job import Stage

logger = logging.getLogger(__name__)

Config = Annotated[Path | None, typer.Argument(help="A TOML file; without one the defaults hold.")]
Sweep = Annotated[
    str | None, typer.Option("--sweep", help="Run once for each value.", metavar="KEY=VALUE,...")
]
Processes = Annotated[
    int | None,
    typer.Option("--nproc", min=1, help="Train in N processes of this machine.", metavar="N"),
]
Restarts = Annotated[
    int,
    typer.Option(
        "--max-restarts", min=0, help="How often --nproc starts them again after a crash."
    ),
]
ResumeIfExists = Annotated[
    bool,
    typer.Option(
        "--resume-if-exists",
        help="Resume the run in --out, or in its checkpoint.store, if there is one; else start it.",
    ),
]


def _train(
    entry: Entry,
    out: Out,
    config: Config = None,
    *,
    given: Mapping[Shorthand, Any],
    resume: Resume = False,
    resume_if_exists: ResumeIfExists = False,
    sweep: Sweep = None,
    nproc: Processes = None,
    max_restarts: Restarts = 0,
    settings: Set = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> None:
    from foundling.base import ranks
    from foundling.base.config import ConfigError
    from foundling.runs.run import is_run, require_free
    from foundling.stages.assembly import run_stage
    from foundling.stages.resuming import found_run, require_store
    from foundling.stages.settings import settings_of_run

    if sweep is not None and resume and config is None:
        raise ConfigError("--sweep with --resume: give the same CONFIG and options again.")
    if max_restarts and nproc is None:
        raise ConfigError("--max-restarts: give --nproc N, the processes that it starts again.")
    if sweep is not None and (nproc is not None or world_size() > 1):
        raise ConfigError("--sweep: trains in one process; run each value by itself with --nproc.")
    if ":/" in str(out):
        raise ConfigError(
            f"--out {out}: a run lies in a folder; give one, and a place for its copy by "
            "--set checkpoint.store=URL."
        )
    if resume_if_exists and (resume or sweep is not None):
        raise ConfigError("--resume-if-exists: give it without --resume and --sweep.")
    continues = resume and sweep is None
    if continues and PARENT in given:
        raise ConfigError("--resume: the run keeps the parent that it has; give no --from.")
    if continues and config is not None:
        raise ConfigError("--resume keeps the run's own settings; give no CONFIG.")
    again = resume_if_exists or (launching.restarted() and sweep is None)
    if again or (continues and not is_run(out)):
        asked = settings_of_run(config, out, settings_by(given), settings)
        continues = resume = found_run(out, asked) or resume
    if entry.needs_config and config is None and not continues and PARENT not in given:
        raise ConfigError("CONFIG: give a TOML file, --from RUN or --resume.")
    values = settings_of_run(config, out, settings_by(given), settings, resume=continues)
    stage = entry.load()
    parsed = stage.config.parse(values)
    if nproc is not None and not launching.is_launched():
        if not resume:
            require_free(out)
            require_store(parsed.checkpoint.store, out, resume=False)
        raise typer.Exit(launching.launch(nproc, max_restarts))
    if sweep is not None:
        _sweep(stage, parsed, out, sweep, resume, as_json)
        return
    run = run_stage(stage, parsed, out, resume=resume)
    if not ranks.is_first():
        return
    say(f"done: {run.folder / 'report.html'}")
    say(f"next: foundling {entry.next.format(out=out)}")
    report_json({"run": str(out), **run.summary()}, as_json)


def _sweep(
    stage: "Stage[Any, Any]", config: Any, out: Path, sweep: str, resume: bool, as_json: bool
) -> None:
    from foundling.experiments import sweep as sweeps

    key, values = sweeps.parse_sweep(sweep)
    report = sweeps.sweep(stage, config, out, key, values, resume=resume)
    result = sweeps.read_sweep(out)
    _sweep_table(result)
    say(f"report: {report}")
    report_json(result, as_json)


def _sweep_table(result: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    kept = {
        "pretraining_bits_per_byte": "pretraining bits/byte",
        "parent_answers_loss_nats": "parent's own answers",
    }
    first = result["rows"][0]["before"]
    kept = {key: name for key, name in kept.items() if first.get(key) is not None}
    table = Table(result["key"], "answer loss", "KL", *kept.values(), "step")
    for column in table.columns[1:]:
        column.justify = "right"

    def figure(value: float | None) -> str:
        return "–" if value is None else f"{value:.4f}"

    for row in result["rows"]:
        changes = [f"{figure(row['before'][key])} → {figure(row[key])}" for key in kept]
        figures = (figure(row["loss_nats"]), figure(row["kl_nats"]), *changes)
        table.add_row(row["value"], *figures, str(row["step"]))
    Console(stderr=True).print(table)


def _add_verb(entry: Entry) -> None:
    verb = partial(_train, entry)  # its flags follow from the table of stages
    without = () if entry.sweeps else ("sweep",)
    app.command(entry.name, help=entry.help, cls=SharedVerb)(
        with_shorthands(entry.options, without)(verb)
    )


for _entry in STAGES.values():
    _add_verb(_entry)


def add_package_verbs() -> None:
    """Make verbs of the stages of installed packages, once all others are there."""
    added = [entry for name, entry in find_stages().items() if name not in STAGES]
    taken = typer.main.get_group(app).commands if added else {}
    for entry in added:
        if entry.name in taken:
            logger.warning(
                f'{entry.point.value}: ignored: a verb named "{entry.name}" exists already.'
            )
        else:
            _add_verb(entry)


@app.command()
def ladder(
    data: Annotated[
        str,
        typer.Option(help="A folder that `data prepare` wrote, or a mixture.", metavar="DIR|FILE"),
    ],
    out: Out,
    config: Annotated[
        Path | None, typer.Argument(help="A TOML file of the run that all rungs share.")
    ] = None,
    resume: Resume = False,
    settings: Set = [],  # noqa: B006
    rung_settings: Annotated[
        list[str] | None,
        typer.Option("--set-rung", metavar="RUNG:KEY=VALUE", help="Set for one rung alone."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train the five rungs on the same data: one table, and the loss by position."""
    from foundling.base.config import ConfigError, load_toml
    from foundling.experiments.ladder import climb, read_ladder
    from foundling.models import RUNGS
    from foundling.stages.pretrain import PretrainConfig
    from foundling.stages.settings import overridden

    values = {} if config is None else load_toml(config)
    values = overridden({**values, "data": absolute("--data", data)}, settings)
    overrides: dict[str, list[str]] = {}
    for item in rung_settings or []:
        rung, colon, assignment = item.partition(":")
        if not colon or rung not in RUNGS:
            raise ConfigError(
                f"--set-rung {item}: expected one of {', '.join(RUNGS)}, then :KEY=VALUE"
            )
        overrides.setdefault(rung, []).append(assignment)
    parsed = PretrainConfig.parse(values)
    report = climb(parsed, out, overrides=overrides, resume=resume)
    result = read_ladder(out)
    _ladder_table(result)
    say(f"report: {report}")
    report_json(result, as_json)


def _ladder_table(result: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("rung", "parameters", "bits per byte", "nats per token", "tokens/s")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in result["rows"]:
        bits = row["bits_per_byte"]
        table.add_row(
            row["rung"],
            f"{row['parameters']:,}",
            "–" if bits is None else f"{bits:.4f}",
            f"{row['loss_nats']:.4f}",
            f"{row['tokens_per_second']:,.0f}",
        )
    Console(stderr=True).print(table)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR")] = Path("demo"),
    full: Annotated[bool, typer.Option("--full", help="Train longer and ask more.")] = False,
    as_json: Json = False,
) -> None:
    """Train small models on the embedded village, from text to report."""
    from foundling.experiments.demo import raise_in_hamlet
    from foundling.experiments.demo.size import FULL, SHORT

    report_json(raise_in_hamlet(out, FULL if full else SHORT), as_json)
