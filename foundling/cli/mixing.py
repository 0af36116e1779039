"""The verb `data mix`: a mixture of token stores as a file, and what a training takes of each."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foundling.cli.app import Json, data_app, report_json, say

if TYPE_CHECKING:
    from foundling.data.mixture_plan import MixturePlan


@data_app.command("mix")
def data_mix(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Token stores, each with its weight (DIR=0.7) or all without one (by their "
            "size); or the file of a mixture to look at.",
            metavar="DIR=WEIGHT...|FILE",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Write the mixture here, as .toml or .json.", metavar="FILE"),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(help="Tokens of the training to plan (default: as many as all sources hold)."),
    ] = None,
    context: Annotated[int, typer.Option(help="Tokens in a row of the training.")] = 256,
    as_json: Json = False,
) -> None:
    """Mix token stores by weight, and show the tokens and epochs that are taken of each."""
    from foundling.base import durable
    from foundling.base.config import ConfigError
    from foundling.data.mixture import FILES, Mixture, MixtureSettings
    from foundling.data.mixture_plan import MixturePlan

    if len(sources) == 1 and sources[0].endswith(FILES):
        if out is not None:
            raise ConfigError(f"--out {out}: {sources[0]} is a mixture's file already.")
        mixture = Mixture.open(sources[0])
    else:
        folder = Path() if out is None else out.parent
        given = [_source(text, folder) for text in sources]
        mixture = Mixture(MixtureSettings.parse({"sources": given}), folder)
    if out is not None:
        if out.suffix not in FILES:
            raise ConfigError(f"--out {out}: must end in {' or '.join(FILES)}.")
        durable.replace(out, _written(mixture.settings.values(), out.suffix).encode())
    if tokens is None:
        tokens = sum(store.manifest.train.num_tokens for store in mixture.stores.values())
    if not 1 < context <= tokens:
        raise ConfigError(f"--tokens {tokens}, --context {context}: must hold one row at least.")
    plan = MixturePlan.of(mixture, tokens // context, context)
    _show(plan)
    for warning in plan.warnings:
        say(f"warning: {warning}")
    if out is not None:
        say(f"next: foundling pretrain --data {out} --out RUN")
    report_json(plan.values(), as_json)


def _source(text: str, folder: Path) -> dict[str, Any]:
    """DIR=WEIGHT or DIR; the folder as seen from that of the file."""
    from foundling.base.config import ConfigError

    data, equals, weight = text.rpartition("=")
    if not equals:
        data = text
    source: dict[str, Any] = {"data": os.path.relpath(data, folder), "name": Path(data).name}
    if equals:
        try:
            source["weight"] = float(weight)
        except ValueError:
            raise ConfigError(f"{text}: expected DIR=WEIGHT, such as stores/news=0.7.") from None
    return source


def _written(values: dict[str, Any], suffix: str) -> str:
    import json

    from foundling.base.config import dump_toml

    sources = [{k: v for k, v in source.items() if v is not None} for source in values["sources"]]
    if suffix == ".json":
        return json.dumps({"sources": sources}, indent=2, ensure_ascii=False) + "\n"
    return "\n".join("[[sources]]\n" + dump_toml(source) for source in sources)


def _show(plan: "MixturePlan") -> None:
    from rich.console import Console
    from rich.table import Table

    staged = len(plan.stages) > 1 or plan.stages[0].length is not None
    table = Table("source", "tokens", "weight", "tokens taken", "epochs", show_footer=True)
    for column in table.columns[1:]:
        column.justify = "right"
    for stage in plan.stages if staged else ():
        length = "" if stage.length is None else f", pieces of {stage.length:,}"
        table.add_section()
        table.add_row(f"until {stage.until:.4g}{length}", style="bold")
        for part in stage.sources:
            first, last = (f"{weight:.2%}" for weight in part.weight)
            weight = first if first == last else f"{first} → {last}"
            table.add_row(part.name, "", weight, f"{part.taken:,}", f"{part.epochs:.2f}")
    if staged:
        table.add_section()
        table.add_row("in all", style="bold")
    for part in plan.sources:
        share = f"{part.taken / plan.tokens:.2%}"
        table.add_row(part.name, f"{part.held:,}", share, f"{part.taken:,}", f"{part.epochs:.2f}")
    table.columns[3].footer = f"{plan.tokens:,}"
    Console(stderr=True).print(table)
