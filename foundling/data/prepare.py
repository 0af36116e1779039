"""Raw text to a token store: split by document, deduplicated, in constant memory."""

import errno
import logging
import platform
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tokenizers

import foundling
from foundling.base.config import ConfigError
from foundling.base.process import cores
from foundling.data.document_split import SplitPlan
from foundling.data.encode import encode
from foundling.data.encoders import Encoder, EncoderProcesses, LocalEncoder
from foundling.data.manifest import TOKENIZER, Manifest, SourceEntry, SplitName
from foundling.data.progress import Progress, watched
from foundling.data.sources import Newlines, OnError, Sources
from foundling.data.store_writer import SHARD_TOKENS, StoreWriter
from foundling.data.text_sample import TextSample
from foundling.text.own_vocabularies import check_vocab_size
from foundling.text.tokenizer import Tokenizer

log = logging.getLogger(__name__)

VALIDATION_FRACTION = 0.01
VOCAB_SIZE = 8192
SAMPLE_BYTES = 200_000_000  # the most text that a tokenizer is trained on
MUCH_TEXT = 16_000_000  # bytes of input from which on processes of their own encode it


@dataclass(frozen=True)
class PrepareReport:
    """What was prepared and how fast; `megabytes_per_second` counts text, over all passes."""

    out: Path
    manifest: Manifest
    seconds: float
    leftovers: tuple[Path, ...]  # folders that killed runs left, which can be deleted

    @property
    def megabytes_per_second(self) -> float:
        num_bytes = sum(split.num_bytes for split in self.manifest.splits.values())
        return num_bytes / 1e6 / max(self.seconds, 1e-9)

    def values(self) -> dict[str, Any]:
        """The report in plain types, for `--json`."""
        manifest = self.manifest
        splits: dict[str, Any] = {
            name: {
                "documents": split.num_documents,
                "tokens": split.num_tokens,
                "bytes": split.num_bytes,
            }
            for name, split in manifest.splits.items()
        }
        return {
            "out": str(self.out),
            **splits,
            "vocab_size": manifest.vocab_size,
            "lossless": manifest.lossless,
            "files": len(manifest.sources) + len(manifest.validation_sources),
            "duplicates": manifest.duplicates,
            "skipped": manifest.skipped,
            "ignored": manifest.ignored,
            "licence": manifest.licence,
            "seconds": round(self.seconds, 3),
            "megabytes_per_second": round(self.megabytes_per_second, 3),
            "leftovers": [str(path) for path in self.leftovers],
        }


def prepare(
    inputs: Sequence[str | Path],
    out: Path | str,
    *,
    tokenizer: str = "bytes",
    vocab_size: int = VOCAB_SIZE,
    text_field: str = "text",
    separator: str | None = None,
    encoding: str = "utf-8",
    newlines: Newlines = "keep",
    validation: Sequence[str | Path] = (),
    validation_fraction: float | None = None,
    validation_tail: float | None = None,
    on_error: OnError = "stop",
    licence: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    workers: int | None = None,
    shard_tokens: int = SHARD_TOKENS,
    progress: Progress | None = None,
) -> PrepareReport:
    """Write the documents of `inputs` as tokens to the new folder `out`.

    Args:
        inputs, text_field, separator, encoding, newlines: as `Sources` reads them.
        tokenizer: "bytes" or "characters" to train one on this text, or the path of one: a file,
            a folder, a token store, a run, `hub:owner/name`.
        validation: inputs of the validation split. In their place, `validation_fraction` (0.01
            by default) takes documents by a hash of their text and `seed`, and `validation_tail`
            the end of each file, which must be one document.
        on_error: "skip" counts unreadable documents and leaves them out; "stop"
            lists the files at fault.
        workers: processes that encode; 0: this one does; None: as many as there are cores, where
            the inputs are files with much text. The result is the same, byte for byte.

    Raises:
        ConfigError: the input or a setting is at fault, or the disk is full; `out` is untouched.
    """
    began = time.perf_counter()
    fraction = _fraction(validation, validation_fraction, validation_tail)
    if tokenizer == "bytes":
        check_vocab_size(vocab_size)
    settings = {
        "tokenizer": tokenizer,
        "vocab_size": vocab_size if tokenizer == "bytes" else None,
        "text_field": text_field,
        "separator": separator,
        "encoding": encoding,
        "newlines": newlines,
        "validation_fraction": fraction,
        "validation_tail": validation_tail,
        "on_error": on_error,
        "seed": seed,
    }
    writer = StoreWriter(out, shard_tokens=shard_tokens, overwrite=overwrite)
    try:
        with writer:
            with TemporaryDirectory(dir=writer.folder) as folder:
                spool = Path(folder)

                def sources(given: Sequence[str | Path]) -> Sources:
                    return Sources(
                        given,
                        text_field=text_field,
                        separator=separator,
                        encoding=encoding,
                        newlines=newlines,
                        on_error=on_error,
                        spool=spool,
                    )

                inputs_of: dict[SplitName, Sources] = {"train": sources(inputs)}
                if validation:
                    inputs_of["validation"] = sources(validation)
                plan = SplitPlan(
                    inputs_of, fraction=fraction, tail=validation_tail, seed=seed, folder=spool
                )
                vocabulary = _tokenizer(tokenizer, vocab_size, plan, spool, progress)
                writer.start(vocabulary)
                pieces = watched(plan.pieces(), "tokens", plan.read, progress)
                with _encoder(vocabulary, writer, plan, workers) as encoder:
                    lossless = encode(pieces, vocabulary, writer, encoder)
            manifest = writer.commit(
                lossless=lossless,
                duplicates=plan.duplicates,
                skipped=plan.skipped,
                ignored=plan.ignored,
                sources=_entries(plan, "train"),
                validation_sources=_entries(plan, "validation"),
                settings=settings,
                licence=licence,
                versions={
                    "python": platform.python_version(),
                    "foundling": foundling.__version__,
                    "tokenizers": tokenizers.__version__,
                },
            )
    except (OSError, sqlite3.OperationalError) as error:
        raise ConfigError(_explain(Path(out), error)) from error
    seconds = time.perf_counter() - began
    return PrepareReport(Path(out), manifest, seconds, writer.leftovers)


def _tokenizer(
    given: str, vocab_size: int, plan: SplitPlan, folder: Path, progress: Progress | None
) -> Tokenizer:
    if given not in ("bytes", "characters"):
        return existing_tokenizer(given)
    for sources in plan.inputs.values():
        if sources.read_once:
            raise ConfigError(
                f"{sources.read_once}: can be read only once, and --tokenizer {given} reads "
                "the text twice; give the path of a tokenizer, or pipe it into standard input (-)."
            )
    pieces = watched(plan.pieces(), "tokenizer", plan.read, progress)
    if given == "characters":
        return Tokenizer.characters(piece.text for piece in pieces)
    with TextSample(folder, SAMPLE_BYTES) as sample:
        for piece in pieces:
            if piece.split == "train":
                sample.offer(piece.key, piece.text)
        trained = Tokenizer.train_bytes(sample.texts(), vocab_size)
    if trained.vocab_size < vocab_size:
        log.info(
            "The tokenizer has %s tokens, fewer than --vocab-size %s: the text yields no more.",
            f"{trained.vocab_size:,}",
            f"{vocab_size:,}",
        )
    return trained


def existing_tokenizer(given: str) -> Tokenizer:
    """The tokenizer of a file, a folder, a token store, a run or a model of the hub.

    Raises:
        ConfigError: there is none.
    """
    in_model = any((Path(given) / name).exists() for name in ("checkpoints", "checkpoint.json"))
    if not in_model and not given.startswith("hub:"):
        return Tokenizer.load(given)
    from foundling.runs.run import find_model  # imports torch

    return Tokenizer.load(find_model(given))


@contextmanager
def _encoder(
    tokenizer: Tokenizer, writer: StoreWriter, plan: SplitPlan, workers: int | None
) -> Iterator[Encoder]:
    dtype = writer.file_dtype
    if workers is None:
        workers = cores() if (plan.read()[1] or 0) >= MUCH_TEXT else 0
    if not workers:
        yield LocalEncoder(tokenizer, dtype)
        return
    with EncoderProcesses(writer.folder / TOKENIZER, dtype, workers) as processes:
        yield processes


def _fraction(
    validation: Sequence[str | Path], fraction: float | None, tail: float | None
) -> float | None:
    given = [bool(validation), fraction is not None, tail is not None]
    if sum(given) > 1:
        raise ConfigError(
            "Give one of --validation, --validation-fraction and --validation-tail, not several."
        )
    for name, value in (("--validation-fraction", fraction), ("--validation-tail", tail)):
        if value is not None and not 0 < value < 1:
            raise ConfigError(f"{name} {value}: must lie between 0 and 1.")
    return fraction if any(given) else VALIDATION_FRACTION


def _entries(plan: SplitPlan, split: SplitName) -> tuple[SourceEntry, ...]:
    sources = plan.inputs.get(split)
    sizes = {} if sources is None else sources.sizes
    return tuple(SourceEntry(name=name, num_bytes=size) for name, size in sizes.items())


def _explain(out: Path, error: OSError | sqlite3.OperationalError) -> str:
    full = (
        error.errno in (errno.ENOSPC, errno.EDQUOT)
        if isinstance(error, OSError)
        else error.sqlite_errorcode == sqlite3.SQLITE_FULL
    )
    if full:
        return f"{out}: the disk is full; nothing was kept. Make room or choose another --out."
    if isinstance(error, OSError):
        return f"{error.filename or out}: {error.strerror or error}."
    return f"{out}: {error}."
