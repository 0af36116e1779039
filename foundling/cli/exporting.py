"""The verb that exports models to other tools."""

from pathlib import Path
from typing import Annotated

import typer

from foundling.cli.app import Json, app, report_json, say


@app.command("export")
def export(
    source: Annotated[
        str,
        typer.Argument(
            help="A run, a checkpoint, a model folder, or hub:owner/name.", metavar="RUN"
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The file (gguf) or folder to write.")],
    format: Annotated[
        str, typer.Option(help="gguf (llama.cpp), ollama (GGUF and a Modelfile) or hf.")
    ] = "gguf",
    type: Annotated[
        str | None,
        typer.Option(help="Of the weights in GGUF: f32, f16, bf16, q8_0 (default) or q4_0."),
    ] = None,
    name: Annotated[str, typer.Option(help="What the model is called; default: its folder.")] = "",
    licence: Annotated[
        str,
        typer.Option(
            help="Its licence, such as apache-2.0; default: what its parent's card says. "
            "With hf it replaces the README.md of a folder."
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Export a model with its tokenizer and chat template: GGUF, Ollama, or Hugging Face."""
    from foundling.base.config import ConfigError

    formats = ("gguf", "ollama", "hf")
    if format not in formats:
        raise ConfigError(f"--format {format}: no such format ({', '.join(formats)}).")
    if format == "hf":
        from foundling.runs.published import export_folder

        if type is not None:
            raise ConfigError("--type: only GGUF has types of weights; leave it out.")
        export_folder(source, out, name=name, licence=licence)
    elif format == "ollama":
        from foundling.runs.ollama import export_ollama

        export_ollama(source, out, type or "q8_0", name=name, licence=licence)
    else:
        from foundling.runs.gguf import export_gguf

        export_gguf(source, out, type or "q8_0", name=name, licence=licence)
    size = (
        out.stat().st_size
        if out.is_file()
        else sum(p.stat().st_size for p in out.rglob("*") if p.is_file())
    )
    say(f"model: {out} ({size / 1e6:,.0f} MB)")
    report_json({"out": str(out), "format": format, "num_bytes": size}, as_json)
