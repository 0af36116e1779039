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
            "size); a URL will do for DIR; or the file of a mixture to look at.",
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
        mixture = Mixture(MixtureSettings.parse({"sources": _sources(sources)}))
    if out is not None and out.suffix not in FILES:
        raise ConfigError(f"--out {out}: must end in {' or '.join(FILES)}.")
    if tokens is None:
        tokens = sum(store.manifest.train.num_tokens for store in mixture.stores.values())
    if not 1 < context <= tokens:
        raise ConfigError(f"--tokens {tokens}, --context {context}: must hold one row at least.")
    plan = MixturePlan.of(mixture, tokens // context, context)
    if out is not None:
        with durable.fresh(out) as partial:
            partial.write_text(_written(mixture.settings.values(), out), "utf-8")
    _show(plan)
    for warning in plan.warnings:
        say(f"warning: {warning}")
    if out is not None:
        say(f"next: foundling pretrain --data {out} --out RUN")
    report_json(plan.values(), as_json)


def _sources(texts: list[str]) -> list[dict[str, Any]]:
    """Each DIR=WEIGHT or DIR, or a URL instead."""
    from foundling.base.config import ConfigError
    from foundling.base.object_store import is_url

    weighed = [_weighed(text) for text in texts]
    parts = [
        tuple(filter(None, (data if is_url(data) else os.path.abspath(data)).split("/")))
        for data, _ in weighed
    ]
    sources = []
    for (data, weight), own in zip(weighed, parts, strict=True):
        if parts.count(own) > 1:
            raise ConfigError(f"{data}: is given twice; give it once.")
        source: dict[str, Any] = {"data": data, "name": _name(own, parts)}
        sources.append(source if weight is None else {**source, "weight": weight})
    return sources


def _weighed(text: str) -> tuple[str, float | None]:
    """The place and its weight; a folder may have an equals sign in its name."""
    from foundling.base.config import ConfigError

    data, equals, weight = text.rpartition("=")
    if not equals or Path(text).is_dir():
        return text, None
    try:
        return data, float(weight)
    except ValueError:
        raise ConfigError(f"{text}: expected DIR=WEIGHT, such as stores/news=0.7.") from None


def _name(own: tuple[str, ...], all_parts: list[tuple[str, ...]]) -> str:
    """The last part of a place, after as many before it as tell it from all others."""
    for count in range(1, len(own)):
        if [parts[-count:] for parts in all_parts].count(own[-count:]) == 1:
            return "/".join(own[-count:])
    return "/".join(own)


def _written(values: dict[str, Any], out: Path) -> str:
    """A mixture's file; its folders as seen from there."""
    import json

    from foundling.base.config import dump_toml
    from foundling.base.object_store import is_url

    sources = [{k: v for k, v in source.items() if v is not None} for source in values["sources"]]
    for source in sources:
        if not is_url(source["data"]):
            source["data"] = os.path.relpath(source["data"], out.parent)
    if out.suffix == ".json":
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
