"""Grammars: what is drawn under one belongs to it, whatever the tokenizer."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chat_templates
import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foundling.base.config import ConfigError
from foundling.generation.grammar import Constraint, Grammar
from foundling.text.tokenizer import Tokenizer

BYTES = Tokenizer.train_bytes(['{"name": "the miller", "age": 42}'] * 3, vocab_size=300)
ASCII = "".join(map(chr, range(32, 127)))
CHARACTERS = Tokenizer.characters([ASCII])


def tokenizers(folder: Path) -> Iterator[Tokenizer]:
    yield from (BYTES, CHARACTERS)
    for name in ("chatml", "thinking", "folded", "instruct", "brackets", "prepended"):
        yield Tokenizer.load(chat_templates.write(folder / name, chat_templates.FAMILIES[name]))


def drawn(
    constraint: Constraint, tokenizer: Tokenizer, seed: int, most: int = 300
) -> tuple[str, bool]:
    """A text of random tokens under a grammar, and whether it was ended."""
    generator = torch.Generator().manual_seed(seed)
    closing = [id for id in range(tokenizer.vocab_size) if tokenizer.bytes_of(id) in b'"}] ']
    tokens: list[int] = []
    for _ in range(most):
        logits = torch.randn(tokenizer.vocab_size, generator=generator)
        logits[closing] += 4  # strings and lists end
        logits[tokenizer.stop_ids] += 4
        allowed = constraint.mask()
        assert allowed.any()
        token = int(logits.masked_fill(~allowed, -torch.inf).argmax())
        constraint.accept(token)
        if token in tokenizer.stop_ids:
            return tokenizer.decode(tokens), True
        tokens.append(token)
    return tokenizer.decode(tokens), False


def schemas() -> st.SearchStrategy[dict[str, Any]]:
    bounded = st.tuples(st.integers(-50, 50), st.integers(0, 60))
    leaves = st.one_of(
        st.sampled_from([{"type": kind} for kind in ("boolean", "null", "number", "integer")]),
        bounded.map(lambda b: {"type": "integer", "minimum": b[0], "maximum": b[0] + b[1]}),
        st.integers(0, 6).map(lambda n: {"type": "string", "minLength": n, "maxLength": n + 4}),
        st.lists(st.text(ASCII, max_size=5) | st.integers(-9, 9), min_size=1, max_size=4).map(
            lambda values: {"enum": values}
        ),
        st.just({"type": "string", "pattern": "^[a-c]{2,4}-[0-9]+$"}),
    )
    names = st.text('abc de"\\', min_size=1, max_size=4)

    def larger(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
        lists = st.tuples(inner, st.integers(0, 2)).map(
            lambda p: {"type": "array", "items": p[0], "minItems": p[1], "maxItems": p[1] + 2}
        )
        objects = st.dictionaries(names, inner, min_size=1, max_size=3).flatmap(
            lambda properties: st.sets(st.sampled_from(sorted(properties))).map(
                lambda required: {
                    "type": "object",
                    "properties": properties,
                    "required": sorted(required),
                    "additionalProperties": False,
                }
            )
        )
        return lists | objects | st.lists(inner, min_size=1, max_size=2).map(lambda s: {"anyOf": s})

    return st.recursive(leaves, larger, max_leaves=6)


@settings(max_examples=60, deadline=None)
@given(schemas(), st.integers(0, 99), st.sampled_from([BYTES, CHARACTERS]))
def test_what_is_drawn_under_a_schema_is_valid(
    schema: dict[str, Any], seed: int, tokenizer: Tokenizer
) -> None:
    text, ended = drawn(Grammar.json_schema(schema).constraint(tokenizer), tokenizer, seed)
    if ended:
        jsonschema.validate(json.loads(text), schema)
    else:
        assert len(text) > 100  # a long number, not white space without end
        assert not text.endswith("  ")


def test_every_kind_of_tokenizer_writes_what_the_grammar_says(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer", "maximum": 9}}}
    schema |= {"required": ["a"], "additionalProperties": False}
    for tokenizer in tokenizers(tmp_path):
        text, ended = drawn(Grammar.json_schema(schema).constraint(tokenizer), tokenizer, 1)
        assert ended
        assert text.startswith('{"a":')
        jsonschema.validate(json.loads(text), schema)
        assert drawn(Grammar.regex("the cat").constraint(tokenizer), tokenizer, 1) == (
            "the cat",
            True,
        )


def test_the_end_is_allowed_exactly_where_the_grammar_may_stop() -> None:
    state = Grammar.regex("ab?c*").constraint(CHARACTERS)
    ends = torch.tensor(CHARACTERS.stop_ids)
    assert len(ends) == 2
    assert not state.mask()[ends].any()
    for letter in "abcc":
        state.accept(CHARACTERS.encode(letter)[0])
        assert state.mask()[ends].all()
        assert not state.finished
    one = Grammar.json_schema({"const": True}).constraint(CHARACTERS)
    for letter in "true":
        assert not one.finished
        one.accept(CHARACTERS.encode(letter)[0])
    assert one.finished
    assert one.mask().nonzero()[:, 0].tolist() == sorted(CHARACTERS.stop_ids)


@given(st.integers(0, 99), st.integers(1, 12), st.integers(0, 12))
@settings(max_examples=20, deadline=None)
def test_tokens_that_are_taken_back_leave_no_trace(seed: int, kept: int, more: int) -> None:
    grammar = Grammar.json_object()
    generator = torch.Generator().manual_seed(seed)
    state, tokens = grammar.constraint(BYTES), []
    for place in range(kept + more):
        allowed = state.mask()
        if place == kept:
            expected = allowed
        allowed = allowed.clone()
        allowed[BYTES.stop_ids] = False
        if not allowed.any():
            return
        tokens.append(int(torch.multinomial(allowed.float(), 1, generator=generator)))
        state.accept(tokens[-1])
    if more:
        state.rollback(more)
        assert torch.equal(state.mask(), expected)
    again = grammar.constraint(BYTES)
    for token in tokens[:kept]:
        again.accept(token)
    assert torch.equal(state.mask(), again.mask())


def test_special_tokens_come_only_where_the_grammar_names_them() -> None:
    mark = BYTES.special("<|user|>")
    state = Grammar.lark(f"start: <[{mark}]> /[^\\n]*/").constraint(BYTES)
    assert state.mask().nonzero()[:, 0].tolist() == [mark]
    state.accept(mark)
    others = set(BYTES.special_ids) - set(BYTES.stop_ids)
    assert not others & set(state.mask().nonzero()[:, 0].tolist())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Grammar.json_schema({"type": "objec"}), "Invalid type: objec"),
        (lambda: Grammar.json_schema({"type": "string", "not": {}}), "not"),
        (lambda: Grammar.json_schema({"x-guidance": {"lenient": True}, "not": {}}), "not"),
        (lambda: Grammar.json_schema({"type": "string", "pattern": "(?=a)"}), "look-around"),
        (lambda: Grammar.json_schema({"$ref": "http://example.org/a"}), "example.org"),
        (
            lambda: Grammar.json_schema({"type": "integer", "minimum": 5, "maximum": 3}),
            "Unsatisfiable",
        ),
        (lambda: Grammar.json_schema({"type": 2**70}), ""),
        (lambda: Grammar.json_schema({"type": "integer", "maximum": 2**70, "minimum": "a"}), ""),
        (lambda: Grammar.regex("(a"), "unclosed group"),
        (lambda: Grammar.lark("start: nope"), "nope"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_the_reason(make: Any, said: str) -> None:
    with pytest.raises(ConfigError, match="this grammar cannot be followed") as refusal:
        make()
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_vocabulary_without_the_characters_is_refused() -> None:
    few = Tokenizer.characters(["ab{}"])
    with pytest.raises(ConfigError, match="no token may come next"):
        Grammar.regex("z").constraint(few)
    state = Grammar.regex("a(bz|b{3})?").constraint(few)
    state.accept(few.encode("a")[0])
    assert few.encode("b")[0] in state.mask().nonzero()
    dead = Grammar.regex("a(bz|bz{3})").constraint(few)
    dead.accept(few.encode("a")[0])
    dead.accept(few.encode("b")[0])
    with pytest.raises(ConfigError, match="no token may come next"):
        dead.mask()


def test_a_vocabulary_whose_tokens_depend_on_each_other_is_refused(tmp_path: Path) -> None:
    words = Tokenizer.load(chat_templates.unigram(tmp_path))
    if words.kind == "other":
        with pytest.raises(ConfigError, match="neighbours"):
            Grammar.json_object().constraint(words)
