"""What an answer may look like: calls of tools, JSON of a schema, and the thoughts before them."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from foundling.base.config import ConfigError
from foundling.generation.grammar import Grammar
from foundling.serving.answer_reader import AnswerReader
from foundling.serving.spelled_arguments import choices_of, kinds_of
from foundling.text.call_format import (
    ID,
    SHORT,
    CallFormat,
    begins_in_thought,
    call_format,
    shown_ids,
    thought_format,
)
from foundling.text.chat import Message, Tools
from foundling.text.spelled_calls import Spelling
from foundling.text.tokenizer import Tokenizer

CHOICES = ("none", "auto", "required")
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_.:-]{1,128}")
_TEXT_KEYS = {
    *("type", "description", "title", "default", "examples", "minLength", "maxLength"),
    *("$defs", "definitions"),
}
_NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}


def check_tools(tools: Tools) -> None:
    """Refuse tools whose calls could not be told from other text, or from each other's.

    Raises:
        ConfigError: a name or the parameters are at fault.
    """
    names = _names(tools)
    counts = Counter(names)
    for tool, name in zip(tools, names, strict=True):
        if not _TOOL_NAME.fullmatch(name) or name in CHOICES:
            raise ConfigError(
                f"tools: a function is called {name!r}; a name has 1 to 128 letters, digits, "
                f"underscores, dots, colons or dashes, and is none of {', '.join(CHOICES)}."
            )
        if counts[name] > 1:
            raise ConfigError(f'tools: {counts[name]} functions are called "{name}".')
        parameters = tool["function"].get("parameters")
        kind = parameters.get("type", "object") if isinstance(parameters, Mapping) else None
        if parameters is not None and kind != "object":
            raise ConfigError(f'tools: the parameters of "{name}" are no schema of an object.')


def answer_reader(tokenizer: Tokenizer, tools: Tools, choice: str) -> AnswerReader:
    """`answer_readers`, of one answer."""
    return answer_readers(tokenizer, tools, choice)()


def answer_readers(tokenizer: Tokenizer, tools: Tools, choice: str) -> Callable[[], AnswerReader]:
    """What makes readers, one for each answer; how the template writes is worked out once.

    Args:
        choice: "none", "auto", "required", or the name of the tool that is to be called.

    Raises:
        ConfigError: the chat template takes no tools, or calls cannot be read.
    """
    calls = call_format(tokenizer) if tools and choice != "none" else None
    thoughts = thought_format(tokenizer)
    return partial(
        AnswerReader,
        calls,
        _names(tools),
        thoughts,
        schemas={tool["function"]["name"]: _schema(tool["function"]) for tool in tools},
        shown=shown_ids(tokenizer, calls, thoughts),
        is_thinking=begins_in_thought(tokenizer),
    )


def answer_grammar(
    tokenizer: Tokenizer,
    tools: Tools = (),
    choice: str = "auto",
    *,
    parallel: bool = True,
    schema: Mapping[str, Any] | None = None,
) -> Grammar | None:
    """What one answer must follow; None where it is free.

    Thoughts may come first. With a schema and tools that may be called, it is the one or the
    other.

    Args:
        choice: "none", "auto", "required", or the name of the tool that is to be called.
        parallel: several tools may be called.
        schema: of the JSON that the answer is.

    Raises:
        ConfigError: there is no such tool, its parameters are no schema, the chat template takes
            no tools, or the schema cannot be followed.
    """
    if choice not in (*CHOICES, *_names(tools)):
        known = ", ".join(_names(tools)) or "none"
        raise ConfigError(f'tool_choice = "{choice}": no such tool; given are: {known}.')
    if choice == "none":
        tools = ()
    if choice in _names(tools):
        tools = tuple(tool for tool in tools if tool["function"]["name"] == choice)
    is_forced = bool(tools) and choice not in ("none", "auto")
    is_strict = any(tool["function"].get("strict") for tool in tools)
    if schema is None and not (is_forced or (tools and (is_strict or not parallel))):
        return None
    rules = _Rules(tokenizer)
    answers = [] if schema is None or is_forced else [rules.json(schema, (",", ":"))]
    if tools:
        form = call_format(tokenizer)
        rules.add_calls(form, [(tool, is_forced) for tool in tools], parallel)
        answers += ["calls"] if is_forced or schema is not None else rules.free_or_calls(form)
    return Grammar.lark(rules.text(answers))


def with_known_ids(messages: Iterable[Message], tokenizer: Tokenizer) -> tuple[Message, ...]:
    """The messages with ids of calls as the chat template takes them."""
    messages = tuple(messages)
    if not any(message.tool_calls for message in messages):
        return messages
    try:
        has_short_ids = call_format(tokenizer).has_short_ids
    except ConfigError:  # said by what writes the messages
        has_short_ids = False
    return tuple(map(_shortened, messages)) if has_short_ids else messages


def _shortened(message: Message) -> Message:
    calls = tuple(replace(call, id=_short(call.id)) for call in message.tool_calls)
    answered = _short(message.tool_call_id) if message.tool_call_id else ""
    return replace(message, tool_calls=calls, tool_call_id=answered)


def _short(id: str) -> str:
    if re.fullmatch(f"[a-zA-Z0-9]{{{SHORT}}}", id):
        return id
    return hashlib.sha256(id.encode()).hexdigest()[:SHORT]


def _names(tools: Tools) -> tuple[str, ...]:
    return tuple(tool["function"]["name"] for tool in tools)


class _Rules:
    """The rules of a grammar in the notation of Lark, as llguidance reads it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._rules: list[str] = []
        special = {tokenizer.name_of(id): id for id in tokenizer.special_ids}
        self._special = special
        names = sorted(special, key=len, reverse=True)
        self._names = re.compile("|".join(map(re.escape, names)) or "(?!)")
        self._thoughts = thought_format(tokenizer)
        self._is_thinking = begins_in_thought(tokenizer)

    def text(self, answers: Sequence[str]) -> str:
        """All rules, of which an answer is one of these."""
        answer = f"({' | '.join(answers)})"
        if self._thoughts is not None:
            inner = self._until("thought", self._thoughts.closes)
            opened = "" if self._is_thinking else self._literal(self._thoughts.opens)
            thinking = f"{opened} {inner} {self._literal(self._thoughts.gap)}"
            answer = f"{thinking} {answer}" if self._is_thinking else f"({thinking})? {answer}"
        return "\n".join([f"start: {answer}", *self._rules])

    def json(self, schema: Mapping[str, Any], separators: tuple[str, str]) -> str:
        """JSON of the schema, whose items and keys are separated so."""
        options = {
            "whitespace_flexible": False,
            "lenient": False,
            "item_separator": re.escape(separators[0]),
            "key_separator": re.escape(separators[1]),
        }
        return f"%json {json.dumps({**schema, 'x-guidance': options})}"

    def add_calls(
        self, form: CallFormat, tools: Sequence[tuple[Mapping[str, Any], bool]], parallel: bool
    ) -> None:
        """The rules `calls`, `rest`, which is calls without the marker, and what they need.

        Args:
            tools: each with whether its arguments must follow its schema, even where that cannot
                be enforced.
        """
        for number, (tool, is_bound) in enumerate(tools):
            function = tool["function"]
            name = self._literal(function["name"] + form.middle)
            schema = _parameters(function, is_bound)
            if form.spelling is None:
                arguments = self.json(schema, form.separators)
            else:
                arguments = self._spelled(form.spelling, f"call_{number}", schema, is_bound)
            self._rules.append(f"call_{number}: {name} {arguments}")
        self._rules.append(f"call: {' | '.join(f'call_{n}' for n in range(len(tools)))}")
        more = ""
        if parallel and form.between is not None:
            more = f"({self._literal(form.between)} call)*"
        marker = self._marker(form)
        behind = self._literal(form.before[len(marker) :])
        self._rules.append(f"rest: {behind} call {more} {self._literal(form.after)}")
        self._rules.append(f"calls: {self._literal(marker)} rest")

    def _spelled(
        self, spelling: Spelling, name: str, schema: Mapping[str, Any], is_bound: bool
    ) -> str:
        """The arguments of a call that are no JSON object, in the order of the schema.

        Raises:
            ConfigError: the schema must be followed, and this form cannot say what it asks for.
        """
        known, needed = schema.get("properties") or {}, schema.get("required") or ()
        shared = {part: schema[part] for part in ("$defs", "definitions") if part in schema}
        count = len(known)
        self._rules += [f'{name}_more_{count}: ""', f'{name}_first_{count}: ""']
        for index, (key, own) in reversed(list(enumerate(known.items()))):
            if spelling.is_python and not key.isidentifier():
                raise ConfigError(
                    f'tools: the parameter "{key}" is no name in Python, as which '
                    "this model's chat template writes the arguments of calls; call it otherwise."
                )
            item, more = f"{name}_{index}", f"{name}_more_{index + 1}"
            own = {**(own if isinstance(own, Mapping) else {}), **shared}
            value = self._spelled_value(spelling, item, own, is_bound)
            opens = self._literal(spelling.opens + key + spelling.equals)
            self._rules.append(f"{item}: {opens} {value}")
            left_out = key not in needed
            without = [f" | {name}_{kind}_{index + 1}" * left_out for kind in ("more", "first")]
            separator = self._literal(spelling.separator)
            self._rules.append(f"{name}_more_{index}: {separator} {item} {more}{without[0]}")
            self._rules.append(f"{name}_first_{index}: {item} {more}{without[1]}")
        return f"{name}_first_0"

    def _spelled_value(
        self, spelling: Spelling, name: str, schema: Mapping[str, Any], is_bound: bool
    ) -> str:
        """A value, and what closes it."""
        closes = spelling.closes
        if spelling.is_python or kinds_of(schema) != {"string"}:
            return f"{self.json(schema, (', ', ': '))} {self._literal(closes)}"
        if choices := choices_of(schema):
            said = " | ".join(self._literal(str(choice)) for choice in choices)
            return f"({said}) {self._literal(closes)}"
        if is_bound and (more := set(schema) - _TEXT_KEYS):
            raise ConfigError(
                f'tools: "{sorted(more)[0]}" of a text cannot be followed in the form '
                "in which this model's chat template writes calls; leave it out."
            )
        most = schema.get("maxLength", "")
        text = f"(?s:.{{{schema.get('minLength', 0)},{most}}})"
        if self._names.search(closes):  # special tokens are no characters of a text
            return f"/{text}/ {self._literal(closes)}"
        self._rules.append(f"{name}_text[lazy]: /{text}{_in_regex(closes)}/")
        return f"{name}_text"

    def free_or_calls(self, form: CallFormat) -> list[str]:
        """Any text without a call, or one that ends with calls."""
        marker = self._marker(form)
        if marker in self._special:
            return ["/(?s:.*)/", "/(?s:.*)/ calls"]
        if not marker:
            self._rules.append(r"FREE: ~/(?s:\s*\{.*)/ & /(?s:.*)/")
            return ["FREE", "calls"]
        self._rules.append(f"FREE: ~/(?s:.*{_in_regex(marker)}.*)/ & /(?s:.*)/")
        return ["FREE", f"{self._until('free', marker)} rest"]

    def _marker(self, form: CallFormat) -> str:
        """The special token or the word that opens calls; empty where they have none."""
        word = next(iter(form.opening.split()), "")
        token = self._names.match(word)
        return token[0] if token else word

    def _until(self, rule: str, end: str) -> str:
        """Any text up to the first `end`, and this."""
        if end in self._special:
            return f"/(?s:.*)/ {self._literal(end)}"
        self._rules.append(f"{rule}[suffix={_quoted(end)}]: /(?s:.*)/")
        return rule

    def _literal(self, text: str) -> str:
        """A text as it stands; special tokens by their numbers, ids of calls as they come."""
        parts, at = [], 0
        for found in self._names.finditer(text):
            parts += [*self._plain(text[at : found.start()]), f"<[{self._special[found[0]]}]>"]
            at = found.end()
        return " ".join([*parts, *self._plain(text[at:])])

    def _plain(self, text: str) -> list[str]:
        pieces = [_quoted(piece) if piece else "" for piece in text.split(ID)]
        ids = f" /[a-zA-Z0-9]{{{SHORT}}}/ "
        return [ids.join(pieces)] if text else []


def _schema(function: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of a function's arguments, as it was given."""
    return {"type": "object", **(function.get("parameters") or _NO_PARAMETERS)}


def _parameters(function: Mapping[str, Any], is_bound: bool) -> Mapping[str, Any]:
    """The schema of a function's arguments; any object where that need not and cannot be followed.

    Raises:
        ConfigError: it must be followed, and cannot be.
    """
    schema = _schema(function)
    try:
        Grammar.json_schema(schema)
    except ConfigError as error:
        if is_bound or function.get("strict"):
            raise ConfigError(f'the parameters of "{function["name"]}": {error}') from None
        return {"type": "object"}
    return schema


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _in_regex(text: str) -> str:
    return re.escape(text).replace("/", r"\/").replace("\n", "n")
