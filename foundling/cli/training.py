"""The verbs that train."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from foundling.cli.app import DataDir, From, Json, Out, Resume, Set, app, report_json, say


@app.command()
def pretrain(
    out: Out,
    config: Annotated[
        Path | None, typer.Argument(help="A TOML file; not needed with --resume.")
    ] = None,
    data: DataDir = None,
    resume: Resume = False,
    settings: Set = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> None:
    """Pretrain a model: the cross-entropy of the next token."""
    from foundling.stages.pretrain import PretrainConfig, pretrain

    parsed = PretrainConfig.parse(_settings(config, data, out, resume, settings))
    run = pretrain(parsed, out, resume=resume)
    say(f"done: {run.folder / 'report.html'}")
    say(f"next: foundling generate {out} --prompt TEXT")
    report_json({"run": str(out), **run.summary()}, as_json)


@app.command()
def sft(
    out: Out,
    config: Annotated[
        Path | None, typer.Argument(help="A TOML file; without one the defaults hold.")
    ] = None,
    parent: From = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="Conversations to learn from, repeatable.", metavar="FILE"),
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="Of the data; default: told by its columns.")
    ] = None,
    on_error: Annotated[
        Literal["stop", "skip"] | None, typer.Option(help="What to do with a broken row.")
    ] = None,
    resume: Resume = False,
    sweep: Annotated[
        str | None,
        typer.Option("--sweep", help="Tune once for each value.", metavar="KEY=VALUE,..."),
    ] = None,
    settings: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Tune a model on instructions, held near its parent by λ · KL."""
    from foundling.base.config import ConfigError
    from foundling.experiments import sweep as sweeps
    from foundling.stages.sft import sft as tune
    from foundling.stages.sft_config import SftConfig

    if sweep is not None and resume and config is None:
        raise ConfigError("--sweep with --resume: give the same CONFIG and options again.")
    values = _settings(config, None, out, resume and sweep is None, settings, required=False)
    if parent is not None:
        if resume and sweep is None:
            raise ConfigError("--resume goes on from the parent that the run has; give no --from.")
        values["parent"] = _absolute(parent)
    if data:
        values.setdefault("data", {})["files"] = [_absolute(file) for file in data]
    for name, given in (("format", format), ("on_error", on_error)):
        if given is not None:
            values.setdefault("data", {})[name] = given
    parsed = SftConfig.parse(values)
    if sweep is not None:
        key, listed = sweeps.parse_sweep(sweep)
        report = sweeps.sweep(parsed, out, key, listed, resume=resume)
        result = sweeps.read_sweep(out)
        _sweep_table(result)
        say(f"report: {report}")
        report_json(result, as_json)
        return
    run = tune(parsed, out, resume=resume)
    say(f"done: {run.folder / 'report.html'}")
    say(f"next: foundling chat {out}")
    report_json({"run": str(out), **run.summary()}, as_json)


@app.command()
def dpo(
    out: Out,
    config: Annotated[
        Path | None, typer.Argument(help="A TOML file; without one the defaults hold.")
    ] = None,
    parent: From = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="Preferences to learn from, repeatable.", metavar="FILE"),
    ] = None,
    resume: Resume = False,
    settings: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Tune a model on preferences: chosen answers gain on rejected ones."""
    from foundling.base.config import ConfigError
    from foundling.stages.dpo import dpo as tune
    from foundling.stages.dpo_config import DpoConfig

    values = _settings(config, None, out, resume, settings, required=False)
    if parent is not None:
        if resume:
            raise ConfigError("--resume goes on from the parent that the run has; give no --from.")
        values["parent"] = _absolute(parent)
    if data:
        values.setdefault("data", {})["files"] = [_absolute(file) for file in data]
    run = tune(DpoConfig.parse(values), out, resume=resume)
    say(f"done: {run.folder / 'report.html'}")
    say(f"next: foundling chat {out}")
    report_json({"run": str(out), **run.summary()}, as_json)


def _absolute(name: str) -> str:
    """A path that means the same wherever the run is resumed; what is no path stays as it is."""
    path = Path(name)
    return str(path.resolve()) if path.exists() else name


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


def _settings(
    config: Path | None,
    data: Path | None,
    out: Path,
    resume: bool,
    settings: list[str],
    *,
    required: bool = True,
) -> dict[str, Any]:
    """The values of a run's config file with the options of the command line."""
    from foundling.base.config import ConfigError, load_toml, override

    saved = out / "config.toml"
    if resume:
        if config is not None:
            raise ConfigError("--resume goes on with the run's own settings; give no CONFIG.")
        if not saved.is_file():
            raise ConfigError(f"{out}: not a run, so there is nothing to resume.")
        config = saved
    elif config is None and required:
        raise ConfigError("CONFIG: give a TOML file, or --resume to go on with a run.")
    values = override({} if config is None else load_toml(config), settings)
    if data is not None:
        values["data"] = str(data.resolve())
    return values


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
    from foundling.base.config import ConfigError, load_toml, override
    from foundling.experiments.ladder import climb, read_ladder
    from foundling.models import RUNGS
    from foundling.stages.pretrain import PretrainConfig

    values = override(load_toml(config) if config is not None else {}, settings)
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
    as_json: Json = False,
) -> None:
    """Raise a small model in the village of Hamlet, from text to report."""
    from foundling.experiments.demo import raise_in_hamlet

    report_json(raise_in_hamlet(out), as_json)
