"""`foundling data prepare` as it is typed: its options, what it says, and its exit codes."""

import io
import json
import sys
from pathlib import Path

import pytest

from foundling import cli
from foundling.data.store import TokenStore


def prepare(*arguments: object) -> int:
    return cli.exit_code(lambda: cli.app(["data", "prepare", *map(str, arguments)]))


def documents(out: Path) -> set[str]:
    store = TokenStore.open(out)
    found = set()
    for name in ("train", "validation"):
        split = store.split(name)
        for number in range(split.num_documents):
            ids = split.read(*split.document_span(number)).tolist()
            found.add(store.tokenizer().decode(ids))
    return found


def test_a_separator_is_typed_with_escapes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\r\n\r\ntwo\r\n\r\nthree\\n")
    base = (tmp_path / "a.txt", "--tokenizer", "characters", "--overwrite", "--out", tmp_path / "s")
    assert prepare(*base, "--separator", r"\n\n", "--newlines", "lf") == 0
    assert documents(tmp_path / "s") == {"one", "two", "three\\n"}
    assert prepare(*base, "--separator", r"\r\n\r\n") == 0
    assert documents(tmp_path / "s") == {"one", "two", "three\\n"}
    assert prepare(*base, "--separator", r"\\n", "--validation-fraction", 0.5) == 2


def test_a_separator_that_does_not_occur_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("one two")
    assert prepare(tmp_path / "a.txt", "--separator", r"\t", "--out", tmp_path / "s") == 2
    assert r'--separator "\t": does not occur' in capsys.readouterr().err


@pytest.mark.parametrize("size", [0, -1, 262])
def test_a_vocabulary_too_small_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], size: int
) -> None:
    assert prepare(tmp_path / "none.txt", "--vocab-size", size, "--out", tmp_path / "s") == 2
    assert f"--vocab-size {size}: byte-level BPE needs at least 263" in capsys.readouterr().err


def test_the_summary_says_the_size_and_whether_text_comes_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, normalizers, pre_tokenizers

    backend = Backend(models.WordLevel({"<unk>": 0, "</s>": 1, "one": 2}, unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "a.txt").write_text("One two three")
    base = (tmp_path / "a.txt", "--validation-tail", 0.4, "--json", "--out")
    assert prepare(*base, tmp_path / "s", "--tokenizer", tmp_path / "tokenizer.json") == 0
    captured = capsys.readouterr()
    assert "tokenizer: 3 tokens, lossy" in captured.err
    assert json.loads(captured.out)["lossless"] is False
    assert prepare(*base, tmp_path / "t", "--vocab-size", 9000) == 0
    captured = capsys.readouterr()
    size = json.loads(captured.out)["vocab_size"]
    assert f"tokenizer: {size} tokens, lossless" in captured.err


def test_standard_input_trains_a_tokenizer_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "".join(json.dumps({"doc": {"text": f"text {n}"}}) + "\n" for n in range(9))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    assert prepare("-", "--text-field", "doc.text", "--out", tmp_path / "s") == 0
    assert documents(tmp_path / "s") == {f"text {n}" for n in range(9)}
    store = TokenStore.open(tmp_path / "s")
    assert [source.name for source in store.manifest.sources] == ["-"]
    named = {path.name.split("-")[0].split(".")[0] for path in (tmp_path / "s").iterdir()}
    assert named == {"manifest", "tokenizer", "train", "validation"}
