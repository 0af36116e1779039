"""Formats of instruction data: what a row says, what is told of the rest, what is refused."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from foundling.base.config import ConfigError
from foundling.data.formats import FORMATS
from foundling.data.reading import read_conversations
from foundling.data.source_errors import SourceError
from foundling.text.chat import Message


def write(folder: Path, *rows: Any) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def exchange(prompt: str, answer: str, system: str | None = None) -> tuple[Message, ...]:
    front = () if system is None else (Message("system", system),)
    return (*front, Message("user", prompt), Message("assistant", answer))


LONG = (*exchange("a", "one", "s"), *exchange("b", "two"))
PARTS = [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]
OPENAI = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "one", "tool_calls": None},
    {"role": "user", "content": "b"},
    {"role": "assistant", "content": [{"type": "text", "text": "two"}]},
]
ROWS: list[tuple[str, dict[str, Any], tuple[Message, ...]]] = [
    ("alpaca", {"instruction": "a", "input": "", "output": "b"}, exchange("a", "b")),
    ("alpaca", {"instruction": "a", "input": None, "output": "b"}, exchange("a", "b")),
    ("alpaca", {"instruction": "a", "input": "x", "output": "b"}, exchange("a\n\nx", "b")),
    ("alpaca", {"instruction": "a", "output": "b", "system": "s"}, exchange("a", "b", "s")),
    ("alpaca", {"instruction": "a", "output": "b", "system": " "}, exchange("a", "b")),
    ("dolly", {"instruction": "a", "context": "x", "response": "b"}, exchange("a\n\nx", "b")),
    ("prompt_completion", {"prompt": "a ", "completion": " b"}, exchange("a ", " b")),
    ("prompt_completion", {"prompt": OPENAI[:4], "completion": OPENAI[4:]}, LONG),
    ("messages", {"messages": OPENAI}, LONG),
    (
        "messages",
        {"messages": [{"role": "user", "content": PARTS}, OPENAI[2]]},
        exchange("bc", "one"),
    ),
    (
        "sharegpt",
        {
            "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}],
            "system": "s",
        },
        exchange("a", "b", "s"),
    ),
    ("sharegpt", {"conversations": OPENAI}, LONG),
    ("question_answer", {"Question": "a", "ANSWER": "b"}, exchange("a", "b")),
]


@pytest.mark.parametrize(("format", "row", "messages"), ROWS)
def test_each_format_is_detected_and_read(
    tmp_path: Path, format: str, row: dict[str, Any], messages: tuple[Message, ...]
) -> None:
    file = write(tmp_path, row)
    (found,), report = read_conversations([file])
    assert (report.format, report.forced) == (format, False)
    assert found.messages == messages
    assert found.where == f"{file}:1"
    assert found.given == (4 if format == "prompt_completion" and len(messages) > 2 else 0)
    assert read_conversations([file], format=format)[0] == [found]


def test_every_format_has_a_row_above() -> None:
    kinds = {format.kind for format in FORMATS.values()}
    assert kinds == {"conversations", "preferences", "labelled answers", "prompts"}
    conversations = {name for name, format in FORMATS.items() if format.kind == "conversations"}
    assert {format for format, _, _ in ROWS} == conversations


def test_csv_and_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('Question,Answer,id\n"Two\nlines, really?",yes,1\n')
    found, report = read_conversations([tmp_path / "a.csv"])
    assert found[0].messages == exchange("Two\nlines, really?", "yes")
    assert report.ignored_columns == ["id"]
    rows = [{"messages": OPENAI[1:3]}, {"messages": [OPENAI[1], {**OPENAI[2], "name": "x"}]}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    found, _ = read_conversations([tmp_path / "a.parquet"])
    assert [each.messages for each in found] == [exchange("a", "one")] * 2
    assert found[1].where.endswith("a.parquet#2")


# ---------------------------------------------------------------------- what is refused

USER, GOOD = OPENAI[1], OPENAI[1:3]
WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"instruction": "a", "output": 4}, "not a text", '"output" is a int, not a text'),
    ({"instruction": "a", "output": None}, "missing column", 'no "output"; the row has: instr'),
    ({"instruction": " ", "output": "b"}, "empty prompt", "the prompt is empty"),
    ({"instruction": "a", "output": "\n"}, "empty answer", "the answer is empty"),
    ({"instruction": "a", "output": "\ud800"}, "not Unicode", "half of a surrogate pair"),
    ({"prompt": "a", "completion": GOOD}, "not a text", "prompt and completion are str and list"),
    ({"prompt": GOOD, "completion": []}, "no answer", "the completion holds no message"),
    ({"messages": "a"}, "not messages", '"messages" is a str, not a list'),
    ({"messages": ["a"]}, "not messages", r"messages\[0\] is a str, not an object"),
    ({"messages": [{"role": "user"}]}, "not messages", r'messages\[0\] has no "content"'),
    ({"messages": [USER]}, "roles out of order", "end with the user's"),
    ({"messages": [USER, *GOOD]}, "roles out of order", "message 2 is the user's"),
    ({"messages": []}, "roles out of order", "hold no turn"),
    ({"messages": [{"role": "narrator", "content": "a"}]}, "unknown role", '"role" is .narr'),
    ({"messages": [{"role": ["a"], "content": "a"}]}, "unknown role", '"role" is'),
    (
        {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
        "not text alone",
        r"messages\[0\]: a part of type 'image', not text",
    ),
    (
        {"messages": [USER, {"role": "assistant", "content": "", "tool_calls": [{}]}]},
        "not a tool call",
        r"messages\[1\]: .* is no call; expected",
    ),
    ({"messages": GOOD, "tools": [{}]}, "not tools", r"tools\[0\] is no function with a name"),
]


@pytest.mark.parametrize(("row", "reason", "message"), WRONG)
def test_a_bad_row_stops_with_its_line_or_is_counted(
    tmp_path: Path, row: dict[str, Any], reason: str, message: str
) -> None:
    good = {"instruction": "a", "output": "b"} if "instruction" in row else {"messages": GOOD}
    good = {"prompt": "a", "completion": "b"} if "prompt" in row else good
    file = write(tmp_path, good, row, row)
    with pytest.raises(SourceError, match=rf"rows\.jsonl:2: .*{message}") as caught:
        read_conversations([file])
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)
    found, report = read_conversations([file], on_error="skip")
    assert (len(found), report.num_read, report.num_kept) == (1, 3, 1)
    assert report.dropped == {reason: 2}
    assert ":2: " in report.first_of[reason]
    assert f"dropped 2: {reason}, first" in report.lines()[1]


def test_what_is_unknown_or_uncertain_is_asked(tmp_path: Path) -> None:
    file = write(tmp_path, {"text": "a", "label": 1})
    with pytest.raises(ConfigError, match=r"the columns \(text, label\) fit no known format \(alp"):
        read_conversations([file])
    with pytest.raises(ConfigError, match=r'format = "alpacca": no such .* Did you mean "alpaca"'):
        read_conversations([file], format="alpacca")
    file = write(tmp_path, {"question": "a", "answer": "b", "messages": GOOD})
    with pytest.raises(ConfigError, match=r"fit several formats \(messages, question_answer\)"):
        read_conversations([file])
    (found,), report = read_conversations([file], format="question_answer")
    assert found.messages == exchange("a", "b")
    assert report.ignored_columns == ["messages"]


def test_nothing_that_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("nonsense\n{\n")
    with pytest.raises(SourceError, match=r"a\.jsonl:1: not a JSON object"):
        read_conversations([file])
    with pytest.raises(ConfigError, match=r"No row is left of 2; the first fault: .*a\.jsonl:1"):
        read_conversations([file], on_error="skip")
    file = write(tmp_path, {"instruction": "", "output": "b"})
    with pytest.raises(ConfigError, match=r"left of 1; the first fault: .*empty"):
        read_conversations([file], on_error="skip")


def test_the_report(tmp_path: Path) -> None:
    rows = [{"instruction": "a", "output": "b", "category": "c", "id": n} for n in range(1200)]
    file = write(tmp_path, *rows)
    (tmp_path / "notes.txt").write_text("x")
    found, report = read_conversations([tmp_path])
    assert [each.where for each in found] == [f"{file}:{n + 1}" for n in range(1200)]
    assert report.lines() == [
        "format alpaca (detected): 1,200 of 1,200 rows kept",
        "ignored columns: category, id",
        "ignored files: 1 .txt",
    ]
    assert report.values()["kept"] == 1200
    few, report = read_conversations([file], limit=3, format="alpaca")
    assert (few, report.num_read) == (found[:3], 3)
    assert report.lines()[0] == "format alpaca (as you said): 3 of 3 rows kept"
