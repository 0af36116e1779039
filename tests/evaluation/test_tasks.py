"""Tasks: columns are found, labels told from answers, and no text stands on both sides."""

import json
from collections import Counter
from pathlib import Path

import pytest

from foundling.base.config import ConfigError
from foundling.evaluation.tasks import (
    Example,
    Task,
    TaskSettings,
    Template,
    key_of,
    parse_labels,
    read_task,
    without,
)


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def reviews(count: int, **names: str) -> list[dict]:
    text, answer = names.get("text", "sentence"), names.get("answer", "label")
    return [{text: f"film number {i}", answer: i % 3 == 0} for i in range(count)]


@pytest.mark.parametrize(
    ("text", "answer"), [("sentence", "label"), ("Question", "Target"), ("remark", "mood")]
)
def test_columns_are_told_by_name_or_by_few_values(tmp_path: Path, text: str, answer: str) -> None:
    task = read_task(write(tmp_path / "task.jsonl", reviews(60, text=text, answer=answer)))
    assert task.labels == ("false", "true")
    assert task.name == "task"
    assert task.chance == 0.5
    assert len(task.test) == 20
    assert Example("film number 3", "true") in (*task.train, *task.test)


def test_a_table_without_a_header_keeps_its_first_row(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("a fine film\t1\ndull\t0\nsplendid\t1\nawful\t0\n")
    (tmp_path / "d.tsv").write_text("grand\t1\npoor\t0\n")
    task = read_task(
        tmp_path / "t.tsv",
        tmp_path / "d.tsv",
        TaskSettings(columns=("text", "label"), labels=parse_labels("0=negative, 1=positive")),
    )
    assert task.train[0] == Example("a fine film", "positive")
    assert len(task.train) == 4
    assert task.test == (Example("grand", "positive"), Example("poor", "negative"))
    assert task.labels == ("negative", "positive")


def test_lines_are_taken_apart_by_a_pattern(tmp_path: Path) -> None:
    lines = [f"{kind}:sub What is {i} ?" for i in range(8) for kind in ("NUM", "LOC")]
    (tmp_path / "trec.txt").write_text("\n".join(lines) + "\n")
    pattern = r"(?P<label>\w+):\S+ (?P<text>.*)"
    task = read_task(tmp_path / "trec.txt", how=TaskSettings(pattern=pattern))
    assert task.labels == ("LOC", "NUM")
    assert all(example.text.startswith("What is") for example in task.train)
    (tmp_path / "plain.txt").write_text("NUM How many?\nLOC Where?\n")
    with pytest.raises(ConfigError, match="say by a pattern"):
        read_task(tmp_path / "plain.txt")
    with pytest.raises(ConfigError, match=":1: the line does not match"):
        read_task(tmp_path / "trec.txt", how=TaskSettings(pattern="(?P<label>x)"))


def test_trec_and_tables_without_a_header_are_read_as_they_are(tmp_path: Path) -> None:
    lines = [f"{kind}:sub What is {i} ?" for i in range(8) for kind in ("NUM", "LOC")]
    (tmp_path / "trec.txt").write_text("\n".join(lines) + "\n")
    assert read_task(tmp_path / "trec.txt").labels == ("location", "number")
    rows = [{"text": f"What is {i} ?", "coarse_label": i % 6, "fine_label": i} for i in range(24)]
    assert read_task(write(tmp_path / "trec.jsonl", rows)).labels == (
        "abbreviation", "description", "entity", "location", "number", "person",
    )  # fmt: skip
    films = [f"a film of {i} hours\t{i % 2}" for i in range(12)]
    (tmp_path / "sst2.tsv").write_text("\n".join(films) + "\n")
    task = read_task(tmp_path / "sst2.tsv", how=TaskSettings(labels={"0": "bad", "1": "good"}))
    assert len(task.train) + len(task.test) == 12
    assert task.labels == ("bad", "good")


def test_texts_are_the_same_however_accents_are_composed() -> None:
    assert key_of("Caf\u00e9  NOIR") == key_of("cafe\u0301 noir")


def test_many_different_answers_are_short_answers(tmp_path: Path) -> None:
    rows = [{"question": f"What comes after {i}?", "answer": i + 1} for i in range(30)]
    task = read_task(write(tmp_path / "sums.jsonl", rows))
    assert task.labels is None
    assert task.chance == 0
    assert task.train[0].answer.isdigit()


def test_no_text_stands_on_both_sides(tmp_path: Path) -> None:
    rows = [{"text": f"{'A ' * (i % 2)}tale {i // 3}", "label": i % 2} for i in range(90)]
    learned = write(tmp_path / "a.jsonl", rows)
    asked = write(tmp_path / "b.jsonl", [{"text": "TALE  4", "label": 0}, *reviews(0)])
    for task in (read_task(learned), read_task(learned, asked)):
        sides = [{key_of(example.text) for example in side} for side in (task.train, task.test)]
        assert not sides[0] & sides[1]
        assert all(sides)
    assert "asked in the test" in " ".join(read_task(learned, asked).notes)


def test_the_limit_keeps_shares_and_order_and_is_chosen_by_the_seed(tmp_path: Path) -> None:
    learned = write(tmp_path / "a.jsonl", [{"text": f"x {i}", "label": i % 2} for i in range(40)])
    asked = write(tmp_path / "b.jsonl", [{"text": f"y {i}", "label": +(i < 30)} for i in range(40)])
    task = read_task(learned, asked, limit=8, seed=1)
    assert Counter(example.answer for example in task.test) == {"1": 6, "0": 2}
    numbers = [int(example.text.split()[1]) for example in task.test]
    assert numbers == sorted(numbers)
    assert task == read_task(learned, asked, limit=8, seed=1)
    assert task.test != read_task(learned, asked, limit=8, seed=2).test
    assert task.majority == 0.75  # of equally common answers the later one


def test_draws_are_nested_and_differ_by_seed() -> None:
    examples = tuple(Example(str(i), "yes") for i in range(50))
    task = Task("t", None, examples, examples)
    assert task.draw(16, 1, 2)[:4] == task.draw(4, 1, 2)
    assert task.draw(16, 1, 2) != task.draw(16, 1, 3)
    assert sorted(task.draw(50, 7), key=lambda e: int(e.text)) == list(examples)
    with pytest.raises(ConfigError, match="51 examples: the task has 50"):
        task.draw(51, 1)


def test_the_template_parts_where_the_answer_begins() -> None:
    template = Template()
    assert template.prompt("So {answer} it is.") == "So {answer} it is.\nAnswer:"
    assert template.completion("yes") == " yes"
    assert Template("{text}\n{answer}").completion("yes") == "yes"
    assert Template("{text}\n{answer}").prompt("a") == "a\n"
    for wrong in ("{text}", "{answer}", "{text} {answer}.", "{text} {text} {answer}"):
        with pytest.raises(ConfigError, match="template"):
            Template(wrong)


def test_what_is_left_out_is_said() -> None:
    examples = tuple(Example(str(i), "yes") for i in range(4))
    task = Task("t", None, examples[:2], examples[2:])
    less = without(task, examples[1:3], "too long")
    assert (less.train, less.test) == (examples[:1], examples[3:])
    assert less.notes == ("left out 1 to learn from and 1 to test on: too long",)
    assert without(task, (), "too long") is task
    with pytest.raises(ConfigError, match="nothing remains"):
        without(task, examples[2:], "too long")


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{"a": "x", "b": "y", "c": "z"}] * 9, {}, "which of its columns"),
        ([{"text": "x", "label": None}] * 9, {}, '1: "label" is missing'),
        ([{"text": "x", "label": [1]}] * 9, {}, "a list, not a text"),
        ([{"text": " ", "label": 1}] * 9, {}, '"text" is empty'),
        ([{"text": "x", "label": 1}] * 9, {}, "to learn from|to test on"),
        ([{"text": str(i), "label": 1} for i in range(9)], {}, 'every answer is "1"'),
        (reviews(9), {"how": TaskSettings(text="nope")}, 'no column "nope"; it has: sentence'),
        (reviews(9), {"how": TaskSettings(columns=("a",))}, "2 columns, but 1 names"),
        (reviews(9), {"how": TaskSettings(pattern="(")}, "no regular expression"),
        (reviews(9), {"how": TaskSettings(pattern="x")}, "names no group"),
        (reviews(9), {"how": TaskSettings(labels={"true": "good"})}, '"false" has no word'),
        (reviews(9), {"limit": 0}, "limit = 0"),
    ],
)
def test_nonsense_is_told_in_one_line(
    tmp_path: Path, rows: list[dict], options: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_task(write(tmp_path / "task.jsonl", rows), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "0", "0=", "0=a,1=a", "0=a,0=b"])
def test_labels_that_are_no_pairs_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="ANSWER=WORD"):
        parse_labels(text)
