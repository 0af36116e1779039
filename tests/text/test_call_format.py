"""The form of calls and thoughts, learned from templates."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from chat_templates import FAMILIES, write
from tool_templates import SPELLED, TOOLS, UNREADABLE

from foundling.base.config import ConfigError
from foundling.text.call_format import begins_in_thought, call_format, shown_ids, thought_format
from foundling.text.tokenizer import Tokenizer


def tokenizer_of(name: str, folder: Path) -> Tokenizer:
    return Tokenizer.load(write(folder, TOOLS[name]))


@pytest.mark.parametrize(
    ("name", "opening", "following", "closing"),
    [
        ("tagged", "<call>\n", "\n</call>\n<call>\n", "\n</call>"),
        ("begun", "<call>\n", "\n</call>\n<call>\n", "\n</call>"),
        ("listed", "[CALLS] [", ", ", "]"),
        ("bare", "", None, ""),
        ("named", "[CALLS]", "[CALLS]", ""),
        (
            "fenced",
            "<|calls|><|call|>function<|sep|>",
            "\n```<|/call|>\n<|call|>function<|sep|>",
            "\n```<|/call|><|/calls|>",
        ),
    ],
)
def test_what_stands_around_calls_is_learned(
    name: str, opening: str, following: str | None, closing: str, tmp_path: Path
) -> None:
    form = call_format(tokenizer_of(name, tmp_path))
    assert (form.opening, form.following, form.closing) == (opening, following, closing)
    assert form.is_wrapped == (name in ("tagged", "begun", "listed", "bare"))
    assert form.has_short_ids == (name == "listed")
    assert form.separators == ((",", ":") if name == "fenced" else (", ", ": "))
    assert ("parameters" in form.middle) == (name == "bare")


def test_thoughts_are_learned_too(tmp_path: Path) -> None:
    for name in TOOLS:
        tokenizer = tokenizer_of(name, tmp_path / name)
        thoughts = thought_format(tokenizer)
        if name in ("thinking", "begun", "secret"):
            assert thoughts is not None
            assert (thoughts.opens, thoughts.closes) == ("<think>", "</think>")
        else:
            assert thoughts is None
        assert begins_in_thought(tokenizer) == (name == "begun")


def test_special_tokens_around_calls_are_shown(tmp_path: Path) -> None:
    tokenizer = tokenizer_of("fenced", tmp_path)
    shown = shown_ids(tokenizer, call_format(tokenizer), thought_format(tokenizer))
    assert {tokenizer.name_of(id) for id in shown} == set(TOOLS["fenced"].tokens[3:])


@pytest.mark.parametrize(
    ("name", "middle", "spelled", "following", "closing"),
    [
        (
            "elements", ">\n", ("<argument=", ">\n", "\n</argument>\n", ""),
            "</function>\n</call>\n<call>\n<function=", "</function>\n</call>",
        ),
        (
            "attributes", '">', ('<with name="', '">', "</with>", ""),
            '</do><do what="', "</do>",
        ),
        ("python", "(", ("", "=", "", ", "), "), ", ")]"),
        ("begun python", "(", ("", "=", "", ", "), "), ", ")]<|ran|>"),
    ],
)  # fmt: skip
def test_arguments_may_be_xml_or_python(
    name: str,
    middle: str,
    spelled: tuple[str, ...],
    following: str,
    closing: str,
    tmp_path: Path,
) -> None:
    form = call_format(Tokenizer.load(write(tmp_path, SPELLED[name])))
    assert form.spelling is not None
    assert (form.middle, form.spelling.texts) == (middle, spelled)
    assert (form.following, form.closing) == (following, closing)
    assert form.spelling.is_python == ("python" in name)
    assert not form.is_wrapped


def test_templates_that_write_no_such_calls_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="takes no tools"):
        call_format(Tokenizer.load(write(tmp_path / "a", FAMILIES["chatml"])))
    with pytest.raises(ConfigError, match="JSON object of arguments"):
        call_format(Tokenizer.load(write(tmp_path / "b", UNREADABLE)))


@pytest.mark.real
def test_the_calls_of_a_real_template(real_tokenizer: Callable[[str], Path]) -> None:
    tokenizer = Tokenizer.load(real_tokenizer("qwen3"))
    for one in (tokenizer, tokenizer.with_template("default", enable_thinking=False)):
        form, thoughts = call_format(one), thought_format(one)
        assert form.opening == "<tool_call>\n"
        assert form.before == '<tool_call>\n{"name": "'
        assert form.between == '}\n</tool_call>\n<tool_call>\n{"name": "'
        assert form.after == "}\n</tool_call>"
        assert thoughts is not None
        assert (thoughts.opens, thoughts.closes) == ("<think>", "</think>")


def test_a_long_option_of_the_template_is_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tokenizer_of("thinking", tmp_path)
    expected = thought_format(tokenizer)
    tokenizer = tokenizer.with_template("{{ x }}" + TOOLS["thinking"].template, x="a" * 200_000)
    searched: list[int] = []
    search = re.search

    def counted(pattern: str, text: str) -> re.Match[str] | None:
        searched.append(len(text))
        return search(pattern, text)

    monkeypatch.setattr(re, "search", counted)
    assert thought_format(tokenizer) == expected is not None
    assert max(searched) <= 400
