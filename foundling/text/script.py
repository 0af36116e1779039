"""Conversations as their chat template writes them, and where in the text each answer stands."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from foundling.base.config import ConfigError
from foundling.text.controls import Marks
from foundling.text.own_templates import END_OF_TURN

if TYPE_CHECKING:
    from foundling.text.chat import Message, Role, Tools
    from foundling.text.tokenizer import Tokenizer

Plain = dict[str, Any]
"""A message in plain JSON types, as chat templates take it."""


class Answer(NamedTuple):
    """An answer in the text up to its end: `start` to before `stop` is what the model writes."""

    text: str
    """The conversation up to the answer, and whatever the template writes behind it."""
    start: int
    stop: int
    place: int
    """Which of the messages it is."""


class Part(NamedTuple):
    """Characters `start` to before `stop` of a text are the content of a message of this role."""

    start: int
    stop: int
    role: "Role"


class Example(NamedTuple):
    """A text to learn from, its answers that are learned, and the contents in it."""

    text: str
    answers: tuple[Answer, ...]
    parts: tuple[Part, ...]


class Script:
    """One conversation with its tools; all texts are settled (`foundling.text.controls`)."""

    def __init__(
        self, messages: Sequence["Message"], tools: "Tools", tokenizer: "Tokenizer", marks: Marks
    ) -> None:
        template = tokenizer.template
        if template is None:
            raise ConfigError(
                f'there is no chat template, and no token that is called "{END_OF_TURN}" for '
                "Foundling's own; choose one (--template, data.template), or give text without "
                'turns (generate, data.style = "plain").'
            )
        self.messages, self.template, self.marks = messages, template, marks
        self._tokenizer, self._controls = tokenizer, tokenizer.controls
        self._plain = [self._controls.mark(plain(message), marks) for message in messages]
        self._texts: dict[int, str] = {}
        self._tools = self._controls.mark(json.loads(json.dumps(tools)), marks)

    def prompt(self, count: int) -> str:
        """The first messages, up to where the next answer begins."""
        return self._settled(self._plain[:count], add_generation_prompt=True)

    def text(self, count: int) -> str:
        """The first messages."""
        if count not in self._texts:
            self._texts[count] = self._settled(self._plain[:count])
        return self._texts[count]

    def examples(self, learned: Sequence[int]) -> list[Example]:
        """The whole with all answers of these places, or each of them behind its own history.

        The latter where the template writes an answer in another way once others follow it.

        Raises:
            ConfigError: the template cannot write the messages, leaves one out, or writes an
                answer so that it cannot be learned.
        """
        answers = [self._answer(place) for place in learned]
        ends_whole = bool(answers) and answers[-1].place == len(self.messages) - 1
        whole = answers[-1].text if ends_whole else self.text(len(self.messages))
        if all(whole.startswith(answer.text[: answer.stop]) for answer in answers):
            return [Example(whole, tuple(answers), self._parts(whole, len(self.messages)))]
        return [
            Example(answer.text, (answer,), self._parts(answer.text, answer.place + 1))
            for answer in answers
        ]

    # ------------------------------------------------------------------ inside

    def _settled(self, messages: Sequence[Plain], *, add_generation_prompt: bool = False) -> str:
        raw = self.template.render(
            messages,
            tools=self._tools,
            special_tokens=self._tokenizer.special_tokens,
            add_generation_prompt=add_generation_prompt,
        )
        return self._controls.settled(raw, self.marks)

    def _answer(self, place: int) -> Answer:
        asked, text = self.prompt(place), self.text(place + 1)
        where = f"message {place + 1}: the chat template "
        if not text.startswith(asked):
            pairs = enumerate(zip(asked, text, strict=False))
            same = next((at for at, (a, b) in pairs if a != b), min(len(asked), len(text)))
            raise ConfigError(
                f"{where}writes {self._shown(text[same:])} where it asks for the answer with "
                f"{self._shown(asked[same:])}, so that the answer does not follow its prompt; "
                "give other template_options, or another template."
            )
        stop = text.rfind(self.marks.token) + 1
        if stop <= len(asked):
            raise ConfigError(
                f"{where}ends the answer with no special token, so that a model could not learn "
                "to stop; choose another template."
            )
        message, written = self.messages[place], text[len(asked) :]
        calls = [call.name for call in message.tool_calls]
        lost = [f'the call of "{name}"' for name in calls if name not in written]
        if message.reasoning.strip() not in written:
            lost.append("the reasoning")
        if lost:
            raise ConfigError(f"{where}leaves out {lost[0]}; choose another template.")
        return Answer(text, len(asked), stop, place)

    def _shown(self, text: str) -> str:
        token = self.marks.token
        names = re.sub(
            f"{token}(\\d+){token}", lambda found: self._tokenizer.name_of(int(found[1])), text
        )
        return repr(names[:40])

    def _parts(self, text: str, count: int) -> tuple[Part, ...]:
        """Where the contents of the first messages stand in what the template made of them."""
        found = self._unique(text, count)
        if found is None:
            found = self._marked(text, count, range(count))
        if found is None:  # it looks at how a content begins or ends: mark one at a time
            each = (self._marked(text, count, [place]) or () for place in range(count))
            found = tuple(part for parts in each for part in parts)
        return found

    def _unique(self, text: str, count: int) -> tuple[Part, ...] | None:
        """None if one of the contents stands elsewhere too, or is written otherwise."""
        parts = []
        for message in self.messages[:count]:
            if body := message.content.strip():
                start = text.find(body)
                if start < 0 or text.find(body, start + 1) >= 0:
                    return None
                part = Part(start, start + len(body), message.role)
                parts.append(_widened(part, text, message.content))
        return tuple(parts)

    def _marked(self, text: str, count: int, places: Sequence[int]) -> tuple[Part, ...] | None:
        """None if the text is another one where the contents of these messages are marked.

        Raises:
            ConfigError: the template leaves one of them out.
        """
        begins, ends = dict(zip(_ROLES, self.marks.begins, strict=True)), self.marks.ends
        messages = list(self._plain[:count])
        marked = [place for place in places if self.messages[place].content.strip()]
        for place in marked:
            before, body, after = _parted(messages[place]["content"])
            content = f"{before}{begins[messages[place]['role']]}{body}{ends}{after}"
            messages[place] = {**messages[place], "content": content}
        shown = self._settled(messages)
        if re.sub(f"[{''.join(begins.values())}{ends}]", "", shown) != text:
            return None
        if shown.count(ends) < len(marked):
            self._refuse_left_out(shown, count)
        parts = list(_parts_of(shown, {mark: role for role, mark in begins.items()}, ends))
        if len(parts) == len(marked):
            pairs = zip(parts, marked, strict=True)
            parts = [_widened(part, text, self.messages[place].content) for part, place in pairs]
        return tuple(parts)

    def _refuse_left_out(self, shown: str, count: int) -> None:
        for place, message in enumerate(self.messages[:count]):
            if message.content.strip() and message.content.strip() not in shown:
                raise ConfigError(
                    f"message {place + 1}: the chat template leaves out what the {message.role} "
                    "says; choose another template."
                )


def _parted(content: str) -> tuple[str, str, str]:
    """The white space before a content, the content, and the white space behind it."""
    body = content.strip()
    start = content.index(body)
    return content[:start], body, content[start + len(body) :]


def _widened(part: Part, text: str, content: str) -> Part:
    """With the white space around the content, where the template has kept it."""
    before, _, after = _parted(content)
    start, stop = part.start, part.stop
    if before and text.endswith(before, 0, start):
        start -= len(before)
    if text.startswith(after, stop):
        stop += len(after)
    return Part(start, stop, part.role)


def _parts_of(text: str, roles: Mapping[str, "Role"], ends: str) -> Iterator[Part]:
    """The parts between marks, in characters of the text without them."""
    begun, seen = None, 0
    for number, match in enumerate(re.finditer(f"[{''.join(roles)}{ends}]", text)):
        at = match.start() - number
        if match[0] != ends:
            begun, role = at, roles[match[0]]
        elif begun is not None and begun >= seen:
            yield Part(begun, at, role)
            begun, seen = None, at


_ROLES: tuple["Role", ...] = ("system", "developer", "user", "assistant", "tool")
NUM_ROLES = len(_ROLES)


def plain(message: "Message") -> Plain:
    """A message in the form that the templates of `transformers` expect."""
    values: Plain = {"role": message.role, "content": message.content}
    if message.reasoning:
        values["reasoning_content"] = values["thinking"] = message.reasoning
    if message.tool_calls:
        values["tool_calls"] = [
            {
                "type": "function",
                **({"id": call.id} if call.id else {}),
                "function": {"name": call.name, "arguments": _arguments(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        values["tool_call_id"] = message.tool_call_id
    if message.name:
        values["name"] = message.name
    return values


def texts_of(messages: Sequence["Message"], tools: "Tools") -> Iterator[str]:
    """All that a template may write of a conversation, for a look at its characters."""
    for message in messages:
        yield message.content
        yield message.reasoning
        for call in message.tool_calls:
            yield from (call.name, call.arguments, call.id)
        yield message.name + message.tool_call_id
    if tools:
        yield json.dumps(tools, ensure_ascii=False)


def _arguments(text: str) -> Any:
    """The arguments of a call as the object that they spell, else as they stand."""
    try:
        values = json.loads(text)
    except ValueError:
        return text
    return values if isinstance(values, dict) else text
