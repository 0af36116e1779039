"""Writes a token store under a temporary name and renames it when it is complete."""

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from foundling.base import durable
from foundling.data.manifest import (
    MANIFEST,
    SPLITS,
    TOKENIZER,
    FileEntry,
    Manifest,
    SplitManifest,
    SplitName,
    StoreError,
    holds_store,
)
from foundling.text.tokenizer import Tokenizer

SHARD_TOKENS = 1 << 27  # 256 MiB of uint16


class StoreWriter:
    """A context around the writing: left without `commit`, it removes what was written.

    `leftovers` are the folders that killed runs left beside this store.
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
        self._splits: dict[SplitName, SplitWriter] = {}
        self._tokenizer: Tokenizer | None = None
        self._context = ExitStack()
        self.leftovers: tuple[Path, ...] = ()

    def __enter__(self) -> "StoreWriter":
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self._refuse_second(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        with ExitStack() as context:
            context.callback(shutil.rmtree, self.folder, ignore_errors=True)
            context.enter_context(durable.locked(self.folder))
            # Whoever writes has locked its own folder before it looks at those of others.
            partial = self.out.parent.glob(f"{glob.escape(self.out.name)}.partial-*")
            self.leftovers = tuple(sorted(path for path in partial if path != self.folder))
            for path in self.leftovers:
                self._refuse_second(path)
            self._context = context.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for split in self._splits.values():
            split.abandon()
        self._context.close()

    def _refuse_second(self, partial: Path) -> None:
        with suppress(FileNotFoundError), durable.locked(partial) as is_free:
            if not is_free:
                raise StoreError(
                    f"{self.out}: another process is writing it; let it end, or give another --out."
                )

    def start(self, tokenizer: Tokenizer) -> None:
        """Keep the tokenizer; its size decides how wide a token is."""
        tokenizer.save(self.folder / TOKENIZER)
        self._tokenizer = tokenizer
        self.dtype: Literal["uint16", "uint32"] = (
            "uint32" if tokenizer.vocab_size > 65535 else "uint16"
        )
        for name in SPLITS:
            self._splits[name] = SplitWriter(self.folder, name, self.dtype, self._shard_tokens)

    def split(self, name: SplitName) -> "SplitWriter":
        return self._splits[name]

    @property
    def file_dtype(self) -> str:
        """How a token lies in a file."""
        return np.dtype(self.dtype).newbyteorder("<").str

    def packed(self, ids: Sequence[int]) -> bytes:
        """Tokens as they lie in a file."""
        return np.asarray(ids, self.file_dtype).tobytes()

    def unpacked(self, raw: bytes) -> list[int]:
        ids: list[int] = np.frombuffer(raw, self.file_dtype).tolist()
        return ids

    def commit(self, **about: Any) -> Manifest:
        """Write the manifest, then rename the folder to its final name.

        Args:
            about: the fields of `Manifest` that the writer does not know.
        """
        assert self._tokenizer is not None
        files = sorted((self.folder / TOKENIZER).iterdir())
        manifest = Manifest(
            dtype=self.dtype,
            shard_tokens=self._shard_tokens,
            vocab_size=self._tokenizer.vocab_size,
            tokenizer_fingerprint=self._tokenizer.fingerprint,
            tokenizer_files=tuple(_entry(self.folder, file) for file in files),
            **{name: split.finish() for name, split in self._splits.items()},
            **about,
        )
        text = json.dumps(manifest.values(), indent=2, ensure_ascii=False) + "\n"
        durable.replace(self.folder / MANIFEST, text.encode())
        durable.sync(self.folder / TOKENIZER)
        durable.sync(self.folder)
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
        durable.sync(self.out.parent)
        if replaced:
            shutil.rmtree(old, ignore_errors=True)

    def _refuse_existing(self) -> None:
        if not os.path.lexists(self.out):
            return
        if self.out.is_dir() and not any(self.out.iterdir()):
            return
        if not holds_store(self.out):
            raise StoreError(f"{self.out}: exists and is not a token store; choose another --out.")
        if not self._overwrite:
            raise StoreError(f"{self.out}: exists already; choose another --out or --overwrite.")


class SplitWriter:
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
        self.write(np.asarray(tokens, dtype=self._dtype).tobytes(), num_bytes)

    def write(self, packed: bytes, num_bytes: int = 0) -> None:
        """Append tokens as they lie in a file; `num_bytes` of text."""
        raw = memoryview(packed)
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


class _HashedFile:
    """A new file that hashes what is written to it."""

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


def _entry(folder: Path, file: Path) -> FileEntry:
    raw = file.read_bytes()
    durable.sync(file)
    digest = hashlib.sha256(raw).hexdigest()
    return FileEntry(name=str(file.relative_to(folder)), num_bytes=len(raw), sha256=digest)
