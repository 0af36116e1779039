"""The verbs about preferences as a user meets them: figures, files, one-line errors."""

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foundling import cli
from foundling.data.reading import read_pairs
from foundling.preferences.leasing import Leasing
from foundling.preferences.records import Answer, Pair, Vote
from foundling.preferences.store import PreferenceStore
from foundling.reports.names import short_names
from foundling.text.chat import Message

MakePair = Callable[..., Pair]


def call(*arguments: object) -> int:
    return cli.exit_code(lambda: cli.app(["preferences", *map(str, arguments)]))


def last_json(captured: str) -> Any:
    return json.loads(captured.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two annotators on 12 pairs, with repeats, ratings, ties and a gold item."""
    file = tmp_path_factory.mktemp("filled") / "votes.db"
    with PreferenceStore.open(file) as store:
        for number in range(13):
            prompt = (Message("user", f"question {number}"),)
            answers = Answer(f"first {number}", "old"), Answer(f"second {number}, longer", "new")
            store.add_pair(Pair(prompt, *answers, gold="A" if number == 12 else None))
        settings = Leasing(overlap=2, repeat_share=0.5, repeat_gap=1)
        for name, simulated in (("Ann", False), ("rule <b>", True)):
            store.add_annotator(name, simulated=simulated)
            for count in range(40):
                item = store.lease_next(name, settings)
                if item is None:
                    break
                by = item.pair_id % 4 if name == "Ann" else count % 3
                verdict = ("A", "B", "B", "tie")[by]
                store.record(Vote(item.key, name, verdict, milliseconds=900))  # type: ignore[arg-type]
        for _ in range(4):
            item = store.lease_next("Ann", settings, kind="rating")
            assert item
            ratings = (item.pair_id % 7 + 1, 4)
            store.record(Vote(item.key, "Ann", ratings=ratings))
    return file


@pytest.fixture
def db(filled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(filled, tmp_path / "votes.db"))


def test_figures_in_the_terminal_and_as_json(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("stats", db, "--bootstrap", 20) == 0
    captured = capsys.readouterr()
    for text in (
        "win rate",
        "Bradley",
        "Krippendorff's alpha",
        "rule <b> (simulated)",
        "ties, rated",
    ):
        assert text in captured.out
    assert "4 ratings" in captured.err
    assert call("stats", db, "--bootstrap", 20, "--who", "people", "--json") == 0
    found = last_json(capsys.readouterr().out)
    assert found["who"] == "people"
    assert list(found["counts"]["annotators"]) == ["Ann"]


def test_the_page_holds_every_figure(db: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "page"
    assert call("stats", db, "--bootstrap", 20, "--out", out) == 0
    page = (out / "report.html").read_text()
    found = json.loads((out / "statistics.json").read_text())
    stems = {"scores", "wins", "trust", "sides", "both", "ratings"}
    assert {path.stem for path in (out / "plots").glob("*.svg")} == stems
    assert page.count("<svg ") == len(stems)
    assert "rule &lt;b&gt;" in page
    assert "rule <b>" not in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)  # nothing is fetched
    (rate,) = found["win_rates"]
    low, high = rate["interval"]
    assert f"{100 * rate['rate']:.0f}% ({100 * low:.0f}% to {100 * high:.0f}%)" in page
    assert f"{found['ratings']['both']} items were both compared and rated" in page


def test_a_page_of_a_single_vote(
    tmp_path: Path, pair_of: MakePair, capsys: pytest.CaptureFixture[str]
) -> None:
    with PreferenceStore.open(tmp_path / "votes.db") as store:
        store.add_annotator("Ann")
        store.judge_pairs("Ann", {store.add_pair(pair_of(1)): "A"})
    assert call("stats", tmp_path / "votes.db", "--out", tmp_path / "out") == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The votes alone do not determine the scores" in page
    assert "Nothing is known of this yet" in page
    assert "Ratings beside comparisons" not in page
    assert "do not determine the scores" in capsys.readouterr().err


def test_out_to_a_file_and_in_again(
    db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pairs.jsonl"
    assert call("export", db, "--out", out, "--split", 0.3, "--json") == 0
    report = last_json(capsys.readouterr().out)
    assert [Path(file).name for file in report["files"]] == [
        "pairs.jsonl", "pairs-validation.jsonl",
    ]  # fmt: skip
    sizes = [len(read_pairs([file])[0]) for file in report["files"]]
    assert sizes == [report["rows"]["train"], report["rows"]["validation"]]
    assert call("export", db, "--out", out) == 2
    assert "exists already" in capsys.readouterr().err
    for form in ("implicit_prompt", "hh_rlhf", "unpaired"):
        assert call("export", db, "--out", out, "--format", form, "--overwrite") == 0
        capsys.readouterr()
        again = ("import", out, "--db", tmp_path / f"{form}.db", "--json")
        assert call(*again) == 0
        first = last_json(capsys.readouterr().out)
        assert (first["format"], first["pairs"]) == (form, report["kept"])
        assert call(*again) == 0
        assert last_json(capsys.readouterr().out)["known"] == report["kept"]
        assert call("stats", tmp_path / f"{form}.db", "--json", "--bootstrap", 0) == 0
        assert list(last_json(capsys.readouterr().out)["counts"]["annotators"]) == ["imported"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("stats", "none.db"), "none.db: no such database of preferences."),
        (("stats", "empty.db"), "empty.db: holds 0 pairs and no vote yet; collect some first."),
        (("stats", "text.db"), "text.db: cannot be opened: file is not a database"),
        (("stats", "other.db"), "other.db: holds no preferences; give another database."),
        (("stats", "mysql://x/y"), '"mysql": no such database'),
        (("export", "none.db", "--out", "a.jsonl"), "none.db: no such database"),
        (("export", "empty.db", "--out", "a.jsonl"), "no vote yet"),
        (("export", "votes.db", "--out", "a.json"), "ends in .jsonl"),
        (
            ("export", "votes.db", "--out", "a.jsonl", "--format", "explicit_promt"),
            'Did you mean "explicit_prompt"?',
        ),
        (
            ("export", "votes.db", "--out", "a.jsonl", "--format", "hh_rlhf", "--text"),
            "has no strings",
        ),
        (("export", "votes.db", "--out", "a.jsonl", "--split", "0"), "between 0 and 1"),
        (("export", "votes.db", "--out", "no/a.jsonl"), "no does not exist"),
        (("import", "text.db", "--db", "new.db"), "no file of a kind that is read"),
        (("import", "bad.jsonl", "--db", "new.db"), "a text alone is no conversation"),
        (("import", "bad.jsonl", "--db", "new.db", "--format", "x"), "no such format"),
        (("simulate", "nowhere", "--name", "n", "--rule", "longer"), "begin it with http://"),
    ],
)
def test_bad_input_is_one_line_and_makes_nothing(
    arguments: tuple[str, ...],
    message: str,
    db: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(db.parent)
    PreferenceStore.open("empty.db").close()
    Path("text.db").write_text("This is no database, but a text that is long enough.\n" * 40)
    Path("bad.jsonl").write_text('{"text": "x"}\n')
    with sqlite3.connect("other.db") as connection:
        connection.execute("CREATE TABLE things (name TEXT)")
    connection.close()
    before = {path.name for path in Path().iterdir()}
    assert call(*arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    after = {path.name for path in Path().iterdir() if not path.name.endswith(("-wal", "-shm"))}
    assert after == before


def test_a_group_without_votes_is_said(
    tmp_path: Path, pair_of: MakePair, capsys: pytest.CaptureFixture[str]
) -> None:
    with PreferenceStore.open(tmp_path / "votes.db") as store:
        store.add_annotator("Ann")
        store.judge_pairs("Ann", {store.add_pair(pair_of(1)): "tie"})
    for command in (("stats",), ("export", "--out", tmp_path / "a.jsonl")):
        assert call(command[0], tmp_path / "votes.db", *command[1:], "--who", "simulated") == 2
        assert "1 pairs and no vote of simulated yet" in capsys.readouterr().err
    assert call("export", tmp_path / "votes.db", "--out", tmp_path / "a.jsonl") == 2
    assert "no pair is left to train on" in capsys.readouterr().err
    assert not (tmp_path / "a.jsonl").exists()


def test_short_names() -> None:
    assert short_names(["a/b/x", "a/b/y/z"]) == {"a/b/x": "x", "a/b/y/z": "y/z"}
    assert short_names(["same", "same"]) == {"same": "same"}
    assert short_names(["a/" + 60 * "x", "b"])["a/" + 60 * "x"] == "…" + 47 * "x"
    alike = [f"{first}/" + 60 * "x" for first in "ab"]
    assert short_names(alike) == dict(zip(alike, alike, strict=True))
