"""The verb that says what a run will take before it starts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from foundling.cli.app import Json, Set, app, report_json

Option = typer.Option


@app.command()
def plan(
    config: Annotated[Path, typer.Argument(help="The TOML file of the run.", metavar="CONFIG")],
    gpus: Annotated[int, Option("--gpus", help="How many, in all machines.", min=1)] = 1,
    memory: Annotated[
        str | None, Option(help="Of each GPU; default: as --gpu has.", metavar="80GB")
    ] = None,
    gpu: Annotated[
        str | None, Option(help="a100, b200, h100, h200, l4, l40s, mi300x or rtx4090.")
    ] = None,
    stage: Annotated[str, Option(help="pretrain, sft or dpo.")] = "pretrain",
    parent: Annotated[
        str | None, Option("--from", help="The model to start from.", metavar="RUN")
    ] = None,
    data: Annotated[
        str | None, Option(help="What to pretrain on; tells the vocabulary.", metavar="DIR")
    ] = None,
    vocab_size: Annotated[
        int | None, Option(help="Of the tokenizer, where no data tell it.", min=1)
    ] = None,
    supervised: Annotated[
        float, Option(help="The share of positions that are learned.", min=0.001, max=1)
    ] = 1.0,
    tokens: Annotated[
        str | None, Option(help="That the run reads; default: its steps.", metavar="300B")
    ] = None,
    price: Annotated[float | None, Option(help="Of a GPU for an hour.", min=0.0001)] = None,
    budget: Annotated[float | None, Option(help="What may be spent.", min=0.01)] = None,
    utilisation: Annotated[
        float, Option(help="The share of the peak rate that is reached.", min=0.001, max=1)
    ] = 0.4,
    gpus_per_machine: Annotated[int, Option(help="For hybrid sharding.", min=1)] = 8,
    reserve: Annotated[
        float, Option(help="The share of memory that is kept free.", min=0, max=0.9)
    ] = 0.1,
    settings: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Say what a run will take: memory of each GPU, work, time and cost."""
    from foundling.base.config import ConfigError, load_toml
    from foundling.planning import cost
    from foundling.planning.plan import Means, plan
    from foundling.planning.subject import STAGES as PLANNED
    from foundling.planning.subject import subject_of
    from foundling.stages import STAGES
    from foundling.stages.settings import overridden

    if stage not in PLANNED:
        raise ConfigError(f"--stage {stage}: only {', '.join(PLANNED)} can be planned.")
    values = load_toml(config)
    flags = {"parent": parent, "data": data}
    if data is not None and stage != "pretrain":
        raise ConfigError("--data: only pretraining reads the vocabulary from its data.")
    given = {name: value for name, value in flags.items() if value is not None}
    config_class = STAGES[stage].load().config
    parsed = config_class.parse(overridden(overridden(values, given), settings))
    means = Means(
        gpus=gpus,
        per_machine=gpus_per_machine,
        gpu=None if gpu is None else cost.gpu_of(gpu),
        memory=None if memory is None else cost.read_bytes(memory),
        utilisation=utilisation,
        price=price,
        reserve=reserve,
    )
    found = plan(
        subject_of(parsed, vocab_size, supervised),
        means,
        tokens=None if tokens is None else cost.read_count(tokens, "--tokens"),
        budget=budget,
    )
    _show(found)
    report_json(found, as_json)


def _show(found: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True, highlight=False, width=120, soft_wrap=True)
    console.print(
        f"{found['parameters']:,} parameters, {found['precision']}; a step of "
        f"{found['tokens_a_step']:,} tokens on {found['gpus']:,} GPUs: {found['rows_a_gpu']:,} "
        f"rows of {found['tokens_a_row']:,} each, {found['micro_batch_size']:,} at a time"
    )
    names = list(found["layouts"][0]["bytes"])
    shown = [name for name in names if any(row["bytes"][name] for row in found["layouts"])]
    table = Table("shard", "recompute", *shown, "GB in all", "fits", "most rows", box=None)
    for column in table.columns[2:]:
        column.justify = "right"
    for row in found["layouts"]:
        fits = {None: "–", True: "yes", False: "no"}[row["fits"]]
        most = row["largest_micro_batch"]
        table.add_row(
            row["shard"] if row["shards"] == 1 else f"{row['shard']} ({row['shards']})",
            "yes" if row["checkpoint_activations"] else "no",
            *(_gb(row["bytes"][name]) for name in shown),
            _gb(row["total_bytes"]),
            fits,
            "–" if most is None else f"{most:,}",
        )
    console.print(table)
    lines = (_samples(found["layouts"]), _work(found["work"], found["gpus"]))
    for line in (*lines[0], *lines[1], *_best(found["best_sizes"])):
        console.print(line)


def _samples(layouts: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    """What a validation needs to write samples, where that does not fit."""
    most = {row["shards"]: row["samples_bytes"] for row in layouts if row["samples_fit"] is False}
    if not most:
        return []
    sizes = ", ".join(f"{_gb(size)} GB with {shards} shards" for shards, size in most.items())
    return [
        f"samples do not fit: a validation that writes some gathers the model on every GPU ({sizes}"
        "); set validation.prompts = [], and validation.kl_prompts = 0 where there is one"
    ]


def _work(work: Mapping[str, Any], gpus: int) -> Sequence[str]:
    lines = [f"{work['flops_a_token']:.3g} FLOP a token"]
    if work["flops"] is not None:
        lines[0] += f", {work['flops']:.3g} FLOP for {work['tokens']:.3g} tokens"
    else:
        lines.append("no time and no cost: the size of the data decides; give --tokens")
    if "tokens_a_day" in work:
        line = f"at {work['utilisation']:.0%} of the peak: {work['tokens_a_day']:.3g} tokens a day"
        if "days" in work:
            line += f", {work['days']:.3g} days, {work['gpu_hours']:,.0f} GPU hours"
        if "cost" in work:
            line += f", a cost of {work['cost']:,.0f}"
        lines.append(line)
    return lines


def _best(best: Mapping[str, Any] | None) -> Sequence[str]:
    if best is None:
        return []
    lines = [f"the lowest loss for {best['flops']:.3g} FLOP:"]
    for rule in best["rules"]:
        ratio = rule["tokens"] / rule["parameters"]
        lines.append(
            f"  {rule['parameters']:.3g} parameters on {rule['tokens']:.3g} tokens "
            f"({ratio:.0f} each), {rule['loss_nats']:.2f} nats ({rule['source']})"
        )
    return [*lines, f"  (which assumes {best['assumes']})"]


def _gb(size: float) -> str:
    return f"{size / 1e9:,.2f}"
