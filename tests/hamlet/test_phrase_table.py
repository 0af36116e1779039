"""Phrase tables: what a file may hold, which fault a line has, and that the text stays the same."""

import hashlib
from collections.abc import Iterable
from dataclasses import astuple
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from foundling.hamlet import (
    World,
    held_out_questions,
    instructions,
    prompts,
    take,
    winograd_pairs,
)
from foundling.hamlet.games import games_of_names, registers
from foundling.hamlet.phrase_table import FOLDER, PhraseTable


def written(folder: Path, text: str) -> PhraseTable:
    (folder / "table.txt").write_text(text, "utf-8")
    return PhraseTable(folder / "table.txt")


def test_sections_rows_groups_and_blocks(tmp_path: Path) -> None:
    table = written(
        tmp_path,
        "# A comment.\n\n== greetings\n[Good day|Hello], {x}.\n# Another.\n-\n\n"
        "Dear {x},\\nhow are you?\n\n== pets: animal small\ncat | Tom | Tib\ndog | Rex\n\n"
        "== causes\nit rains | it is wet\n",
    )
    greetings = table.sections["greetings"]
    assert greetings.blocks == [["[Good day|Hello], {x}.", ""], ["Dear {x},\nhow are you?"]]
    assert table["greetings"] == ("[Good day|Hello], {x}.", "", "Dear {x},\nhow are you?")
    assert table.sections["pets"].notes == ("animal", "small")
    assert table["pets"] == ("cat", "Tom", "Tib", "dog", "Rex")
    assert table.groups("pets") == {"cat": ("Tom", "Tib"), "dog": ("Rex",)}
    assert table.rows("causes", 2) == [("it rains", "it is wet")]
    said = {table.say(Random(seed), "greetings", {"x": "Ada"}) for seed in range(50)}
    assert said == {"Good day, Ada.", "Hello, Ada.", "", "Dear Ada,\nhow are you?"}
    with pytest.raises(ValueError, match=r"^table.txt:11: 3 cells, where 'pets' has 2 in a line$"):
        table.rows("pets", 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("== a\nfine\n[went|ran home\n", r"^table.txt:3: .*unbalanced brackets"),
        ("== a\nHello, {x\n", r"^table.txt:2: .*unbalanced braces"),
        ("== a\nyes | so|no\n", r"^table.txt:2: stray"),
        ("a phrase\n== a\n", r"^table.txt:1: a heading"),
        ("== a\nb\n==\nc\n", r"^table.txt:3: "),
        ("== a\nb\n== a: note\nc\n", r"^table.txt:3: "),
        ("== a\n\n== b\nc\n", r"^table.txt: .* empty: a$"),
    ],
)
def test_a_faulty_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        written(tmp_path, text)["a"]


def test_an_unknown_slot_is_named(tmp_path: Path) -> None:
    table = written(tmp_path, "== a\n{who} met {hwom}\n")
    with pytest.raises(ValueError, match=r"'\{who\} met \{hwom\}' .*hwom.*\(who, whom\)"):
        table.say(Random(0), "a", {"who": "Ada", "whom": "Tom"})


def test_every_table_of_the_village_is_sound() -> None:
    files = sorted(FOLDER.glob("*.txt"))
    assert len(files) > 15
    for file in files:
        assert PhraseTable(file).sections, file.name
        assert file.read_text("utf-8").isascii(), file.name


def digest(items: Iterable[object]) -> str:
    return hashlib.sha256("\n".join(map(repr, items)).encode()).hexdigest()[:16]


def test_the_text_of_the_village_stays_the_same() -> None:
    """Byte for byte: figures, stored answers and trained models rest on it."""
    home, other = World(), World(3)
    found = {
        "corpus": digest(take(400, 1)),
        "validation": digest(take(200, 7, "validation")),
        "other village": digest(take(200, 1, world=other)),
        "facts": digest(astuple(fact.phrasings()) for fact in home.facts),
        "instructions": digest(islice(instructions(1), 300)),
        "gruff": digest(islice(instructions(2, "validation", other, 0.4), 300)),
        "collecting": digest(prompts(7, 200, part="collecting")),
        "held out": digest(prompts(7, 100, other, "held_out")),
        "examination": digest(held_out_questions(seed=1, limit=20)),
        "winograd": digest(map(astuple, winograd_pairs(home))),
        "games": digest(map(astuple, [*games_of_names(1, 20), *registers(home, 1, 20)])),
    }
    assert found == {
        "corpus": "73a35efd898b0ae2",
        "validation": "baf62752318d9294",
        "other village": "aeb5b049c3898971",
        "facts": "39674959c309c5fc",
        "instructions": "071fa86dbe7098ca",
        "gruff": "15f237362eedbca7",
        "collecting": "4a9158d2bfc4c81a",
        "held out": "3af2dce1b34b6d97",
        "examination": "63ed725622dcf20c",
        "winograd": "8902b4cb00baf978",
        "games": "40f022750aecb45d",
    }
