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
        self._roles = tuple(dict.fromkeys(message.role for message in messages))
        self._texts: dict[int, str] = {}
        self._tools = self._controls.mark(json.loads(json.dumps(tools)), marks)

    def prompt(self) -> str:
        """All messages, up to where the next answer begins.

        Raises:
            ConfigError: the template cannot write the messages, or leaves out a call.
        """
        text = self._settled(self._plain, add_generation_prompt=True)
        self._check_calls(text, len(self.messages), add_generation_prompt=True)
        return text

    def examples(self, learned: Sequence[int]) -> list[Example]:
        """The whole with all answers of these places, or each of them behind its own history.

        The latter where the template writes an answer in another way once others follow it.

        Raises:
            ConfigError: the template cannot write the messages, leaves one out, or writes an
                answer so that it cannot be learned.
        """
        answers = [self._answer(place) for place in learned]
        whole = self._text(len(self.messages))
        if all(whole.startswith(answer.text[: answer.stop]) for answer in answers):
            return [self._example(whole, tuple(answers), len(self.messages))]
        return [self._example(answer.text, (answer,), answer.place + 1) for answer in answers]

    # ------------------------------------------------------------------ inside

    def _text(self, count: int) -> str:
        """The first messages."""
        if count not in self._texts:
            self._texts[count] = self._settled(self._plain[:count])
        return self._texts[count]

    def _example(self, text: str, answers: tuple[Answer, ...], count: int) -> Example:
        self._check_calls(text, count)
        return Example(text, answers, self._parts(text, count))

    def _settled(self, messages: Sequence[Plain], *, add_generation_prompt: bool = False) -> str:
        raw = self.template.render(
            messages,
            tools=self._tools,
            special_tokens=self._tokenizer.special_tokens,
            add_generation_prompt=add_generation_prompt,
        )
        return self._controls.settled(raw, self.marks)

    def _answer(self, place: int) -> Answer:
        asked = self._settled(self._plain[:place], add_generation_prompt=True)
        text = self._text(place + 1)
        where = f"message {place + 1}: the chat template "
        if not text.startswith(asked):
            same = _common(asked, text)
            raise ConfigError(
                f"{where}writes {self._shown(text[same:])} where it asks for the answer with "
                f"{self._shown(asked[same:])}, so that the answer does not follow its prompt; "
                "give other template_options, or another template."
            )
        stop = self._stop(text, place, len(asked))
        if stop is None:
            raise ConfigError(
                f"{where}ends the answer with no special token, so that a model could not learn "
                "to stop; choose another template."
            )
        if self.messages[place].reasoning.strip() not in text[len(asked) :]:
            raise ConfigError(f"{where}leaves out the reasoning; choose another template.")
        return Answer(text, len(asked), stop, place)

    def _stop(self, text: str, place: int, start: int) -> int | None:
        """Where the answer that a text ends with is over: behind the token that ends its turn.

        This is the first special token behind the content. The calls of tools may hold special
        tokens of their own; behind calls it is the last one that stays once messages follow.
        """
        token = self.marks.token
        found = re.finditer(f"{token}\\d+{token}", text[start:])
        stops = [start + match.end() for match in found]
        calls = self.messages[place].tool_calls
        end = None if calls else self._content_end(text, place, start)
        if end is not None:
            return next((stop for stop in stops if stop > end), None)
        staying = self._staying(text, place)
        kept = [stop for stop in stops if stop <= staying]
        return max(kept or stops, default=None)

    def _content_end(self, text: str, place: int, start: int) -> int | None:
        """Where the content of the last message ends; None where that cannot be told."""
        body = self.messages[place].content.strip()
        if text.count(body, start) == 1:
            return text.index(body, start) + len(body)
        shown = self._with_marks(text, place + 1, [place])
        if shown is None or self.marks.ends not in shown:
            return None
        before = shown[: shown.rindex(self.marks.ends)]
        return len(before) - len(re.findall(f"[{''.join(self.marks.begins)}]", before))

    def _staying(self, text: str, place: int) -> int:
        """How many characters of a text stay once a result or a question follows."""
        replies: list[Plain] = [{"role": "user", "content": "question"}]
        for call in self.messages[place].tool_calls[:1]:
            result = {"role": "tool", "content": "result"}
            replies.append({**result, "tool_call_id": call.id, "name": call.name})
        lengths = [0]
        for reply in replies:
            try:
                longer = self._settled([*self._plain[: place + 1], reply])
            except ConfigError:  # the template takes no such message there
                continue
            lengths.append(_common(text, longer))
        return max(lengths)

    def _shown(self, text: str) -> str:
        token = self.marks.token
        names = re.sub(
            f"{token}(\\d+){token}", lambda found: self._tokenizer.name_of(int(found[1])), text
        )
        return repr(names[:40])

    def _check_calls(self, text: str, count: int, *, add_generation_prompt: bool = False) -> None:
        """Refuse a text of the first messages in which one of their calls is missing."""

        def written(calls: Mapping[int, Sequence[Plain]]) -> str | None:
            """The text with other calls; None where the template refuses them."""
            messages = list(self._plain[:count])
            for place, others in calls.items():
                messages[place] = {**messages[place], "tool_calls": others}
            try:
                return self._settled(messages, add_generation_prompt=add_generation_prompt)
            except ConfigError:
                return None

        calls = {
            place: message["tool_calls"]
            for place, message in enumerate(self._plain[:count])
            if "tool_calls" in message
        }
        if not calls:
            return
        mark = self.marks.ends
        marked = {place: [_marked_call(call, mark) for call in calls[place]] for place in calls}
        shown = written(marked) or ""
        if shown.replace(mark, "") == text and shown.count(mark) >= sum(map(len, calls.values())):
            return
        # It looks at the names of tools: a call is missing if the text is the same without it.
        for place, given in calls.items():
            for number in range(len(given)):
                if written({place: [*given[:number], *given[number + 1 :]]}) == text:
                    name = self.messages[place].tool_calls[number].name
                    raise ConfigError(
                        f'message {place + 1}: the chat template leaves out the call of "{name}"; '
                        "choose another template."
                    )

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
            if message.content:
                body = message.content.strip()
                start = text.find(body) if body else -1
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
        marked = [place for place in places if self.messages[place].content]
        shown = self._with_marks(text, count, marked)
        if shown is None:
            return None
        begins, ends = dict(zip(self.marks.begins, self._roles, strict=False)), self.marks.ends
        if shown.count(ends) < len(marked):
            self._refuse_left_out(shown, count)
        parts = list(_parts_of(shown, begins, ends))
        if len(parts) == len(marked):
            pairs = zip(parts, marked, strict=True)
            parts = [_widened(part, text, self.messages[place].content) for part, place in pairs]
        return tuple(parts)

    def _with_marks(self, text: str, count: int, places: Sequence[int]) -> str | None:
        """A text with marks around these contents; None if it becomes another one by them."""
        begins, ends = dict(zip(self._roles, self.marks.begins, strict=False)), self.marks.ends
        messages = list(self._plain[:count])
        for place in places:
            before, body, after = _parted(messages[place]["content"])
            content = f"{before}{begins[messages[place]['role']]}{body}{ends}{after}"
            messages[place] = {**messages[place], "content": content}
        shown = self._settled(messages)
        bare = re.sub(f"[{''.join(self.marks.begins)}{ends}]", "", shown)
        return shown if bare == text else None

    def _refuse_left_out(self, shown: str, count: int) -> None:
        for place, message in enumerate(self.messages[:count]):
            if message.content.strip() and message.content.strip() not in shown:
                raise ConfigError(
                    f"message {place + 1}: the chat template leaves out what the {message.role} "
                    "says; choose another template."
                )


def _common(a: str, b: str) -> int:
    """How many characters two texts begin with in common."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((at for at, (x, y) in pairs if x != y), min(len(a), len(b)))


def _marked_call(call: Plain, mark: str) -> Plain:
    """A call with a mark behind the name of its tool."""
    function = call["function"]
    return {**call, "function": {**function, "name": function["name"] + mark}}


def _parted(content: str) -> tuple[str, str, str]:
    """The white space before a content, the content, and the white space behind it."""
    body = content.strip() or content
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


def texts_of(messages: Sequence["Message"], tools: "Tools" = ()) -> Iterator[str]:
    """All that a template may write of a conversation, for a look at its characters."""
    for message in messages:
        yield from (message.content, message.reasoning, message.name, message.tool_call_id)
        for call in message.tool_calls:
            arguments = _arguments(call.arguments)
            if isinstance(arguments, dict):
                arguments = json.dumps(arguments, ensure_ascii=False)
            yield from (call.name, call.id, arguments)
    if tools:
        yield json.dumps(tools, ensure_ascii=False)


def _arguments(text: str) -> Any:
    """The arguments of a call as the object that they spell, else as they stand."""
    try:
        values = json.loads(text)
    except ValueError:
        return text
    return values if isinstance(values, dict) else text
