"""Preference rows: three formats, told apart, and what is at fault in each."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from foundling.base.config import ConfigError
from foundling.data.conversations import SourcedPair
from foundling.data.formats import FORMATS
from foundling.data.parse_report import ParseReport
from foundling.data.prompt_split import split_by_prompt
from foundling.data.reading import read_pairs
from foundling.data.source_errors import SourceError
from foundling.text.chat import Message

Row = dict[str, Any]
Read = Callable[..., tuple[list[SourcedPair], ParseReport]]
USER, OLD, AGAIN = Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "Why?")
GOOD, BAD = Message("assistant", "Because."), Message("assistant", "Go away.")


def plain(*messages: Message) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(rows: Sequence[Row], **options: Any) -> tuple[list[SourcedPair], ParseReport]:
        path = tmp_path / "pairs.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read_pairs([path], **options)

    return read


HH = "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Why?\n\nAssistant:"
ROWS: dict[str, tuple[str, Row]] = {
    "texts": ("explicit_prompt", {"prompt": "Why?", "chosen": "Because.", "rejected": "Go away."}),
    "messages": (
        "explicit_prompt",
        {"prompt": plain(USER, OLD, AGAIN), "chosen": plain(GOOD), "rejected": plain(BAD)},
    ),
    "a list and texts": (
        "explicit_prompt",
        {"prompt": plain(USER, OLD, AGAIN), "chosen": "Because.", "rejected": "Go away."},
    ),
    "the prompt twice": (
        "explicit_prompt",
        {"prompt": "Why?", "chosen": plain(AGAIN, GOOD), "rejected": plain(AGAIN, BAD)},
    ),
    "whole conversations": (
        "implicit_prompt",
        {"chosen": plain(USER, OLD, AGAIN, GOOD), "rejected": plain(USER, OLD, AGAIN, BAD)},
    ),
    "dialogues": ("hh_rlhf", {"chosen": f"{HH} Because.", "rejected": f"{HH} Go away.  "}),
}


@pytest.mark.parametrize("name", ROWS)
def test_each_format_is_told_and_read(read: Read, name: str) -> None:
    format, row = ROWS[name]
    for options in ({}, {"format": format}):
        (pair,), report = read([row], **options)
        front = (AGAIN,) if pair.given == 1 else (USER, OLD, AGAIN)
        assert pair.prompt == front
        assert (pair.chosen, pair.rejected) == ((*front, GOOD), (*front, BAD))
        assert pair.where.endswith("pairs.jsonl:1")
        assert (report.format, report.num_kept) == (format, 1)


def test_an_answer_of_several_turns_begins_where_the_sides_part(read: Read) -> None:
    chosen = plain(USER, OLD, AGAIN, GOOD)
    rejected = plain(USER, BAD, AGAIN, GOOD)
    (pair,), _ = read([{"chosen": chosen, "rejected": rejected}])
    assert pair.given == 1
    assert pair.chosen[1:] == (OLD, AGAIN, GOOD)


def test_system_messages_belong_to_the_prompt(read: Read) -> None:
    system = Message("system", "Be kind.")
    row = {"chosen": plain(system, AGAIN, GOOD), "rejected": plain(system, AGAIN, BAD)}
    (pair,), _ = read([row])
    assert pair.prompt == (system, AGAIN)


def hh(chosen: str, rejected: str) -> Row:
    return {"chosen": chosen, "rejected": rejected}


ONE = "\n\nHuman: Why?\n\nAssistant:"
FAULTS: dict[str, tuple[Row, str, str]] = {
    "same": (hh(f"{ONE} a", f"{ONE} a "), "identical answers", "are the same"),
    "same lists": (hh(plain(USER, OLD), plain(USER, OLD)), "identical answers", "are the same"),  # type: ignore[arg-type]
    "same texts": (
        {"prompt": "p", "chosen": "a", "rejected": "a"},
        "identical answers",
        "are the same",
    ),
    "other prompts": (hh(f"{ONE} a", f"{HH} b"), "prompts differ", "before the last turn"),
    "other prompts in lists": (
        hh(plain(USER, GOOD), plain(AGAIN, BAD)),  # type: ignore[arg-type]
        "prompts differ",
        "do not answer the same prompt",
    ),
    "human last": (hh(f"{ONE} a\n\nHuman: b", f"{ONE} a"), "no answer", "does not end with"),
    "no turn": (hh(f"{ONE} a", "b"), "no answer", "rejected does not end"),
    "blank": (hh(f"{ONE} a", f"{ONE}  "), "empty answer", "the answer is empty"),
    "twice human": (
        hh(f"\n\nHuman: x{ONE} a", f"\n\nHuman: x{ONE} b"),
        "roles out of order",
        "message 2 is the user's",
    ),
    "text before": (hh(f"x{ONE} a", f"x{ONE} b"), "text before the first turn", "'x'"),
    "one side ends": (
        hh(plain(USER, OLD), plain(USER, OLD, AGAIN, BAD)),  # type: ignore[arg-type]
        "no answer",
        "chosen holds no answer",
    ),
    "a number": ({"prompt": "p", "chosen": 1, "rejected": "b"}, "not messages", "is a int"),
    "mixed": (
        {"prompt": "p", "chosen": "a", "rejected": plain(BAD)},
        "not a text",
        "one is a text, the other a list",
    ),
    "a missing side": (
        {"prompt": "p", "chosen": "a", "rejected": None},
        "missing column",
        'no "rejected"; the row has: prompt, chosen',
    ),
    "a dialogue as prompt": (
        {"prompt": f"{ONE}", "chosen": "a", "rejected": "b"},
        "dialogue in a prompt",
        "list of messages",
    ),
    "tools": (
        {"prompt": "p", "chosen": "a", "rejected": "b", "tools": [1]},
        "not tools",
        r"tools\[0\] is no function with a name",
    ),
    "half a pair": (
        {"prompt": "p", "chosen": "\ud800", "rejected": "b"},
        "not Unicode",
        "surrogate",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_stops_with_its_line_or_is_counted(read: Read, name: str) -> None:
    row, reason, message = FAULTS[name]
    good = next(r for f, r in ROWS.values() if ("prompt" in r) == ("prompt" in row) and
                isinstance(r["chosen"], str) == isinstance(row["chosen"], str | int))  # fmt: skip
    with pytest.raises(SourceError, match=r"pairs\.jsonl:2: .*" + message) as caught:
        read([good, row])
    assert caught.value.reason == reason
    found, report = read([good, row], on_error="skip")
    assert (len(found), report.num_read, report.dropped) == (1, 2, {reason: 1})
    assert any(f"dropped 1: {reason}, first" in line for line in report.lines())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"a": 1}, r"columns \(a\) fit no known format"),
        ({"prompt": "p", "chosen": "a"}, "no known format"),
        ({"chosen": "a", "rejected": "b"}, "neither"),
        ({"chosen": 1, "rejected": 2}, "neither"),
    ],
)
def test_what_is_no_preference_is_refused(read: Read, row: Row, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read([row])


def test_a_format_must_be_known(read: Read) -> None:
    with pytest.raises(ConfigError, match=r'no such format .*Did you mean "hh_rlhf"'):
        read([ROWS["texts"][1]], format="hh_rhlf")


def test_columns_that_are_not_read_are_named(read: Read) -> None:
    _, report = read([{**ROWS["texts"][1], "score": 3}, {**ROWS["texts"][1], "id": 7}])
    assert report.ignored_columns == ["score", "id"]


def test_nothing_left_is_an_error(read: Read) -> None:
    with pytest.raises(ConfigError, match="No row is left of 1; the first fault"):
        read([FAULTS["same"][0]], on_error="skip")


TEXTS = [None, "", "a", 3, HH, ONE, f"{ONE} a", "\n\nHuman:", "\n\nAssistant:", [], [[]], {}]
MESSAGES: list[Any] = [*plain(USER, OLD, GOOD) * 3, *plain(Message("system", " "))]
MESSAGES += [{"role": "x"}, {"from": 1}, 7]


def nonsense(random: Random) -> Any:
    if random.random() < 0.5:
        return random.choice(TEXTS)
    return [random.choice(MESSAGES) for _ in range(random.choice([0, 1, 2, 2, 2, 3]))]


PAIR_FORMATS = [name for name, format in FORMATS.items() if format.kind == "preferences"]


@pytest.mark.parametrize("format", PAIR_FORMATS)
def test_nonsense_is_a_fault_or_a_pair_and_never_a_crash(format: str) -> None:
    random, num_pairs = Random(0), 0
    for _ in range(20_000):
        row = {name: nonsense(random) for name in ("prompt", "instruction", "chosen", "rejected")}
        with suppress(SourceError):
            pair = FORMATS[format].read("here", row)
            assert isinstance(pair, SourcedPair)
            pair.check()
            num_pairs += 1
            assert pair.chosen[: pair.given] == pair.rejected[: pair.given]
            assert pair.chosen != pair.rejected
            assert pair.chosen[-1].role == pair.rejected[-1].role == "assistant"
    assert (num_pairs > 0) == (format != "hh_rlhf")  # its two dialogues end alike


def test_no_prompt_stands_on_both_sides_of_a_split() -> None:
    pairs = [
        SourcedPair(f"f:{n}", (Message("user", f"Q{n % 7}"), GOOD), (Message("user", "?"), BAD), 1)
        for n in range(40)
    ]
    train, held_out = split_by_prompt(pairs, 0.3, seed=1)
    prompts = [{pair.chosen[0].content for pair in side} for side in (train, held_out)]
    assert not prompts[0] & prompts[1]
    assert sorted(p.where for p in (*train, *held_out)) == sorted(p.where for p in pairs)
    assert len(held_out) == pytest.approx(12, abs=6)
