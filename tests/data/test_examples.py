"""Encoded examples: what is kept, what is cut, and prompts that stay on one side of a split."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundling.base.config import ConfigError
from foundling.data.conversations import SourcedConversation
from foundling.data.examples import Examples
from foundling.data.prompt_split import split_by_prompt
from foundling.text.chat import Message, Rendered, render, render_plain
from foundling.text.tokenizer import Tokenizer

settings.register_profile("foundling", deadline=None)
settings.load_profile("foundling")
TOKENIZER = Tokenizer.characters(["abcdefghij?! \n"])


def told(*contents: str, system: str | None = None, given: int = 0) -> SourcedConversation:
    front = () if system is None else (Message("system", system),)
    turns = tuple(
        Message("user" if place % 2 == 0 else "assistant", content)
        for place, content in enumerate(contents)
    )
    return SourcedConversation(f"rows.jsonl:{'/'.join(contents)}", (*front, *turns), given)


def text(rendered: Rendered) -> str:
    shown = TOKENIZER.decode(rendered.tokens, show_special=True)
    for name, short in (("begin_of_text", "^"), ("end_of_turn", "."), ("system", "S")):
        shown = shown.replace(f"<|{name}|>", short)
    return shown.replace("<|user|>", "U").replace("<|assistant|>", "A")


def only(conversation: SourcedConversation, limit: int, **settings: object) -> tuple[str, object]:
    examples, report = Examples.make(
        [conversation, told("a", "b")],
        TOKENIZER,
        max_length=limit,
        on_long="truncate_prompt",
        **settings,  # type: ignore[arg-type]
    )
    return (text(examples.rendered(0)) if len(examples) == 2 else "dropped"), report


def test_examples_are_what_the_renderer_gave() -> None:
    conversations = [told("ab", "c"), told("d", "ef", "g", "h", system="i")]
    for learn in ("all", "last"):
        examples, report = Examples.make(conversations, TOKENIZER, max_length=99, learn=learn)
        each = [render(c.messages, TOKENIZER, learn=learn)[0] for c in conversations]
        assert [examples.rendered(index) for index in range(2)] == each
        assert examples.num_targets == sum(sum(rendered.learned) for rendered in each)
        assert examples.num_tokens == sum(len(rendered.tokens) for rendered in each)
        assert examples.lengths.tolist() == [len(rendered.tokens) for rendered in each]
        numbers = examples.target_ids[examples.target_ids >= 0]
        assert numbers.tolist() == list(range(examples.num_targets))
        assert np.array_equal(examples.target_ids >= 0, examples.learned)
        assert (report.num_read, report.num_kept, report.longest) == (2, 2, 17)
    assert examples.where == tuple(c.where for c in conversations)
    assert examples.pad == TOKENIZER.pad


def test_what_is_given_is_not_learned() -> None:
    history = told("a", "b", "c", "d", given=3)
    examples, _ = Examples.make([history], TOKENIZER, max_length=99)
    assert examples.num_targets == 2
    assert text(examples.rendered(0)) == "^Ua.Ab.Uc.Ad."


def test_plain_examples() -> None:
    examples, _ = Examples.make([told("ab", "cd")], TOKENIZER, max_length=9, style="plain")
    assert examples.rendered(0) == render_plain("ab", "cd", TOKENIZER)
    with pytest.raises(ConfigError, match=r"rows\.jsonl:a/b/c/d: style = \"plain\" takes one pr"):
        Examples.make([told("a", "b", "c", "d")], TOKENIZER, max_length=9, style="plain")


# ---------------------------------------------------------------------- too long


def test_the_oldest_of_the_prompt_goes_first_and_the_answer_stays_whole() -> None:
    long = told("abc", "de", "fgh", "ij", "abcd", "efg", system="hi")
    assert only(long, 99)[0] == "^Shi.Uabc.Ade.Ufgh.Aij.Uabcd.Aefg."
    assert only(long, 33)[0] == "^Shi.Ufgh.Aij.Uabcd.Aefg."
    assert only(long, 25)[0] == "^Shi.Ufgh.Aij.Uabcd.Aefg."
    assert only(long, 24)[0] == "^Shi.Uabcd.Aefg."
    assert only(long, 15)[0] == "^Shi.Ubcd.Aefg."
    assert only(long, 13)[0] == "^Shi.Ud.Aefg."
    found, report = only(long, 12)
    assert found == "dropped"
    assert report.dropped == [long.where]  # type: ignore[attr-defined]
    _, report = only(long, 15)
    assert (report.prompts_cut, report.answers_left_out) == (1, 2)  # type: ignore[attr-defined]


def test_a_plain_prompt_is_cut_at_its_front() -> None:
    plain = told("abcd", "ef")
    cut = only(plain, 6, style="plain")[0]
    assert cut == "^cdef<|end_of_text|>"
    assert only(plain, 4, style="plain")[0] == "dropped"


def test_too_long_is_an_error_or_dropped_and_counted() -> None:
    conversations = [told("a", "b"), told("abcdef", "b"), told("c", "d" * 9)]
    with pytest.raises(ConfigError, match=r"jsonl:abcdef/b: 12 tokens, but max_length is 11"):
        Examples.make(conversations, TOKENIZER, max_length=11)
    examples, report = Examples.make(conversations, TOKENIZER, max_length=11, on_long="drop")
    assert len(examples) == 1
    assert report.dropped == [c.where for c in conversations[1:]]
    assert report.lines() == [
        "1 of 3 conversations kept; the longest has 15 tokens of at most 11",
        "dropped 2: too long, first rows.jsonl:abcdef/b",
    ]
    _, report = Examples.make(conversations, TOKENIZER, max_length=8, on_long="truncate_prompt")
    assert report.lines()[2] == "cut 1 prompt at the front"
    assert report.values()["prompts_cut"] == 1
    with pytest.raises(ConfigError, match="max_length = 4: none of 3 conversations fits"):
        Examples.make(conversations, TOKENIZER, max_length=4, on_long="drop")
    with pytest.raises(ConfigError, match="an example has at least 2 tokens"):
        Examples.make(conversations, TOKENIZER, max_length=1)


CONTENT = st.text("abc", min_size=1, max_size=6)
TALKS = st.lists(st.tuples(CONTENT, CONTENT), min_size=1, max_size=3)


@given(TALKS, st.booleans(), st.integers(5, 30))
def test_cutting_keeps_the_structure_and_the_end(
    talk: list[tuple[str, str]], system: bool, limit: int
) -> None:
    given = told(*(c for pair in talk for c in pair), system="hi" if system else None)
    shown, _ = only(given, max(limit, 7))
    if shown == "dropped":
        return
    assert len(shown) <= max(limit, 7)
    assert shown.startswith("^Shi.U" if system else "^U")
    assert shown.endswith(f".A{talk[-1][1]}.")
    assert "U." not in shown


def test_a_conversation_that_cannot_be_encoded_is_named() -> None:
    conversations = [told("a", "b"), told("a", "z")]
    with pytest.raises(ConfigError, match=r"rows\.jsonl:a/z: 'z' \(U\+007A\): not among the 14"):
        Examples.make(conversations, TOKENIZER, max_length=9)


def test_an_example_with_nothing_to_learn_is_refused() -> None:
    nothing = told("a", "b", given=2)
    with pytest.raises(ConfigError, match=r"rows\.jsonl:a/b: no token of it would be learned"):
        Examples.make([nothing], TOKENIZER, max_length=9)


def test_the_fingerprint_is_of_tokens_and_mask() -> None:
    def fingerprint(*conversations: SourcedConversation, **settings: object) -> str:
        examples, _ = Examples.make(conversations, TOKENIZER, max_length=99, **settings)  # type: ignore[arg-type]
        return examples.fingerprint

    both = [told("a", "b", "c", "d"), told("e", "f")]
    assert fingerprint(*both) == fingerprint(*both)
    assert (
        len({fingerprint(*both), fingerprint(*both[::-1]), fingerprint(*both, learn="last")}) == 3
    )


# ---------------------------------------------------------------------- the split


@given(st.lists(st.sampled_from("abcdefghij"), min_size=2).filter(lambda ps: len(set(ps)) > 1))
def test_equal_prompts_stand_on_one_side(prompts: list[str]) -> None:
    conversations = [told(f" {p.upper()}\n" if n % 2 else p, str(n)) for n, p in enumerate(prompts)]
    train, held_out = split_by_prompt(conversations, 0.3, seed=1)
    assert train
    assert held_out
    sides = [{c.messages[0].content.strip().lower() for c in side} for side in (train, held_out)]
    assert not sides[0] & sides[1]
    assert sorted(c.where for c in (*train, *held_out)) == sorted(c.where for c in conversations)


def test_the_split_has_its_size_and_its_seed() -> None:
    conversations = [told(str(n), "a") for n in range(1000)]
    train, held_out = split_by_prompt(conversations, 0.1, seed=1)
    assert len(held_out) == 100
    assert [int(c.messages[0].content) for c in train] == sorted(
        int(c.messages[0].content) for c in train
    )
    assert split_by_prompt(conversations, 0.1, seed=1) == (train, held_out)
    assert split_by_prompt(conversations, 0.1, seed=2)[1] != held_out


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_a_fraction_must_be_one(fraction: float) -> None:
    with pytest.raises(ConfigError, match="must lie between 0 and 1"):
        split_by_prompt([told("a", "b"), told("b", "b")], fraction, seed=1)


def test_one_prompt_cannot_be_split() -> None:
    with pytest.raises(ConfigError, match="2 conversations with 1 different prompts"):
        split_by_prompt([told("a", "b"), told(" A", "c")], 0.5, seed=1)
