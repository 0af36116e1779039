"""Folders of tasks: task.toml, and faults."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from minds import Recorder, completions, csv, folder, jsonl, measured, nouns
from planted import uniform

from foundling.base.config import ConfigError


def test_task_toml_says_how_texts_are_put(tmp_path: Path) -> None:
    path = tmp_path / "own"
    path.mkdir()
    rows = "".join(f"{('1', '0')[n % 2]};The {n};x\n" for n in range(24)).replace(";", ",")
    (path / "examples.csv").write_text("mark,said,rest\n" + rows)
    (path / "task.toml").write_text(
        'template = "Is {text} good? {answer}"\ntext = "said"\nanswer = "mark"\n'
        'separator = " | "\n[labels]\n1 = "good"\n0 = "bad"\n'
    )
    one = Recorder(lambda prompt, after: -1.0)
    measured(one, tasks=(path,), shots=(0, 2))
    asked = [(p, after) for p, after in one.asked if p.startswith("Is The")]
    assert {after for _, after in asked} == {" good", " bad"}
    assert any(re.fullmatch(r"(Is The \d+ good\? (good|bad) \| ){2}Is The \d+ good\?", p)
               for p, _ in asked)  # fmt: skip


def none(path: Path) -> None:
    csv(path / "test.csv", nouns(range(4)))


def two(path: Path) -> None:
    folder(path)
    jsonl(path / "examples.jsonl", completions(range(4)))


def two_tests(path: Path) -> None:
    folder(path)
    jsonl(path / "test.jsonl", completions(range(4)))


def beside(path: Path) -> None:
    jsonl(path / "examples.jsonl", completions(range(4)))
    (path / "task.toml").write_text("")


def unknown(path: Path) -> None:
    folder(path)
    (path / "task.toml").write_text('seperator = "x"\n')


def no_template(path: Path) -> None:
    folder(path)
    (path / "task.toml").write_text('template = "x"\n')


def empty(path: Path) -> None:
    (path / "examples.jsonl").write_text("")


def empty_csv(path: Path) -> None:
    (path / "examples.csv").write_text("")


def empty_test(path: Path) -> None:
    jsonl(path / "examples.jsonl", completions(range(4)))
    (path / "test.jsonl").write_text("")


def other_form(path: Path) -> None:
    jsonl(path / "examples.jsonl", [*completions(range(2)), {"context": "a"}])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (none, r"own: expected one file examples\.jsonl, \.csv or \.tsv; found none"),
        (two, r"one file examples.*found examples\.csv, examples\.jsonl"),
        (two_tests, r"one file test.*found test\.csv, test\.jsonl"),
        (beside, r"task\.toml says how labelled texts.*examples\.jsonl holds whole prompts"),
        (unknown, r'task\.seperator.*Did you mean "separator"'),
        (no_template, r'template = "x": it must hold \{text\} once'),
        (empty, r"examples\.jsonl: "),
        (empty_csv, r"examples\.csv: "),
        (empty_test, r"own.*holds no item|test\.jsonl: "),
        (other_form, r"examples\.jsonl:3: has context; expected one of"),
    ],
)
def test_faults_of_a_folder_are_named(
    tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    path = tmp_path / "own"
    path.mkdir()
    make(path)
    with pytest.raises(ConfigError, match=said):
        measured(uniform(), tasks=(path,))


def test_a_missing_task_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or folder of a task"):
        measured(uniform(), tasks=(tmp_path / "nowhere",))
