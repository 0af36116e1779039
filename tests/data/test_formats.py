"""The table of row formats: columns by any name, labelled answers, and what must be refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from foundling.base.config import ConfigError
from foundling.data.formats import FORMATS
from foundling.data.reading import read_conversations, read_labelled, read_pairs, read_shown
from foundling.data.source_errors import SourceError
from foundling.preferences.importing import read_preferences
from foundling.preferences.prompts import read_prompts
from foundling.text.chat import Message

SYSTEM, ASKED, GOOD, BAD = (
    Message("system", "Be terse."),
    Message("user", "Why?"),
    Message("assistant", "Because."),
    Message("assistant", "Go away."),
)


def plain(*messages: Message) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def file_of(folder: Path, *rows: dict[str, Any]) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


ROWS: dict[str, dict[str, Any]] = {
    "alpaca": {"instruction": "Why?", "output": "Because."},
    "dolly": {"instruction": "Why?", "response": "Because."},
    "prompt_completion": {"prompt": "Why?", "completion": "Because."},
    "messages": {"messages": plain(ASKED, GOOD)},
    "sharegpt": {"conversations": plain(ASKED, GOOD)},
    "question_answer": {"question": "Why?", "answer": "Because."},
    "explicit_prompt": {"prompt": "Why?", "chosen": "Because.", "rejected": "Go away."},
    "implicit_prompt": {"chosen": plain(ASKED, GOOD), "rejected": plain(ASKED, BAD)},
    "hh_rlhf": {
        "chosen": "\n\nHuman: Why?\n\nAssistant: Because.",
        "rejected": "\n\nHuman: Why?\n\nAssistant: Go away.",
    },
    "alpaca_preference": {"instruction": "Why?", "chosen": "Because.", "rejected": "Go away."},
    "unpaired": {"prompt": "Why?", "completion": "Because.", "label": True},
    "prompt_only": {"prompt": "Why?"},
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_reads_a_system_column_and_gives_its_prompt(tmp_path: Path, name: str) -> None:
    row = {"system": "Be terse.", **ROWS[name]}
    assert FORMATS[name].read("here", row).prompt == (SYSTEM, ASKED)
    (prompt,) = read_prompts(file_of(tmp_path, row))
    assert prompt.messages == (SYSTEM, ASKED)
    (prompt,) = read_prompts(file_of(tmp_path, ROWS[name]))
    assert prompt.messages == (ASKED,)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_reads_tools(name: str) -> None:
    function = {"name": "clock", "parameters": {"type": "object", "properties": {}}}
    wrapped = {"type": "function", "function": function}
    for empty in ("[]", [], None, ""):
        assert FORMATS[name].read("here", {**ROWS[name], "tools": empty}).tools == ()
    for column in ("tools", "functions"):
        for given in ([wrapped], [function], json.dumps([function]), [json.dumps(wrapped)]):
            assert FORMATS[name].read("here", {**ROWS[name], column: given}).tools == (wrapped,)
    with pytest.raises(SourceError, match=r"here: tools\[0\] is no function with a name") as caught:
        FORMATS[name].read("here", {**ROWS[name], "tools": '[{"type": "function"}]'})
    assert caught.value.reason == "not tools"


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("column", ["image", "Videos", "tool_calls"])
def test_every_format_refuses_what_is_not_read(name: str, column: str) -> None:
    FORMATS[name].read("here", {**ROWS[name], column: None})
    with pytest.raises(SourceError, match=f'here: "{column}" is not empty') as caught:
        FORMATS[name].read("here", {**ROWS[name], column: ["a"]})
    assert caught.value.reason == "not text alone"


def test_two_system_messages_are_refused() -> None:
    row = {"messages": plain(SYSTEM, ASKED, GOOD), "system": "Be terse."}
    found = FORMATS["messages"].read("here", row)
    assert found.prompt == (SYSTEM, ASKED)
    with pytest.raises(SourceError, match='the column "system" and the first message say diff'):
        FORMATS["messages"].read("here", {**row, "system": "Be kind."})


@pytest.mark.parametrize("name", ["response", "answer", "Completion", "RESPONSE"])
def test_an_answer_by_other_names(tmp_path: Path, name: str) -> None:
    file = file_of(tmp_path, {"Prompt": "Why?", name: "Because.", "id": 1})
    (found,), report = read_conversations([file])
    assert (report.format, found.messages) == ("prompt_completion", (ASKED, GOOD))
    assert report.ignored_columns == ["id"]


def test_columns_are_named_by_the_user(tmp_path: Path) -> None:
    file = file_of(tmp_path, {"q": "Why?", "reply": "Because.", "prompt": "id-7"})
    columns = {"prompt": "q", "completion": "reply"}
    (found,), _ = read_conversations([file], columns=columns)
    assert found.messages == (ASKED, GOOD)
    with pytest.raises(ConfigError, match=r'prompt = "p": no such column \(prompt, q, reply\)'):
        read_conversations([file], columns={"prompt": "p"})
    file = file_of(tmp_path, {"q": "Why?", "good": "Because.", "bad": "Go away."})
    columns = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    (pair,), _ = read_pairs([file], columns=columns)
    assert (pair.chosen, pair.rejected) == ((ASKED, GOOD), (ASKED, BAD))


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    row = {"prompt": "Why?", "answer": "42", "response": "Because."}
    for given in (row, dict(reversed(row.items()))):
        file = file_of(tmp_path, given)
        with pytest.raises(SourceError, match=r'and ".*" are both read as "completion"; leave one'):
            read_conversations([file])
        (found,), report = read_conversations([file], columns={"completion": "response"})
        assert (found.messages, report.ignored_columns) == ((ASKED, GOOD), ["answer"])
    (found,), _ = read_conversations([file_of(tmp_path, {**row, "completion": "Because."})])
    assert found.messages == (ASKED, GOOD)
    (found,), _ = read_conversations([file_of(tmp_path, {**row, "answer": None})])
    assert found.messages == (ASKED, GOOD)


def test_a_sparse_column_is_found_and_a_replaced_one_named(tmp_path: Path) -> None:
    rows = [{"q": "Why?", "completion": "Because.", "prompt": "id-7"}] * 120
    file = file_of(tmp_path, *rows, {**rows[0], "rules": "Be terse."})
    found, report = read_conversations([file], columns={"prompt": "q", "system": "rules"})
    assert (found[0].prompt, found[-1].prompt) == ((ASKED,), (SYSTEM, ASKED))
    assert report.ignored_columns == ["prompt"]
    with pytest.raises(ConfigError, match=r'system = "rule": no such column .*rules'):
        read_conversations([file], columns={"system": "rule"})
    _, report = read_conversations([file], columns={"prompt": "completion", "completion": "prompt"})
    assert report.ignored_columns == ["q", "rules"]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("extra", [{"weight": 0.0}, {"train": False}, {"Train": "false"}])
def test_a_row_of_weight_0_is_counted_and_never_learned(
    tmp_path: Path, name: str, extra: dict[str, Any]
) -> None:
    kind = FORMATS[name].kind
    if kind == "prompts":
        assert FORMATS[name].read("here", {**ROWS[name], **extra}).prompt == (ASKED,)
        return
    read = read_pairs if kind == "preferences" else read_conversations
    fine = {**ROWS[name], "weight": 1, "train": True}
    file = file_of(tmp_path, fine, {**ROWS[name], **extra}, {**fine, "weight": 72.5})
    found, report = read([file], format=name)
    assert (len(found), report.dropped) == (2, {"weight 0": 1})
    assert report.first_of["weight 0"] == f"{file}:2: the weight of every answer is 0."
    assert report.ignored_columns == ["weight"]  # a number of something else
    with pytest.raises(ConfigError, match="the weight of every answer is 0"):
        read([file_of(tmp_path, {**ROWS[name], **extra})])


def test_the_advice_is_what_the_caller_offers(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": \n')
    broken = (tmp_path / "rows.jsonl").rename(tmp_path / "broken.jsonl")
    odd = file_of(tmp_path, {"a": 1})
    twice = tmp_path / "twice.jsonl"
    twice.write_text(json.dumps({"messages": plain(ASKED, ASKED, GOOD)}) + "\n")

    def fault(file: Path, **how: Any) -> str:
        with pytest.raises(SourceError) as caught:
            read_conversations([file], **how)
        return str(caught.value)

    assert fault(broken).endswith('. data.on_error = "skip" leaves out what cannot be read.')
    assert fault(broken, skip="--on-error skip").endswith(
        "). --on-error skip leaves out what cannot be read."
    )
    assert fault(odd).endswith("--columns OURS=THEIRS,... says which is which.")
    assert "data.repair" in fault(twice)
    for file in (broken, odd, twice):
        assert not [word for word in ("on_error", "--", "data.") if word in fault(file, skip="")]
    with pytest.raises(SourceError, match="--repair merge,trim repairs"):
        read_shown([twice])


def test_tables_of_spreadsheets(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question;answer\nWhy?;Because.\n")
    (tmp_path / "b.csv").write_text('Question;Answer\n"Why?";"Because."\n')
    found, _ = read_conversations([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert [each.messages for each in found] == [(ASKED, GOOD)] * 2
    (tmp_path / "c.csv").write_text("Instruction,Input,Output\nWhy?,,Because.\n")
    (one,), _ = read_conversations([tmp_path / "c.csv"])
    assert one.messages == (ASKED, GOOD)


def test_lists_that_are_written_as_json() -> None:
    whole = json.dumps(plain(ASKED, GOOD))
    assert FORMATS["messages"].read("here", {"messages": whole}).prompt == (ASKED,)
    history = json.dumps([["a", "b"]])
    found = FORMATS["alpaca"].read("here", {**ROWS["alpaca"], "history": history})
    assert found.prompt == (Message("user", "a"), Message("assistant", "b"), ASKED)
    with pytest.raises(SourceError, match=r'"history" is no list of .instruction, answer.'):
        FORMATS["alpaca"].read("here", {**ROWS["alpaca"], "history": [["a"]]})


@pytest.mark.parametrize(
    ("text", "message"), [("a\0b", r"NUL .* at character 1"), ("a\ud83d", "half of a surrogate")]
)
@pytest.mark.parametrize("side", ["prompt", "chosen", "rejected", "completion"])
def test_what_is_no_text_is_refused_everywhere(
    tmp_path: Path, text: str, message: str, side: str
) -> None:
    for name, read in (("explicit_prompt", read_preferences), ("unpaired", read_labelled)):
        row = ROWS[name] | ({side: text} if side in ROWS[name] else {})
        if side in row:
            with pytest.raises(SourceError, match=rf"rows\.jsonl:2: .*{message}"):
                read([file_of(tmp_path, ROWS[name], row)])
    if side == "prompt":
        with pytest.raises(SourceError, match=rf"rows\.jsonl:1: .*{message}"):
            read_prompts(file_of(tmp_path, {"prompt": text}))


# ---------------------------------------------------------------------- labelled answers

LABELLED = [
    {"prompt": "Why?", "completion": "Because.", "label": True},
    {"prompt": "Why?", "completion": "Go away.", "label": False},
    {"prompt": "Who?", "completion": "Adam.", "label": True},
]


def test_a_bad_answer_is_never_learned_as_a_good_one(tmp_path: Path) -> None:
    file = file_of(tmp_path, *LABELLED)
    found, report = read_conversations([file])
    assert [each.messages[-1].content for each in found] == ["Because.", "Adam."]
    assert report.dropped == {"labelled bad": 1}
    with pytest.raises(SourceError, match=r':2: "label" is false'):
        read_conversations([file], format="prompt_completion")


@pytest.mark.parametrize("good", [True, 1, 1.0, "1"])
@pytest.mark.parametrize("bad", [False, 0, 0.0, "0", "0.0"])
def test_labels_of_other_types(tmp_path: Path, good: Any, bad: Any) -> None:
    file = file_of(tmp_path, {**LABELLED[0], "label": good}, {**LABELLED[1], "label": bad})
    for format in ("auto", "prompt_completion"):
        (found,), report = read_conversations([file], format=format, on_error="skip")
        assert found.messages == (ASKED, GOOD)
        assert report.dropped == {"labelled bad": 1}
    assert [each.label for each in read_labelled([file])[0]] == [True, False]


@pytest.mark.parametrize("label", [-1, -1.0, "-1", 0.5, "bad", "Rejected"])
def test_a_verdict_that_is_no_label_is_refused(tmp_path: Path, label: Any) -> None:
    file = file_of(tmp_path, {**LABELLED[0], "label": 1}, {**LABELLED[1], "label": label})
    for format in ("auto", "prompt_completion"):
        with pytest.raises(SourceError, match=r':2: "label" is .*; expected true or false'):
            read_conversations([file], format=format)


def test_a_column_label_that_is_no_label_is_ignored(tmp_path: Path) -> None:
    file = file_of(tmp_path, {"prompt": "Why?", "completion": "Because.", "label": "science"})
    _, report = read_conversations([file])
    assert report.format == "prompt_completion"


def test_labels_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,completion,label\np,a,True\np,b,FALSE\nq,c,1\nq,d,0\n")
    found, _ = read_labelled([tmp_path / "a.csv"])
    assert [each.label for each in found] == [True, False, True, False]


def test_labelled_answers_become_pairs_and_pairs_labelled_answers(tmp_path: Path) -> None:
    file = file_of(tmp_path, *LABELLED, {**LABELLED[1], "completion": "Because."})
    (pair,), report = read_pairs([file])
    assert (pair.chosen, pair.rejected, pair.given) == ((ASKED, GOOD), (ASKED, BAD), 1)
    assert (report.num_read, report.num_kept) == (4, 2)
    assert report.dropped == {"no counterpart": 2}
    assert "pairs of a good and a bad answer to one prompt: 1" in report.lines()
    with pytest.raises(ConfigError, match=r"No row is left of 1; .* no answer of the other label"):
        read_pairs([file_of(tmp_path, LABELLED[0])])
    found, _ = read_labelled([file_of(tmp_path, ROWS["explicit_prompt"])])
    assert [(each.messages, each.label) for each in found] == [
        ((ASKED, GOOD), True),
        ((ASKED, BAD), False),
    ]


# ---------------------------------------------------------------------- preferences


def test_whole_conversations_beside_their_prompt(tmp_path: Path) -> None:
    sides = {
        "chosen": plain(SYSTEM, ASKED, GOOD),
        "rejected": plain(SYSTEM, ASKED, BAD),
    }
    (pair,), report = read_pairs([file_of(tmp_path, {"prompt": "Why?", **sides})])
    assert (report.format, pair.prompt) == ("explicit_prompt", (SYSTEM, ASKED))
    with pytest.raises(SourceError, match="not the one that chosen and rejected have"):
        read_pairs([file_of(tmp_path, {"prompt": "Who?", **sides})])


def test_an_instruction_with_two_answers(tmp_path: Path) -> None:
    row = {**ROWS["alpaca_preference"], "input": "x", "history": [["a", "b"]]}
    (pair,), report = read_pairs([file_of(tmp_path, row)])
    assert report.format == "alpaca_preference"
    assert [message.content for message in pair.chosen] == ["a", "b", "Why?\n\nx", "Because."]


def test_answers_of_several_turns_cannot_be_shown(tmp_path: Path) -> None:
    row = {"chosen": plain(ASKED, GOOD), "rejected": plain(ASKED, BAD, ASKED, GOOD)}
    file = file_of(tmp_path, ROWS["implicit_prompt"], row)
    assert len(read_pairs([file])[0]) == 2
    with pytest.raises(SourceError, match=":2: an answer has several messages"):
        read_preferences([file])
    found, report = read_preferences([file], on_error="skip")
    assert (len(found), report.num_kept, report.dropped) == (1, 1, {"several turns": 1})


def test_rows_of_another_kind_are_named(tmp_path: Path) -> None:
    file = file_of(tmp_path, ROWS["explicit_prompt"])
    with pytest.raises(ConfigError, match=r"those of preferences \(explicit_prompt\), not of conv"):
        read_conversations([file])
    with pytest.raises(ConfigError, match="holds preferences, not conversations"):
        read_conversations([file], format="explicit_prompt")
    (found,), _ = read_conversations([file], columns={"completion": "chosen"})
    assert found.messages == (ASKED, GOOD)


@pytest.mark.parametrize(
    ("old", "name"), [("explicit", "explicit_prompt"), ("hh", "hh_rlhf"), ("kto", "unpaired")]
)
def test_former_names(tmp_path: Path, old: str, name: str) -> None:
    rows = [ROWS[name], {**ROWS[name], "completion": "x", "label": False}]
    _, report = read_labelled([file_of(tmp_path, *rows)], format=old)
    assert report.format == name


def test_rows_of_any_kind_can_be_looked_at(tmp_path: Path) -> None:
    file = file_of(tmp_path, ROWS["explicit_prompt"])
    found, report = read_shown([file])
    assert [each.messages for each in found] == [(ASKED, GOOD), (ASKED, BAD)]
    assert [each.where for each in found] == [f"{file}:1 (chosen)", f"{file}:1 (rejected)"]
    assert report.num_kept == 1
    found, _ = read_shown([file_of(tmp_path, *LABELLED)])
    labels = [each.where.partition(" ")[2] for each in found]
    assert labels == ["(label true)", "(label false)", "(label true)"]
    (one,), _ = read_shown([file_of(tmp_path, ROWS["alpaca"])])
    assert one.where == f"{file}:1"


def test_a_text_alone_is_sent_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a text alone is no conversation; .*`pretrain`"):
        read_conversations([file_of(tmp_path, {"text": "Once."})])
