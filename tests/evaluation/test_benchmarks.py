"""Benchmark files: three forms of JSON lines, twins, and COPA with mirrors, faults by line."""

import json
from pathlib import Path
from typing import Any

import pytest

from foundling.base.config import ConfigError
from foundling.evaluation.benchmarks import (
    Completion,
    MultipleChoice,
    Schema,
    candidates,
    joined,
    read_balanced_copa,
    read_choices,
    read_items,
    read_schemas,
    twins,
)


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


CHOICE = {"query": "The jug broke because", "choices": ["it fell.", "it sang."], "gold": 0}
SCHEMA = {"context_options": ["He saw Tom", "He saw Bo"], "continuation": "run.", "gold": 1}
COMPLETION = {"context": "The cat sat on the", "continuation": "mat"}


@pytest.mark.parametrize(
    ("row", "item"),
    [
        (CHOICE, MultipleChoice("The jug broke because", ("it fell.", "it sang."), 0)),
        (SCHEMA, Schema(("He saw Tom", "He saw Bo"), "run.", 1)),
        (COMPLETION, Completion("The cat sat on the", "mat")),
    ],
)
def test_forms_are_told_by_their_keys(tmp_path: Path, row: dict[str, Any], item: object) -> None:
    assert read_items(write(tmp_path, row, row)) == [item, item]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({**CHOICE, "gold": 2}, r":2: gold = 2: expected a whole number from 0 to 1"),
        ({**CHOICE, "gold": -1}, ":2: gold = -1"),
        ({**CHOICE, "gold": True}, ":2: gold = True"),
        ({**CHOICE, "gold": "0"}, ":2: gold = '0'"),
        ({**CHOICE, "choices": []}, r":2: choices = \[\]: expected two or more"),
        ({**CHOICE, "choices": ["it fell.", " "]}, ":2: choices = .*none empty"),
        ({**CHOICE, "choices": ["it fell.", "it fell."]}, ":2: choices = .*same text twice"),
        ({**CHOICE, "choices": "it fell."}, ":2: choices = 'it fell.'"),
        ({**CHOICE, "query": " "}, ":2: query = ' '"),
        ({"query": "The jug broke"}, ":2: has query; expected one of: query, choices, gold;"),
        (SCHEMA, ":2: has context_options, .* a file holds one form"),
    ],
)
def test_faults_are_said_with_their_line(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_items(write(tmp_path, CHOICE, row))


NATIVE = {
    "hellaswag": {
        "ind": 4, "activity_label": "Baking", "ctx_a": "A man bakes [title] He", "ctx_b": "then",
        "ctx": "A man bakes. He then", "endings": ["eats  it.", ", he lifts [step] it.", "x", "y"],
        "label": "1",
    },
    "arc": {
        "id": "M_1", "question": "What is wet?", "answerKey": "B",
        "choices": {"text": ["sand", "water", "dust"], "label": ["A", "B", "C"]},
    },
    "boolq": {"question": "is it wet", "passage": "It rains.", "answer": True},
    "piqa": {"goal": "Dry it.", "sol1": "Use a towel.", "sol2": "Use water.", "label": 0},
    "copa": {
        "premise": "The man fell.", "choice1": "The floor was wet.", "choice2": "He sang.",
        "question": "cause", "idx": 3, "label": 0,
    },
    "winogrande": {
        "sentence": "The jug hit the cup so _ broke.", "option1": "the jug", "option2": "the cup",
        "answer": "2",
    },
    "lambada": {"text": "He drank the tea"},
}  # fmt: skip
READ = {
    "hellaswag": MultipleChoice(
        "Baking: A man bakes. He Then", (" eats it.", " , he lifts it.", " x", " y"), 1
    ),
    "arc": MultipleChoice("Question: What is wet?\nAnswer:", (" sand", " water", " dust"), 1),
    "boolq": MultipleChoice("It rains.\nQuestion: is it wet?\nAnswer:", (" no", " yes"), 1),
    "piqa": MultipleChoice("Question: Dry it.\nAnswer:", (" Use a towel.", " Use water."), 0),
    "copa": MultipleChoice("The man fell because", (" the floor was wet.", " he sang."), 0),
    "winogrande": Schema(
        ("The jug hit the cup so the jug", "The jug hit the cup so the cup"), " broke.", 1
    ),
    "lambada": Completion("He drank the", " tea"),
}


@pytest.mark.parametrize("name", NATIVE)
def test_rows_are_read_as_they_are_published(tmp_path: Path, name: str) -> None:
    """The expected texts are those of lm-evaluation-harness's tasks of these names."""
    notes: list[str] = []
    (item,) = read_items(write(tmp_path, NATIVE[name]), notes)
    assert item == READ[name]
    extra = {"hellaswag": "ind, ctx", "arc": "id", "copa": "idx"}.get(name)
    assert notes == ([f"items.jsonl: not read: {extra}"] if extra else [])
    if isinstance(item, MultipleChoice):  # what begins with a space is scored as it stands
        assert [joined(item.query, choice) for choice in item.choices] == [
            (item.query, choice) for choice in item.choices
        ]


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("hellaswag", {"label": 4}, ":1: label = 4: expected 0 to 3"),
        ("hellaswag", {"endings": "x"}, ":1: endings = 'x'"),
        ("arc", {"answerKey": "D"}, ":1: answerKey = 'D'"),
        ("arc", {"choices": ["a"]}, ":1: choices = "),
        ("boolq", {"passage": 3}, ":1: passage = 3: expected a text"),
        ("copa", {"question": "why"}, ":1: question = 'why'"),
        ("winogrande", {"sentence": "No blank."}, ':1: expected "_"'),
        ("lambada", {"text": "Tea"}, ":1: text: expected"),
    ],
)
def test_faults_of_published_rows(
    tmp_path: Path, name: str, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        read_items(write(tmp_path, {**NATIVE[name], **change}))


def test_further_keys_pass_with_a_note(tmp_path: Path) -> None:
    notes: list[str] = []
    assert len(read_items(write(tmp_path, CHOICE, {**CHOICE, "source": "x"}), notes)) == 2
    assert notes == ["items.jsonl: not read: source"]


def test_a_file_of_another_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no multiple choice"):
        read_choices(write(tmp_path, SCHEMA))
    with pytest.raises(ConfigError, match="no schemas"):
        read_schemas(write(tmp_path, CHOICE))


@pytest.mark.parametrize(
    ("prompt", "after", "continuation"),
    [
        ("It fell because", "it was wet.", " it was wet."),
        ("It fell because ", "it was wet.", "it was wet."),
        ("Answer:\n", "yes", "yes"),
        ("It fell because", " it was wet.", " it was wet."),
        ("We saw the lake", ".", "."),
        ("It costs", ".5 pounds", " .5 pounds"),
        ("", "It fell.", "It fell."),
    ],
)
def test_one_space_joins(prompt: str, after: str, continuation: str) -> None:
    assert joined(prompt, after) == (prompt, continuation)


def test_twins_differ_in_the_continuation_or_in_the_contexts() -> None:
    def schema(front: str, after: str) -> Schema:
        return Schema((f"{front} the jug", f"{front} the bag"), after, 0)

    one = schema("The jug is not in the bag because", "is big.")
    assert candidates(one) == ("jug", "bag")
    schemas = [
        one,
        schema("The jug is not in the bag because", "is small."),
        schema("It was put in the bag. We carried", "."),
        schema("It was put in the bag. We opened", "."),
        Schema(("Tom saw Bo run. Tom", "Tom saw Bo run. Bo"), ".", 0),
    ]
    assert twins(schemas) == [[0, 1], [2, 3], [4]]


XML = """<?xml version="1.0"?>
<!DOCTYPE copa-corpus SYSTEM "copa.dtd">
<copa-corpus version="1.0">
  <item id="7" asks-for="cause" most-plausible-alternative="2">
    <p>The jug broke.</p><a1>I sang.</a1><a2>The shelf gave way.</a2>
  </item>
  <item id="1007" asks-for="{asks}" most-plausible-alternative="{gold}">
    <p>The dog howled.</p><a1>{a1}</a1><a2>I sang.</a2>
  </item>
</copa-corpus>
"""
FILLED = {"asks": "cause", "gold": "2", "a1": "The shelf gave way."}


def test_mirrors_have_the_alternatives_in_their_items_order(tmp_path: Path) -> None:
    path = tmp_path / "copa.xml"
    path.write_text(XML.format(**FILLED))
    choices = ("I sang.", "the shelf gave way.")
    assert read_balanced_copa(path) == [
        (
            MultipleChoice("The jug broke because", choices, 1),
            MultipleChoice("The dog howled because", choices, 0),
        )
    ]
    path.write_text(XML.format(**{**FILLED, "asks": "effect"}))
    assert read_balanced_copa(path)[0][1].query == "The dog howled so"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"a1": "The cat ran."}, "item 1007 must have the alternatives of item 7"),
        ({"gold": "1"}, "item 1007 must .*the other one right"),
        ({"gold": "3"}, 'item 1007: asks-for="cause" most-plausible-alternative="3"'),
        ({"asks": "reason"}, 'item 1007: asks-for="reason"'),
        ({"a1": " "}, "item 1007: expected <p>, <a1> and <a2>"),
        ({"a1": "<b>"}, "no well-formed XML"),
        ({"a1": "&file;"}, "no well-formed XML"),
    ],
)
def test_broken_mirrors_are_refused(tmp_path: Path, changed: dict[str, str], said: str) -> None:
    path = tmp_path / "copa.xml"
    path.write_text(XML.format(**{**FILLED, **changed}))
    with pytest.raises(ConfigError, match=said):
        read_balanced_copa(path)


def test_no_file_is_read_that_a_document_names(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("The shelf gave way.")
    entity = f'<!DOCTYPE c [<!ENTITY file SYSTEM "{tmp_path}/secret">]>'
    text = XML.format(**{**FILLED, "a1": "&file;"})
    path = tmp_path / "copa.xml"
    path.write_text(text.replace('<!DOCTYPE copa-corpus SYSTEM "copa.dtd">', entity))
    with pytest.raises(ConfigError, match="no well-formed XML: undefined entity"):
        read_balanced_copa(path)
