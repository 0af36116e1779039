"""What votes amount to: ratings, whose votes count, and what was said with them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foundling import cli
from foundling.base.config import ConfigError
from foundling.preferences.exchange import decide, export
from foundling.preferences.records import Answer, Pair, Verdict, Vote
from foundling.preferences.selection import Selection
from foundling.preferences.statistics import statistics
from foundling.preferences.store import PreferenceStore
from foundling.stages.votes import Votes

MakePair = Callable[..., Pair]


def say(store: PreferenceStore, name: str, pair_id: int, verdict: Verdict, **more: Any) -> None:
    store.add_annotator(name, simulated=name.startswith("rule"))
    store.record(Vote(store.lease_pair(name, pair_id).key, name, verdict, **more))


def rate(store: PreferenceStore, name: str, pair_id: int, a: int, b: int) -> None:
    store.add_annotator(name)
    key = store.lease_pair(name, pair_id, kind="rating").key
    store.record(Vote(key, name, ratings=(a, b)))


def chosen(store: PreferenceStore, **options: Any) -> list[str]:
    found = export(store, text=True, **options)
    return [row["chosen"] for row in found.train]


def test_ratings_are_votes(file_store: PreferenceStore, pair_of: MakePair) -> None:
    ids = file_store.add_pairs(pair_of(n, a=f"a{n}", b=f"b{n}") for n in range(4))
    rate(file_store, "ann", ids[0], 7, 2)
    rate(file_store, "ann", ids[1], 1, 2)
    rate(file_store, "ann", ids[2], 4, 4)
    say(file_store, "ann", ids[3], "A")
    rate(file_store, "ann", ids[3], 1, 7)  # of the same person on the same pair: counts once
    assert chosen(file_store) == ["a0", "b1", "a3"]
    report = export(file_store).report
    assert report.num_ratings == 3
    assert report.votes_left_out == {"rating beside a comparison": 1}
    assert report.pairs_left_out == {"tie": 1}
    assert any(line.startswith("ratings taken as votes: 3 (") for line in report.lines())


def test_a_rating_counts_beside_a_skipped_comparison(
    file_store: PreferenceStore, pair_of: MakePair
) -> None:
    pair_id = file_store.add_pair(pair_of(1, a="a", b="b"))
    say(file_store, "ann", pair_id, "skip")
    rate(file_store, "ann", pair_id, 2, 7)
    assert chosen(file_store) == ["b"]
    assert export(file_store).report.votes_left_out == {"skipped": 1}


def test_a_blank_answer_is_no_bad_example(file_store: PreferenceStore, pair_of: MakePair) -> None:
    blank = file_store.add_pair(pair_of(1, a="bad", b=" "))
    both = file_store.add_pair(pair_of(2, a="\n", b=" "))
    for pair_id in (blank, both):
        say(file_store, "ann", pair_id, "both_bad")
    found = export(file_store, "unpaired", text=True)
    assert found.train == [{"prompt": "question 1", "completion": "bad", "label": False}]
    assert found.report.answers_left_out == {"empty answer": 1}
    assert found.report.pairs_left_out == {"empty answer": 1}
    assert "answers left out 1: empty answer" in found.report.lines()


@pytest.fixture
def voted(file_store: PreferenceStore, pair_of: MakePair) -> PreferenceStore:
    """Ann and a rule agree on the first pair, Bob is against everyone, on both."""
    ids = file_store.add_pairs(pair_of(n, a=f"a{n}", b=f"b{n}") for n in range(2))
    say(file_store, "ann", ids[0], "A", strength=3, reason="It is true.")
    say(file_store, "rule", ids[0], "A", strength=2)
    say(file_store, "bob", ids[0], "B", strength=1, reason="Shorter.")
    say(file_store, "bob", ids[1], "B")
    other = Pair(pair_of(2).prompt, Answer("x", "third"), Answer("y", "new"))
    say(file_store, "ann", file_store.add_pair(other), "A")
    return file_store


def test_whose_votes_count(voted: PreferenceStore) -> None:
    assert chosen(voted) == ["a0", "b1", "x"]
    for selection, expected, left_out in (
        (Selection(without=("bob",)), ["a0", "x"], {"of the annotator bob": 2}),
        (Selection(without=("third",)), ["a0", "b1"], {"on answers of third": 1}),
        (Selection("people", ("ann",)), ["b0", "b1"],
         {"not of people": 1, "of the annotator ann": 2}),
        (Selection("simulated"), ["a0"], {"not of simulated": 4}),
    ):  # fmt: skip
        assert chosen(voted, selection=selection) == expected
        assert export(voted, selection=selection).report.votes_left_out == left_out
        counted = statistics(voted, selection=selection, bootstrap=0)["counts"]["comparisons"]
        assert counted == 5 - sum(left_out.values())
    with pytest.raises(ConfigError, match=r'without = "bab": .* Did you mean "bob"'):
        export(voted, selection=Selection(without=("bab",)))


def test_what_was_said_with_the_votes(voted: PreferenceStore) -> None:
    first = export(voted, text=True, details=True).train[0]
    assert first == {
        "prompt": "question 0", "chosen": "a0", "rejected": "b0",
        "annotators": ["ann", "rule", "bob"], "simulated": 1, "agree": 2, "strength": 2.5,
        "reasons": ["It is true.", "Shorter."], "sources": ["old", "new"],
    }  # fmt: skip
    found, _ = decide(voted)
    assert [each.details["strength"] for each in found] == [2.5, None, None]


def test_votes_are_a_runs_data_by_whom_one_says(voted: PreferenceStore, tmp_path: Path) -> None:
    votes = Votes.read(str(tmp_path / "votes.db"), without=("bob",))
    assert [pair.chosen[-1].content for pair in votes.pairs] == ["a0", "x"]
    assert [pair.where.rpartition("/")[2] for pair in votes.pairs] == ["votes.db#1", "votes.db#2"]
    votes.write(tmp_path / "kept.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()]
    assert [row["rejected"][0]["content"] for row in rows] == ["b0", "y"]


def test_the_verbs_leave_out_whom_one_says(
    voted: PreferenceStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: object) -> Any:
        command = ["preferences", *map(str, arguments), "--json"]
        assert cli.exit_code(lambda: cli.app(command)) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    db, out = tmp_path / "votes.db", tmp_path / "rows.jsonl"
    found = call("stats", db, "--without", "bob, third", "--bootstrap", 0)
    assert found["counts"]["comparisons"] == 2
    assert found["without"] == ["bob", "third"]
    report = call("export", db, "--out", out, "--without", "ann", "--details")
    assert report["votes_left_out"] == {"of the annotator ann": 2}
    assert [json.loads(line)["annotators"] for line in out.read_text().splitlines()] == [["bob"]]


def test_import_reads_what_dpo_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*arguments: object) -> int:
        return cli.exit_code(lambda: cli.app(["preferences", "import", *map(str, arguments)]))

    rows = [{"system": "s", "q": f"q{n}", "good": "yes", "bad": "no", "id": n} for n in range(4)]
    file, db = tmp_path / "rows.jsonl", tmp_path / "new.db"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = "prompt=q,chosen=good,rejected=bad"
    assert call(file, "--db", db, "--columns", columns, "--json") == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out.splitlines()[-1])
    assert (report["format"], report["pairs"]) == ("explicit_prompt", 4)
    assert report["ignored_columns"] == ["id"]
    with PreferenceStore.open(db) as store:
        assert [m.role for m in store.pairs()[1].prompt] == ["system", "user"]
        assert {row["chosen"][0]["content"] for row in export(store).train} == {"yes"}
    db.unlink()
    for broken, message in (("half \ud83d", "half of a surrogate"), ("a\0b", "NUL")):
        file.write_text(json.dumps({"prompt": "p", "chosen": broken, "rejected": "x"}) + "\n")
        assert call(file, "--db", db) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "rows.jsonl:1: " in line
        assert message in line
        assert not db.exists()
    assert call(file, "--db", db, "--columns", "prompt") == 2
    assert "expected OURS=THEIRS" in capsys.readouterr().err
