"""Answers read piece by piece: calls, thoughts and text, wherever the pieces are cut."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import jsonschema
import pytest
import torch
from chat_templates import write
from hypothesis import given, settings
from hypothesis import strategies as st
from tool_templates import TOOLS

from foundling.base.config import ConfigError
from foundling.serving.answer_reader import Answer, AnswerReader, Delta
from foundling.serving.tool_calls import answer_grammar, answer_reader, with_known_ids
from foundling.text.call_format import ID, call_format
from foundling.text.chat import Message, ToolCall, render_prompt
from foundling.text.tokenizer import Tokenizer

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 8}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
GIVEN = tuple(
    {"type": "function", "function": {"name": name, "parameters": schema}}
    for name, schema in (("weather", WEATHER), ("stop", {}))
)


LOOKS_LIKE = [
    "<call>",
    "<ca",
    "[CALLS]",
    "[CALLS] [",
    "{",
    '{"name": "weather',
    '"',
    "weather ",
    "ü",
]
LOOKS_LIKE += [
    "<|calls|>",
    "<|call|>function",
    "[ARGS]",
    "</call>",
    "}",
    "ein",
    " \n",
    "<think",
    "",
]


@cache
def tokenizer_of(name: str) -> Tokenizer:
    return Tokenizer.load(write(Path(mkdtemp()), TOOLS[name]))


def reader(name: str, choice: str = "auto") -> AnswerReader:
    return answer_reader(tokenizer_of(name), GIVEN, choice)


def read(reader: AnswerReader, pieces: Sequence[str]) -> Answer:
    deltas = [delta for piece in pieces for delta in reader.push(piece)] + reader.finish()
    check_order(deltas)
    return Answer.of(deltas)


def check_order(deltas: Sequence[Delta]) -> None:
    """Calls are told of in turn, each with its id and name first."""
    heads = [delta.call for delta in deltas if delta.begins_call]
    assert [head.index for head in heads if head] == list(range(len(heads)))
    assert len({head.id for head in heads if head}) == len(heads)
    begun = -1
    for delta in deltas:
        if delta.call is not None:
            begun += delta.begins_call
            assert delta.call.index == begun
            assert delta.call.id.startswith("call_")


def written(name: str, calls: Sequence[tuple[str, dict[str, Any]]], before: str = "") -> str:
    """An answer as the template writes it."""
    form = call_format(tokenizer_of(name))
    items, keys = form.separators
    units = [n + form.middle + json.dumps(a, separators=(items, keys)) for n, a in calls]
    text = form.before + (form.between or "").join(units) + form.after
    return before + text.replace(ID, "abcdefghi")


def cuts(text: str, places: Sequence[float]) -> list[str]:
    ends = sorted({int(place * len(text)) for place in places} | {len(text)})
    return [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]


values = (
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=6) | st.integers()
)
arguments = st.dictionaries(st.text('ab}{"\\] ', max_size=3), values | st.lists(values), max_size=3)
places = st.lists(st.floats(0, 1), max_size=30)


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(sorted(TOOLS)),
    st.lists(st.tuples(st.sampled_from(["weather", "stop"]), arguments), min_size=1, max_size=3),
    places,
)
def test_calls_come_out_as_the_template_writes_them(
    name: str, calls: list[tuple[str, dict[str, Any]]], places: list[float]
) -> None:
    calls = calls[:1] if name == "bare" else calls
    text = written(name, calls)
    if name == "begun":
        text = "a thought\n</think>\n\n" + text
    answer = read(reader(name), cuts(text, places))
    assert [(call.name, json.loads(call.arguments)) for call in answer.calls] == calls
    assert answer.text == ""
    assert answer.reasoning == ("a thought" if name == "begun" else "")


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(sorted(set(TOOLS) - {"begun"})),
    st.lists(st.sampled_from(LOOKS_LIKE), max_size=8).map("".join),
    places,
)
def test_what_only_looks_like_a_call_stays_text(name: str, text: str, places: list[float]) -> None:
    whole = reader(name)
    answer = read(whole, cuts(text, places))
    assert answer.text == text
    assert not answer.calls


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_an_answer_that_is_cut_off_anywhere_is_read(name: str) -> None:
    text = written(name, [("weather", {"city": 'a }{ " \\ b', "days": 1})])
    given = json.dumps(
        {"city": 'a }{ " \\ b', "days": 1}, separators=call_format(tokenizer_of(name)).separators
    )
    text = ("hm</think>" if name == "begun" else "") + text
    for end in range(len(text)):
        answer = read(reader(name), list(text[:end]))
        for call in answer.calls:
            assert call.name == "weather"
            assert given.startswith(call.arguments)
            assert not answer.text
    assert answer.calls


def test_text_may_stand_around_calls() -> None:
    text = "Let me see.\n" + written("tagged", [("stop", {}), ("stop", {"a": 1})]) + "\nSo."
    for pieces in ([text], list(text)):
        answer = read(reader("tagged"), pieces)
        assert answer.text == "Let me see.So."
        assert [call.arguments for call in answer.calls] == ["{}", '{"a": 1}']


def test_models_are_not_held_to_the_white_space_or_the_order() -> None:
    for text in (
        '<call>{"name":"weather","arguments":{"city":"x","days":2}}</call>',
        '<call>\n\n{ "arguments" : {"city": "x", "days": 2}, "name": "weather" }\n</call>',
        '<call>{"name": "weather", "parameters": {"city": "x", "days": 2}}',
    ):
        for pieces in ([text], list(text)):
            (call,) = read(reader("tagged"), pieces).calls
            assert call.name == "weather"
            assert json.loads(call.arguments) == {"city": "x", "days": 2}


def test_a_tool_that_was_not_given_is_not_called() -> None:
    text = '<call>\n{"name": "launch", "arguments": {}}\n</call>'
    for pieces in ([text], list(text)):
        assert read(reader("tagged"), pieces) == Answer(text, "", ())
        assert read(reader("tagged", "none"), pieces) == Answer(text, "", ())


def test_arguments_are_told_while_they_are_written() -> None:
    made, text = reader("tagged"), written("tagged", [("weather", {"city": "Ulm", "days": 1})])
    seen = [len(made.push(piece)) for piece in text]
    assert sum(seen) > 20


@pytest.mark.parametrize("pieces", [["all"], ["each"]])
def test_thoughts_are_told_apart(pieces: list[str]) -> None:
    cases = [
        ("thinking", "<think>\nhm, so\n</think>\n\nThus.", "hm, so", "Thus."),
        ("thinking", "\n<think>hm", "hm", ""),
        ("thinking", "<thin", "", "<thin"),
        ("thinking", "Not <think>x</think>", "", "Not <think>x</think>"),
        ("thinking", "<think>\n\n</think>\n\nA.", "", "A."),
        ("begun", "hm\n</think>\n\nA </think> B", "hm", "A </think> B"),
        ("begun", "never closed </thi", "never closed </thi", ""),
    ]
    for name, text, reasoning, said in cases:
        answer = read(reader(name), [text] if pieces == ["all"] else list(text))
        assert (answer.reasoning, answer.text) == (reasoning, said)


# ---------------------------------------------------------------------- forced by a grammar


def drawn(name: str, seed: int, most: int = 400, **options: Any) -> tuple[str, bool]:
    """An answer of random tokens under its grammar, and whether it was ended."""
    tokenizer = tokenizer_of(name)
    grammar = answer_grammar(tokenizer, GIVEN, **options)
    assert grammar is not None
    state, tokens = grammar.constraint(tokenizer), list[int]()
    shown = answer_reader(tokenizer, GIVEN, "auto").shown
    generator = torch.Generator().manual_seed(seed)
    if name == "begun":  # which a random model would hardly write
        tokens += tokenizer.encode("hm</think>\n\n")
        for token in tokens:
            state.accept(token)
    ending = [id for id in range(tokenizer.vocab_size) if tokenizer.bytes_of(id) in b'"}]>']
    for _ in range(most):
        logits = torch.randn(tokenizer.vocab_size, generator=generator)
        logits[[*ending, *tokenizer.stop_ids, *shown]] += 4
        token = int(logits.masked_fill(~state.mask(), -torch.inf).argmax())
        state.accept(token)
        if token in tokenizer.stop_ids:
            break
        tokens.append(token)
    names = [tokenizer.name_of(t) if t in shown else "" for t in tokens]
    text = b"".join(n.encode() or tokenizer.bytes_of(t) for n, t in zip(names, tokens, strict=True))
    return text.decode(errors="replace"), token in tokenizer.stop_ids


def valid(call: ToolCall) -> None:
    jsonschema.validate(json.loads(call.arguments), WEATHER if call.name == "weather" else {})


@pytest.mark.parametrize("name", sorted(TOOLS))
@pytest.mark.parametrize("choice", ["required", "weather"])
def test_a_forced_call_is_a_call_of_the_schema(name: str, choice: str) -> None:
    ended = 0
    for seed in range(6):
        text, is_ended = drawn(name, seed, choice=choice)
        answer = read(reader(name, choice), [text])
        if not is_ended:
            continue
        ended += 1
        assert answer.calls
        assert not answer.text.strip()
        for call in answer.calls:
            valid(call)
            assert choice in ("required", call.name)
    assert ended


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_one_call_at_most_where_several_are_not_wanted(name: str) -> None:
    counts = set()
    for seed in range(12):
        text, is_ended = drawn(name, seed, choice="auto", parallel=False)
        answer = read(reader(name), [text])
        if is_ended:
            counts.add(len(answer.calls))
            for call in answer.calls:
                valid(call)
    assert counts <= {0, 1}
    assert counts


def test_a_schema_may_stand_beside_tools() -> None:
    schema = {"type": "object", "properties": {"x": {"enum": [1, 2]}}, "required": ["x"]}
    schema["additionalProperties"] = False
    kinds = set()
    for seed in range(20):
        text, is_ended = drawn("tagged", seed, schema=schema)
        answer = read(reader("tagged"), [text])
        if is_ended:
            kinds.add(bool(answer.calls))
            if not answer.calls:
                jsonschema.validate(json.loads(answer.text), schema)
    assert False in kinds


def test_what_cannot_be_forced_is_refused() -> None:
    tokenizer = tokenizer_of("tagged")
    bad: Any = ({"type": "function", "function": {"name": "f", "parameters": {"type": "objec"}}},)
    strict = ({"type": "function", "function": {**bad[0]["function"], "strict": True}},)
    for tools, choice in ((bad, "required"), (strict, "auto")):
        with pytest.raises(ConfigError, match='parameters of "f"'):
            answer_grammar(tokenizer, tools, choice)
    # Nothing promises that a call which is left to the model follows its schema.
    assert answer_grammar(tokenizer, bad, "auto", parallel=False) is not None
    with pytest.raises(ConfigError, match="no such tool; given are: weather, stop"):
        answer_grammar(tokenizer, GIVEN, "fly")
    with pytest.raises(ConfigError, match="cannot be followed"):
        answer_grammar(tokenizer, schema={"type": "objec"})
    assert answer_grammar(tokenizer, GIVEN) is None
    assert answer_grammar(tokenizer, GIVEN, "none") is None
    assert answer_grammar(tokenizer) is None


def test_templates_get_ids_as_they_take_them() -> None:
    asked = (
        Message("user", "a"),
        Message("assistant", "", tool_calls=(ToolCall("stop", "{}", "call_0123456789"),)),
        Message("tool", "done", tool_call_id="call_0123456789"),
    )
    tokenizer = tokenizer_of("listed")
    with pytest.raises(ConfigError, match="nine letters"):
        render_prompt(asked, tokenizer, tools=GIVEN)
    known = with_known_ids(asked, tokenizer)
    assert known[1].tool_calls[0].id == known[2].tool_call_id
    assert len(known[2].tool_call_id) == 9
    assert known[1].tool_calls[0].id in tokenizer.decode(
        render_prompt(known, tokenizer, tools=GIVEN)
    )
    assert with_known_ids(known, tokenizer) == known
    assert with_known_ids(asked, tokenizer_of("tagged")) == asked
