"""Messages as others write them: roles, tools, reasoning, weights, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from foundling.base.config import ConfigError
from foundling.data.messages import messages_of, unread_keys
from foundling.data.reading import read_conversations, read_labelled, read_pairs, read_shown
from foundling.data.source_errors import RowError, SourceError
from foundling.preferences.importing import read_answers, read_preferences
from foundling.preferences.prompts import read_prompts
from foundling.text.chat import Message, ToolCall

ASKED, GOOD, BAD = (
    Message("user", "Warm?"),
    Message("assistant", "20 degrees."),
    Message("assistant", "Go away."),
)
CALL = Message("assistant", "", tool_calls=(ToolCall("w", '{"town": "Ålesund"}', "c1"),))
TOOL = {"type": "function", "function": {"name": "w", "parameters": {"type": "object"}}}
FUNCTION = {"name": "w", "arguments": {"town": "Ålesund"}}


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def told(role: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"from": role, "value": value, **more}


def file_of(folder: Path, *rows: dict[str, Any]) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


CALLING: dict[str, tuple[list[dict[str, Any]], str, str, str]] = {
    "openai": (
        [
            said("user", "Warm?"),
            said("assistant", None, tool_calls=[{"id": "c1", "type": "function", "function": {
                **FUNCTION, "arguments": '{"town": "Ålesund"}'
            }}]),
            said("tool", "20", tool_call_id="c1"),
            said("assistant", "20 degrees."),
        ],
        "c1", "c1", "",
    ),
    "openai, arguments as an object": (
        [
            said("user", "Warm?"),
            {"role": "assistant", "tool_calls": [{"id": "c1", "function": FUNCTION}]},
            said("tool", "20", name="w"),
            said("assistant", "20 degrees.", tool_calls=[]),
        ],
        "c1", "", "w",
    ),
    "openai of 2023": (
        [
            said("user", "Warm?"),
            said("assistant", None, function_call=FUNCTION),
            said("function", "20", name="w"),
            said("assistant", "20 degrees."),
        ],
        "", "", "w",
    ),
    "sharegpt": (
        [
            told("human", "Warm?"),
            told("function_call", json.dumps(FUNCTION)),
            told("observation", "20"),
            told("gpt", "20 degrees."),
        ],
        "", "", "",
    ),
    "sharegpt, a list of calls": (
        [
            told("human", "Warm?"),
            told("tool_call", json.dumps([FUNCTION])),
            told("tool_response", "20"),
            told("gpt", "20 degrees."),
        ],
        "", "", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLING)
@pytest.mark.parametrize("column", ["messages", "conversations"])
def test_calls_of_tools_are_read(tmp_path: Path, name: str, column: str) -> None:
    turns, id, answered, tool = CALLING[name]
    for tools in ([TOOL], json.dumps([TOOL])):
        (found,), report = read_conversations([file_of(tmp_path, {column: turns, "tools": tools})])
        call = Message("assistant", "", tool_calls=(ToolCall("w", '{"town": "Ålesund"}', id),))
        result = Message("tool", "20", tool_call_id=answered, name=tool)
        assert found.messages == (ASKED, call, result, GOOD)
        assert found.tools == (TOOL,)
        assert not report.ignored_columns
    (found,), _ = read_conversations([file_of(tmp_path, {column: turns})])
    assert found.tools == ()


def test_a_call_without_arguments_has_none() -> None:
    (call,) = messages_of([told("function_call", '{"name":"w"}')], "conversations")
    assert call.tool_calls == (ToolCall("w", "{}"),)


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        (told("function_call", "w()"), r'x\[0\]: "w\(\)" is no call; expected {"name"'),
        (told("function_call", '{"name": "w", "arguments": "a"}'), 'the arguments of "w" are no'),
        (said("assistant", "", tool_calls=[{"name": "w", "arguments": [1]}]), "no JSON object"),
        (said("user", "a", tool_calls=[{"function": FUNCTION}]), "the user's message calls a tool"),
        (said("user", "a", reasoning="b"), "the user's message holds reasoning"),
        (said("assistant", "a", reasoning="b", thinking="c"), "say different things"),
        (said("assistant", "a", reasoning=["b"]), r'x\[0\]: "reasoning" is a list, not a text'),
        (said("tool", "a", name=1), r'x\[0\]: "name" is a int, not a text'),
        (said("tool", {"t": 20}), "the content is a dict"),
        (said("assistant", "a", weight=0.5), r'x\[0\]: "weight" is 0.5; 0 and 1 are read'),
        (said("assistant", None), r'x\[0\] has no "content"; it has: role'),
        (said("narrator", "a"), "'narrator'; known: system, developer, user, human"),
        (said("assistant", "a", audio={"id": "b"}), r'x\[0\]: "audio" is not empty'),
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused(turn: dict[str, Any], message: str) -> None:
    with pytest.raises(RowError, match=message):
        messages_of([turn], "x")


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("human", "user"), ("User", "user"), ("prompter", "user"),
        ("gpt", "assistant"), ("chatgpt", "assistant"), ("bing", "assistant"),
        ("model", "assistant"), ("GPT", "assistant"),
        ("system", "system"), ("developer", "developer"),
        ("tool", "tool"), ("observation", "tool"), ("function", "tool"), ("ipython", "tool"),
    ],
)  # fmt: skip
def test_roles_by_their_other_names(name: str, role: str) -> None:
    for turn in (said(name, "a"), told(name, "a")):
        (message,) = messages_of([turn], "x")
        assert (message.role, message.content) == (role, "a")


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_is_read_and_think_stays_in_the_content(name: str) -> None:
    answers = [
        said("assistant", "4", **{name: "Two and two."}),
        said("assistant", "4", **{name: ""}),
    ]
    assert messages_of(answers, "x") == (
        Message("assistant", "4", reasoning="Two and two."),
        Message("assistant", "4"),
    )
    spelled = "<think>\nhm\n</think>\n\n4"
    assert messages_of([said("assistant", spelled)], "x") == (Message("assistant", spelled),)


@pytest.mark.parametrize("mark", [{"weight": 0}, {"train": False}, {"Trainable": "false"}])
@pytest.mark.parametrize("turn", [said, told])
def test_an_answer_of_weight_0_is_context(tmp_path: Path, mark: dict[str, Any], turn: Any) -> None:
    turns = [
        turn("user", "2+2?", **mark),
        turn("assistant", "5", **mark),
        turn("user", "No!"),
        turn("assistant", "4", weight=1, train=True),
    ]
    (found,), report = read_conversations([file_of(tmp_path, {"messages": turns})])
    assert [message.weight for message in found.messages] == [1, 0, 1, 1]
    assert not report.ignored_columns
    file = file_of(tmp_path, {"messages": turns}, {"messages": turns[:2]})
    (found,), report = read_conversations([file])
    assert report.first_of == {"weight 0": f"{file}:2: the weight of every answer is 0."}
    (found,), report = read_shown([file])
    assert report.dropped == {"weight 0": 1}
    assert len(read_answers([file], "x")[0]) == 2  # which are looked at, not learned


def test_the_weights_of_a_prompt_do_not_matter(tmp_path: Path) -> None:
    front = [said("user", "a"), said("assistant", "b", weight=0), said("user", "c")]
    row = {
        "chosen": [*front, said("assistant", "good")],
        "rejected": [front[0], said("assistant", "b"), front[2], said("assistant", "bad")],
    }
    (pair,), _ = read_pairs([file_of(tmp_path, row)])
    assert pair.given == 3
    whole = [said("user", "a"), said("assistant", "b", weight=1), said("user", "c")]
    (pair,), _ = read_pairs([file_of(tmp_path, {"prompt": whole, **row})])
    assert (pair.given, len(pair.chosen)) == (3, 4)
    row["chosen"][-1]["weight"] = 0
    with pytest.raises(ConfigError, match="the weight of every answer is 0"):
        read_pairs([file_of(tmp_path, row)])


def test_labelled_answers_pair_only_with_the_same_tools(tmp_path: Path) -> None:
    row = {"prompt": "Warm?", "completion": "20 degrees.", "label": True}
    rows = [row, {**row, "completion": "Go away.", "label": False}]
    with_tools = [{**each, "tools": [TOOL]} for each in rows]
    pairs, _ = read_pairs([file_of(tmp_path, *rows, *with_tools)])
    assert [pair.tools for pair in pairs] == [(), (TOOL,)]
    _, report = read_pairs([file_of(tmp_path, *rows, with_tools[0])])
    assert report.dropped == {"no counterpart": 1}
    found, _ = read_labelled([file_of(tmp_path, {"prompt": "Warm?", "tools": [TOOL],
                                                 "chosen": "a", "rejected": "b"})])  # fmt: skip
    assert [each.tools for each in found] == [(TOOL,), (TOOL,)]


BEYOND: dict[str, tuple[dict[str, Any], str]] = {
    "tools": ({"tools": [TOOL]}, "has tools, which cannot be compared"),
    "a tool's message": (
        {"prompt": CALLING["openai"][0][:3]}, "has tools, which cannot be compared",
    ),
    "reasoning": (
        {"prompt": [said("user", "a"), said("assistant", "b", reasoning="c"), said("user", "d")]},
        "has reasoning, which cannot be compared",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BEYOND)
def test_what_people_would_not_see_is_not_compared(tmp_path: Path, name: str) -> None:
    extra, message = BEYOND[name]
    pair = {"prompt": [said("user", "Warm?")], "chosen": [said("assistant", "a")],
            "rejected": [said("assistant", "b")]}  # fmt: skip
    file = file_of(tmp_path, pair, {**pair, **extra})
    assert len(read_pairs([file])[0]) == 2
    with pytest.raises(SourceError, match=f":2: the conversation {message}"):
        read_preferences([file])
    found, report = read_preferences([file], on_error="skip")
    assert (len(found), report.dropped) == (1, {"not text alone": 1})
    for read in (read_prompts, lambda file: read_answers([file], "x")):
        row = {"prompt": pair["prompt"], "completion": pair["chosen"], **extra}
        with pytest.raises(SourceError, match=f":1: the conversation {message}"):
            read(file_of(tmp_path, row))


@pytest.mark.parametrize("text", ["a\0b", "a\ud83d"])
def test_what_is_no_text_is_found_everywhere(tmp_path: Path, text: str) -> None:
    function = {"name": "w", "description": text}
    calling, spelled = CALLING["openai"][0][:2], json.dumps({"a": text})
    rows: list[dict[str, Any]] = [
        {"messages": [said("user", "a"), said("assistant", "b", reasoning=text)]},
        {"messages": [*calling, said("tool", "b", name=text), said("assistant", "c")]},
    ]  # fmt: skip
    calls = [{"id": text, "function": {"name": "w", "arguments": "{}"}}]
    rows.append({"messages": [said("user", "a"), said("assistant", "", tool_calls=calls),
                              said("tool", "b"), said("assistant", "c")]})  # fmt: skip
    rows += [] if "\0" in text else [  # JSON spells NUL as an escape
        {"messages": [said("user", "a"), said("assistant", "", tool_calls=[{"name": text}])]},
        {"messages": [said("user", "a"), told("tool_call", {"name": "w", "arguments": spelled})]},
        {"prompt": "a", "completion": "b", "tools": [function]},
    ]  # fmt: skip
    for row in rows:
        with pytest.raises(SourceError, match=r"rows\.jsonl:1: (NUL|half of a surrogate)"):
            read_conversations([file_of(tmp_path, row)])


def test_keys_that_are_not_read_are_named(tmp_path: Path) -> None:
    turns = [said("user", "a", id=7, name="Ann"), said("assistant", "b", refusal=None)]
    assert unread_keys(turns) == {"id", "name"}
    _, report = read_conversations([file_of(tmp_path, {"messages": turns, "source": "x"})])
    assert report.ignored_columns == ["messages[].id", "messages[].name", "source"]


def test_a_key_is_named_whatever_it_says_unless_it_is_empty() -> None:
    for value in (False, 0, "null", "[]", "no"):
        assert unread_keys([{"from": "gpt", "value": "A", "loss": value}]) == {"loss"}
    for value in (None, "", [], {}):
        assert not unread_keys([{"from": "gpt", "value": "A", "loss": value}])


def test_names_and_ids_of_calls_are_read_of_tools_alone() -> None:
    more = {"name": "weather", "tool_call_id": "c1"}
    assert not unread_keys([said("tool", "rain", **more)])
    assert not unread_keys([{"from": "observation", "value": "rain", **more}])
    for role in ("system", "user", "assistant"):
        assert unread_keys([said(role, "rain", **more)]) == {"name", "tool_call_id"}


def test_the_gaps_of_a_table_are_no_values(tmp_path: Path) -> None:
    """Parquet gives every object all keys that one of them has, the others as null."""
    other = {"type": "function", "function": {"name": "v", "parameters": {"required": ["a"]}}}
    calls = [{"function": {"name": "w", "arguments": {"town": "Rome"}}}]
    more = [{"function": {"name": "v", "arguments": {"a": "b"}}}]
    rows = [
        {"messages": [said("user", "a"), said("assistant", None, tool_calls=some)], "tools": [tool]}
        for some, tool in ((calls, TOOL), (more, other))
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    found, _ = read_conversations([tmp_path / "rows.parquet"])
    assert [each.tools for each in found] == [(TOOL,), (other,)]
    assert found[0].messages[-1].tool_calls == (ToolCall("w", '{"town": "Rome"}'),)
