"""The verbs about adapters: out to other tools, and folded into plain models."""

from pathlib import Path
from typing import Annotated

import typer

from foundling.cli.app import Out, Program, app, say

adapter_app = Program(help="Low-rank adapters, in and out.", no_args_is_help=True)
app.add_typer(adapter_app, name="adapter")


@adapter_app.command("export")
def adapter_export(
    run: Annotated[Path, typer.Argument(help="A run that trained an adapter.")], out: Out
) -> None:
    """Write a run's adapter in the layout of the peft library."""
    from foundling.runs.run import Run
    from foundling.stages.adapter_folders import export_adapter

    export_adapter(Run.open(run), out)
    say(f"adapter: {out}")


@adapter_app.command("merge")
def adapter_merge(
    base: Annotated[
        str, typer.Argument(help="A run, a checkpoint, a model folder, or hub:owner/name.")
    ],
    adapter: Annotated[Path, typer.Argument(help="A folder in the layout of peft.")],
    out: Out,
) -> None:
    """Fold an adapter into its base: a plain model that every tool opens."""
    from foundling.stages.adapter_folders import merge_adapter

    merge_adapter(base, adapter, out)
    say(f"model: {out}")
