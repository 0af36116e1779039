"""The token store: what was written is what is read, and a broken store never looks whole."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models

from foundling.data.manifest import Manifest, StoreError
from foundling.data.store import TokenStore
from foundling.data.store_writer import StoreWriter
from foundling.text.tokenizer import Tokenizer

ABOUT = {
    "lossless": True,
    "duplicates": 0,
    "skipped": {},
    "ignored": {},
    "sources": (),
    "validation_sources": (),
    "settings": {},
    "licence": None,
    "versions": {},
}
DOCUMENTS = [[0, 7, 8, 1], [0, 1], [0, 9, 9, 9, 9, 9, 1]]


@pytest.fixture(scope="session")
def letters() -> Tokenizer:
    return Tokenizer.characters(["abcdef"])


def write(
    out: Path,
    tokenizer: Tokenizer,
    documents: Sequence[Sequence[int]] = DOCUMENTS,
    *,
    shard_tokens: int = 5,
    overwrite: bool = False,
) -> Manifest:
    with StoreWriter(out, shard_tokens=shard_tokens, overwrite=overwrite) as writer:
        writer.start(tokenizer)
        for name in ("train", "validation"):
            split = writer.split(name)
            for document in documents:
                split.start_document()
                split.extend(document[:2], num_bytes=1)
                split.extend(document[2:], num_bytes=len(document))
        return writer.commit(**ABOUT)


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.lists(st.integers(0, 12), min_size=2, max_size=9), min_size=1, max_size=9),
    st.integers(1, 12),
    st.data(),
)
def test_reading_is_slicing(
    tmp_path_factory: pytest.TempPathFactory,
    letters: Tokenizer,
    documents: list[list[int]],
    shard_tokens: int,
    data: st.DataObject,
) -> None:
    """A plain list is the oracle, whatever the size of a shard."""
    out = tmp_path_factory.mktemp("store") / "s"
    write(out, letters, documents, shard_tokens=shard_tokens)
    split = TokenStore.open(out).split("train")
    flat = [token for document in documents for token in document]
    starts = [sum(map(len, documents[:n])) for n in range(len(documents))]
    start = data.draw(st.integers(0, len(flat)))
    stop = data.draw(st.integers(start, len(flat)))
    tokens = split.read(start, stop)
    assert tokens.dtype == np.int64
    assert tokens.tolist() == flat[start:stop]
    assert (split.num_tokens, split.num_documents) == (len(flat), len(documents))
    assert split.document_starts(start, stop).tolist() == [s for s in starts if start <= s < stop]
    if start < len(flat):
        number = split.document_of(start)
        low, high = split.document_span(number)
        assert low <= start < high
        assert split.read(low, high).tolist() == documents[number]


def test_the_end_of_a_split_is_no_document(tmp_path: Path, letters: Tokenizer) -> None:
    write(tmp_path / "s", letters)
    split = TokenStore.open(tmp_path / "s").split("validation")
    assert split.num_tokens == 13
    assert split.document_starts(0, 99).tolist() == [0, 4, 6]
    assert split.num_bytes == 3 + 13
    for call in (split.document_of, split.document_span):
        for outside in (-1, 13):
            with pytest.raises(ValueError, match="the split has"):
                call(outside)
    for start, stop in ((-1, 2), (2, 14), (3, 2)):
        with pytest.raises(ValueError, match="the split has 13"):
            split.read(start, stop)


def test_the_fingerprint_is_of_tokens_and_not_of_shards(tmp_path: Path, letters: Tokenizer) -> None:
    prints = []
    for name, documents, shard in (
        ("a", DOCUMENTS, 5),
        ("b", DOCUMENTS, 100),
        ("c", [[0, 7], [8, 1], *DOCUMENTS[1:]], 5),
        ("d", [[0, 7, 9, 1], *DOCUMENTS[1:]], 5),
    ):
        write(tmp_path / name, letters, documents, shard_tokens=shard)
        prints.append(TokenStore.open(tmp_path / name).fingerprint)
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_the_tokenizer_comes_along(tmp_path: Path, letters: Tokenizer) -> None:
    manifest = write(tmp_path / "s", letters)
    store = TokenStore.open(tmp_path / "s")
    assert store.tokenizer().fingerprint == letters.fingerprint
    assert store.manifest == manifest
    assert manifest.dtype == "uint16"
    store.verify()


def test_a_large_vocabulary_takes_four_bytes(tmp_path: Path) -> None:
    backend = Backend(models.WordLevel({"<unk>": 0, "</s>": 1, "z": 65536}, unk_token="<unk>"))
    backend.save(str(tmp_path / "tokenizer.json"))
    many = Tokenizer.load(tmp_path)
    assert many.vocab_size == 65537
    manifest = write(tmp_path / "s", many, [[0, 65536, 1]])
    assert manifest.dtype == "uint32"
    assert TokenStore.open(tmp_path / "s").split("train").read(0, 3).tolist() == [0, 65536, 1]


def test_what_is_no_store_is_refused(tmp_path: Path, letters: Tokenizer) -> None:
    with pytest.raises(StoreError, match="no such folder"):
        TokenStore.open(tmp_path / "none")
    with pytest.raises(StoreError, match=r"not a token store \(no manifest\.json\)"):
        TokenStore.open(tmp_path)
    out = tmp_path / "s"
    write(out, letters)
    manifest = out / "manifest.json"
    values = json.loads(manifest.read_text())
    for change, message in (
        ({"version": 99}, "version 99 of the format"),
        ({"format": "x"}, "not the manifest of a token store"),
        ({"dtype": "int3"}, "damaged: dtype"),
        ({"surplus": 1}, "damaged: surplus"),
    ):
        manifest.write_text(json.dumps({**values, **change}))
        with pytest.raises(StoreError, match=message):
            TokenStore.open(out)
    manifest.write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        TokenStore.open(out)
    manifest.unlink()
    with pytest.raises(StoreError, match="an unfinished token store"):
        TokenStore.open(out)


def test_a_damaged_store_is_refused(tmp_path: Path, letters: Tokenizer) -> None:
    out = tmp_path / "s"
    write(out, letters)
    shard = out / "train-00001.bin"
    raw = shard.read_bytes()
    shard.write_bytes(raw[:-2])
    with pytest.raises(StoreError, match=r"train-00001\.bin: has 8 bytes, not the manifest's 10"):
        TokenStore.open(out)
    shard.unlink()
    with pytest.raises(StoreError, match=r"train-00001\.bin: missing"):
        TokenStore.open(out)
    shard.write_bytes(raw[:-1] + b"\1")
    store = TokenStore.open(out)
    with pytest.raises(StoreError, match=r"train-00001\.bin: damaged"):
        store.verify()
    shard.write_bytes(raw)
    store.verify()
    with pytest.raises(StoreError, match=r'"test": no such split \(train, validation\)'):
        store.split("test")


def test_a_token_beyond_the_vocabulary_names_its_shard(tmp_path: Path, letters: Tokenizer) -> None:
    out = tmp_path / "s"
    write(out, letters)
    shard = out / "train-00001.bin"
    raw = bytearray(shard.read_bytes())
    raw[4:6] = (13).to_bytes(2, "little")  # the vocabulary ends at 12
    shard.write_bytes(raw)
    split = TokenStore.open(out).split("train")
    assert split.read(0, 7).tolist() == [0, 7, 8, 1, 0, 1, 0]
    for start, stop in ((0, 8), (7, 8), (3, 13)):
        with pytest.raises(
            StoreError, match=r"1\.bin: damaged: token 13, but .* `foundling data ver"
        ):
            split.read(start, stop)


def test_an_error_or_a_missing_commit_leaves_nothing(tmp_path: Path, letters: Tokenizer) -> None:
    def interrupted() -> None:
        with StoreWriter(tmp_path / "s") as writer:
            writer.start(letters)
            writer.split("train").start_document()
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    with StoreWriter(tmp_path / "s") as writer:
        writer.start(letters)
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_replaced_only_when_told_and_only_a_store(
    tmp_path: Path, letters: Tokenizer
) -> None:
    out = tmp_path / "s"
    out.mkdir()
    write(out, letters)  # an empty folder is no loss
    before = TokenStore.open(out).fingerprint
    with pytest.raises(StoreError, match="exists already"):
        write(out, letters, DOCUMENTS[:1])
    assert TokenStore.open(out).fingerprint == before
    write(out, letters, DOCUMENTS[:1], overwrite=True)
    assert TokenStore.open(out).fingerprint != before
    assert list(tmp_path.iterdir()) == [out]
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    (precious / "manifest.json").write_text('{"format": "another"}')
    with pytest.raises(StoreError, match="is not a token store"):
        write(precious, letters, overwrite=True)
    assert (precious / "thesis.txt").exists()
    with pytest.raises(StoreError, match="shard_tokens = 0"):
        write(tmp_path / "t", letters, shard_tokens=0)


def test_a_store_that_appears_meanwhile_is_kept(tmp_path: Path, letters: Tokenizer) -> None:
    out = tmp_path / "s"
    write(tmp_path / "other", letters)
    with StoreWriter(out) as writer:
        writer.start(letters)
        for name in ("train", "validation"):
            writer.split(name).start_document()
            writer.split(name).extend([0, 1])
        os.rename(tmp_path / "other", out)
        with pytest.raises(StoreError, match="exists already"):
            writer.commit(**ABOUT)
    assert TokenStore.open(out).split("train").num_tokens == 13
    assert list(tmp_path.iterdir()) == [out]
