"""Memory-mapped shards of tokens with a manifest, whose presence says that they are whole."""

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from foundling.config import ConfigError, Section
from foundling.tokenizer import Tokenizer

FORMAT = "foundling-tokens"
VERSION = 1
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer"
SHARD_TOKENS = 1 << 27  # 256 MiB of uint16

SplitName = Literal["train", "validation"]
SPLITS: tuple[SplitName, ...] = ("train", "validation")


class StoreError(ConfigError):
    """A folder cannot be read, or written, as a token store."""


class FileEntry(Section):
    """One file of a store."""

    name: str
    num_bytes: int
    sha256: str


class SplitManifest(Section):
    """What one split holds; `tokens_sha256` is of its tokens whatever the shards."""

    num_documents: int
    num_tokens: int  # with the marks of begin and end
    num_bytes: int  # of the text, in UTF-8
    shards: tuple[FileEntry, ...]
    documents: FileEntry
    tokens_sha256: str


class SourceEntry(Section):
    """One input file; its size is unknown for a pipe or the hub."""

    name: str
    num_bytes: int | None


class Manifest(Section):
    """Everything that is known about a store."""

    format: Literal["foundling-tokens"] = "foundling-tokens"
    version: int = VERSION
    dtype: Literal["uint16", "uint32"]
    shard_tokens: int
    vocab_size: int
    tokenizer_fingerprint: str
    tokenizer_files: tuple[FileEntry, ...]
    train: SplitManifest
    validation: SplitManifest
    lossless: bool  # text came back from its tokens on every sample
    duplicates: int
    skipped: dict[str, int]  # by reason
    ignored: dict[str, int]  # files that were not read, by suffix
    sources: tuple[SourceEntry, ...]
    validation_sources: tuple[SourceEntry, ...]
    settings: dict[str, Any]
    licence: str | None
    versions: dict[str, str]


class TokenSplit:
    """The tokens of one split as if they were one array."""

    def __init__(self, folder: Path, manifest: SplitManifest, dtype: str, shard_tokens: int):
        self._shard_tokens = shard_tokens
        self._shards = [
            _mapped(folder, shard, np.dtype(dtype).newbyteorder("<")) for shard in manifest.shards
        ]
        self._starts = _mapped(folder, manifest.documents, np.dtype("<i8"))
        if sum(map(len, self._shards)) != manifest.num_tokens:
            raise StoreError(f"{folder}: the shards do not hold {manifest.num_tokens} tokens.")
        self.num_tokens = manifest.num_tokens
        self.num_documents = manifest.num_documents
        self.num_bytes = manifest.num_bytes
        self.fingerprint = hashlib.sha256(
            f"{manifest.tokens_sha256} {manifest.documents.sha256}".encode()
        ).hexdigest()

    def read(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """A copy of the tokens from `start` to `stop`."""
        if not 0 <= start <= stop <= self.num_tokens:
            raise ValueError(f"tokens {start} to {stop}: the split has {self.num_tokens}.")
        tokens = np.empty(stop - start, dtype=np.int64)
        at = start
        while at < stop:
            shard, inside = divmod(at, self._shard_tokens)
            part = self._shards[shard][inside : inside + stop - at]
            tokens[at - start : at - start + len(part)] = part
            at += len(part)
        return tokens

    def document_of(self, offset: int) -> int:
        """The number of the document that holds the token at `offset`."""
        if not 0 <= offset < self.num_tokens:
            raise ValueError(f"token {offset}: the split has {self.num_tokens}.")
        return int(self._starts.searchsorted(np.int64(offset), side="right")) - 1

    def document_starts(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """The offsets in [start, stop) at which a document begins."""
        ends = np.array([start, min(stop, self.num_tokens)], dtype=np.int64)
        low, high = self._starts.searchsorted(ends, side="left")
        return np.array(self._starts[low : max(low, high)], dtype=np.int64)

    def document_span(self, document: int) -> tuple[int, int]:
        """The offset at which a document begins, and the one at which the next does."""
        if not 0 <= document < self.num_documents:
            raise ValueError(f"document {document}: the split has {self.num_documents}.")
        return int(self._starts[document]), int(self._starts[document + 1])


class TokenStore:
    """A prepared data set: two splits and the tokenizer that wrote them."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest
        self._splits = {
            name: TokenSplit(path, split, manifest.dtype, manifest.shard_tokens)
            for name, split in (("train", manifest.train), ("validation", manifest.validation))
        }

    @classmethod
    def open(cls, path: Path | str) -> "TokenStore":
        """Map a store.

        Raises:
            StoreError: the folder is not a store, is unfinished, or lacks a part.
        """
        path = Path(path)
        if not path.is_dir():
            raise StoreError(f"{path}: no such folder; `foundling data prepare` makes one.")
        file = path / MANIFEST
        if not file.is_file():
            shards = any(path.glob("train-*.bin"))
            what = "an unfinished token store" if shards else "not a token store"
            raise StoreError(f"{path}: {what} (no {MANIFEST}); `foundling data prepare` makes one.")
        return cls(path, _manifest(file))

    def split(self, name: str) -> TokenSplit:
        if name not in self._splits:
            raise StoreError(f'split = "{name}": no such split ({", ".join(SPLITS)}).')
        return self._splits[name]

    def tokenizer(self) -> Tokenizer:
        return Tokenizer.load(self.path / TOKENIZER)

    @cached_property
    def fingerprint(self) -> str:
        """Of the tokenizer and of all tokens in their order, whatever the size of a shard."""
        parts = [self.manifest.tokenizer_fingerprint]
        parts += [self._splits[name].fingerprint for name in SPLITS]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def verify(self) -> None:
        """Read every file and compare its hash.

        Raises:
            StoreError: a file differs from the manifest.
        """
        manifest = self.manifest
        entries = [*manifest.tokenizer_files]
        for split in (manifest.train, manifest.validation):
            entries += [*split.shards, split.documents]
        for entry in entries:
            file = self.path / entry.name
            if not file.is_file():
                raise StoreError(f"{file}: missing.")
            with file.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
            if found != entry.sha256:
                raise StoreError(f"{file}: damaged: its SHA-256 is not the manifest's.")


class _SplitWriter:
    """Appends documents to one split, in shards of `shard_tokens`."""

    def __init__(self, folder: Path, name: str, dtype: str, shard_tokens: int) -> None:
        self._folder, self._name, self._shard_tokens = folder, name, shard_tokens
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._starts = _HashedFile(folder, f"{name}.documents.bin")
        self._shard: _HashedFile | None = None
        self._done: list[FileEntry] = []
        self._hash = hashlib.sha256()
        self.num_documents = self.num_tokens = self.num_bytes = 0

    def start_document(self) -> None:
        self._starts.write(np.array([self.num_tokens], dtype="<i8").tobytes())
        self.num_documents += 1

    def extend(self, tokens: Sequence[int] | npt.NDArray[np.int64], num_bytes: int = 0) -> None:
        raw = memoryview(np.asarray(tokens, dtype=self._dtype).tobytes())
        self._hash.update(raw)
        self.num_bytes += num_bytes
        width = self._dtype.itemsize
        while raw:
            if self._shard is None:
                name = f"{self._name}-{self.num_tokens // self._shard_tokens:05d}.bin"
                self._shard = _HashedFile(self._folder, name)
            room = self._shard_tokens - self.num_tokens % self._shard_tokens
            part, raw = raw[: room * width], raw[room * width :]
            self._shard.write(part)
            self.num_tokens += len(part) // width
            if self.num_tokens % self._shard_tokens == 0:
                self._done.append(self._shard.finish())
                self._shard = None

    def finish(self) -> SplitManifest:
        if self._shard is not None:
            self._done.append(self._shard.finish())
        self._starts.write(np.array([self.num_tokens], dtype="<i8").tobytes())
        return SplitManifest(
            num_documents=self.num_documents,
            num_tokens=self.num_tokens,
            num_bytes=self.num_bytes,
            shards=tuple(self._done),
            documents=self._starts.finish(),
            tokens_sha256=self._hash.hexdigest(),
        )

    def abandon(self) -> None:
        for file in (self._starts, self._shard):
            if file is not None:
                file.abandon()


class StoreWriter:
    """Writes a store beside its place and moves it there when it is whole.

    Used as a context: leaving it without `commit`, or by an error, removes what was written.
    """

    def __init__(
        self,
        out: Path | str,
        *,
        shard_tokens: int = SHARD_TOKENS,
        overwrite: bool = False,
    ) -> None:
        self.out = Path(out) if Path(out).name else Path(out).resolve()
        if shard_tokens < 1:
            raise StoreError(f"shard_tokens = {shard_tokens}: at least 1.")
        self._shard_tokens, self._overwrite = shard_tokens, overwrite
        self._refuse_existing()
        self.folder = self.out.with_name(f"{self.out.name}.partial-{os.getpid()}")
        self._splits: dict[str, _SplitWriter] = {}
        self._tokenizer: Tokenizer | None = None

    def __enter__(self) -> "StoreWriter":
        self.out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for split in self._splits.values():
            split.abandon()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def leftovers(self) -> tuple[Path, ...]:
        """What killed runs left beside this store."""
        found = sorted(self.out.parent.glob(f"{glob.escape(self.out.name)}.partial-*"))
        return tuple(path for path in found if path != self.folder)

    def start(self, tokenizer: Tokenizer) -> None:
        """Keep the tokenizer; its size decides how wide a token is."""
        tokenizer.save(self.folder / TOKENIZER)
        self._tokenizer = tokenizer
        self.dtype: Literal["uint16", "uint32"] = (
            "uint32" if tokenizer.vocab_size > 65535 else "uint16"
        )
        for name in SPLITS:
            self._splits[name] = _SplitWriter(self.folder, name, self.dtype, self._shard_tokens)

    def split(self, name: str) -> _SplitWriter:
        return self._splits[name]

    def commit(self, **about: Any) -> Manifest:
        """Write the manifest, then put the store in its place.

        Args:
            about: the fields of `Manifest` that the writer cannot know.
        """
        assert self._tokenizer is not None
        files = sorted((self.folder / TOKENIZER).iterdir())
        manifest = Manifest(
            dtype=self.dtype,
            shard_tokens=self._shard_tokens,
            vocab_size=self._tokenizer.vocab_size,
            tokenizer_fingerprint=self._tokenizer.fingerprint,
            tokenizer_files=tuple(_entry(self.folder, file) for file in files),
            train=self._splits["train"].finish(),
            validation=self._splits["validation"].finish(),
            **about,
        )
        text = json.dumps(manifest.values(), indent=2, ensure_ascii=False) + "\n"
        with (self.folder / f"{MANIFEST}.new").open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        _sync_folder(self.folder / TOKENIZER)
        os.replace(self.folder / f"{MANIFEST}.new", self.folder / MANIFEST)
        _sync_folder(self.folder)
        self._move()
        return manifest

    def _move(self) -> None:
        self._refuse_existing()
        old = self.out.with_name(f"{self.out.name}.old-{os.getpid()}")
        replaced = self.out.exists()
        if replaced:
            os.replace(self.out, old)
        try:
            os.replace(self.folder, self.out)
        except OSError:
            if replaced:
                os.replace(old, self.out)
            raise
        _sync_folder(self.out.parent)
        if replaced:
            shutil.rmtree(old, ignore_errors=True)

    def _refuse_existing(self) -> None:
        if not os.path.lexists(self.out):
            return
        if self.out.is_dir() and not any(self.out.iterdir()):
            return
        file = self.out / MANIFEST
        if not file.is_file() or _values(file).get("format") != FORMAT:
            raise StoreError(f"{self.out}: exists and is not a token store; choose another name.")
        if not self._overwrite:
            raise StoreError(f"{self.out}: exists already; choose another name or overwrite it.")


class _HashedFile:
    """A new file that knows the hash of what went into it."""

    def __init__(self, folder: Path, name: str) -> None:
        self._name = name
        self._stream: IO[bytes] = (folder / name).open("xb")
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, raw: bytes | memoryview) -> None:
        self._stream.write(raw)
        self._hash.update(raw)
        self._size += len(raw)

    def finish(self) -> FileEntry:
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        return FileEntry(name=self._name, num_bytes=self._size, sha256=self._hash.hexdigest())

    def abandon(self) -> None:
        with suppress(OSError):  # what is left in its buffer may have no room on the disk
            self._stream.close()


def _mapped(folder: Path, entry: FileEntry, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    file = folder / entry.name
    if not file.is_file():
        raise StoreError(f"{file}: missing; the store is not whole.")
    size = file.stat().st_size
    if size != entry.num_bytes:
        raise StoreError(f"{file}: has {size} bytes, not the manifest's {entry.num_bytes}.")
    return np.memmap(file, dtype=dtype, mode="r")


def _manifest(file: Path) -> Manifest:
    values = _values(file)
    if values.get("format") != FORMAT:
        raise StoreError(f"{file}: not the manifest of a token store.")
    if values.get("version") != VERSION:
        raise StoreError(
            f"{file}: version {values.get('version')} of the format; this Foundling reads "
            f"{VERSION}. Prepare the data again."
        )
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StoreError(f"{file}: damaged: {where}: {first['msg']}.") from None


def _values(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise StoreError(f"{file}: damaged: {error}.") from None
    return values if isinstance(values, dict) else {}


def _entry(folder: Path, file: Path) -> FileEntry:
    raw = file.read_bytes()
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
    digest = hashlib.sha256(raw).hexdigest()
    return FileEntry(name=str(file.relative_to(folder)), num_bytes=len(raw), sha256=digest)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
