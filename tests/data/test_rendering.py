"""From messages to tokens, in chats and plain text: what is refused, and spelled special tokens."""

import pytest

from foundling.base.config import ConfigError
from foundling.data.conversations import SourcedConversation, SourcedPair
from foundling.data.encoded_pairs import EncodedPairs
from foundling.data.examples import Examples
from foundling.data.rendering import Rendering, later_exchanges
from foundling.text.chat import Message, ToolCall, render_plain
from foundling.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.characters(["abcdefghij?! \n<|>_useroftnm"])
USER, ASSISTANT, END = "<|user|>", "<|assistant|>", "<|end_of_turn|>"


def told(*contents: str, where: str = "rows.jsonl:1") -> SourcedConversation:
    roles = ("user", "assistant") * len(contents)
    turns = tuple(Message(role, text) for role, text in zip(roles, contents, strict=False))  # type: ignore[arg-type]
    return SourcedConversation(where, turns)


def shown(tokens: list[int]) -> str:
    return TOKENIZER.decode(tokens, show_special=True)


MARKED = told(f"{USER}a{END}\n{ASSISTANT}", f"b{END}")


def test_marks_written_by_hand_stay_text_unless_they_are_parsed() -> None:
    examples, report = Examples.make([MARKED], TOKENIZER, max_length=99, style="plain")
    special = TOKENIZER.special(END)
    assert special not in examples.tokens
    assert report.spelled == {USER: 1, END: 1, ASSISTANT: 1}
    examples, report = Examples.make(
        [MARKED], TOKENIZER, max_length=99, style="plain", special_tokens="parse"
    )
    assert not report.spelled
    rendered = examples.rendered(0)
    assert shown(rendered.tokens) == f"<|begin_of_text|>{USER}a{END}\n{ASSISTANT}b{END}"
    assert rendered.learned == [False] * 6 + [True, True]
    assert rendered.kinds == ["special", "special", "user", "special", "user", "special",
                              "assistant", "special"]  # fmt: skip


@pytest.mark.parametrize(
    ("prompt", "completion", "whole", "learned"),
    [
        ("a", "b", "<|begin_of_text|>ab<|end_of_text|>", "b<|end_of_text|>"),
        ("<|begin_of_text|>a", "b", "<|begin_of_text|>ab<|end_of_text|>", "b<|end_of_text|>"),
        ("a", f"b{END}", f"<|begin_of_text|>ab{END}", f"b{END}"),
        ("a", f"b{END}\n", f"<|begin_of_text|>ab{END}\n", f"b{END}"),
        ("a", "b<|end_of_text|>", "<|begin_of_text|>ab<|end_of_text|>", "b<|end_of_text|>"),
        ("a", f"b{END}c", f"<|begin_of_text|>ab{END}c<|end_of_text|>", f"b{END}c<|end_of_text|>"),
    ],
)
def test_a_mark_that_stands_there_already_is_not_placed_twice(
    prompt: str, completion: str, whole: str, learned: str
) -> None:
    rendered = render_plain(prompt, completion, TOKENIZER, parse=True)
    assert shown(rendered.tokens) == whole
    pairs = zip(rendered.tokens, rendered.learned, strict=True)
    assert shown([token for token, is_learned in pairs if is_learned]) == learned


def test_special_tokens_are_parsed_in_plain_text_alone() -> None:
    with pytest.raises(ConfigError, match='special_tokens = "parse": only for style = "plain"'):
        Rendering(TOKENIZER, special_tokens="parse")
    with pytest.raises(ConfigError, match='on_long = "truncate_prompt": a prompt with special'):
        Examples.make([MARKED], TOKENIZER, max_length=9, style="plain", special_tokens="parse",
                      on_long="truncate_prompt")  # fmt: skip


def test_a_chat_that_spells_a_special_token_says_so() -> None:
    tricks = [told(f"a{END}{END}", "b"), told("a", f"{USER}b", where="rows.jsonl:2")]
    _, report = Examples.make(tricks, TOKENIZER, max_length=99)
    assert report.lines()[1:] == [
        "special tokens that rows spell stay text: <|end_of_turn|> (1), <|user|> (1)"
    ]
    _, report = Examples.make([told("a", "b")], TOKENIZER, max_length=99)
    assert len(report.lines()) == 1


def test_what_cannot_be_rendered_stops_or_is_counted() -> None:
    good, odd = told("a", "b"), told("a", "z", where="rows.jsonl:2")
    with pytest.raises(ConfigError, match=r"rows\.jsonl:2: 'z' \(U\+007A\)"):
        Examples.make([good, odd], TOKENIZER, max_length=99)
    examples, report = Examples.make([good, odd], TOKENIZER, max_length=99, on_error="skip")
    assert examples.where == ("rows.jsonl:1",)
    assert (report.num_read, report.num_kept) == (2, 1)
    assert report.lines()[1].startswith("dropped 1: cannot be rendered, first rows.jsonl:2: 'z'")
    assert report.values()["cannot_be_rendered"] == 1
    with pytest.raises(ConfigError, match="none of 1 conversations can be rendered; the first"):
        Examples.make([odd], TOKENIZER, max_length=99, on_error="skip")
    pairs = [
        SourcedPair(each.where, each.messages, (*each.messages[:1], Message("assistant", "c")), 1)
        for each in (good, odd)
    ]
    with pytest.raises(ConfigError, match=r"rows\.jsonl:2: 'z'"):
        EncodedPairs.make(pairs, TOKENIZER, max_length=99)
    encoded, report = EncodedPairs.make(pairs, TOKENIZER, max_length=99, on_error="skip")
    assert (len(encoded), len(report.faults)) == (1, 1)


@pytest.mark.parametrize(
    ("answer", "held"),
    [
        (Message("assistant", "b", reasoning="c"), "reasoning"),
        (Message("assistant", "b", tool_calls=(ToolCall("c", "{}"),)), "tools"),
    ],
)
def test_plain_text_has_no_place_for_more_than_text(answer: Message, held: str) -> None:
    given = SourcedConversation("rows.jsonl:1", (Message("user", "a"), answer))
    with pytest.raises(ConfigError, match=f"one prompt and one completion, not {held}; use"):
        Examples.make([given], TOKENIZER, max_length=99, style="plain")


def test_the_oldest_exchange_goes_with_its_tools() -> None:
    system, asked, said = Message("system", "s"), Message("user", "a"), Message("assistant", "b")
    call = Message("assistant", "", tool_calls=(ToolCall("c", "{}"),))
    first, last = (asked, call, Message("tool", "d"), said), (Message("user", "e"), said)
    assert later_exchanges((system, *first, *last), 7) == (system, *last)
    assert later_exchanges((*first, *last), 6) == last
    assert later_exchanges((*first, *last), 4) is None
    assert later_exchanges(first, 4) is None
