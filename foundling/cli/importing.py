"""The verb that imports other tools' models."""

from pathlib import Path
from typing import Annotated

import typer

from foundling.cli.app import Json, Out, app, report_json, say


@app.command("import")
def import_(
    source: Annotated[
        str,
        typer.Argument(
            help="A GGUF file, a checkpoint of llama2.c (version 0), or hub:owner/name[@revision].",
            metavar="FILE|hub:NAME",
        ),
    ],
    out: Out,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="The tokenizer.bin of a llama2.c checkpoint.", metavar="FILE"),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="What the weights of a GGUF file become: fp32 (default), bf16 or fp16."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Import a model as a model folder, which every verb opens."""
    from foundling.base.config import ConfigError
    from foundling.models import interchange, skeleton

    is_hub, file = source.startswith("hub:"), Path(source)
    is_gguf = not is_hub and (file.suffix == ".gguf" or _begins(file, b"GGUF"))
    if weights is not None and not is_gguf:
        raise ConfigError("--weights: only what a GGUF file holds is made into other weights.")
    if tokenizer is not None and (is_hub or is_gguf):
        raise ConfigError(f"--tokenizer: {source} brings its own.")
    if is_hub:
        from foundling.runs.hub import import_hub

        import_hub(source, out)
    elif is_gguf:
        from foundling.runs.gguf import import_gguf

        import_gguf(file, out, weights or "fp32")
    else:
        from foundling.runs.llama2c import import_model

        if tokenizer is None:
            raise ConfigError(f"{source}: give the --tokenizer of a checkpoint of llama2.c.")
        import_model(file, tokenizer, out)
    model = skeleton(interchange.read_config(out)[1])
    sizes = {
        "num_parameters": model.num_parameters(),
        "vocab_size": model.vocab_size,
        "context": model.max_context,
    }
    say(f"model: {out} ({sizes['num_parameters']:,} parameters)")
    report_json({"out": str(out), **sizes}, as_json)


def _begins(file: Path, mark: bytes) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(mark)) == mark
