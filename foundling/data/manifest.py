"""The manifest of a token store; its presence is the commit."""

import itertools
import json
from pathlib import Path
from typing import Any, Literal

from foundling.base.config import ConfigError, Section

FORMAT: Literal["foundling-tokens"] = "foundling-tokens"
VERSION = 1
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer"  # the folder of its files

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
    """What one split holds; `tokens_sha256` hashes its tokens, whatever the size of a shard."""

    num_documents: int
    num_tokens: int  # including begin and end of text
    num_bytes: int  # of the text, in UTF-8
    shards: tuple[FileEntry, ...]
    documents: FileEntry
    tokens_sha256: str


class SourceEntry(Section):
    """One input file; its size is unknown for a pipe or the hub."""

    name: str
    num_bytes: int | None


class Manifest(Section):
    """What a store holds, and how it was made."""

    format: Literal["foundling-tokens"] = FORMAT
    version: int = VERSION
    dtype: Literal["uint16", "uint32"]
    shard_tokens: int
    vocab_size: int
    tokenizer_fingerprint: str
    tokenizer_files: tuple[FileEntry, ...]
    train: SplitManifest
    validation: SplitManifest
    lossless: bool  # every sampled text came back from its tokens
    duplicates: int
    skipped: dict[str, int]  # by reason
    ignored: dict[str, int]  # files that were not read, by suffix
    sources: tuple[SourceEntry, ...]
    validation_sources: tuple[SourceEntry, ...]
    settings: dict[str, Any]
    licence: str | None
    versions: dict[str, str]

    @property
    def splits(self) -> dict[SplitName, SplitManifest]:
        return {"train": self.train, "validation": self.validation}

    @property
    def files(self) -> list[FileEntry]:
        """All that a store holds beside its manifest."""
        splits = [[*split.shards, split.documents] for split in self.splits.values()]
        return [*self.tokenizer_files, *itertools.chain(*splits)]


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the store in `folder`.

    Raises:
        StoreError: it belongs to no token store, has another version, or is damaged.
    """
    file = folder / MANIFEST
    values = _values(file)
    if values.get("format") != FORMAT:
        raise StoreError(f"{file}: not the manifest of a token store.")
    if values.get("version") != VERSION:
        raise StoreError(
            f"{file}: version {values.get('version')} of the format, but this Foundling reads "
            f"{VERSION}. Prepare the data again."
        )
    try:
        return Manifest.parse(values)
    except ConfigError as error:
        raise StoreError(f"{file}: damaged: {error}") from None


def holds_store(folder: Path) -> bool:
    """Whether `folder` holds a token store, of any version."""
    file = folder / MANIFEST
    return file.is_file() and _values(file).get("format") == FORMAT


def _values(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise StoreError(f"{file}: damaged: {error}.") from None
    return values if isinstance(values, dict) else {}
