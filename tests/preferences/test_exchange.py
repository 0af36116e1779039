"""Files of preferences: written for others, read from others, and nothing lost unsaid."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foundling.base.config import ConfigError
from foundling.data.formats import FORMATS
from foundling.data.source_errors import SourceError
from foundling.preferences.exchange import export, write_rows
from foundling.preferences.importing import import_preferences, read_answers, read_preferences
from foundling.preferences.leasing import Leasing
from foundling.preferences.records import Answer, Pair, Verdict, Vote
from foundling.preferences.selection import Selection
from foundling.preferences.store import PreferenceStore
from foundling.text.chat import Message

MakePair = Callable[..., Pair]
PROMPT = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))


def say(store: PreferenceStore, name: str, pair_id: int, verdict: Verdict) -> None:
    store.add_annotator(name)
    store.record(Vote(store.lease_pair(name, pair_id).key, name, verdict))


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


FRONT = [message("user", "a"), message("assistant", "b"), message("user", "c")]
GOOD, BAD = message("assistant", "good"), message("assistant", "bad")
WRITTEN: dict[str, list[dict[str, Any]]] = {
    "explicit_prompt": [{"prompt": FRONT, "chosen": [GOOD], "rejected": [BAD]}],
    "implicit_prompt": [{"chosen": [*FRONT, GOOD], "rejected": [*FRONT, BAD]}],
    "hh_rlhf": [
        {
            "chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: good",
            "rejected": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: bad",
        }
    ],
    "unpaired": [
        {"prompt": FRONT, "completion": [GOOD], "label": True},
        {"prompt": FRONT, "completion": [BAD], "label": False},
    ],
}


@pytest.mark.parametrize("form", [name for name, format in FORMATS.items() if format.write])
def test_each_form_there_and_back(file_store: PreferenceStore, tmp_path: Path, form: str) -> None:
    pair = Pair(PROMPT, Answer("bad", "x"), Answer("good", "y"))
    say(file_store, "ann", file_store.add_pair(pair), "B")
    found = export(file_store, form)
    assert found.train == WRITTEN[form]
    assert found.report.rows == {"train": len(WRITTEN[form])}
    write_rows(tmp_path / "rows.jsonl", found.train)
    (read,), report = read_preferences([tmp_path / "rows.jsonl"])
    assert report.format == form
    assert read.where.endswith("rows.jsonl:1")
    assert (read.prompt, read.chosen[-1].content, read.rejected[-1].content) == (
        PROMPT,
        "good",
        "bad",
    )


def test_strings(file_store: PreferenceStore, pair_of: MakePair, tmp_path: Path) -> None:
    say(file_store, "ann", file_store.add_pair(pair_of(1, a="x", b="y")), "A")
    found = export(file_store, "explicit_prompt", text=True)
    assert found.train == [{"prompt": "question 1", "chosen": "x", "rejected": "y"}]
    assert [row["label"] for row in export(file_store, "kto", text=True).train] == [True, False]
    write_rows(tmp_path / "rows.jsonl", found.train)
    (read,), _ = read_preferences([tmp_path / "rows.jsonl"])
    assert read.prompt == (Message("user", "question 1"),)
    say(file_store, "ann", file_store.add_pair(Pair(PROMPT, pair_of(1).a, pair_of(1).b)), "A")
    report = export(file_store, "explicit_prompt", text=True).report
    assert report.pairs_left_out == {"several messages": 1}
    with pytest.raises(ConfigError, match="has no strings"):
        export(file_store, "hh", text=True)


def test_the_majority_and_what_stays_out(file_store: PreferenceStore, pair_of: MakePair) -> None:
    store = file_store
    opinions: list[list[Verdict]] = [
        ["A", "A", "B"], ["A", "B"], ["tie"], ["both_bad"], ["skip"], ["B", "skip"], ["B", "tie"],
    ]  # fmt: skip
    ids = store.add_pairs(pair_of(n) for n in range(len(opinions)))
    for pair_id, verdicts in zip(ids, opinions, strict=True):
        for number, verdict in enumerate(verdicts):
            say(store, f"annotator {number}", pair_id, verdict)
    say(store, "ann", store.add_pair(pair_of(50, "A")), "A")
    say(store, "ann", store.add_pair(pair_of(51, a="same", b="same")), "A")
    say(store, "ann", store.add_pair(pair_of(52, b=" ")), "A")
    say(store, "ann", store.add_pair(pair_of(53)), "A")
    store.undo("ann", "u")
    found = export(store)
    assert [row["chosen"][0]["content"] for row in found.train] == [
        "first 0",
        "second 5, longer",
    ]
    report = found.report
    assert report.votes_left_out == {"skipped": 2, "gold": 1, "undone": 1}
    assert report.pairs_left_out == {
        "votes are even": 2, "tie": 1, "both bad": 1, "same answers": 1, "empty answer": 1,
    }  # fmt: skip
    assert report.conflicts == ids[:2]
    assert report.num_pairs == report.num_kept + sum(report.pairs_left_out.values())
    assert any("votes for either side: 2" in line for line in report.lines())
    assert json.loads(json.dumps(report.values())) == report.values()
    labels = [row["label"] for row in export(store, "kto").train]
    assert labels == [True, False, False, False, True, False]


def test_repeats_and_simulated_votes(file_store: PreferenceStore, pair_of: MakePair) -> None:
    store = file_store
    store.add_pairs(pair_of(n) for n in range(6))
    store.add_annotator("rule", simulated=True)
    while (item := store.lease_next("rule", Leasing(repeat_share=0.5, repeat_gap=1))) is not None:
        store.record(Vote(item.key, "rule", "B"))
    report = export(store).report
    assert report.votes_left_out["repeat"] > 0
    assert report.num_kept == 6
    assert export(store, selection=Selection("people")).report.votes_left_out["not of people"] > 6


def test_hh_has_no_place_for_some_texts(file_store: PreferenceStore, pair_of: MakePair) -> None:
    system = Pair((Message("system", "s"), *PROMPT), pair_of(1).a, pair_of(1).b)
    spells = pair_of(2, a="x\n\nHuman: y")
    for pair in (system, spells):
        say(file_store, "ann", file_store.add_pair(pair), "A")
    report = export(file_store, "hh").report
    assert report.pairs_left_out == {"system message": 1, "spells a role": 1}


def test_no_prompt_stands_on_both_sides(file_store: PreferenceStore, pair_of: MakePair) -> None:
    for number in range(20):
        for copy in range(3):
            pair = pair_of(number, a=f"{number} {copy}")
            say(file_store, "ann", file_store.add_pair(pair), "A")
    found = export(file_store, validation_fraction=0.25, seed=1)
    sides = [
        {row["prompt"][0]["content"] for row in rows} for rows in (found.train, found.validation)
    ]
    assert not sides[0] & sides[1]
    assert (len(found.train), len(found.validation)) == (45, 15)
    again = export(file_store, validation_fraction=0.25, seed=1)
    assert again.validation == found.validation
    assert export(file_store, validation_fraction=0.25, seed=2).validation != found.validation
    with pytest.raises(ConfigError, match="between 0 and 1"):
        export(file_store, validation_fraction=1)


def test_an_import_is_kept_once(file_store: PreferenceStore, tmp_path: Path) -> None:
    fronts = [f"\n\nHuman: {n}\n\nAssistant:" for n in range(40)]
    rows = [{"chosen": f"{front} yes", "rejected": f"{front} no"} for front in fronts]
    write_rows(tmp_path / "hh.jsonl", rows)
    first = import_preferences(file_store, *read_preferences([tmp_path / "hh.jsonl"]))
    again = import_preferences(file_store, *read_preferences([tmp_path / "hh.jsonl"]))
    assert (first.parsed.format, first.num_pairs, first.num_known) == ("hh_rlhf", 40, 0)
    assert (again.num_pairs, again.num_known) == (0, 40)
    verdicts = [judgement.verdict for judgement in file_store.judgements()]
    assert 8 < verdicts.count("A") < 32
    assert sorted(row["chosen"] for row in export(file_store, "hh").train) == sorted(
        row["chosen"] for row in rows
    )


FAULTY: list[tuple[dict[str, Any], str]] = [
    ({"chosen": "x", "rejected": "y"}, "they are neither"),
    ({"prompt": "x"}, "fit no known format"),
    ({"prompt": "x", "chosen": "y", "rejected": None}, 'no "rejected"'),
    ({"prompt": "x", "completion": "y", "label": "good"}, "expected true or false"),
    (
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "b"},
        "rejected does not end",
    ),
    (
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: x\n\nAssistant: b"},
        "differ before the last turn",
    ),
    ({"chosen": "\n\nHuman: a", "rejected": "\n\nHuman: a"}, "does not end with a turn"),
]


@pytest.mark.parametrize(("row", "message"), FAULTY)
def test_rows_that_cannot_be_understood(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    write_rows(tmp_path / "rows.jsonl", [row])
    with pytest.raises(SourceError, match=f"rows.jsonl:1: .*{message}"):
        read_preferences([tmp_path / "rows.jsonl"])


def test_labelled_answers_are_paired(tmp_path: Path) -> None:
    given = [("p", "1", True), ("p", "2", False), ("p", "3", True), ("q", "4", False)]
    rows = [{"prompt": p, "completion": c, "label": label} for p, c, label in given]
    write_rows(tmp_path / "kto.jsonl", rows)
    found, report = read_preferences([tmp_path / "kto.jsonl"])
    assert [(read.chosen[-1].content, read.rejected[-1].content) for read in found] == [("1", "2")]
    assert report.dropped == {"no counterpart": 2}


def test_ready_answers(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "completion": "1"}, {"prompt": "p", "completion": "2"}]
    write_rows(tmp_path / "answers.jsonl", rows)
    answers, report = read_answers([tmp_path / "answers.jsonl"], "theirs")
    assert answers == {(Message("user", "p"),): Answer("1", "theirs")}
    assert report.dropped == {"second answer": 1}


def test_preferences_need_no_torch() -> None:
    modules = "exchange, importing, producing, simulated, judging, statistics, store, tastes"
    program = (
        f"from foundling.preferences import {modules}; import sys; print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_a_pair_keeps_the_hash_by_which_old_databases_know_it() -> None:
    prompt = (Message("system", "Be terse."), Message("user", "Why?"))
    pair = Pair(prompt, Answer("Because.", "old"), Answer("Go away.", "new"))
    assert pair.digest == "3ede3c6fc728f1734f8cc3bec0fedd7526a12dfbc015573d1b85eeeb8ae477cd"
