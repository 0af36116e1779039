"""Calls whose arguments are XML or Python: read as the template writes them, and forced."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import jsonschema
import pytest
from chat_templates import write
from hypothesis import given, settings
from hypothesis import strategies as st
from tool_templates import SPELLED

from foundling.base.config import ConfigError
from foundling.serving.answer_reader import Answer, AnswerReader
from foundling.serving.tool_calls import answer_grammar, answer_reader
from foundling.text.chat import Message, ToolCall, render_prompt
from foundling.text.tokenizer import Tokenizer

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 8},
        "days": {"type": "integer", "minimum": 0, "maximum": 99},
        "exact": {"type": "boolean"},
        "unit": {"enum": ["C", "F"]},
        "at": {"type": "array", "items": {"type": "integer"}, "maxItems": 2},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
GIVEN = tuple(
    {"type": "function", "function": {"name": name, "parameters": schema}}
    for name, schema in (("weather", WEATHER), ("stop", None), ("stopped", None))
)
CALL = {"city": "Ulm", "days": 1, "exact": True, "unit": "C", "at": [1, 2]}


@cache
def tokenizer_of(name: str) -> Tokenizer:
    return Tokenizer.load(write(Path(mkdtemp()), SPELLED[name]))


def read(name: str, pieces: Sequence[str], tools: Any = GIVEN) -> Answer:
    reader: AnswerReader = answer_reader(tokenizer_of(name), tools, "auto")
    deltas = [delta for piece in pieces for delta in reader.push(piece)] + reader.finish()
    return Answer.of(deltas)


def written(name: str, calls: Sequence[tuple[str, dict[str, Any]]], content: str = "") -> str:
    """An answer as the template itself writes it."""
    tokenizer, asked = tokenizer_of(name), Message("user", "a")
    made = tuple(ToolCall(one, json.dumps(arguments), "") for one, arguments in calls)
    before = tokenizer.decode(render_prompt([asked], tokenizer, tools=GIVEN), show_special=True)
    answer = Message("assistant", content, tool_calls=made)
    prompt = render_prompt([asked, answer, Message("tool", "b")], tokenizer, tools=GIVEN)
    text = tokenizer.decode(prompt, show_special=True)
    assert text.startswith(before)
    return text[len(before) :].partition("<|im_end|>")[0]


def cuts(text: str, places: Sequence[float]) -> list[str]:
    ends = sorted({int(place * len(text)) for place in places} | {len(text)})
    return [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=9)
arguments = st.fixed_dictionaries(
    {"city": texts | st.sampled_from(["1", "true", "a, b)", "[x=1]", '\\"', "<a>", "'"])},
    optional={
        "days": st.integers(),
        "exact": st.booleans(),
        "unit": st.sampled_from(["C", "F"]),
        "at": st.lists(st.integers()),
    },
)
calls = st.lists(
    st.tuples(st.just("weather"), arguments) | st.just(("stop", {})), min_size=1, max_size=3
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(SPELLED)), calls, st.lists(st.floats(0, 1), max_size=30))
def test_calls_come_out_as_the_template_writes_them(
    name: str, calls: list[tuple[str, dict[str, Any]]], places: list[float]
) -> None:
    answer = read(name, cuts(written(name, calls), places))
    assert [(call.name, json.loads(call.arguments)) for call in answer.calls] == calls
    assert answer.text == ""


@pytest.mark.parametrize("name", SPELLED)
def test_an_answer_that_is_cut_off_anywhere_is_read(name: str) -> None:
    text = written(name, [("weather", CALL)])
    whole = read(name, [text]).calls[0].arguments
    for end in range(len(text)):
        answer = read(name, list(text[:end]))
        for call in answer.calls:
            assert call.name == "weather"
            assert whole.startswith(call.arguments)
            assert not answer.text
    assert json.loads(whole) == CALL


def test_arguments_are_told_one_by_one() -> None:
    for name in SPELLED:
        reader = answer_reader(tokenizer_of(name), GIVEN, "auto")
        text = written(name, [("weather", CALL)])
        pieces = [delta.text for piece in text for delta in reader.push(piece) if delta.text]
        assert len(pieces) >= len(CALL)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("elements", "<call>\n<function=launch>\n</function>\n</call>"),
        ("elements", "<call> me <function=stop>"),
        ("elements", "Use <call>\n<function=stopper>\n."),
        ("attributes", '<do what="launch"></do>'),
        ("attributes", '<do what="stop"> it'),
        ("python", "[launch()]"),
        ("python", "[weather(ish)] and [stop"),
        ("python", "a list [1, 2] and f(x=1)"),
        ("begun python", "[stop()]"),
    ],
)
def test_what_only_looks_like_a_call_stays_text(name: str, text: str) -> None:
    for pieces in ([text], list(text)):
        assert read(name, pieces) == Answer(text, "", ())


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "elements", "<call><function=weather><argument=city>a\nb</argument>"
            "<argument=days> 2 </argument><argument=exact>True</argument></function></call>",
            {"city": "a\nb", "days": 2, "exact": True},
        ),
        (
            "elements", "<call>\n<function=weather>\n<argument=days>\nsome\n</argument>\n"
            "<argument=other>\n12\n</argument>\n<argument=more>\n{\"a\": 1}\n</argument>\n"
            "</function>",
            {"days": "some", "other": "12", "more": {"a": 1}},
        ),
        (
            "python",
            "[ weather ( city = 'it\\'s', days=-2,exact=False, at=(1, 2), o={'a': None}) ]",
            {"city": "it's", "days": -2, "exact": False, "at": [1, 2], "o": {"a": None}},
        ),
        ("python", '[weather(city="C:\\\\d, )", days=f(1), exact=true)]',
         {"city": "C:\\d, )", "days": "f(1)", "exact": True}),
        ("python", '[weather(city="Ulm", days=1e999)]', {"city": "Ulm", "days": "1e999"}),
    ],
)  # fmt: skip
def test_models_are_not_held_to_the_white_space_or_the_literals(
    name: str, text: str, expected: dict[str, Any]
) -> None:
    for pieces in ([text], list(text)):
        (call,) = read(name, pieces).calls
        assert json.loads(call.arguments) == expected


def test_text_and_thoughts_may_stand_before_calls() -> None:
    text = written("elements", [("stop", {}), ("weather", CALL)], "Let me see.")
    for pieces in ([text], list(text), list("<think>\nhm\n</think>\n\n" + text)):
        answer = read("elements", pieces)
        assert answer.text.strip() == "Let me see."
        assert [call.name for call in answer.calls] == ["stop", "weather"]
        assert answer.calls[0].arguments == "{}"


# ---------------------------------------------------------------------- forced by a grammar


def follows(name: str, text: str, tools: Any = GIVEN, **options: Any) -> bool:
    """Whether the grammar of an answer lets a model write this, and end there."""
    tokenizer = tokenizer_of(name)
    grammar = answer_grammar(tokenizer, tools, **options)
    assert grammar is not None
    state = grammar.constraint(tokenizer)
    special = {tokenizer.name_of(id): id for id in tokenizer.special_ids}
    tokens = list[int]()
    for piece in text.replace("<|", "\0<|").replace("|>", "|>\0").split("\0"):
        tokens += [special[piece]] if piece in special else tokenizer.encode(piece)
    for token in (*tokens, tokenizer.stop_ids[0]):
        if not state.mask()[token]:
            return False
        state.accept(token)
    return True


@pytest.mark.parametrize("name", SPELLED)
def test_a_forced_call_follows_its_schema(name: str) -> None:
    def may(*calls: tuple[str, dict[str, Any]], choice: str = "required", **options: Any) -> bool:
        return follows(name, written(name, calls), choice=choice, **options)

    needed = {"city": "Ulm", "days": 1}
    assert may(("weather", CALL))
    assert may(("weather", needed))
    assert may(("weather", {**needed, "at": []}))
    assert may(("stop", {}))
    assert may(("weather", needed), ("stop", {}))
    assert not may(("weather", needed), ("stop", {}), parallel=False)
    assert not may(("weather", {"city": "Ulm"}))
    assert not may(("weather", {**needed, "days": "x"}))
    assert not may(("weather", {**needed, "city": "x" * 9}))
    assert not may(("weather", {**needed, "unit": "K"}))
    assert not may(("weather", {**needed, "wind": 1}))
    assert not may(("stop", {}), choice="weather")
    assert not follows(name, "No.", choice="required")
    assert follows(name, "No.", choice="auto", parallel=False)
    assert may(("stop", {}), choice="auto", parallel=False)


def test_what_a_form_cannot_say_is_refused() -> None:
    def of(key: str, schema: dict[str, Any]) -> Any:
        parameters = {"type": "object", "properties": {key: schema}}
        return ({"type": "function", "function": {"name": "f", "parameters": parameters}},)

    with pytest.raises(ConfigError, match='"a-b" is no name in Python'):
        answer_grammar(tokenizer_of("python"), of("a-b", {"type": "integer"}), "required")
    dated = of("day", {"type": "string", "format": "date"})
    with pytest.raises(ConfigError, match='"format" of a text cannot be followed'):
        answer_grammar(tokenizer_of("elements"), dated, "required")
    assert answer_grammar(tokenizer_of("elements"), dated, "auto", parallel=False) is not None


def test_a_schema_says_what_is_a_text() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": ["string", "null"]},
            "b": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
            "c": {"const": "7"},
            "d": {"type": "number"},
        },
    }
    tools = ({"type": "function", "function": {"name": "f", "parameters": schema}},)
    arguments = "".join(
        f"<argument={key}>\n{value}\n</argument>\n"
        for key, value in (("a", "1"), ("b", "1"), ("c", "7"), ("d", "1"))
    )
    text = f"<call>\n<function=f>\n{arguments}</function>\n</call>"
    (call,) = read("elements", [text], tools).calls
    values = json.loads(call.arguments)
    assert values == {"a": "1", "b": 1, "c": "7", "d": 1}
    jsonschema.validate(values, schema)
