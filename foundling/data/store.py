"""Reads a token store: memory-mapped shards as one array."""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from foundling.base.object_store import is_url
from foundling.data import remote_store
from foundling.data.manifest import (
    MANIFEST,
    SPLITS,
    TOKENIZER,
    FileEntry,
    Manifest,
    SplitManifest,
    StoreError,
    read_manifest,
)
from foundling.text.tokenizer import Tokenizer


class TokenSplit:
    """The tokens of one split as one array."""

    def __init__(self, folder: Path, about: Manifest, manifest: SplitManifest) -> None:
        self._folder, self._shard_files = folder, manifest.shards
        self._shard_tokens, self._vocab_size = about.shard_tokens, about.vocab_size
        dtype = np.dtype(about.dtype).newbyteorder("<")
        self._shards = [_mapped(folder, shard, dtype) for shard in manifest.shards]
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
        """A copy of the tokens from `start` to `stop`.

        Raises:
            StoreError: one of them is beyond the vocabulary.
        """
        if not 0 <= start <= stop <= self.num_tokens:
            raise ValueError(f"tokens {start} to {stop}: the split has {self.num_tokens}.")
        tokens = np.empty(stop - start, dtype=np.int64)
        at = start
        while at < stop:
            shard, inside = divmod(at, self._shard_tokens)
            part = self._shards[shard][inside : inside + stop - at]
            if part.max() >= self._vocab_size:
                raise StoreError(
                    f"{self._folder / self._shard_files[shard].name}: damaged: token {part.max()}, "
                    f"but the vocabulary has {self._vocab_size}. `foundling data verify "
                    f"{self._folder}` checks every file."
                )
            tokens[at - start : at - start + len(part)] = part
            at += len(part)
        return tokens

    def document_of(self, offset: int) -> int:
        """The index of the document that holds the token at `offset`."""
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
        self._splits: dict[str, TokenSplit] = {
            name: TokenSplit(path, manifest, split) for name, split in manifest.splits.items()
        }

    @classmethod
    def open(cls, path: Path | str) -> "TokenStore":
        """Map a store; that of a URL (`s3://bucket/folder`) once it is in the cache.

        Raises:
            StoreError: the folder is not a store, is unfinished, or lacks a part.
            OSError: the URL cannot be reached.
        """
        if is_url(path):
            path = remote_store.fetched(str(path))
        path = Path(path)
        if not path.is_dir():
            raise StoreError(f"{path}: no such folder; `foundling data prepare` makes one.")
        if not (path / MANIFEST).is_file():
            shards = any(path.glob("train-*.bin"))
            what = "an unfinished token store" if shards else "not a token store"
            raise StoreError(f"{path}: {what} (no {MANIFEST}); `foundling data prepare` makes one.")
        return cls(path, read_manifest(path))

    def split(self, name: str) -> TokenSplit:
        if name not in self._splits:
            raise StoreError(f'split = "{name}": no such split ({", ".join(SPLITS)}).')
        return self._splits[name]

    def tokenizer(self) -> Tokenizer:
        tokenizer = Tokenizer.load(self.path / TOKENIZER)
        if tokenizer.fingerprint != self.manifest.tokenizer_fingerprint:
            raise StoreError(
                f"{self.path / TOKENIZER}: not the tokenizer that made these tokens; prepare the "
                "data again."
            )
        return tokenizer

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the tokenizer and of all tokens in order, whatever the size of a shard."""
        parts = [self.manifest.tokenizer_fingerprint]
        parts += [self._splits[name].fingerprint for name in SPLITS]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def verify(self) -> None:
        """Read every file and compare its hash.

        Raises:
            StoreError: a file differs from the manifest.
        """
        for entry in self.manifest.files:
            file = self.path / entry.name
            if not file.is_file():
                raise StoreError(f"{file}: missing.")
            with file.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
            if found != entry.sha256:
                raise StoreError(
                    f"{file}: damaged: its SHA-256 is not the manifest's. Prepare the data again."
                )


def _mapped(folder: Path, entry: FileEntry, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    file = folder / entry.name
    if not file.is_file():
        raise StoreError(f"{file}: missing; prepare the data again.")
    size = file.stat().st_size
    if size != entry.num_bytes:
        raise StoreError(f"{file}: has {size} bytes, not the manifest's {entry.num_bytes}.")
    return np.memmap(file, dtype=dtype, mode="r")
