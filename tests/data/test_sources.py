"""The sources: every kind of file, every kind of fault, and pieces that lose nothing."""

import codecs
import gzip
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from foundling.data import documents, source_errors
from foundling.data.documents import Document, cut
from foundling.data.readers import source_file
from foundling.data.readers.plain_text import split_at
from foundling.data.source_errors import SourceError
from foundling.data.sources import Sources
from foundling.text.tokenizer import Tokenizer


def texts(*inputs: str | Path, **settings: object) -> list[str]:
    return [document.text for document in Sources(inputs, **settings)]  # type: ignore[arg-type]


def names(*inputs: str | Path, **settings: object) -> list[str]:
    return [document.source for document in Sources(inputs, **settings)]  # type: ignore[arg-type]


def rows(*values: object) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def write(path: Path, raw: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    return path


# ---------------------------------------------------------------------- what is read


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "\ufeffnaïve\r\n 🦉".encode())
    (document,) = Sources([file])
    assert document.text == "naïve\r\n 🦉"  # the mark of the encoding goes, all else stays
    assert (document.num_characters, document.num_bytes) == (9, 13)
    assert document.source == str(file)
    assert document.whole_file


def test_a_separator_parts_documents(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", b"one\n<|endoftext|>two<|endoftext|>\n\n<|endoftext|>three")
    assert texts(file, separator="<|endoftext|>") == ["one\n", "two", "three"]
    assert names(file, separator="<|endoftext|>") == [f"{file}#{n}" for n in (1, 2, 3)]


PACK: dict[str, Callable[[bytes], bytes]] = {
    "": lambda raw: raw,
    ".gz": gzip.compress,
    ".zst": lambda raw: zstandard.compress(raw[:9]) + zstandard.compress(raw[9:]),
}


@pytest.mark.parametrize("packed", PACK)
def test_json_lines_and_text_packed_or_not(tmp_path: Path, packed: str) -> None:
    raw = rows({"text": "one", "n": 1}) + b"\n  \n" + rows({"text": "two\u2028\n"})[:-1]
    raw = codecs.BOM_UTF8 + raw
    file = write(tmp_path / f"a.jsonl{packed}", PACK[packed](raw))
    assert texts(file) == ["one", "two\u2028\n"]
    assert names(file) == [f"{file}:1", f"{file}:4"]
    book = write(tmp_path / f"b.TXT{packed.upper()}", PACK[packed](b"a book of text"))
    assert texts(book) == ["a book of text"]


def test_parquet(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    table = pyarrow.table({"body": [f"row {n}" for n in range(1000)], "n": range(1000)})
    pyarrow.parquet.write_table(table, file, row_group_size=300)
    sources = Sources([file], text_field="body")
    assert [document.text for document in sources] == [f"row {n}" for n in range(1000)]
    assert sources.bytes_read == sources.total_bytes == file.stat().st_size
    assert names(file, text_field="body")[-1] == f"{file}#1000"


@pytest.mark.parametrize("packed", PACK)
@pytest.mark.parametrize("ending", [".txt", ".md", ".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_every_kind_is_found_in_a_folder_packed_or_not(
    tmp_path: Path, ending: str, packed: str
) -> None:
    parquet = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"n": [1, 2], "text": ["one", "two"]}), parquet)
    raw = {
        ".jsonl": rows({"n": 1, "text": "one"}, {"text": "two"}),
        ".json": b'[{"text": "one"},\n {"text": "two"}]',
        ".csv": b"n,text\n1,one\n2,two\n",
        ".tsv": b"n\ttext\n1\tone\n2\ttwo\n",
        ".parquet": parquet.getvalue(),
    }.get(ending, b"one")
    write(tmp_path / f"a{ending}{packed}", PACK[packed](raw))
    sources = Sources([tmp_path])
    found = [document.text for document in sources]
    assert found == (["one"] if ending in (".txt", ".md") else ["one", "two"])
    assert sources.bytes_read == sources.total_bytes
    assert not sources.ignored


def test_a_field_within_a_field(tmp_path: Path) -> None:
    values = [{"doc": {"text": "one", "id": 1}}, {"doc.text": "two"}, {"doc": "x"}, {"doc": {}}]
    file = write(tmp_path / "a.jsonl", rows(*values))
    sources = Sources([file], text_field="doc.text", on_error="skip")
    assert [document.text for document in sources] == ["one", "two"]
    assert sources.skipped == {"missing field": 2}
    table = pyarrow.Table.from_pylist([{"n": 1, "doc": {"text": "three", "n": 2}}])
    pyarrow.parquet.write_table(table, tmp_path / "b.parquet")
    assert texts(tmp_path / "b.parquet", text_field="doc.text") == ["three"]
    with pytest.raises(SourceError, match=r'no field "doc\.x"; it has: doc\. .* by --text-field'):
        texts(tmp_path / "b.parquet", text_field="doc.x")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'\n{"text": "one"}\n{"text": "two"}\n', ["one", "two"]),
        (b"{once upon a time}\n", ["{once upon a time}\n"]),
        (b"[1]\n", ["[1]\n"]),
    ],
)
def test_standard_input_is_rows_or_a_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: bytes, expected: list[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    file = write(tmp_path / "a.txt", b"zero")
    sources = Sources(["-", file], spool=tmp_path)
    for _ in range(2):
        assert [document.text for document in sources] == [*expected, "zero"]
        assert next(document.source for document in sources) in ("-:2", "-")
    assert sources.read_once is None
    assert sources.sizes == {"-": len(raw), str(file): 4}


def test_other_encodings(tmp_path: Path) -> None:
    text = "naïve\r\n東京 🦉\n"
    for encoding in ("utf-8-sig", "utf-16", "utf-32", "utf-8"):
        write(tmp_path / f"{encoding}.txt", text.encode(encoding))
    big = codecs.BOM_UTF16_BE + json.dumps({"text": text}, ensure_ascii=False).encode("utf-16-be")
    write(tmp_path / "z.jsonl", big)
    assert texts(tmp_path) == [text] * 5
    assert texts(tmp_path, encoding="latin-1")[2:] != [text] * 3  # only where there is no mark
    unmarked = write(tmp_path / "b" / "u.txt", text.encode("utf-16-le"))
    assert texts(unmarked, encoding="utf-16-le") == [text]
    latin = write(tmp_path / "b" / "l.csv", "text\ncafé\n".encode("latin-1"))
    with pytest.raises(SourceError, match=r"l\.csv:2: not UTF-8.* --encoding NAME .*--on-error"):
        texts(latin)
    assert texts(latin, encoding="latin-1") == ["café"]
    with pytest.raises(SourceError, match=r"l\.csv: not ascii: .*0xe9"):
        texts(latin, encoding="ascii")
    for encoding in ("latin-0", "base64", "rot13"):
        with pytest.raises(SourceError, match=f"--encoding {encoding}: no such encoding of text"):
            Sources([latin], encoding=encoding)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_line_ends_are_kept_or_made_lf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(source_file, "READ_BYTES", size)
    file = write(tmp_path / "a.txt", b"one\r\n\r\ntwo\rthree\nfour")
    rows_file = write(tmp_path / "b.jsonl", rows({"text": "a\r\nb"}))
    assert texts(file, rows_file) == ["one\r\n\r\ntwo\rthree\nfour", "a\r\nb"]
    assert texts(file, rows_file, newlines="lf") == ["one\n\ntwo\nthree\nfour", "a\nb"]
    assert texts(file, separator="\n\n", newlines="lf") == ["one", "two\nthree\nfour"]


def test_a_separator_that_stands_nowhere_is_refused(tmp_path: Path) -> None:
    crlf = write(tmp_path / "a.txt", b"one\r\n\r\ntwo")
    with pytest.raises(SourceError, match=r'"\\n\\n": does not occur .*--newlines lf'):
        texts(crlf, separator="\n\n")
    other = write(tmp_path / "b.txt", b"three\n\nfour")
    sources = Sources([crlf, other], separator="\n\n")
    assert [document.text for document in sources] == ["one\r\n\r\ntwo", "three", "four"]
    assert sources.undivided == 1
    lines = write(tmp_path / "c.jsonl", rows({"text": "a"}))
    assert texts(lines, separator="\n\n") == ["a"]  # of text files alone


def test_folders_and_globs_are_sorted_and_count_what_they_leave(tmp_path: Path) -> None:
    for name in ("b.txt", "sub/a.md", "a.txt", ".git/x.txt", "notes.pdf", "README", ".h.txt"):
        write(tmp_path / name, name.encode())
    sources = Sources([tmp_path])
    assert [document.text for document in sources] == ["a.txt", "b.txt", "sub/a.md"]
    assert sources.ignored == {".pdf": 1, "no suffix": 1, "hidden": 1}
    assert texts(tmp_path / "*.txt") == ["a.txt", "b.txt"]
    assert texts(tmp_path / "**" / "*.md") == ["sub/a.md"]
    odd = write(tmp_path / "odd[1].txt", b"odd")
    assert texts(odd) == ["odd"]  # a name that exists is no pattern


def test_tables_beside_texts_are_read_where_they_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "a.txt", b"one")
    write(tmp_path / "b.jsonl", rows({"text": "two"}))
    write(tmp_path / "metadata.json", b'{"by": "me"}')
    index = write(tmp_path / "sub" / "Index.CSV", b"text\nthree\n")
    sources = Sources([tmp_path])
    assert [document.text for document in sources] == ["one", "two"]
    assert sources.ignored == {".json": 1, ".CSV": 1}
    assert "metadata.json and 1 more: ignored, as a table beside text files" in caplog.text
    assert texts(tmp_path, index) == ["one", "two", "three"]
    assert texts(tmp_path / "*" / "*.CSV") == texts(tmp_path / "sub") == ["three"]


def test_reading_twice_gives_the_same(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", rows({"text": "a"}, {}))
    sources = Sources([tmp_path], on_error="skip")
    for _ in range(2):
        assert [document.text for document in sources] == ["a"]
        assert sources.skipped == {"missing field": 1}
        assert sources.bytes_read == sources.total_bytes


# ---------------------------------------------------------------------- what is refused

FAULTS = {
    "empty.txt": (b"", "empty file", r"empty\.txt: the file is empty"),
    "blank.txt": (b" \n\n", "empty file", r"blank\.txt: nothing but white space"),
    "latin.txt": (b"one\ntwo\ncaf\xe9 au lait", "not UTF-8", r"latin\.txt:3: .*byte 11 of"),
    "cut.txt": ("ab\né".encode()[:-1], "not UTF-8", r"cut\.txt:2: not UTF-8 at byte 3 of"),
    "utf16.txt": ("hi".encode("utf-16")[:-1], "wrong encoding", r"utf16\.txt: not utf-16: .*trunc"),
    "utf16 ascii.txt": ("hi\n".encode("utf-16-le"), "wrong encoding", r"much of it is NUL"),
    "utf16 unmarked.txt": ("hï".encode("utf-16-le"), "not UTF-8", r"\.txt:1: not UTF-8 at byte 2"),
    "field.jsonl": (
        rows({"text": "a"}, {"body": "b", "id": 1}),
        "missing field",
        r'field\.jsonl:2: no field "text"; it has: body, id\.',
    ),
    "broken.jsonl": (
        rows({"text": "a"}) + b'{"text": "b"\n',
        "broken JSON",
        r"jsonl:2: not a JSON",
    ),
    "list.jsonl": (b"[1]\n", "broken JSON", r"list\.jsonl:1: a JSON list, not an object"),
    "latin.jsonl": (b'{"text": "caf\xe9"}\n', "not UTF-8", r"jsonl:1: not UTF-8 at byte 13"),
    "number.jsonl": (rows({"text": 4}), "not a text", r'jsonl:1: the field "text" is 4'),
    "void.jsonl": (rows({"text": " "}), "empty text", r'jsonl:1: the field "text" is empty'),
    "half.jsonl": (b'{"text": "a\\ud800"}\n', "not Unicode", r"jsonl:1: half of .*U\+D800"),
    "newlines.jsonl": (b"\n\n", "empty file", r"newlines\.jsonl: holds no document"),
    "cut.jsonl.gz": (gzip.compress(rows({"text": "a"}) * 99)[:-9], "corrupt file", r"gz: corrupt"),
    "noise.txt.gz": (b"no gzip at all", "corrupt file", r"noise\.txt\.gz: corrupt or cut short"),
    "flip.txt.gz": (
        gzip.compress(b"hello" * 50)[:-8] + b"\0" * 8,
        "corrupt file",
        r"flip\.txt\.gz: corrupt",
    ),
    "cut.txt.zst": (zstandard.compress(bytes(range(65, 91)) * 99)[:-5], "corrupt file", "zst: cor"),
    "noise.txt.zst": (b"no zstd at all", "corrupt file", r"noise\.txt\.zst: corrupt"),
    "noise.parquet": (b"no parquet at all", "corrupt file", r"noise\.parquet: not readable"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_bad_input_stops_with_its_file_and_line_or_is_counted(tmp_path: Path, name: str) -> None:
    raw, reason, message = FAULTS[name]
    write(tmp_path / name, raw)
    write(tmp_path / "zz good.txt", b"good")
    with pytest.raises(SourceError, match=message) as caught:
        list(Sources([tmp_path]))
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)
    sources = Sources([tmp_path], on_error="skip")
    assert [document.text for document in sources][-1] == "good"
    assert sources.skipped[reason] == 1


def test_all_files_at_fault_are_listed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.txt", b"good")
    write(tmp_path / "b.txt", b"")
    write(tmp_path / "c.txt", b"caf\xe9")
    write(tmp_path / "d.jsonl", rows({"text": "a"}, {"body": 1}, {"body": 2}))
    os.symlink(tmp_path / "nowhere", tmp_path / "e.txt")
    write(tmp_path / "f.txt", b"good too")
    with pytest.raises(SourceError) as caught:
        list(Sources([tmp_path]))
    message = str(caught.value)
    assert message.startswith("4 files are at fault: ")
    found = [message.index(name) for name in ("b.txt: the file is", "c.txt:1: not", "d.jsonl:2:")]
    assert found == sorted(found)
    assert f"e.txt: a broken link to {tmp_path / 'nowhere'}" in message
    assert message.endswith("latin-1 or utf-16. --on-error skip leaves out what cannot be read.")
    assert "\n" not in message
    assert "d.jsonl:3" not in message  # one of each file
    sources = Sources([tmp_path], on_error="skip")
    assert [document.text for document in sources] == ["good", "a", "good too"]
    assert sources.skipped["broken link"] == 1
    monkeypatch.setattr(source_errors, "MOST_FAULTS", 2)
    with pytest.raises(SourceError, match=r"^2 or more files"):
        list(Sources([tmp_path]))


def test_a_fault_in_a_stream_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: object, **__: object) -> object:
        yield {"text": 1}
        raise AssertionError("read on")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(SourceError, match=r'^hub:owner/name#1: the field "text" is 1\. --on-error'):
        list(Sources(["hub:owner/name", "hub:owner/other"]))


def test_links(tmp_path: Path) -> None:
    write(tmp_path / "real" / "a.txt", b"text")
    folder = tmp_path / "folder"
    folder.mkdir()
    os.symlink(tmp_path / "real" / "a.txt", folder / "file.txt")
    os.symlink(tmp_path / "real", folder / "sub")
    sources = Sources([folder])
    assert [document.text for document in sources] == ["text"]
    assert sources.ignored == {"links to folders": 1}
    os.symlink("gone.txt", folder / "dangling.txt")
    for named in (folder, folder / "dangling.txt", folder / "d*.txt"):
        with pytest.raises(SourceError, match=r"dangling\.txt: a broken link to gone\.txt\."):
            list(Sources([named]))
    assert texts(folder, on_error="skip") == ["text"]


def test_a_fault_far_into_a_file_is_placed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_file, "READ_BYTES", 7)
    raw = "aé\n東京🦉\n".encode() * 9
    write(tmp_path / "a.txt", raw + b"x\xff")
    with pytest.raises(SourceError, match=rf"a\.txt:19: not UTF-8 at byte {len(raw) + 1} of"):
        list(Sources([tmp_path]))


def test_an_empty_file_is_not_called_one_document(tmp_path: Path) -> None:
    assert not Sources([write(tmp_path / "a.txt", b"")]).is_one_document
    assert Sources([write(tmp_path / "b.txt", b"text")]).is_one_document


def test_inputs_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file or folder"):
        Sources([tmp_path / "none.txt"])
    with pytest.raises(SourceError, match=r"no file of a kind that is read .*found nothing"):
        Sources([tmp_path / "*.txt"])
    with pytest.raises(SourceError, match=r"no file of a kind .*\.jsonl.*\.zst.*found nothing"):
        Sources([tmp_path])
    picture = write(tmp_path / "a.png", b"x")
    with pytest.raises(SourceError, match=r"no file of a kind .*found 1 \.png"):
        Sources([tmp_path])
    with pytest.raises(SourceError, match=r"no file of a kind that is read \(\.txt"):
        Sources([picture])
    with pytest.raises(SourceError, match=r"\*\.png: no file of a kind .*found 1 \.png"):
        Sources([tmp_path / "*.png"])
    with pytest.raises(SourceError, match="No input"):
        Sources([])
    with pytest.raises(SourceError, match="separator is empty"):
        Sources([picture], separator="")


def test_a_parquet_file_without_the_field_names_its_columns(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"body": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match=r'a\.parquet: no field "text"; it has: body'):
        list(Sources([tmp_path]))


def test_the_hub_without_its_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SourceError, match=r'pip install "foundling\[hub\]"'):
        list(Sources(["hub:owner/name:config@train"]))


def test_the_hub_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the network: the arguments as `datasets` documents them."""
    asked: list[tuple[object, ...]] = []

    def load_dataset(name: str, config: str | None, *, split: str, streaming: bool) -> object:
        asked.append((name, config, split, streaming))
        yield {"text": "one"}
        yield {"text": "two"}
        if config is None:
            raise ConnectionError("no route\nto host")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    sources = Sources(["hub:owner/name:small@test"])
    assert [(d.text, d.source[-2:]) for d in sources] == [("one", "#1"), ("two", "#2")]
    assert sources.total_bytes is None
    assert sources.read_once is None
    with pytest.raises(SourceError, match="hub:owner/name: ConnectionError: no route to host"):
        list(Sources(["hub:owner/name"]))
    assert asked == [("owner/name", "small", "test", True), ("owner/name", None, "train", True)]


# ---------------------------------------------------------------------- pieces

settings.register_profile("foundling", deadline=None)
settings.load_profile("foundling")
UNEVEN = st.lists(st.text(st.sampled_from("ab \n\t é東.'1\r"), max_size=30), max_size=8)


@given(UNEVEN, st.integers(1, 12))
def test_pieces_lose_nothing_and_do_not_depend_on_how_the_text_came(
    strings: list[str], size: int
) -> None:
    whole = "".join(strings)
    pieces = list(cut(strings, size))
    assert "".join(pieces) == whole
    assert all(0 < len(piece) <= size for piece in pieces)
    assert pieces == list(cut([whole], size)) == list(cut(whole, size))


WORDS = st.sampled_from(["a", "cat's", "12", "...", "«é»"])
GAPS = st.sampled_from(["\n", "   ", "\n\n", "  \n", "\r\n\t", " ", "\n ", ""])


@pytest.fixture(scope="session")
def small() -> Tokenizer:
    return Tokenizer.train_bytes(["a cat's\n\n12    a  \n...\r\n\ta\n a\n\n\n "] * 9, 330)


@given(st.lists(st.tuples(WORDS, GAPS, WORDS), min_size=12), st.integers(28, 40))
def test_the_tokens_of_pieces_are_those_of_the_whole(
    small: Tokenizer, words: list[tuple[str, str, str]], size: int
) -> None:
    text = " ".join(map("".join, words))  # a good place to cut in each 14 characters
    pieces = list(cut([text], size))
    assert len(pieces) > 1
    assert [id for piece in pieces for id in small.encode(piece)] == small.encode(text)


@given(st.lists(st.text("ab", max_size=9)), st.sampled_from(["a", "ab", "aba", "bbb"]))
def test_separators_are_found_across_borders(strings: list[str], separator: str) -> None:
    found: dict[int, str] = {}
    for number, text in split_at(strings, separator):
        found[number] = found.get(number, "") + text
    assert list(found) == list(range(len(found)))
    assert list(found.values()) == "".join(strings).split(separator)


@pytest.mark.parametrize("long", [False, True])
def test_a_part_of_a_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long: bool) -> None:
    monkeypatch.setattr(source_file, "READ_BYTES", 16)
    monkeypatch.setattr(documents, "MEMORY_CHARACTERS", 32 if long else 1000)
    text = "été 東京 " * 20
    file = write(tmp_path / "a.txt", text.encode())
    for document in Sources([file], spool=tmp_path):
        assert isinstance(document, Document)
        assert (document._spool is not None) == long
        for start, stop in ((0, None), (0, 33), (33, None), (5, 5), (7, 90)):
            assert "".join(document.pieces(start, stop, 10)) == text[start:stop]
        assert document.text == text
    assert list(tmp_path.iterdir()) == [file]
