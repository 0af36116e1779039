"""The verbs about data: prepare, crawl, verify, preview."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from foundling.cli.app import Config, Json, Out, Set, data_app, report_json, say, settings_of
from foundling.cli.columns import Columns


@data_app.command("prepare")
def data_prepare(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Text (.txt, .md), rows (.jsonl, .json, .csv, .tsv, .parquet), either as .gz or "
            ".zst too; folders, globs, - (standard input), hub:owner/name."
        ),
    ],
    out: Out,
    tokenizer: Annotated[
        str,
        typer.Option(
            help="bytes (train a byte-level BPE), characters, or an existing one: a "
            "tokenizer.json, its folder, a token store, a run, a model folder, hub:owner/name."
        ),
    ] = "bytes",
    vocab_size: Annotated[
        int | None,
        typer.Option(help="Size of a new BPE vocabulary, special tokens included (default 8192)."),
    ] = None,
    text_field: Annotated[
        str, typer.Option(help="The field of a row that holds the text; doc.text is nested.")
    ] = "text",
    separator: Annotated[
        str | None,
        typer.Option(
            help=r"Splits text files into documents; \n, \r, \t, \f and \\ are read as escapes. "
            "Without it a file is one document."
        ),
    ] = None,
    newlines: Annotated[
        Literal["keep", "lf"], typer.Option(help="Keep line ends as they are, or make all LF.")
    ] = "keep",
    encoding: Annotated[
        str, typer.Option(help="Encoding of files without a byte order mark: latin-1, utf-16, ...")
    ] = "utf-8",
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
        Literal["stop", "skip"],
        typer.Option(
            help="Stop and list the files at fault, or skip and count what is unreadable."
        ),
    ] = "stop",
    licence: Annotated[str | None, typer.Option(help="A note for the manifest.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split by --validation-fraction.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace the token store in --out.")] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes that encode; 0: none but this one (default: one a core for files "
            "with much text). The result is the same.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn text into a tokenizer and memory-mapped token shards."""
    from foundling.base.config import ConfigError
    from foundling.data.prepare import VOCAB_SIZE, prepare
    from foundling.data.progress import rich_progress

    if vocab_size is not None and tokenizer != "bytes":
        raise ConfigError(
            f"--vocab-size {vocab_size}: the tokenizer {tokenizer} has a size of its own; leave "
            "the option out."
        )

    with rich_progress() as progress:
        report = prepare(
            inputs,
            out,
            tokenizer=tokenizer,
            vocab_size=VOCAB_SIZE if vocab_size is None else vocab_size,
            text_field=text_field,
            separator=None if separator is None else _unescaped(separator),
            encoding=encoding,
            newlines=newlines,
            validation=validation or (),
            validation_fraction=validation_fraction,
            validation_tail=validation_tail,
            on_error=on_error,
            licence=licence,
            seed=seed,
            overwrite=overwrite,
            workers=workers,
            progress=progress,
        )
    values = report.values()
    lossless = "lossless" if values["lossless"] else "lossy: no loss in bits per byte"
    say(f"tokenizer: {values['vocab_size']:,} tokens, {lossless}")
    for split in ("train", "validation"):
        counts = values[split]
        say(
            f"{split}: {counts['documents']:,} documents, {counts['tokens']:,} tokens, "
            f"{counts['bytes']:,} bytes"
        )
    dropped = [f"{values['duplicates']:,} duplicates dropped"]
    dropped += [f"{count:,} skipped ({reason})" for reason, count in values["skipped"].items()]
    dropped += [f"{count:,} files ignored ({what})" for what, count in values["ignored"].items()]
    say("; ".join(dropped))
    say(f"{out}: {values['seconds']:.1f} s, {values['megabytes_per_second']:.1f} MB/s")
    for folder in values["leftovers"]:
        say(f"a run that was killed left {folder}; it can be deleted")
    report_json(values, as_json)


def _unescaped(text: str) -> str:
    """Escapes as they are typed in a shell: the two characters \\n are one line feed."""
    escapes = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "\\": "\\"}
    return re.sub(r"\\([nrtf\\])", lambda found: escapes[found[1]], text)


@data_app.command("crawl")
def data_crawl(
    out: Out,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Web pages (.warc, .wet, .html) and documents (.jsonl), either as .gz or .zst "
            "too; folders, globs, URLs of object stores. Default: `inputs` of --config."
        ),
    ] = None,
    config: Config = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the crawl in --out, if there is one.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option(help="Delete the crawl in --out and start anew.")
    ] = False,
    settings: Set = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> None:
    """Turn web pages into documents and a token store: filtered, deduplicated, masked."""
    from foundling.data.crawl.crawl import crawl
    from foundling.data.crawl.settings import CrawlConfig
    from foundling.reports.crawl_report import write_crawl_report

    values = settings_of(config, {"inputs": inputs} if inputs else {}, settings)
    found = crawl(
        CrawlConfig.parse(values),
        out,
        resume=resume,
        overwrite=overwrite,
        write_page=write_crawl_report,
    )
    if found is None:
        say(f"submitted; when all jobs have ended, the report is {out / 'report.html'}")
        return
    for step in found["steps"]:
        say(f"{step['title']}: {step['removed']:,} of {step['documents']:,} removed")
    masked = ", ".join(
        f"{count:,} {name.replace('_', ' ')}" for name, count in found["personal_data"].items()
    )
    say(f"masked: {masked}")
    for fault in found["faults"]:
        say(f"warning: {fault}")
    say(f"documents: {found['documents']:,}, {found['characters']:,} characters")
    say(f"report: {out / 'report.html'}")
    report_json(found, as_json)


@data_app.command("verify")
def data_verify(
    folder: Annotated[Path, typer.Argument(help="A folder that `data prepare` wrote.")],
) -> None:
    """Check every file of a token store against its hash."""
    from foundling.data.store import TokenStore

    TokenStore.open(folder).verify()
    print(f"{folder}: whole")


@data_app.command("preview")
def data_preview(
    files: Annotated[list[str], typer.Argument(help="Files of conversations or preferences.")],
    parent: Annotated[
        str,
        typer.Option(
            "--from", help="The run, model or token store that the rows are to be learned from."
        ),
    ],
    rows: Annotated[
        str, typer.Option(help="Which rows, counted from 1: 1-3,7.", metavar="LIST")
    ] = "1-5",
    html: Annotated[
        Path | None, typer.Option(help="Write a page here too.", metavar="FILE")
    ] = None,
    format: Annotated[str, typer.Option(help="auto, or the name of a format.")] = "auto",
    columns: Columns = "",
    repair: Annotated[
        str, typer.Option(help="How to repair turns out of order.", metavar="merge,trim")
    ] = "",
    style: Annotated[
        Literal["chat", "plain"], typer.Option(help="The chat template, or plain text.")
    ] = "chat",
    template: Annotated[
        str | None,
        typer.Option(
            help="Another chat template than the model's own: chatml, foundling, or a file.",
            metavar="NAME|FILE",
        ),
    ] = None,
    special_tokens: Annotated[
        Literal["text", "parse"],
        typer.Option(help="What becomes of special tokens that plain text spells."),
    ] = "text",
    learn: Annotated[
        Literal["all", "last"], typer.Option(help="Learn all answers, or only the last one.")
    ] = "all",
    max_length: Annotated[
        int | None,
        typer.Option(help="The most tokens in an example (default: as many as the model reads)."),
    ] = None,
    on_long: Annotated[
        Literal["error", "drop", "truncate_prompt"],
        typer.Option(help="What to do with a longer one."),
    ] = "error",
    on_error: Annotated[
        Literal["stop", "skip"], typer.Option(help="What to do with a broken row.")
    ] = "stop",
    settings: Set = [],  # noqa: B006 - typer copies it
) -> None:
    """Show what sft, dpo and kto learn of conversations, token by token, before any training."""
    from rich.console import Console

    from foundling.base import durable
    from foundling.base.config import override
    from foundling.data import preview
    from foundling.stages.previewing import preview_of
    from foundling.stages.sft import SftConfig

    data = {
        "files": files,
        "format": format,
        "columns": columns,
        "repair": repair,
        "style": style,
        "template": template,
        "special_tokens": special_tokens,
        "learn": learn,
        "max_length": max_length,
        "on_long": on_long,
        "on_error": on_error,
    }
    config = SftConfig.parse(override({"parent": parent, "data": data}, settings))
    examples, tokenizer, notes = preview_of(config)
    shown = preview.preview_rows(examples, tokenizer, _indices(rows, len(examples)))
    for line in notes:
        say(line)
    Console().print(preview.terminal(shown))
    if html is not None:
        title = f"What is learned of {', '.join(Path(file).name for file in files)}"
        durable.replace(html, preview.html(shown, title=title, notes=notes).encode())
        say(f"page: {html}")


def _indices(text: str, count: int) -> list[int]:
    """1-3,7 is [0, 1, 2, 6]."""
    from foundling.base.config import ConfigError

    indices: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise ConfigError(f"--rows {text}: expected numbers and ranges, such as 1-3,7.")
        indices += range(int(first) - 1, min(int(last or first), count))
    if not indices or not all(0 <= index < count for index in indices):
        raise ConfigError(f"--rows {text}: there are rows 1 to {count}.")
    return indices
