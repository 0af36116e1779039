"""Reads an answer while it is written: its text, its thoughts, and its calls of tools."""

import json
import re
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from foundling.serving.spelled_arguments import SpelledArguments
from foundling.text.call_format import CallFormat, ThoughtFormat
from foundling.text.chat import ToolCall
from foundling.text.matching import behind, skipped

Kind = Literal["text", "reasoning", "call"]


@dataclass(frozen=True)
class CallHead:
    """Which of the answer's calls it is, from 0 on, its id, and the name of its tool."""

    index: int
    id: str
    name: str


@dataclass(frozen=True)
class Delta:
    """A piece of an answer: of its text, of its reasoning, or of the arguments of a call.

    The first piece of a call has no text; those that follow add up to the JSON of its arguments.
    """

    kind: Kind
    text: str
    call: CallHead | None = None

    @property
    def begins_call(self) -> bool:
        return self.call is not None and not self.text


@dataclass(frozen=True)
class Answer:
    """All pieces of an answer put together."""

    text: str
    reasoning: str
    calls: tuple[ToolCall, ...]

    @classmethod
    def of(cls, deltas: Collection[Delta]) -> "Answer":
        def said(kind: Kind) -> str:
            return "".join(delta.text for delta in deltas if delta.kind == kind)

        heads = [delta.call for delta in deltas if delta.call and delta.begins_call]
        calls = [
            ToolCall(head.name, "".join(d.text for d in deltas if d.call == head), head.id)
            for head in heads
        ]
        return cls(said("text"), said("reasoning"), tuple(calls))


class AnswerReader:
    """Text in, pieces out, each as soon as it is certain.

    What only begins like a call or a thought, or calls a tool that there is not, stays text.
    The text must show the special tokens around calls and thoughts, which are `shown`.

    Args:
        calls: how calls are written; None: the answer makes none.
        tools: the names of the tools.
        thoughts: how thoughts are written; None: there are none.
        schemas: of the tools' arguments, by name.
        shown: the special tokens among what stands around them.
        is_thinking: the answer begins within a thought.
    """

    def __init__(
        self,
        calls: CallFormat | None = None,
        tools: Collection[str] = (),
        thoughts: ThoughtFormat | None = None,
        *,
        schemas: Mapping[str, Any] | None = None,
        shown: frozenset[int] = frozenset(),
        is_thinking: bool = False,
    ) -> None:
        self.shown = shown
        self._format, self._tools, self._thoughts = calls, tools, thoughts
        self._marker = ([*calls.opening.split(), ""] if calls else [""])[0]
        self._is_bare = calls is not None and not self._marker
        self._schemas = schemas or {}
        self._spelled: SpelledArguments | None = None
        self._kept = ""  # what is not certain yet
        self._seen = ""  # of what may be a call: what stands before that
        self._head = CallHead(0, "", "")
        self._object, self._value = _JsonEnd(), _JsonEnd()  # a call, and its arguments
        self.num_calls = 0
        self._state: _State = "begin" if thoughts or self._is_bare else "text"
        self._next: _State = "thought"  # behind white space
        if is_thinking:
            self._state = "space"

    @property
    def is_in_arguments(self) -> bool:
        """Whether the arguments of a call have begun and not ended."""
        return self._state == "arguments"

    def push(self, text: str) -> list[Delta]:
        """What is certain now."""
        self._kept += text
        return list(self._advance(is_last=False))

    def finish(self) -> list[Delta]:
        """What was kept back, now that nothing more comes."""
        return list(self._advance(is_last=True))

    # ------------------------------------------------------------------ inside

    def _advance(self, *, is_last: bool) -> Iterator[Delta]:
        readers: dict[_State, Callable[[bool], Iterator[Delta]]] = {
            "begin": self._read_begin,
            "space": self._read_space,
            "thought": self._read_thought,
            "text": self._read_text,
            "open": self._read_open,
            "call": self._read_call,
            "arguments": self._read_arguments,
            "members": self._read_members,
            "close": self._read_close,
        }
        state = None
        while state != self._state:
            state = self._state
            for delta in readers[state](is_last):
                if delta.text or delta.begins_call:
                    yield delta

    def _read_begin(self, is_last: bool) -> Iterator[Delta]:
        """The first words of the text, which may open a thought or, without a marker, a call."""
        body, opens = self._kept.lstrip(), self._thoughts.opens if self._thoughts else ""
        if opens and body.startswith(opens):
            self._kept, self._state, self._next = body[len(opens) :], "space", "thought"
        elif is_last or (body and not opens.startswith(body)):
            self._state = "call" if self._is_bare and body.startswith("{") else "text"
        yield from ()

    def _read_space(self, is_last: bool) -> Iterator[Delta]:
        """White space around a thought."""
        self._kept = self._kept.lstrip()
        if self._kept:
            self._state = self._next
        yield from ()

    def _read_thought(self, is_last: bool) -> Iterator[Delta]:
        assert self._thoughts is not None
        before, found, after = self._kept.partition(self._thoughts.closes)
        if found:
            yield Delta("reasoning", before.rstrip())
            self._thoughts = None  # there is one at most
            self._next = "begin" if self._is_bare else "text"
            self._kept, self._state = after, "space"
        else:
            shown, self._kept = _certain(self._kept, self._thoughts.closes, is_last)
            yield Delta("reasoning", shown)

    def _read_text(self, is_last: bool) -> Iterator[Delta]:
        if not self._marker:
            shown, self._kept = self._kept, ""
            yield Delta("text", shown)
            return
        before, found, after = self._kept.partition(self._marker)
        if found:
            shown = before.rstrip()
            yield Delta("text", shown)
            self._seen, self._kept, self._state = before[len(shown) :] + found, after, "open"
        else:
            shown, self._kept = _certain(self._kept, self._marker, is_last)
            yield Delta("text", shown)

    def _read_open(self, is_last: bool) -> Iterator[Delta]:
        """What stands between the marker and the call itself."""
        assert self._format is not None
        at = skipped(self._kept, self._format.opening.strip()[len(self._marker) :])
        if at is not None and at >= 0:
            self._seen += self._kept[:at]
            self._kept, self._state = self._kept[at:], "call"
        elif at is not None or is_last:
            yield from self._back_to_text()

    def _read_call(self, is_last: bool) -> Iterator[Delta]:
        """Until it is certain that a tool is called, and which one."""
        assert self._format is not None
        read = self._read_object if self._format.is_wrapped else self._read_name
        yield from read(self._kept.lstrip(), is_last)

    def _read_object(self, body: str, is_last: bool) -> Iterator[Delta]:
        """An object with the name and the arguments of a call, in this order or the other."""
        head = _HEAD.match(body)
        if head is not None and (name := _string(head[1])) in self._tools:
            self._object = _JsonEnd()
            self._object.find(head[0])
            yield self._called(name, body[head.end() :])
            return
        end = _JsonEnd().find(body) if body.startswith("{") else None
        call = _parsed(body[:end], self._tools) if end is not None else None
        if call is not None:
            yield self._called(call[0], body[end:])
            yield Delta("call", call[1], self._head)
            self._state = "close"
        elif is_last or head is not None or end is not None or body[:1] not in ("", "{"):
            yield from self._back_to_text()

    def _read_name(self, body: str, is_last: bool) -> Iterator[Delta]:
        """The name of a tool, and its arguments."""
        assert self._format is not None
        may_come = False
        for name in self._tools:
            rest = behind(body, name + self._format.middle)
            if rest and (begun := self._begun(name, rest)):
                yield self._called(name, rest)
                return
            may_come |= rest == "" or (bool(rest) and begun is None)
        if is_last or not may_come:
            yield from self._back_to_text()

    def _begun(self, name: str, rest: str) -> bool | None:
        """Whether the arguments of a tool begin here; None: not certain."""
        assert self._format is not None
        if self._format.spelling is None:
            return rest.startswith("{")
        self._spelled = SpelledArguments(self._format, self._schemas.get(name, {}))
        return self._spelled.begin(rest)

    def _called(self, name: str, rest: str) -> Delta:
        self._head = CallHead(self.num_calls, f"call_{secrets.token_hex(12)}", name)
        self.num_calls += 1
        self._kept, self._state, self._value = rest, "arguments", _JsonEnd()
        return Delta("call", "", self._head)

    def _read_arguments(self, is_last: bool) -> Iterator[Delta]:
        if self._spelled is not None:
            piece, self._kept = self._spelled.read(self._kept)
            if piece:
                yield Delta("call", piece, self._head)
            if self._spelled.has_ended:
                self._state = "close"
            return
        end = self._value.find(self._kept)
        piece = self._kept[:end]
        if piece:
            yield Delta("call", piece, self._head)
        self._object.find(piece)
        self._kept = self._kept[len(piece) :]
        if end is not None:
            assert self._format is not None
            self._state = "members" if self._format.is_wrapped else "close"

    def _read_members(self, is_last: bool) -> Iterator[Delta]:
        """What follows the arguments in their object, such as an id."""
        end = self._object.find(self._kept)
        self._kept = "" if end is None else self._kept[end:]
        if end is not None:
            self._state = "close"
        yield from ()

    def _read_close(self, is_last: bool) -> Iterator[Delta]:
        """What stands between two calls, or behind the last one."""
        assert self._format is not None
        following = self._format.following
        next_one = -1 if following is None else skipped(self._kept, following)
        closed = skipped(self._kept, self._format.closing)
        if next_one is not None and next_one >= 0:
            self._seen, self._kept = self._kept[:next_one], self._kept[next_one:]
            self._state = "call"
        elif is_last or (next_one is not None and closed is not None):
            cut = len(self._kept) if closed is None else max(closed, 0)
            self._kept, self._state = self._kept[cut:].lstrip(), "text"
        yield from ()

    def _back_to_text(self) -> Iterator[Delta]:
        yield Delta("text", self._seen)
        self._seen, self._state = "", "text"


_State = Literal[
    "begin", "space", "thought", "text", "open", "call", "arguments", "members", "close"
]
_HEAD = re.compile(
    r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
)


class _JsonEnd:
    """Finds where a JSON object ends, piece by piece."""

    _MARKS = re.compile(r'[{}\[\]"\\]')

    def __init__(self) -> None:
        self._depth, self._in_string, self._skips = 0, False, 0

    def find(self, text: str) -> int | None:
        """How many characters of the next piece belong to the object; None: all, and more."""
        at = self._skips
        while found := self._MARKS.search(text, at):
            mark, at = found[0], found.end()
            if self._in_string:
                at += mark == "\\"
                self._in_string = mark != '"'
            elif mark == '"':
                self._in_string = True
            elif mark in "{[":
                self._depth += 1
            elif mark in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    return at
        self._skips = max(0, at - len(text))
        return None


def _string(raw: str) -> str:
    try:
        return str(json.loads(raw))
    except ValueError:
        return ""


def _parsed(text: str, tools: Collection[str]) -> tuple[str, str] | None:
    """The name and the arguments of a call that an object spells."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    arguments = values.get("arguments", values.get("parameters"))
    if values.get("name") not in tools or not isinstance(arguments, dict):
        return None
    return values["name"], json.dumps(arguments, ensure_ascii=False)


def _certain(text: str, marker: str, is_last: bool) -> tuple[str, str]:
    """What certainly stands before the marker, and what may belong to it or to its white space."""
    if is_last:
        return text, ""
    lengths = range(min(len(marker) - 1, len(text)), 0, -1)
    held = next((n for n in lengths if text.endswith(marker[:n])), 0)
    cut = len(text[: len(text) - held].rstrip())
    return text[:cut], text[cut:]
