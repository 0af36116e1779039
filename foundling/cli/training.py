"""The verbs that train."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foundling.cli.app import Json, Out, Resume, Set, app, report_json, say
from foundling.stages import Entry, Option, find_stages

if TYPE_CHECKING:
    from foundling.stages.job import Stage


Config = Annotated[Path | None, typer.Argument(help="A TOML file; without one the defaults hold.")]
Sweep = Annotated[
    str | None, typer.Option("--sweep", help="Run once for each value.", metavar="KEY=VALUE,...")
]


def _add_verb(entry: Entry) -> None:
    """Make a verb of a stage; its options follow from its entry in the table of stages."""

    def verb(**given: Any) -> None:
        _train(entry, **given)

    options = {_argument(option): option for option in entry.options}
    kinds: dict[str, Any] = {"out": Out, "config": Config}
    kinds |= {name: _annotation(option) for name, option in options.items()}
    kinds |= {"resume": Resume, **({"sweep": Sweep} if entry.sweeps else {})}
    kinds |= {"settings": Set, "as_json": Json}
    defaults = {"resume": False, "settings": [], "as_json": False}
    keyword = inspect.Parameter.KEYWORD_ONLY
    verb.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name,
                keyword,
                annotation=kind,
                default=inspect.Parameter.empty if name == "out" else defaults.get(name),
            )
            for name, kind in kinds.items()
        ]
    )
    verb.__annotations__ = kinds
    app.command(entry.name, help=entry.help)(verb)


def _argument(option: Option) -> str:
    return option.flag.removeprefix("--").replace("-", "_") + "_option"


def _annotation(option: Option) -> Any:
    kind = list[str] if option.many or option.is_path else option.type
    info = typer.Option(option.flag, help=option.help, metavar=option.metavar)
    return Annotated[kind | None, info]


def _train(
    entry: Entry,
    out: Path,
    config: Path | None,
    resume: bool,
    settings: list[str],
    as_json: bool,
    sweep: str | None = None,
    **given: Any,
) -> None:
    from foundling.base.config import ConfigError
    from foundling.stages.assembly import run_stage
    from foundling.stages.settings import settings_of_run

    if sweep is not None and resume and config is None:
        raise ConfigError("--sweep with --resume: give the same CONFIG and options again.")
    continues = resume and sweep is None
    parent = given.get("from_option")
    if entry.needs_config and config is None and not continues and not parent:
        raise ConfigError("CONFIG: give a TOML file, --from RUN or --resume.")
    values = settings_of_run(config, out, settings, resume=continues)
    if continues and parent:
        raise ConfigError("--resume: the run keeps the parent that it has; give no --from.")
    for option in entry.options:
        if found := given[_argument(option)]:
            option.put(values, found)
    stage = entry.load()
    parsed = stage.config.parse(values)
    if sweep is not None:
        _sweep(stage, parsed, out, sweep, resume, as_json)
        return
    run = run_stage(stage, parsed, out, resume=resume)
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

    table = Table(result["key"], "answer loss", "KL", "pretraining bits/byte", "step")
    for column in table.columns[1:]:
        column.justify = "right"

    def figure(value: float | None) -> str:
        return "–" if value is None else f"{value:.4f}"

    for row in result["rows"]:
        key = "pretraining_bits_per_byte"
        kept = f"{figure(row['before'][key])} → {figure(row[key])}"
        table.add_row(
            row["value"], figure(row["loss_nats"]), figure(row["kl_nats"]), kept, str(row["step"])
        )
    Console(stderr=True).print(table)


for _entry in find_stages().values():
    _add_verb(_entry)


@app.command()
def ladder(
    data: Annotated[Path, typer.Option(help="A folder that `data prepare` wrote.", metavar="DIR")],
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

    values = overridden(load_toml(config) if config is not None else {}, settings)
    overrides: dict[str, list[str]] = {}
    for item in rung_settings or []:
        rung, colon, assignment = item.partition(":")
        if not colon or rung not in RUNGS:
            raise ConfigError(
                f"--set-rung {item}: expected one of {', '.join(RUNGS)}, then :KEY=VALUE"
            )
        overrides.setdefault(rung, []).append(assignment)
    parsed = PretrainConfig.parse({**values, "data": str(data.resolve())})
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
