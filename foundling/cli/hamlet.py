"""`data hamlet`: write the embedded world's text, instructions and prompts to files."""

from pathlib import Path
from typing import Annotated

import typer

from foundling.cli.app import Json, data_app, report_json, say


@data_app.command("hamlet")
def data_hamlet(
    out: Annotated[Path, typer.Argument(help="The folder to write.", metavar="DIR")],
    megabytes: Annotated[float, typer.Option(min=0, help="Megabytes of text; 0 writes none.")] = 6,
    instructions: Annotated[
        int, typer.Option(min=0, help="Training conversations; a tenth as many for validation.")
    ] = 6000,
    gruff: Annotated[
        float, typer.Option(min=0, max=1, help="Share of conversations with rude answers.")
    ] = 0,
    prompts: Annotated[int, typer.Option(min=0, help="Prompts to collect preferences on.")] = 400,
    held_out_prompts: Annotated[
        int, typer.Option(min=0, help="Prompts about other facts, to compare models on.")
    ] = 200,
    village: Annotated[int, typer.Option(help="Seed of the village and its facts.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the texts and questions about it.")] = 7,
    overwrite: Annotated[bool, typer.Option(help="Replace existing files.")] = False,
    as_json: Json = False,
) -> None:
    """Write the embedded world: text, instructions and prompts of a made-up village."""
    from foundling import hamlet
    from foundling.base.config import ConfigError

    world = hamlet.World(village)
    written = {
        "text.jsonl": megabytes > 0,
        "instructions.jsonl": instructions > 0,
        "instructions-validation.jsonl": instructions > 0,
        "prompts.jsonl": prompts > 0,
        "prompts-held-out.jsonl": held_out_prompts > 0,
    }
    files = [out / name for name, wanted in written.items() if wanted]
    if not files:
        raise ConfigError("nothing to write; give --megabytes, --instructions or --prompts.")
    there = [file for file in files if file.exists()]
    if there and not overwrite:
        raise ConfigError(f"{there[0]}: exists already; give another folder, or --overwrite.")
    out.mkdir(parents=True, exist_ok=True)
    try:
        if prompts:
            hamlet.write_prompts(out / "prompts.jsonl", prompts, seed, "collecting", world)
        if held_out_prompts:
            file = out / "prompts-held-out.jsonl"
            hamlet.write_prompts(file, held_out_prompts, seed, "held_out", world)
        if megabytes:
            hamlet.write_corpus(out / "text.jsonl", round(megabytes * 1e6), seed, world=world)
        if instructions:
            file = out / "instructions.jsonl"
            hamlet.write_instructions(file, instructions, seed, "train", world, gruff)
            file, count = out / "instructions-validation.jsonl", max(1, instructions // 10)
            hamlet.write_instructions(file, count, seed, "validation", world, gruff)
    except ValueError as error:
        raise ConfigError(f"{error}; ask for fewer.") from None
    for file in files:
        say(f"{file}")
    report_json({"village": village, "files": [str(file) for file in files]}, as_json)
