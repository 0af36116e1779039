"""The verbs that use and list trained models."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from foundling.base.shorthand import Shorthand
from foundling.cli.app import Json, app, read_stdin, report_json, say
from foundling.cli.engine_flags import engine_flags, engine_settings
from foundling.cli.shorthands import with_shorthands


@app.command()
@with_shorthands(engine_flags())
def generate(
    run: Annotated[
        str, typer.Argument(help="A run, a checkpoint, a model folder, or hub:owner/name.")
    ],
    prompt: Annotated[str, typer.Option(help="The text to continue; - reads standard input.")] = "",
    max_tokens: Annotated[
        int | None,
        typer.Option(help="Most tokens to write; default: what the context holds."),
    ] = None,
    temperature: Annotated[float, typer.Option(help="0 takes the most likely token.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Draw from the k most likely tokens.")] = None,
    top_p: Annotated[
        float | None,
        typer.Option(help="Draw from the most likely tokens that hold this probability."),
    ] = None,
    min_p: Annotated[
        float | None,
        typer.Option(help="Drop tokens below this share of the most likely one."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.")] = 0,
    stop: Annotated[
        list[str] | None, typer.Option(help="Stop before this text, repeatable.")
    ] = None,
    slide: Annotated[bool, typer.Option(help="Continue past a full context: reread half.")] = False,
    num_samples: Annotated[int, typer.Option(min=1, help="Texts to write, seeds counting up.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    *,
    given: Mapping[Shorthand, Any],
    as_json: Json = False,
) -> None:
    """Continue a text, streaming."""
    if prompt == "-":
        prompt = read_stdin()
    from foundling.generation.opening import open_engine
    from foundling.generation.sampling import Sampling

    settings = engine_settings(given).model_copy(update={"queue_size": num_samples})
    engine = open_engine(run, device=device, settings=settings)
    filters = {"top_k": top_k, "top_p": top_p, "min_p": min_p}
    streams = []
    for number in range(num_samples):  # they are written side by side, and shown one by one
        sampling = Sampling.parse({"temperature": temperature, "seed": seed + number, **filters})
        request = engine.request(
            prompt, max_tokens=max_tokens, sampling=sampling, stop=stop or (), slide=slide
        )
        streams.append(engine.submit(request))
    samples = []
    for number, chunks in enumerate(streams):
        pieces, last = [], None
        if not as_json:
            print(prompt, end="", flush=True)
        for chunk in chunks:
            pieces.append(chunk.text)
            last = chunk
            if not as_json:
                print(chunk.text, end="", flush=True)
        if not as_json:
            print()
        assert last is not None
        sample = {"seed": seed + number, "text": "".join(pieces), "finish": last.finish}
        samples.append({**sample, "num_tokens": last.num_tokens})
    report_json({"prompt": prompt, "samples": samples}, as_json)


@app.command()
def runs(
    folder: Annotated[Path, typer.Argument(help="A folder of runs.")], as_json: Json = False
) -> None:
    """List the runs of a folder with their last figures."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from foundling.base.config import ConfigError
    from foundling.runs.records import in_words
    from foundling.runs.run import find_runs

    found = find_runs(folder)
    if not found:
        raise ConfigError(f"{folder}: holds no run.")
    rows = []
    for run in found:
        try:
            rows.append({"run": str(run.folder.relative_to(folder)), **run.summary()})
        except (ConfigError, OSError, KeyError) as error:
            say(f"warning: {run.folder}: cannot be read: {error}")
    names = ("run", "rung", "size", "steps", "nats", "bits/byte", "guard")
    table = Table(*names, box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    for column in table.columns[1:-1]:  # a narrow terminal breaks the others
        column.no_wrap = True
    table.columns[0].overflow = "fold"
    for row in rows:
        best, bits = row["best_loss_nats"], row["bits_per_byte"]
        table.add_row(
            row["run"],
            row["rung"],
            f"{row['num_parameters'] / 1e6:.2f}M",
            f"{row['step']:,}/{row['steps']:,}",
            "–" if best is None else f"{best:.4f}",
            "–" if bits is None else f"{bits:.4f}",
            in_words(row["guard"]).replace(", ", "\n") or "–",
        )
    Console(stderr=as_json).print(table)
    report_json({"runs": rows}, as_json)


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run or a ladder folder.")]) -> None:
    """Write the report.html of a run or a ladder again."""
    from foundling.reports.ladder_report import write_ladder_report
    from foundling.reports.run_report import write_run_report

    is_ladder = (run / "ladder.json").is_file()
    print(write_ladder_report(run) if is_ladder else write_run_report(run))
