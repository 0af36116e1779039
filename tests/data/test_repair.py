"""Conversations out of order: refused with the setting that mends them, or mended and counted."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from foundling.base.config import ConfigError
from foundling.data.conversations import SourcedConversation, SourcedPair
from foundling.data.reading import read_conversations, read_pairs
from foundling.data.repair import Repair, parse_repair, repaired
from foundling.data.source_errors import SourceError
from foundling.text.chat import Message, Role, ToolCall

ROLES: dict[str, Role] = {"s": "system", "u": "user", "a": "assistant"}


def talk(told: str, given: int = 0) -> SourcedConversation:
    """ "u:Hi a:Yes?" is two messages."""
    turns = [turn.partition(":")[::2] for turn in told.split()]
    return SourcedConversation("here", tuple(Message(ROLES[r], c) for r, c in turns), given)


MENDED: dict[str, tuple[str, tuple[Repair, ...], str]] = {
    "in order": ("s:s u:1 a:2", ("merge", "trim"), "s:s u:1 a:2"),
    "the user twice": ("u:1 u:2 a:3", ("merge",), "u:1\n\n2 a:3"),
    "the assistant twice": ("u:1 a:2 a:3 u:4 a:5", ("merge",), "u:1 a:2\n\n3 u:4 a:5"),
    "two systems": ("s:1 s:2 u:3 a:4", ("merge",), "s:1\n\n2 u:3 a:4"),
    "a later system": ("u:1 a:2 s:3 u:4 a:5", ("merge",), "u:1 a:2 u:3\n\n4 a:5"),
    "an empty answer": ("s:s u:1 a: u:2 a:3", ("trim",), "s:s u:2 a:3"),
    "the user last": ("u:1 a:2 u:3", ("trim",), "u:1 a:2"),
    "the assistant first": ("s:s a:0 u:1 a:2", ("trim",), "s:s u:1 a:2"),
    "both": ("a:0 u:1 a: u:2 u:3 a:4 u:5", ("merge", "trim"), "u:2\n\n3 a:4"),
    "an empty answer and one": ("u:1 a:1 u:2 a: a:3", ("merge", "trim"), "u:1 a:1 u:2 a:3"),
    "an answer and an empty one": ("u:1 a:2 a:", ("merge",), "u:1 a:2"),
    "nothing left": ("u:1", ("trim",), ""),
}


@pytest.mark.parametrize("name", MENDED)
def test_turns_are_mended(name: str) -> None:
    told, how, expected = MENDED[name]
    found, done = repaired(talk(told), how)
    shown = " ".join(f"{message.role[0]}:{message.content}" for message in found.messages)
    assert shown == expected
    assert len(done) == (2 if name == "both" else 0 if name == "in order" else 1)


def test_a_prompt_is_not_merged_with_its_answer() -> None:
    found, _ = repaired(talk("u:1 u:2 a:3 a:4", given=3), ("merge",))
    assert [message.content for message in found.messages] == ["1\n\n2", "3", "4"]
    assert found.given == 2


def test_calls_of_tools_are_mended_whole() -> None:
    call = Message("assistant", "", tool_calls=(ToolCall("w", "{}"),))
    asked, result, said = (
        Message("user", "Warm?"),
        Message("tool", "20"),
        Message("assistant", "Yes."),
    )
    blank, before = Message("assistant", " "), Message("assistant", "Let me see.")

    def mended(*messages: Message, how: tuple[Repair, ...]) -> tuple[Message, ...]:
        return repaired(SourcedConversation("here", messages), how)[0].messages

    whole = (asked, call, result, result, said)
    for how in (("merge",), ("trim",), ("merge", "trim")):
        assert mended(*whole, how=how) == whole  # type: ignore[arg-type]
    assert mended(*whole, asked, call, result, blank, asked, said, how=("trim",)) == (
        *whole,
        asked,
        said,
    )
    assert mended(result, *whole, asked, how=("trim",)) == whole
    assert mended(*whole[:3], how=("trim",)) == whole[:2]
    talking = replace(call, content="Let me see.")
    assert mended(asked, before, call, result, said, how=("merge",)) == (
        asked,
        talking,
        result,
        said,
    )
    both = replace(call, tool_calls=call.tool_calls * 2)
    assert mended(asked, call, call, result, said, how=("merge",)) == (asked, both, result, said)
    assert mended(asked, call, said, how=("merge",)) == (asked, call, said)


def test_answers_of_different_weights_stay_apart() -> None:
    turns = (Message("user", "a"), Message("assistant", "b", weight=0), Message("assistant", "c"))
    assert repaired(SourcedConversation("here", turns), ("merge",))[0].messages == turns
    thought = Message("assistant", "b", reasoning="x"), Message("assistant", "c", reasoning="y")
    (joined,) = repaired(SourcedConversation("here", thought), ("merge",))[0].messages
    assert joined == Message("assistant", "b\n\nc", reasoning="x\n\ny")
    developer = Message("developer", "Be terse.")
    later = (
        *turns[:1],
        Message("assistant", "c"),
        developer,
        *turns[:1],
        Message("assistant", "c"),
    )
    found = repaired(SourcedConversation("here", later), ("merge",))[0].messages[2]
    assert found == Message("user", "Be terse.\n\na")


def test_pairs_are_mended_on_both_sides_or_not_at_all(tmp_path: Path) -> None:
    front = [{"role": "user", "content": "Hi"}, {"role": "user", "content": "you"}]
    sides = [[*front, {"role": "assistant", "content": text}] for text in ("Yes?", "Go away.")]
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"chosen": sides[0], "rejected": sides[1]}) + "\n")
    with pytest.raises(SourceError, match=r'data\.repair = \["merge", "trim"\] repairs such rows'):
        read_pairs([file])
    (pair,), report = read_pairs([file], repair=("merge", "trim"))
    assert [message.content for message in pair.chosen] == ["Hi\n\nyou", "Yes?"]
    assert (pair.prompt, pair.given) == (pair.rejected[:1], 1)
    assert "conversations with turns joined: 1" in report.lines()
    empty = SourcedPair("here", talk("u:1 a:2").messages, talk("u:1 a:").messages, 1)
    assert repaired(empty, ("trim",)) == (empty, [])


def test_the_error_names_the_setting_and_the_report_counts(tmp_path: Path) -> None:
    def row(*turns: tuple[str, str]) -> str:
        return json.dumps({"messages": [{"role": r, "content": c} for r, c in turns]}) + "\n"

    good = row(("user", "Hi"), ("assistant", "Yes?"))
    file = tmp_path / "rows.jsonl"
    file.write_text(good + row(("user", "Hi"), ("user", "you"), ("assistant", "Yes?")))
    with pytest.raises(SourceError, match=r'rows\.jsonl:2: .* data\.repair = \["merge", "trim"\]'):
        read_conversations([file])
    found, report = read_conversations([file], repair=("merge",))
    assert [message.content for message in found[1].messages] == ["Hi\n\nyou", "Yes?"]
    assert "conversations with turns joined: 1" in report.lines()
    file.write_text(good + row(("user", "Hi")))
    with pytest.raises(SourceError, match=r":2: .* hold no turn; the last") as caught:
        read_conversations([file], repair=("trim",))
    assert "data.repair" not in str(caught.value)


def test_repairs_are_named() -> None:
    assert parse_repair("trim, merge") == ("merge", "trim")
    assert parse_repair("") == ()
    with pytest.raises(ConfigError, match=r'"merg": no such repair .* Did you mean "merge"'):
        parse_repair("merge,merg")
    assert parse_repair(("trim",)) == ("trim",)
