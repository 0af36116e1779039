"""How a chat template has an assistant call tools and think, learned from what it writes."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foundling.base.config import ConfigError
from foundling.text.spelled_calls import Spelling, spelled_call
from foundling.text.tokenizer import Tokenizer

ID = "\ue000"
"""Stands for the id of a call in the texts around it."""
SHORT = 9
"""How many letters and digits an id has where the template asks for short ones."""
_NAME, _ARGUMENTS = "look_up", {"place": "here", "number": 1}
_TOOL = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": "Look it up.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}, "number": {"type": "integer"}},
            "required": ["place", "number"],
        },
    },
}
_NEAR = 200
"""How far from a thought, in characters, what opens and closes it is looked for."""
_ASKED = {"role": "user", "content": "A question?"}


@dataclass(frozen=True)
class CallFormat:
    """What stands around the names and arguments of calls: as a whole,

    `before` name `middle` arguments (`between` name `middle` arguments)* `after`
    """

    before: str
    middle: str
    between: str | None
    """None: an answer makes one call."""
    after: str
    separators: tuple[str, str]
    """Between the items of the arguments' JSON, and between key and value."""
    has_short_ids: bool = False
    """The template takes no ids but short ones."""
    spelling: Spelling | None = None
    """How the arguments are spelled where they are no JSON object."""

    @property
    def is_wrapped(self) -> bool:
        """Whether name and arguments are members of one JSON object."""
        return bool(_OBJECT.search(self.before) and _MEMBER.fullmatch(self.middle))

    @property
    def opening(self) -> str:
        """`before` up to the JSON object, or the name."""
        return _OBJECT.sub("", self.before)

    @property
    def following(self) -> str | None:
        """`between`, from behind the JSON object or the arguments up to the next one."""
        return None if self.between is None else self._behind(_OBJECT.sub("", self.between))

    @property
    def closing(self) -> str:
        """`after`, from behind the JSON object or the arguments on."""
        return self._behind(self.after)

    def _behind(self, text: str) -> str:
        return text[text.index("}") + 1 :] if self.is_wrapped else text


_OBJECT = re.compile(r'\{\s*"name"\s*:\s*"$')
_MEMBER = re.compile(r'"\s*,\s*"(\w+)"\s*:\s*')


@dataclass(frozen=True)
class ThoughtFormat:
    """What stands around an assistant's thoughts, such as <think> and </think>."""

    opens: str
    closes: str
    gap: str
    """What stands between the thoughts and the answer."""


def call_format(tokenizer: Tokenizer) -> CallFormat:
    """How the answers of a model that speaks by this tokenizer's template call tools.

    Raises:
        ConfigError: there is no template, it takes no tools, or it writes calls in a form other
            than a name and a JSON object of arguments, XML, or Python.
    """
    template = tokenizer.template
    if template is None:
        raise ConfigError("there is no chat template, and so no way to call tools.")
    if not template.takes_tools:
        raise ConfigError(f'the chat template "{template.name}" takes no tools.')
    short = _answered(tokenizer, [_call("call_0123456789abcdef")]) is None
    ids = ["a1b2c3d4e", "f5g6h7i8j"] if short else ["call_a1b2c3d4e", "call_f5g6h7i8j"]
    one = _answered(tokenizer, [_call(ids[0])])
    found = None if one is None else _pieces(one, ids)
    if found is None and one is not None and (spelled := _spelled(tokenizer, one, ids)) is not None:
        return spelled
    if found is None or len(found) != 1:
        raise ConfigError(
            f'the chat template "{template.name}" writes calls of tools neither as a name and a '
            "JSON object of arguments, nor as XML or in Python, so that they cannot be read "
            "from an answer."
        )
    ((before, middle, raw),), after = found.calls, found.rest
    two = _answered(tokenizer, [_call(id) for id in ids])
    both = None if two is None else _pieces(two, ids)
    between = None
    if both is not None and len(both) == 2 and both.rest == after:
        (first, middle_of_first, _), (between_both, middle_of_second, _) = both.calls
        if (first, middle_of_first) == (before, middle) and middle_of_second == middle:
            between = between_both
    return CallFormat(before.lstrip(), middle, between, after, _separators(raw), short)


def thought_format(tokenizer: Tokenizer) -> ThoughtFormat | None:
    """How the answers of a model that speaks by this tokenizer's template think, if they do."""
    template = tokenizer.template
    if template is None:
        return None
    answer = {"role": "assistant", "content": "AN ANSWER", "reasoning_content": "A THOUGHT"}
    text = _rendered(tokenizer, [_ASKED, {**answer, "thinking": "A THOUGHT"}]) or ""
    at = max(text.rfind("A THOUGHT"), 0)
    near = text[max(at - _NEAR, 0) : at + _NEAR]  # the search takes quadratic time
    found = re.search(r"(\S+)\s*A THOUGHT\s*(\S+?)(\s*)AN ANSWER", near)
    if found and _is_pair(found[1], found[2]):
        opens = found[1][found[1].rindex(found[2][0]) :]
        return ThoughtFormat(opens, found[2], found[3])
    # It leaves thoughts out of the history, and has the answer begin with one.
    if "<think>" in template.source and "</think>" in template.source:
        return ThoughtFormat("<think>", "</think>", "\n\n")
    return None


def begins_in_thought(tokenizer: Tokenizer) -> bool:
    """Whether the template itself opens the thought that an answer begins with."""
    thought = thought_format(tokenizer)
    text = _rendered(tokenizer, [_ASKED], ask=True)
    return bool(thought and text and text.rstrip().endswith(thought.opens))


def shown_ids(
    tokenizer: Tokenizer, calls: CallFormat | None, thoughts: ThoughtFormat | None
) -> frozenset[int]:
    """The special tokens around calls and thoughts, by which these are found in an answer."""
    texts = [calls.before, calls.middle, calls.between or "", calls.after] if calls else []
    texts += calls.spelling.texts if calls and calls.spelling else ()
    texts += [thoughts.opens, thoughts.closes] if thoughts else []
    found = {id for id in tokenizer.special_ids if any(tokenizer.name_of(id) in t for t in texts)}
    return frozenset(found - set(tokenizer.stop_ids))


# ---------------------------------------------------------------------- inside


@dataclass(frozen=True)
class _Pieces:
    """For each call what stands before its name and before its arguments, and these; the rest."""

    calls: list[tuple[str, str, str]]
    rest: str

    def __len__(self) -> int:
        return len(self.calls)


def _call(id: str, arguments: Mapping[str, Any] = _ARGUMENTS) -> dict[str, Any]:
    return {"type": "function", "id": id, "function": {"name": _NAME, "arguments": arguments}}


def _spelled(tokenizer: Tokenizer, one: str, ids: Sequence[str]) -> CallFormat | None:
    """The form of calls whose arguments are no JSON object, where it is known."""
    bare = _answered(tokenizer, [_call(ids[0], {})])
    found = bare and spelled_call(bare.strip(), one.strip(), _NAME, _ARGUMENTS)
    if not found:
        return None
    unit = one.strip().removeprefix(found.before).removesuffix(found.after)
    two = _answered(tokenizer, [_call(id) for id in ids])
    parts = [] if two is None else two.strip().split(unit)
    is_both = len(parts) == 3 and (parts[0], parts[2]) == (found.before, found.after)
    return CallFormat(
        found.before, found.middle, parts[1] if is_both else None, found.after, (", ", ": "),
        spelling=found.spelling,
    )  # fmt: skip


def _answered(tokenizer: Tokenizer, calls: Sequence[Mapping[str, Any]]) -> str | None:
    """What the template writes of an answer that makes these calls, up to where its turn ends."""
    answer = {"role": "assistant", "content": ""}
    text = _rendered(tokenizer, [_ASKED, {**answer, "tool_calls": list(calls)}])
    other = _rendered(tokenizer, [_ASKED, {**answer, "content": "\ue001"}])
    if text is None or other is None:
        return None
    pairs = enumerate(zip(text, other, strict=False))
    answered = text[next((at for at, (a, b) in pairs if a != b), len(text)) :]
    ends = [answered.find(tokenizer.name_of(id)) for id in tokenizer.stop_ids]
    return answered[: min((end for end in ends if end >= 0), default=len(answered))]


def _rendered(
    tokenizer: Tokenizer, messages: Sequence[Mapping[str, Any]], *, ask: bool = False
) -> str | None:
    template = tokenizer.template
    assert template is not None
    try:
        return template.render(
            messages,
            tools=[_TOOL] if template.takes_tools else [],
            special_tokens=tokenizer.special_tokens,
            add_generation_prompt=ask,
        )
    except ConfigError:
        return None


def _pieces(text: str, ids: Sequence[str]) -> _Pieces | None:
    """None where a call is not a name with a JSON object behind it."""
    for id in ids:
        text = text.replace(id, ID)
    calls, at = [], 0
    while (name := text.find(_NAME, at)) >= 0:
        behind = name + len(_NAME)
        start = text.find("{", behind)
        if start < 0:
            return None
        try:
            values, stop = json.JSONDecoder().raw_decode(text, start)
        except ValueError:
            return None
        if values != _ARGUMENTS:
            return None
        calls.append((text[at:name], text[behind:start], text[start:stop]))
        at = stop
    return _Pieces(calls, text[at:].rstrip())


def _separators(raw: str) -> tuple[str, str]:
    """How the JSON of arguments is spelled."""
    found = re.fullmatch(r'\{"place"(.*)"here"(.*)"number".*\}', raw)
    return (found[2], found[1]) if found else (", ", ": ")


def _is_pair(opens: str, closes: str) -> bool:
    """Whether a text ends with a tag that the other one closes."""
    return any(
        opens.endswith(closes.replace(one, other, 1))
        for one, other in (("</", "<"), ("[/", "["), ("END", "START"))
        if one in closes
    )
