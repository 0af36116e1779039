"""The verb that imports other tools' models."""

from pathlib import Path
from typing import Annotated

import typer

from foundling.cli.app import Json, Out, app, report_json, say


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A checkpoint of llama2.c, version 0.")],
    tokenizer: Annotated[
        Path, typer.Option(help="Its tokenizer.bin.", metavar="FILE", show_default=False)
    ],
    out: Out,
    as_json: Json = False,
) -> None:
    """Import a checkpoint of llama2.c as a model folder, which every verb opens."""
    from foundling.runs.llama2c import import_model

    model = import_model(file, tokenizer, out)
    sizes = {
        "num_parameters": model.num_parameters(),
        "vocab_size": model.vocab_size,
        "context": model.max_context,
    }
    say(f"model: {out} ({sizes['num_parameters']:,} parameters)")
    report_json({"out": str(out), **sizes}, as_json)
