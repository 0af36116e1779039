"""The command line: one verb a command, which builds the parts and wires them."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from foundling import __version__

# Everything heavy is imported inside the verbs: `--help` answers at once.

app = typer.Typer(
    name="foundling",
    help="Raise a language model: prepare text, pretrain, compare rungs, generate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Text in, token shards out.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Json = Annotated[bool, typer.Option("--json", help="End standard output with one JSON object.")]
Set = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, repeatable.")
]
DataDir = Annotated[
    Path | None, typer.Option("--data", help="A folder that `data prepare` wrote.", metavar="DIR")
]
Out = Annotated[Path, typer.Option("--out", help="The folder to write.", metavar="DIR")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where the run in --out stopped.")]


def main() -> NoReturn:
    """Run a verb; faults of the input are one line and exit code 2, never a traceback."""
    sys.exit(_exit_code(app))


def _exit_code(run: Callable[[], object]) -> int:
    from foundling.config import ConfigError

    try:
        run()
    except SystemExit as stop:
        return int(stop.code or 0)
    except ConfigError as error:
        _say(f"error: {error}")
        return 2
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        _say(f"error: {error.filename or 'a file'}: {error.strerror or error}.")
        return 2
    except KeyboardInterrupt:
        _say("interrupted.")
        return 130
    except Exception as error:
        # Imported only now: the loop imports torch, and only its verbs can raise these.
        from foundling.training.interrupt import Interrupted
        from foundling.training.rewind import TrainingStopped

        if isinstance(error, Interrupted):
            _say("interrupted; everything is saved. Go on with --resume.")
            return 130
        if isinstance(error, TrainingStopped):
            _say(f"training stopped itself: {error}")
            return 3
        raise
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _report(values: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(values, ensure_ascii=False))


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"foundling {__version__}")
        raise typer.Exit


@data_app.command("prepare")
def data_prepare(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Text files, .jsonl or .parquet (.gz, .zst), folders, globs, hub:owner/name."
        ),
    ],
    out: Out,
    tokenizer: Annotated[
        str, typer.Option(help="bytes (byte-level BPE), characters, or a tokenizer.json.")
    ] = "bytes",
    vocab_size: Annotated[
        int | None, typer.Option(help="Tokens of a new BPE, specials included (default 8192).")
    ] = None,
    text_field: Annotated[str, typer.Option(help="The field of .jsonl and .parquet.")] = "text",
    separator: Annotated[
        str | None, typer.Option(help="Splits a text file into documents; default: one a file.")
    ] = None,
    validation: Annotated[
        list[str] | None, typer.Option(help="Inputs of the validation split, repeatable.")
    ] = None,
    validation_fraction: Annotated[
        float | None, typer.Option(help="Share of documents for validation (default 0.01).")
    ] = None,
    validation_tail: Annotated[
        float | None, typer.Option(help="The last share of each file for validation.")
    ] = None,
    on_error: Annotated[
        Literal["stop", "skip"], typer.Option(help="What to do with a broken document.")
    ] = "stop",
    licence: Annotated[str | None, typer.Option(help="A note for the manifest.")] = None,
    seed: Annotated[int, typer.Option(help="Of the split by fraction.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace what --out holds.")] = False,
    as_json: Json = False,
) -> None:
    """Turn text into a tokenizer and memory-mapped token shards."""
    from foundling.config import ConfigError
    from foundling.data.prepare import prepare
    from foundling.data.progress import rich_progress

    if vocab_size is not None and tokenizer != "bytes":
        raise ConfigError(f"--vocab-size: the tokenizer {tokenizer} has its own size.")

    with rich_progress() as progress:
        report = prepare(
            inputs,
            out,
            tokenizer=tokenizer,
            vocab_size=vocab_size or 8192,
            text_field=text_field,
            separator=separator,
            validation=validation or (),
            validation_fraction=validation_fraction,
            validation_tail=validation_tail,
            on_error=on_error,
            licence=licence,
            seed=seed,
            overwrite=overwrite,
            progress=progress,
        )
    values = report.values()
    for split in ("train", "validation"):
        counts = values[split]
        _say(
            f"{split}: {counts['documents']:,} documents, {counts['tokens']:,} tokens, "
            f"{counts['bytes']:,} bytes"
        )
    dropped = [f"{values['duplicates']:,} duplicates dropped"]
    dropped += [f"{count:,} skipped ({reason})" for reason, count in values["skipped"].items()]
    dropped += [f"{count:,} files ignored ({what})" for what, count in values["ignored"].items()]
    _say("; ".join(dropped))
    _say(f"{out}: {values['seconds']:.1f} s, {values['megabytes_per_second']:.1f} MB/s")
    for folder in values["leftovers"]:
        _say(f"a stopped run left {folder}, which may be deleted")
    _report(values, as_json)


@data_app.command("verify")
def data_verify(
    folder: Annotated[Path, typer.Argument(help="A folder that `data prepare` wrote.")],
) -> None:
    """Read every file of a token store and compare it with its hash."""
    from foundling.data.store import TokenStore

    TokenStore.open(folder).verify()
    print(f"{folder}: whole")


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
    from foundling.stage import PretrainConfig, pretrain

    parsed = PretrainConfig.parse(_settings(config, data, out, resume, settings))
    run = pretrain(parsed, out, resume=resume)
    _say(f"done: {run.folder / 'report.html'}")
    _say(f"next: foundling generate {out} --prompt TEXT")
    _report({"run": str(out), **run.summary()}, as_json)


def _settings(
    config: Path | None, data: Path | None, out: Path, resume: bool, settings: list[str]
) -> dict[str, Any]:
    """The values of a run's config file with the options of the command line."""
    from foundling.config import ConfigError, load_toml, override

    saved = out / "config.toml"
    if resume:
        if config is not None:
            raise ConfigError("--resume goes on with the run's own settings; give no CONFIG.")
        if not saved.is_file():
            raise ConfigError(f"{out}: not a run, so there is nothing to resume.")
        config = saved
    elif config is None:
        raise ConfigError("CONFIG: give a TOML file, or --resume to go on with a run.")
    values = override(load_toml(config), settings)
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
    from foundling.config import ConfigError, load_toml, override
    from foundling.ladder import climb, read_ladder
    from foundling.models import RUNGS
    from foundling.stage import PretrainConfig

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
    _say(f"report: {report}")
    _report(result, as_json)


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
def generate(
    run: Annotated[
        str, typer.Argument(help="A run, a checkpoint, a model folder, or hub:owner/name.")
    ],
    prompt: Annotated[str, typer.Option(help="The text to continue; - reads standard input.")] = "",
    max_tokens: Annotated[
        int | None, typer.Option(help="Default: as many as the context holds.")
    ] = None,
    temperature: Annotated[float, typer.Option(help="0 takes the most likely token.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Draw from the k most likely.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw from this share.")] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Drop what is less likely than this share of the best.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.")] = 0,
    stop: Annotated[
        list[str] | None, typer.Option(help="End before this text, repeatable.")
    ] = None,
    slide: Annotated[bool, typer.Option(help="Go on past the context by rereading half.")] = False,
    num_samples: Annotated[int, typer.Option(min=1, help="Texts to write, seeds counting up.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
    as_json: Json = False,
) -> None:
    """Continue a text, streaming."""
    from foundling.generation.engine import Engine
    from foundling.generation.sampling import Sampling
    from foundling.run import load_model
    from foundling.runtime import pick_device

    if prompt == "-":
        prompt = sys.stdin.read()
    model, tokenizer = load_model(run, _say)
    engine = Engine(model.to(pick_device(device)), tokenizer)
    filters = {"top_k": top_k, "top_p": top_p, "min_p": min_p}
    samples = []
    for number in range(num_samples):
        sampling = Sampling.parse({"temperature": temperature, "seed": seed + number, **filters})
        chunks = engine.stream(
            prompt, max_tokens=max_tokens, sampling=sampling, stop=stop or (), slide=slide
        )
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
    _report({"prompt": prompt, "samples": samples}, as_json)


@app.command()
def runs(
    folder: Annotated[Path, typer.Argument(help="A folder of runs.")], as_json: Json = False
) -> None:
    """List the runs of a folder with their last figures."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from foundling.config import ConfigError
    from foundling.records import in_words
    from foundling.run import find_runs

    found = find_runs(folder)
    if not found:
        raise ConfigError(f"{folder}: holds no run.")
    rows = []
    for run in found:
        try:
            rows.append({"run": str(run.folder.relative_to(folder)), **run.summary()})
        except (ConfigError, OSError, KeyError) as error:
            _say(f"warning: {run.folder}: cannot be read: {error}")
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
    _report({"runs": rows}, as_json)


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run or a ladder folder.")]) -> None:
    """Write a run's or a ladder's report.html anew."""
    from foundling.evaluation.report import write_ladder_report, write_run_report

    is_ladder = (run / "ladder.json").is_file()
    print(write_ladder_report(run) if is_ladder else write_run_report(run))


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR")] = Path("demo"),
    as_json: Json = False,
) -> None:
    """Raise a small model in the village of Hamlet, from text to report."""
    from foundling.demo import raise_in_hamlet

    _report(raise_in_hamlet(out, _say), as_json)


if __name__ == "__main__":
    main()
