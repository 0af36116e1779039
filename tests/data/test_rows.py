"""Rows of every kind of file, each with its place, and faults that name theirs."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from foundling.data.readers import ROW_READERS, delimited, json_array
from foundling.data.readers.source_file import SourceFile
from foundling.data.rows import Rows
from foundling.data.source_errors import SourceError

VALUES = [{"question": 'a, b\n"c"', "answer": "é"}, {"question": " 東京", "answer": "x\ty"}]
CSV = 'question,answer\n"a, b\n""c""",é\n 東京,x\ty\n'
TSV = 'question\tanswer\r\n"a, b\n""c"""\té\r\n\r\n 東京\t"x\ty"'
LINES = "".join(json.dumps(value) + "\n" for value in VALUES)
RAW: dict[str, tuple[str, list[str]]] = {
    "a.jsonl": (LINES, ["a.jsonl:1", "a.jsonl:2"]),
    "a.json": (json.dumps(VALUES, indent=1), ["a.json:2", "a.json:6"]),
    "a.csv": ("\ufeff" + CSV, ["a.csv:2", "a.csv:4"]),
    "a.TSV": (TSV, ["a.TSV:2", "a.TSV:5"]),
}
PACK: dict[str, Callable[[bytes], bytes]] = {
    "": lambda raw: raw,
    ".gz": gzip.compress,
    ".zst": zstandard.compress,
}


def write(path: Path, raw: str | bytes) -> Path:
    path.write_bytes(raw.encode() if isinstance(raw, str) else raw)
    return path


@pytest.mark.parametrize(
    ("name", "packed"),
    [(name, packed) for name in RAW for packed in PACK if name != "a.json" or not packed],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, packed: str) -> None:
    raw, places = RAW[name]
    file = write(tmp_path / (name + packed), PACK[packed](raw.encode()))
    found = list(Rows([file]))
    assert [row for _, row in found] == VALUES
    expected = [place.replace(name, f"{name}{packed}") for place in places]
    assert [Path(where).name for where, _ in found] == expected


def test_parquet_keeps_nested_values(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": str(n)}], "n": n} for n in range(600)]
    file = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    found = list(Rows([file]))
    assert found == [(f"{file}#{n + 1}", row) for n, row in enumerate(rows)]


def test_a_folder_is_read_in_order_and_what_is_left_is_counted(tmp_path: Path) -> None:
    write(tmp_path / "b.csv", "a\n1\n")
    write(tmp_path / "a.jsonl", '{"a": "0"}')
    write(tmp_path / "notes.txt", "no row")
    rows = Rows([tmp_path])
    assert [row[1] for row in rows] == [{"a": "0"}, {"a": "1"}]
    assert rows.ignored == {".txt": 1}
    with pytest.raises(SourceError, match=r"a kind that is read \(\.jsonl, .*\.parquet; also as"):
        Rows([tmp_path / "notes.txt"])


FAULTS = {
    "e.jsonl": ("", r"e\.jsonl: the file is empty"),
    "head.csv": ("a,b\n", r"head\.csv: holds no row"),
    "none.json": (" [ ] ", r"none\.json: holds no row"),
    "list.jsonl": ("[1]", r"list\.jsonl:1: a JSON list, not an object"),
    "o.json": ('{"a": 1}', r"o\.json: an object, not an array of objects; .* name it \.jsonl"),
    "n.json": ("7", r"n\.json: not a JSON array"),
    "two.json": ("[{},\n{}\n] []", r"two\.json:3: text after the array"),
    "no.json": ("[{},\n{}\n {}]", r"no\.json:3: neither a comma nor the array's end"),
    "cut.json": ('[{"a": 1},\n\n{"b', r"cut\.json:3: not a JSON value"),
    "open.json": ('[{"a": 1}', r"open\.json:1: neither a comma"),
    "text.json": ('[{"a": 1},\n "b"]', r"text\.json:2: a JSON str, not an object"),
    "wide.csv": ('a,b\n"x\ny",1\n1,2,3\n', r"wide\.csv:4: 3 fields, but the header has 2"),
    "twice.csv": ("a,b,a\n1,2,3\n", r'twice\.csv:1: the header names "a" more than once'),
    "quote.csv": ('a,b\n1,2\n"x,3\n', r"quote\.csv:3: unexpected end of data"),
    "stray.csv": ('a,b\n"x"y,3\n', r"stray\.csv:2: .*expected after"),
    "latin.csv": (b"a,b\ncaf\xe9,1\n", r"latin\.csv:2: not UTF-8"),
    "noise.parquet": ("no parquet", r"noise\.parquet: not readable as parquet"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_names_its_place_and_the_next_file_is_read(tmp_path: Path, name: str) -> None:
    raw, message = FAULTS[name]
    file = write(tmp_path / name, raw)
    good = write(tmp_path / "good.jsonl", '{"a": 1}')
    faults: list[SourceError] = []
    found = list(Rows([file, good]).read(faults.append))
    assert found[-1] == (f"{good}:1", {"a": 1})
    assert len(faults) == 1
    with pytest.raises(SourceError, match=message):
        raise faults[0]
    assert "\n" not in str(faults[0])


def test_all_files_at_fault_are_listed_at_once(tmp_path: Path) -> None:
    for name in ("latin.csv", "cut.json", "e.jsonl", "wide.csv"):
        write(tmp_path / name, FAULTS[name][0])
    write(tmp_path / "good.jsonl", '{"a": 1}')
    write(tmp_path / "utf16.csv", "a,b\né,1\n".encode("utf-16"))
    with pytest.raises(SourceError) as caught:
        list(Rows([tmp_path]))
    message = str(caught.value)
    assert message.startswith("4 files are at fault: ")
    assert all(message.count(name) == 1 for name in ("latin.csv:2", "cut.json", "e.jsonl", "wide."))
    assert message.endswith("fields, but the header has 2. Save it as UTF-8.")
    assert list(Rows([tmp_path / "utf16.csv"])) == [
        (f"{tmp_path / 'utf16.csv'}:2", {"a": "é", "b": "1"})
    ]


def test_a_field_may_be_longer_than_the_csv_modules_limit(tmp_path: Path) -> None:
    text = "word " * 100_000
    file = write(tmp_path / "a.csv", f"a\n{text}\n")
    assert [row for _, row in delimited.rows(SourceFile(str(file), 1))] == [{"a": text}]


settings.register_profile("foundling", deadline=None)
settings.load_profile("foundling")
JSON = st.one_of(st.none(), st.integers(), st.text(max_size=5), st.lists(st.text(max_size=2)))


@settings(max_examples=40)
@given(st.lists(st.dictionaries(st.text(max_size=3), JSON), max_size=5), st.sampled_from([None, 2]))
def test_an_array_gives_its_objects_each_on_its_line(
    tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, Any]], indent: int | None
) -> None:
    text = json.dumps(values, indent=indent)
    file = write(tmp_path_factory.mktemp("json") / "a.json", text)
    found = list(json_array.rows(SourceFile(str(file), 1)))
    assert [row[1] for row in found if not isinstance(row, SourceError)] == values
    for row in found:
        assert not isinstance(row, SourceError)
        line = text.split("\n")[int(row[0].rsplit(":")[-1]) - 1]
        assert line.lstrip(" [").startswith("{")


def test_no_ending_hides_another() -> None:
    for name in ("a.csv.gz", "a.jsonl.zst", "a.json"):
        assert sum(name.endswith(ending) for ending in ROW_READERS) == 1
