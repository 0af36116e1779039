"""Raw text to a token store: split by document, without duplicates, in memory that stays flat."""

import errno
import hashlib
import platform
import sqlite3
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

import foundling
from foundling.config import ConfigError
from foundling.data.sources import TEXT_SUFFIXES, Document, OnError, Sources
from foundling.data.store import (
    SHARD_TOKENS,
    SPLITS,
    Manifest,
    SourceEntry,
    SplitName,
    StoreWriter,
)
from foundling.tokenizer import Tokenizer

VALIDATION_FRACTION = 0.01
SAMPLE_BYTES = 200_000_000  # the most text that a tokenizer is trained on
BATCH_CHARACTERS = 1 << 20  # encoded at once; not by the number of cores, so as not to depend on it

Progress = Callable[[str, int, int | None], None]  # stage, bytes done, bytes in total if known


@dataclass(frozen=True)
class PrepareReport:
    """What was prepared and how fast; `megabytes_per_second` is of text, over everything."""

    out: Path
    manifest: Manifest
    seconds: float
    leftovers: tuple[Path, ...]  # folders that killed runs left, which may be deleted

    @property
    def megabytes_per_second(self) -> float:
        num_bytes = self.manifest.train.num_bytes + self.manifest.validation.num_bytes
        return num_bytes / 1e6 / max(self.seconds, 1e-9)

    def values(self) -> dict[str, Any]:
        """The report in plain types, for `--json`."""
        manifest = self.manifest
        splits = {
            name: {
                "documents": split.num_documents,
                "tokens": split.num_tokens,
                "bytes": split.num_bytes,
            }
            for name, split in (("train", manifest.train), ("validation", manifest.validation))
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
    vocab_size: int = 8192,
    text_field: str = "text",
    separator: str | None = None,
    validation: Sequence[str | Path] = (),
    validation_fraction: float | None = None,
    validation_tail: float | None = None,
    on_error: OnError = "stop",
    licence: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    shard_tokens: int = SHARD_TOKENS,
    progress: Progress | None = None,
) -> PrepareReport:
    """Write the documents of `inputs` as tokens to the new folder `out`.

    Args:
        tokenizer: "bytes" or "characters" to make one of this text, or the path of one.
        validation: inputs of the validation split. In their place, `validation_fraction` (0.01
            when nothing is said) takes documents by a hash of their text and `seed`, and
            `validation_tail` the end of each file, which must be one document.
        on_error: "skip" counts an unreadable document and goes on.

    Raises:
        ConfigError: the input or a setting is at fault, or the disk is full; `out` is untouched.
    """
    began = time.perf_counter()
    fraction = _fraction(validation, validation_fraction, validation_tail)
    settings = {
        "tokenizer": tokenizer,
        "vocab_size": vocab_size if tokenizer == "bytes" else None,
        "text_field": text_field,
        "separator": separator,
        "validation_fraction": fraction,
        "validation_tail": validation_tail,
        "on_error": on_error,
        "seed": seed,
    }
    writer = StoreWriter(out, shard_tokens=shard_tokens, overwrite=overwrite)
    try:
        with writer:

            def sources(given: Sequence[str | Path]) -> Sources:
                return Sources(
                    given,
                    text_field=text_field,
                    separator=separator,
                    on_error=on_error,
                    spool=writer.folder,
                )

            held_out = sources(validation) if validation else None
            plan = _Plan(sources(inputs), held_out, fraction, validation_tail, seed, writer.folder)
            vocabulary = _tokenizer(tokenizer, vocab_size, plan, progress)
            writer.start(vocabulary)
            lossless = _encode(plan, vocabulary, writer, progress)
            manifest = writer.commit(
                lossless=lossless,
                duplicates=plan.duplicates,
                skipped=plan.counts("skipped"),
                ignored=plan.counts("ignored"),
                sources=_entries(plan.train),
                validation_sources=_entries(plan.held_out),
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


@contextmanager
def rich_progress() -> Iterator[Progress]:
    """A progress bar with MB/s on standard error."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, Any] = {}
    with Bars(*columns, console=Console(stderr=True)) as bars:

        def show(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield show


# ---------------------------------------------------------------------- which document goes where


class _Plan:
    """Gives every document its split; one pass over it after another gives the same."""

    def __init__(
        self,
        train: Sources,
        held_out: Sources | None,
        fraction: float | None,
        tail: float | None,
        seed: int,
        folder: Path,
    ) -> None:
        self.train, self.held_out = train, held_out
        self._fraction, self._tail, self._seed = fraction, tail, seed
        self.folder = folder
        self.duplicates = 0
        if fraction is not None and len(train.files) == 1 and _one_document_each(train):
            raise ConfigError(_ONE_DOCUMENT)

    def counts(self, what: str) -> dict[str, int]:
        """The "skipped" or the "ignored" of all sources, by reason."""
        total = getattr(self.train, what).copy()
        if self.held_out is not None:
            total += getattr(self.held_out, what)
        return dict(sorted(total.items()))

    def read(self) -> tuple[int, int | None]:
        """Bytes read in this pass, and in all."""
        both = [self.train] if self.held_out is None else [self.train, self.held_out]
        totals = [source.total_bytes for source in both]
        known = None if None in totals else sum(total for total in totals if total is not None)
        return sum(source.bytes_read for source in both), known

    def pieces(self) -> Iterator["_Piece"]:
        """One pass over all text.

        Raises:
            ConfigError: at the end, when a split came out empty.
        """
        self.duplicates = 0
        documents = dict.fromkeys(SPLITS, 0)
        with _Seen(self.folder) as seen:
            for split, document in self._given():
                if not seen.add(document.digest):
                    self.duplicates += 1
                    continue
                for name, start, stop in self._parts(split, document):
                    documents[name] += 1
                    yield from _pieces(name, document, start, stop)
        self._refuse_empty(documents)

    def _given(self) -> Iterator[tuple[SplitName, Document]]:
        # Validation first: a training document that is in it too is then the duplicate.
        if self.held_out is not None:
            yield from (("validation", document) for document in self.held_out)
        yield from (("train", document) for document in self.train)

    def _parts(
        self, split: SplitName, document: Document
    ) -> Iterator[tuple[SplitName, int, int | None]]:
        if self._tail is not None:
            if not document.whole_file:
                raise ConfigError(
                    f"{document.source}: validation_tail cuts files that are one document each; "
                    "for many documents use validation_fraction."
                )
            at = int(document.num_characters * (1 - self._tail))
            if at:
                yield "train", 0, at
            if at < document.num_characters:
                yield "validation", at, None
            return
        if self._fraction is not None and _chance(document.digest, self._seed) < self._fraction:
            split = "validation"
        yield split, 0, None

    def _refuse_empty(self, documents: dict[SplitName, int]) -> None:
        if self._fraction is not None and sum(documents.values()) == 1:
            raise ConfigError(_ONE_DOCUMENT)
        for name, count in documents.items():
            if count:
                continue
            there = sum(documents.values())
            advice = "give other validation inputs"
            if self._fraction is not None:
                advice = (
                    f"change validation_fraction = {self._fraction} or the seed, or name inputs"
                )
            raise ConfigError(
                f"No document is left for {name}: {there} in all, {self.duplicates} duplicates "
                f"dropped, {sum(self.counts('skipped').values())} skipped; {advice}."
            )


_ONE_DOCUMENT = (
    "The input is one document, which cannot be parted by document: use validation_tail (0.1 "
    "keeps its last tenth for validation), name validation inputs, or give a separator."
)


def _one_document_each(sources: Sources) -> bool:
    """Whether each file is one document by its kind alone."""
    return sources.separator is None and all(
        file.lower().endswith(TEXT_SUFFIXES) for file in sources.files
    )


@dataclass(frozen=True)
class _Piece:
    split: SplitName
    source: str
    text: str
    key: int  # of this text, at random
    begins: bool
    ends: bool


def _pieces(split: SplitName, document: Document, start: int, stop: int | None) -> Iterator[_Piece]:
    number, held = 0, None
    for text in document.pieces(start, stop):
        if held is not None:
            yield _Piece(split, document.source, held, _key(document, number), number == 0, False)
            number += 1
        held = text
    assert held is not None
    yield _Piece(split, document.source, held, _key(document, number), number == 0, True)


def _key(document: Document, number: int) -> int:
    raw = hashlib.blake2b(document.digest + number.to_bytes(8, "little"), digest_size=8).digest()
    return int.from_bytes(raw, "little")


def _chance(digest: bytes, seed: int) -> float:
    """A number in [0, 1) that depends on a document's text and the seed alone."""
    raw = hashlib.blake2b(digest + str(seed).encode(), digest_size=8).digest()
    return (int.from_bytes(raw, "little") >> 11) / (1 << 53)


class _Seen:
    """The digests that came before, on disk."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "seen.sqlite"

    def __enter__(self) -> "_Seen":
        self._file.unlink(missing_ok=True)
        self._base = sqlite3.connect(self._file, isolation_level=None)
        self._base.execute("PRAGMA journal_mode = OFF")
        self._base.execute("PRAGMA synchronous = OFF")
        self._base.execute("PRAGMA cache_size = -65536")  # KiB
        self._base.execute("CREATE TABLE seen (digest BLOB PRIMARY KEY) WITHOUT ROWID")
        self._base.execute("BEGIN")
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()
        self._file.unlink(missing_ok=True)

    def add(self, digest: bytes) -> bool:
        """Whether `digest` is new."""
        done = self._base.execute("INSERT OR IGNORE INTO seen VALUES (?)", (digest,))
        return done.rowcount == 1


# ---------------------------------------------------------------------- the tokenizer


def _tokenizer(given: str, vocab_size: int, plan: _Plan, progress: Progress | None) -> Tokenizer:
    if given not in ("bytes", "characters"):
        return Tokenizer.load(given)
    pipe = plan.train.read_once or (plan.held_out and plan.held_out.read_once)
    if pipe:
        raise ConfigError(
            f'{pipe}: can be read only once, and tokenizer = "{given}" reads the text twice; '
            "give the path of a tokenizer."
        )
    pieces = _watched(plan, plan.pieces(), "tokenizer", progress)
    if given == "characters":
        return Tokenizer.characters(piece.text for piece in pieces)
    sample = _Sample(plan.folder)
    try:
        for piece in pieces:
            if piece.split == "train":
                sample.offer(piece.key, piece.text)
        return Tokenizer.train_bytes(sample.texts(), vocab_size)
    finally:
        sample.close()


class _Sample:
    """A part of the text, bounded and on disk, that depends on the text and not on its order."""

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        self._folder, self._limit = folder, limit or SAMPLE_BYTES
        self._below = 1 << 64
        self._size = 0
        self._number = 0
        self._file = self._new()

    def offer(self, key: int, text: str) -> None:
        if key >= self._below:
            return
        self._keep(key, text.encode())
        while self._size > self._limit and self._below > 1:
            self._below //= 2
            old, self._file, self._size = self._file, self._new(), 0
            for key, raw in _records(old):
                if key < self._below:
                    self._keep(key, raw)
            old.close()
            Path(old.name).unlink()

    def texts(self) -> Iterator[str]:
        for _, raw in _records(self._file):
            yield raw.decode()

    def close(self) -> None:
        self._file.close()
        Path(self._file.name).unlink()

    def _new(self) -> Any:
        self._number += 1
        return (self._folder / f"sample-{self._number}").open("w+b")

    def _keep(self, key: int, raw: bytes) -> None:
        self._file.write(struct.pack("<QI", key, len(raw)) + raw)
        self._size += len(raw)


def _records(file: Any) -> Iterator[tuple[int, bytes]]:
    file.seek(0)
    while head := file.read(12):
        key, size = struct.unpack("<QI", head)
        yield key, file.read(size)


# ---------------------------------------------------------------------- the tokens


def _encode(
    plan: _Plan, tokenizer: Tokenizer, writer: StoreWriter, progress: Progress | None
) -> bool:
    """Write every piece; say whether text came back from its tokens on the samples."""
    lossless = True
    pending: tuple[list[_Piece], Future[list[list[int]]]] | None = None
    pieces = _watched(plan, plan.pieces(), "tokens", progress)
    with ThreadPoolExecutor(1) as pool:  # encodes one batch while the next is read
        for number, batch in enumerate(_batches(pieces)):
            future = pool.submit(_encode_batch, tokenizer, batch)
            if pending is not None:
                _write(*pending, tokenizer, writer)
            pending = batch, future
            if lossless and (number < 8 or number % 64 == 0):
                lossless = _comes_back(tokenizer, batch, future.result())
        if pending is not None:
            _write(*pending, tokenizer, writer)
    return lossless


def _encode_batch(tokenizer: Tokenizer, batch: Sequence[_Piece]) -> list[list[int]]:
    try:
        return tokenizer.encode_batch([piece.text for piece in batch])
    except ConfigError:
        for piece in batch:
            try:
                tokenizer.encode(piece.text)
            except ConfigError as error:
                raise ConfigError(f"{piece.source}: {error}") from None
        raise


def _write(
    batch: Sequence[_Piece],
    future: Future[list[list[int]]],
    tokenizer: Tokenizer,
    writer: StoreWriter,
) -> None:
    begin = [] if tokenizer.begin_name is None else [tokenizer.begin_of_text]
    end = [tokenizer.end_of_text]
    for piece, ids in zip(batch, future.result(), strict=True):
        split = writer.split(piece.split)
        if piece.begins:
            split.start_document()
        tokens = (begin if piece.begins else []) + ids + (end if piece.ends else [])
        split.extend(tokens, num_bytes=len(piece.text.encode()))


def _comes_back(tokenizer: Tokenizer, batch: Sequence[_Piece], ids: list[list[int]]) -> bool:
    """Decode the first documents of a batch, a long one as far as its second piece."""
    text, tokens = "", list[int]()
    for number, (piece, part) in enumerate(zip(batch[:16], ids, strict=False)):
        text, tokens = text + piece.text, tokens + part
        if piece.ends or number % 2:
            if tokenizer.decode(tokens) != text:
                return False
            text, tokens = "", []
    return True


def _batches(pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    batch: list[_Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece.text)
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _watched(
    plan: _Plan, pieces: Iterator[_Piece], stage: str, progress: Progress | None
) -> Iterator[_Piece]:
    told = 0
    for piece in pieces:
        yield piece
        done, total = plan.read()
        if progress is not None and done - told >= 1 << 18:
            progress(stage, done, total)
            told = done
    if progress is not None:
        progress(stage, *plan.read())


# ---------------------------------------------------------------------- settings and errors


def _fraction(
    validation: Sequence[str | Path], fraction: float | None, tail: float | None
) -> float | None:
    given = [bool(validation), fraction is not None, tail is not None]
    if sum(given) > 1:
        raise ConfigError(
            "Give one of validation, validation_fraction and validation_tail, not several."
        )
    for name, value in (("validation_fraction", fraction), ("validation_tail", tail)):
        if value is not None and not 0 < value < 1:
            raise ConfigError(f"{name} = {value}: must lie between 0 and 1.")
    return fraction if any(given) else VALIDATION_FRACTION


def _entries(sources: Sources | None) -> tuple[SourceEntry, ...]:
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
