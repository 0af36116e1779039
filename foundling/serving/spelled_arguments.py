"""Arguments that are spelled as XML or in Python, read while they are written, as JSON."""

import ast
import json
import re
import warnings
from collections.abc import Mapping
from typing import Any

from foundling.text.call_format import CallFormat
from foundling.text.matching import skipped

Schema = Mapping[str, Any]
_KEY = re.compile(r"\s*([^\W\d]\w*)\s*=")
_NO_KEY_YET = re.compile(r"\s*([^\W\d]\w*)?\s*")
_LITERALS = {"true": True, "false": False, "null": None}


class SpelledArguments:
    """Text in, pieces of a JSON object out, argument by argument.

    Args:
        form: how calls are written; it has a spelling.
        schema: of the arguments, by which what XML spells is known to be a text or not.
    """

    def __init__(self, form: CallFormat, schema: Schema) -> None:
        assert form.spelling is not None
        self._form, self._spelling = form, form.spelling
        known = schema.get("properties")
        self._known: Mapping[str, Any] = known if isinstance(known, Mapping) else {}
        self._literal_end = _LiteralEnd()
        self._key: str | None = None
        self._num_read = 0
        self.has_ended = False

    def begin(self, text: str) -> bool | None:
        """Whether arguments, or the end of a call without any, begin here; None: not certain."""
        form, opens = self._form, self._spelling.opens
        if self._spelling.is_python:
            if _KEY.match(text):
                return True
            return True if text.startswith(")") else None if _may_be_key(text) else False
        expected = [opens, form.after, form.between or form.after]
        found = [skipped(text, one) for one in expected]
        if any(at is not None and at >= 0 for at in found):
            return True
        return None if None in found else False

    def read(self, text: str) -> tuple[str, str]:
        """A piece of JSON, and what is left of the text: not certain yet, or behind the end.

        The JSON of a call that is cut off has no end.
        """
        piece = ""
        while not self.has_ended:
            found = self._read_key(text) if self._key is None else self._read_value(text)
            if found is None:
                break
            piece += found[0]
            text = found[1]
        return piece, text

    def _read_key(self, text: str) -> tuple[str, str] | None:
        spelling, rest = self._spelling, text
        before = spelling.separator if self._num_read else ""
        if spelling.is_python:
            body = text.lstrip()
            if self._num_read and body.startswith(","):
                body = body[1:]
            match = _KEY.match(body)
            if match is None:
                return None if _may_be_key(body) else self._ended(text)
            self._key, rest = match[1], body[match.end() :]
        else:
            at = skipped(text, before + spelling.opens)
            if at is None or at < 0:
                return None if at is None else self._ended(text)
            key, found, rest = text[at:].partition(spelling.equals.strip())
            if not found:
                return None
            self._key = key.strip()
        begins = ", " if self._num_read else "{"
        self._num_read += 1
        return f"{begins}{json.dumps(self._key, ensure_ascii=False)}: ", rest

    def _read_value(self, text: str) -> tuple[str, str] | None:
        assert self._key is not None
        spelling, schema = self._spelling, self._known.get(self._key, {})
        if spelling.is_python:
            end = self._literal_end.find(text)
            if end is None:
                return None
            value, rest = _literal(text[:end]), text[end:]
        else:
            raw, found, rest = text.partition(spelling.closes.strip())
            if not found:
                return None
            raw = raw.removeprefix(_space(spelling.equals, at_end=True))
            raw = raw.removesuffix(_space(spelling.closes, at_end=False))
            value = _typed(raw, schema)
        self._key, self._literal_end = None, _LiteralEnd()
        return json.dumps(value, ensure_ascii=False), rest

    def _ended(self, text: str) -> tuple[str, str]:
        self.has_ended = True
        return "}" if self._num_read else "{}", text


def kinds_of(schema: Any) -> frozenset[str]:
    """The JSON types that a schema allows as far as it says so; none: it does not."""
    if not isinstance(schema, Mapping):
        return frozenset()
    said, one_of = schema.get("type"), choices_of(schema)
    found = {kind for kind in (said if isinstance(said, list) else [said]) if isinstance(kind, str)}
    if not found and one_of and all(isinstance(value, str) for value in one_of):
        found = {"string"}
    for way in ("anyOf", "oneOf"):
        parts = schema.get(way)
        for part in parts if isinstance(parts, list) else []:
            found |= kinds_of(part)
    return frozenset(found)


def choices_of(schema: Schema) -> list[Any]:
    """The values that a schema names; empty: any others are allowed too."""
    named = schema.get("enum")
    return [schema["const"]] if "const" in schema else named if isinstance(named, list) else []


def _typed(raw: str, schema: Any) -> Any:
    """What XML says, which does not tell a text from a number: by the schema."""
    kinds = kinds_of(schema)
    if kinds == {"string"}:
        return raw
    value = _literal(raw)
    if kinds:
        return raw if isinstance(value, str) or _is_text_too(value, kinds) else value
    return value if isinstance(value, dict | list) else raw


def _is_text_too(value: Any, kinds: frozenset[str]) -> bool:
    """Whether what reads as a value must be a text, as the schema knows no such value."""
    names = {bool: "boolean", int: "integer", float: "number", dict: "object", list: "array"}
    name = "null" if value is None else names[type(value)]
    is_known = name in kinds or (name == "integer" and "number" in kinds)
    return "string" in kinds and not is_known


def _literal(raw: str) -> Any:
    """A literal of JSON or Python; what is neither stays the text that it is."""
    for read in (json.loads, _python):
        try:
            value = read(raw)
            json.dumps(value, allow_nan=False)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return value
    return raw


def _python(raw: str) -> Any:
    with warnings.catch_warnings(action="ignore", category=SyntaxWarning):
        return _value(ast.parse(raw.strip(), mode="eval").body)


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=str() | int() | float() | None as value):
            return value
        case ast.Name(id=name) if name in _LITERALS:
            return _LITERALS[name]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_value(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            names = [None if key is None else _value(key) for key in keys]
            if all(isinstance(name, str) for name in names):
                return dict(zip(names, map(_value, values), strict=True))
    raise ValueError("no literal")


class _LiteralEnd:
    """Finds where an argument in Python ends, which comes piece by piece: at a comma or bracket
    outside of all others' brackets."""

    _MARKS = re.compile(r"[()\[\]{}\"',\\]")

    def __init__(self) -> None:
        self._at, self._depth, self._quote = 0, 0, ""

    def find(self, text: str) -> int | None:
        """Where; None: not in this text, which comes again with more behind it."""
        while mark := self._MARKS.search(text, self._at):
            sign, self._at = mark[0], mark.end()
            if self._quote:
                self._at += sign == "\\"
                self._quote = "" if sign == self._quote else self._quote
            elif sign in "\"'":
                self._quote = sign
            elif sign in "([{":
                self._depth += 1
            elif sign in ")]}" or (sign == "," and not self._depth):
                if not self._depth:
                    return mark.start()
                self._depth -= 1
        self._at = max(self._at, len(text))
        return None


def _may_be_key(text: str) -> bool:
    """Whether the text may go on as the name of an argument."""
    return bool(_NO_KEY_YET.fullmatch(text))


def _space(text: str, *, at_end: bool) -> str:
    """The white space at an end of what stands around a value."""
    return text[len(text.rstrip()) :] if at_end else text[: len(text) - len(text.lstrip())]
