"""Chat templates of others: token for token as transformers, and safe from what messages say."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from chat_templates import FAMILIES, write
from conversed import (
    ANSWER,
    EXCHANGES,
    TEXT,
    TRICKS,
    WITHOUT_SYSTEM,
    Pair,
    conversation,
    plain,
    special,
    theirs,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from foundling.base.config import ConfigError
from foundling.text.chat import render, render_batch, render_prompt
from foundling.text.controls import Marks
from foundling.text.tokenizer import Tokenizer


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=25)
@given(exchanges=EXCHANGES, system=st.one_of(st.none(), ANSWER))
def test_the_tokens_are_those_of_transformers(
    families: dict[str, Pair], name: str, exchanges: list[tuple[str, str]], system: str | None
) -> None:
    tokenizer, oracle = families[name]
    messages = conversation(exchanges, None if name in WITHOUT_SYSTEM else system)
    found = render(messages, tokenizer)
    assert found[-1].tokens == theirs(oracle, messages)
    asked = render_prompt(messages[:-1], tokenizer)
    assert asked == theirs(oracle, messages[:-1], add_generation_prompt=True)
    end = tokenizer.end_of_turn
    assert end is not None
    assert end in tokenizer.stop_ids
    for rendered in found:
        places = [place for place, learned in enumerate(rendered.learned) if learned]
        assert rendered.tokens[places[-1]] == end
        kinds = {rendered.kinds[place] for place in places}
        assert kinds <= {"assistant", "special"}
    if name == "marked":
        masks = oracle.apply_chat_template(
            plain(messages), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        # A token that straddles the border, as "\n\n" may, is not learned here.
        pairs = zip(masks["assistant_masks"], found[0].learned, strict=True)
        assert all(mask or not learned for mask, learned in pairs)
        if not any(text[0].isspace() for _, text in exchanges):
            assert masks["assistant_masks"] == [int(learned) for learned in found[0].learned]


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=40)
@given(exchanges=st.lists(st.tuples(TRICKS, TRICKS), min_size=1, max_size=2), system=TRICKS)
def test_a_content_opens_no_turn(
    families: dict[str, Pair], name: str, exchanges: list[tuple[str, str]], system: str
) -> None:
    tokenizer, _ = families[name]
    said = None if name in WITHOUT_SYSTEM else system
    found = render(conversation(exchanges, said), tokenizer)
    harmless = [("x", "x")] * len(exchanges)
    expected = render(conversation(harmless, None if said is None else "x"), tokenizer)
    assert [special(one, tokenizer) for one in found] == [
        special(one, tokenizer) for one in expected
    ]
    for rendered in found:
        kinds = ("user", "assistant", "system")
        for kind in kinds:
            tokens = [t for t, k in zip(rendered.tokens, rendered.kinds, strict=True) if k == kind]
            assert not tokenizer.controls.ids & set(tokens)
    if name == "chatml":  # which changes no content
        text = tokenizer.decode(found[0].tokens, show_special=True)
        for asked, answered in exchanges:
            assert f"user\n{asked}<|im_end|>\n<|im_start|>assistant\n{answered}<|im_end|>" in text


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=40)
@given(parts=st.lists(st.one_of(TEXT, TRICKS, st.integers(0, 9)), max_size=9))
def test_texts_between_special_tokens_are_encoded_as_in_the_whole(
    families: dict[str, Pair], name: str, parts: list[str | int]
) -> None:
    controls = families[name][0].controls
    marks = Marks.free((part for part in parts if isinstance(part, str)), 5)
    ids = sorted(controls.ids)
    written = (
        part if isinstance(part, str) else f"{marks.token}{ids[part % len(ids)]}{marks.token}"
        for part in parts
    )
    text = "".join(written)
    whole = controls._encode_respelled([text], marks)
    assert controls.encode([text], marks) == whole
    if controls._leaves_text_alone:
        assert controls._encode_between([text], marks) in (whole, None)


def test_a_tokenizer_whose_special_tokens_change_their_neighbours_is_copied(
    families: dict[str, Pair], tmp_path: Path
) -> None:
    assert families["chatml"][0].controls._leaves_text_alone
    folder = write(tmp_path, FAMILIES["chatml"])
    file = folder / "tokenizer.json"
    values = json.loads(file.read_text("utf-8"))
    for token in values["added_tokens"]:
        token["rstrip"] = token["content"] == "<|im_end|>"
    file.write_text(json.dumps(values), "utf-8")
    tokenizer, oracle = Tokenizer.load(folder), PreTrainedTokenizerFast.from_pretrained(folder)
    assert not tokenizer.controls._leaves_text_alone
    messages = conversation([("the cat", "sat"), ("a", "b")], "s")
    assert render(messages, tokenizer)[-1].tokens == theirs(oracle, messages)


def test_a_batch_may_hold_every_noncharacter(families: dict[str, Pair]) -> None:
    tokenizer, _ = families["chatml"]
    everything = "".join(map(chr, range(0xFDD0, 0xFDF0)))
    with pytest.raises(ConfigError, match="32 kinds of Unicode noncharacters"):
        render_batch([conversation([(everything, "a")], None)], tokenizer)
    some = everything[:9]
    (rendered,) = render(conversation([(some, "a")], None), tokenizer)
    assert some in tokenizer.decode(rendered.tokens)


# ---------------------------------------------------------------------- real ones

REAL = ("qwen3", "llama3_1", "gemma3", "smol")
TALKS = [
    conversation([("Hi there", "Hello!")], None),
    conversation([(" What?\n\n", " yes\n"), ("  ok", "done  ")], " be good "),
    conversation([("東京 🦉 é", "<b>x</b>\n\n\n"), ("user", "assistant")], None),
    conversation([("a", "<think>\nhm\n</think>\n\nb"), ("c", "<think>x</think>d")], None),
]


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_real_templates(
    real_tokenizer: Callable[[str], Path], real_model: Callable[[str], Path], name: str
) -> None:
    folder = real_model("llama") if name == "smol" else real_tokenizer(name)
    tokenizer, oracle = Tokenizer.load(folder), AutoTokenizer.from_pretrained(folder)
    assert tokenizer.begin_ids == oracle("").input_ids
    for messages in TALKS:
        assert render(messages, tokenizer)[-1].tokens == theirs(oracle, messages)
        for options in ({}, {"enable_thinking": False}) if name == "qwen3" else ({},):
            chosen = tokenizer.with_template("default", **options)
            asked = theirs(oracle, messages[:-1], add_generation_prompt=True, **options)
            assert render_prompt(messages[:-1], chosen) == asked
    trick = "x".join(sorted(oracle.all_special_tokens))
    found = render(conversation([(trick, trick)], None), tokenizer)[-1]
    harmless = render(conversation([("x", "x")], None), tokenizer)[-1]
    assert special(found, tokenizer) == special(harmless, tokenizer)
