"""The table of row formats: how each is identified, read and, for preferences, written."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from foundling.data import dialogues
from foundling.data.conversations import (
    Held,
    LabelledConversation,
    SourcedConversation,
    SourcedPair,
)
from foundling.data.messages import (
    EMPTY,
    WEIGHTS,
    Values,
    is_unlearned,
    list_of,
    messages_of,
    refuse_unread,
    text_of,
    unread_keys,
    unweighted,
    weight_of,
)
from foundling.data.source_errors import RowError, SourceError
from foundling.data.tool_calls import tools_of
from foundling.text.chat import Conversation, Message

Kind = Literal["conversations", "preferences", "labelled answers", "prompts"]
Rows = list[dict[str, Any]]

_ALSO = {"functions": "tools"}  # OpenAI's former name


@dataclass(frozen=True)
class Format:
    """One kind of row.

    Args:
        kind: what its rows hold.
        needs: the columns that identify it; upper and lower case are the same.
        parse: reads (FILE:LINE, the values by the format's own names of their columns).
        may_have: optional columns; every format also reads "system" and "tools".
        also: other names of its columns, such as "response" for "completion".
        looks: whether the values fit, where the columns alone do not identify the format.
        write: writes what one row holds as rows, with strings in place of messages if its flag is
            set; RowError where that is impossible.
    """

    kind: Kind
    needs: tuple[str, ...]
    parse: Callable[[str, Values], Held]
    may_have: tuple[str, ...] = ()
    also: Mapping[str, str] = field(default_factory=dict)
    looks: Callable[[Sequence[Values]], bool] = lambda rows: True
    write: Callable[[Held, bool], Rows] | None = None

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset((*self.needs, *self.may_have, "system", "tools"))

    def column(self, name: str, beside: Collection[str]) -> str | None:
        """The format's own name of a column, which stands `beside` others; None: not read."""
        if name in self._known:
            return name
        lower = name.lower()
        ours = lower if lower in self._known else self.also.get(lower, _ALSO.get(lower))
        return ours if ours not in beside else None

    def unread(self, row: Values) -> Iterator[str]:
        """The columns that are not read, and the keys of messages, as "messages[].id"."""
        for name, value in row.items():
            if name.lower() in WEIGHTS and weight_of(value) is not None:
                continue
            own = self.column(name, row)
            if own is None:
                yield name
            elif own != "tools" and isinstance(value, list):
                yield from (f"{name}[].{key}" for key in sorted(unread_keys(value)))

    def fits(self, columns: Collection[str], *, exactly: bool = False) -> bool:
        """Whether such columns can be read, `exactly`: by no other names of them."""
        names = [name for name in columns if not exactly or name.lower() not in self.also]
        return {self.column(name, columns) for name in names}.issuperset(self.needs)

    def read(self, where: str, row: Values) -> Held:
        """What a row holds, not yet checked.

        Raises:
            SourceError: something is missing or of the wrong kind.
        """
        present = {name: value for name, value in row.items() if value is not None}
        ours: dict[str, Any] = {}
        named: dict[str, str] = {}
        try:
            refuse_unread(present)
            for name, value in present.items():
                if (own := self.column(name, present)) is None:
                    continue
                if own in named:
                    raise RowError(
                        "several columns",
                        f'"{named[own]}" and "{name}" are both read as "{own}"; leave one of them '
                        f'out, or name one "{own}".',
                    )
                ours[own], named[own] = value, name
            missing = [name for name in self.needs if name not in ours]
            if missing:
                held = ", ".join(present) or "nothing"
                wanted = " and ".join(f'"{name}"' for name in missing)
                raise RowError("missing column", f"no {wanted}; the row has: {held}.")
            found = self.parse(where, ours)
            system = text_of(ours, "system")
            if system.strip():
                found = found.led_by(Message("system", system))
            if ours.get("tools") not in EMPTY:
                found = replace(found, tools=tools_of(ours["tools"], named["tools"]))
            return found.unlearned() if is_unlearned(present) else found
        except RowError as error:
            raise SourceError(error.reason, f"{where}: {error}") from None


# ---------------------------------------------------------------------- conversations


def _messages(where: str, row: Values) -> SourcedConversation:
    return SourcedConversation(where, messages_of(row["messages"], "messages"))


def _sharegpt(where: str, row: Values) -> SourcedConversation:
    return SourcedConversation(where, messages_of(row["conversations"], "conversations"))


def _prompt_completion(where: str, row: Values) -> SourcedConversation:
    prompt, completion, label = row["prompt"], row["completion"], row.get("label")
    if _label(label) is False:
        raise RowError("labelled bad", '"label" is false: this answer is not to be learned.')
    if _label(label) is None and _VERDICT.fullmatch(str(label).strip()):
        raise _not_a_label(label)
    if isinstance(prompt, str) and isinstance(completion, str):
        return SourcedConversation(where, _exchange(prompt, completion))
    if isinstance(prompt, list) and isinstance(completion, str | list):
        front = messages_of(prompt, "prompt")
        return SourcedConversation(where, _answered(front, completion, "completion"), len(front))
    kinds = f"{type(prompt).__name__} and {type(completion).__name__}"
    raise RowError(
        "not a text", f"prompt and completion are {kinds}; expected two texts or two lists."
    )


def _alpaca(where: str, row: Values) -> SourcedConversation:
    answer = Message("assistant", text_of(row, "output"))
    return SourcedConversation(where, (*_instruction(row), answer))


def _dolly(where: str, row: Values) -> SourcedConversation:
    prompt = _joined(text_of(row, "instruction"), text_of(row, "context"))
    return SourcedConversation(where, _exchange(prompt, text_of(row, "response")))


def _question_answer(where: str, row: Values) -> SourcedConversation:
    return SourcedConversation(where, _exchange(text_of(row, "question"), text_of(row, "answer")))


def _prompt_only(where: str, row: Values) -> SourcedConversation:
    return SourcedConversation(where, _prompt(row["prompt"]))


# ---------------------------------------------------------------------- preferences


def _explicit(where: str, row: Values) -> SourcedPair:
    front = _prompt(row["prompt"])
    if isinstance(row["prompt"], str) and re.match(r"\s*(Human|Assistant):", row["prompt"]):
        raise RowError(
            "dialogue in a prompt",
            "the prompt is a dialogue with Human: and Assistant: in one text; give a list of "
            "messages, or whole dialogues as chosen and rejected.",
        )
    return _pair(where, front, row)


def _alpaca_preference(where: str, row: Values) -> SourcedPair:
    return _pair(where, _instruction(row), row)


def _pair(where: str, front: Conversation, row: Values) -> SourcedPair:
    chosen, rejected = (_answered(front, row[name], name) for name in ("chosen", "rejected"))
    if type(row["chosen"]) is not type(row["rejected"]):
        raise RowError("not a text", "chosen and rejected: one is a text, the other a list.")
    begins = {side[len(front)].role for side in (chosen, rejected) if len(side) > len(front)}
    if begins <= {"assistant"}:
        return SourcedPair(where, chosen, rejected, len(front))
    pair = _implicit(where, row)  # whole conversations beside their prompt
    if front[-1:] != pair.prompt[-1:]:
        raise RowError("prompts differ", "the prompt is not the one that chosen and rejected have.")
    return pair


def _implicit(where: str, row: Values) -> SourcedPair:
    chosen, rejected = (messages_of(row[name], name) for name in ("chosen", "rejected"))
    given = 0
    for ours, theirs in zip(unweighted(chosen), unweighted(rejected), strict=False):
        if ours != theirs:
            break
        given += 1
    if given == len(chosen) == len(rejected):
        raise RowError("identical answers", "chosen and rejected are the same.")
    return SourcedPair(where, chosen, rejected, given)


def _dialogues(where: str, row: Values) -> SourcedPair:
    front, *answers = dialogues.parsed(row["chosen"], row["rejected"])
    chosen, rejected = ((*front, Message("assistant", answer)) for answer in answers)
    return SourcedPair(where, chosen, rejected, len(front))


def _unpaired(where: str, row: Values) -> LabelledConversation:
    label = _label(row["label"])
    if label is None:
        raise _not_a_label(row["label"])
    front = _prompt(row["prompt"])
    whole = _answered(front, row["completion"], "completion")
    return LabelledConversation(where, whole, len(front), label)


def _write_explicit(held: Held, text: bool) -> Rows:
    assert isinstance(held, SourcedPair)
    chosen, rejected = (_written(side, held.given, text) for side in (held.chosen, held.rejected))
    return [{"prompt": _prompt_written(held.prompt, text), "chosen": chosen, "rejected": rejected}]


def _write_implicit(held: Held, text: bool) -> Rows:
    assert isinstance(held, SourcedPair)
    assert not text, "lists of messages"
    return [
        {"chosen": _written(held.chosen, 0, text), "rejected": _written(held.rejected, 0, text)}
    ]


def _write_dialogues(held: Held, text: bool) -> Rows:
    assert isinstance(held, SourcedPair)
    answers = [side[-1].content for side in (held.chosen, held.rejected)]
    chosen, rejected = dialogues.written(held.prompt, answers)
    return [{"chosen": chosen, "rejected": rejected}]


def _write_unpaired(held: Held, text: bool) -> Rows:
    sides = held.sides if isinstance(held, SourcedPair) else [held]
    return [
        {
            "prompt": _prompt_written(side.prompt, text),
            "completion": _written(side.messages, side.given, text),
            "label": side.label,
        }
        for side in sides
        if isinstance(side, LabelledConversation)
    ]


# ---------------------------------------------------------------------- parts of a row


def _prompt(prompt: Any) -> Conversation:
    return (Message("user", prompt),) if isinstance(prompt, str) else messages_of(prompt, "prompt")


def _instruction(row: Values) -> Conversation:
    """Earlier turns, then an instruction and its input as one message."""
    history = list_of(row.get("history", []))
    turns: list[Message] = []
    for turn in history if isinstance(history, list) else [history]:
        if not isinstance(turn, list) or [type(text) for text in turn] != [str, str]:
            raise RowError("not messages", '"history" is no list of [instruction, answer].')
        turns += _exchange(*turn)
    prompt = _joined(text_of(row, "instruction"), text_of(row, "input"))
    return (*turns, Message("user", prompt))


def _joined(prompt: str, more: str) -> str:
    return f"{prompt}\n\n{more}" if more.strip() else prompt


def _exchange(prompt: str, answer: str) -> Conversation:
    return (Message("user", prompt), Message("assistant", answer))


def _answered(front: Conversation, answer: Any, name: str) -> Conversation:
    """The whole conversation; where a list begins with the prompt itself, it stands once."""
    if isinstance(answer, str):
        return (*front, Message("assistant", answer))
    messages = messages_of(answer, name)
    repeats = unweighted(messages[: len(front)]) == unweighted(front)
    return messages if repeats else (*front, *messages)


_LABELS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
_VERDICT = re.compile(  # other texts name a topic or the like
    r"[-+]?[\d.]+|nan|good|bad|(in)?correct|right|wrong|(un)?desirable|chosen|rejected|yes|no"
    "|positive|negative",
    re.IGNORECASE,
)


def _label(value: Any) -> bool | None:
    return _LABELS.get(str(value).strip().lower())


def _not_a_label(value: Any) -> RowError:
    return RowError("not a label", f'"label" is {value!r}; expected true or false.')


def _written(messages: Conversation, given: int, text: bool) -> Any:
    """The messages after the first `given`: one answer as a string, or a list."""
    if text:
        return messages[-1].content
    return [{"role": message.role, "content": message.content} for message in messages[given:]]


def _prompt_written(prompt: Conversation, text: bool) -> Any:
    if text and len(prompt) != 1:
        raise RowError("several messages", "a prompt of several messages is no string.")
    return prompt[0].content if text else _written(prompt, 0, text)


def _mostly(rows: Sequence[Values], looks: Callable[[Any], bool]) -> bool:
    """Whether at least half of what stands as chosen and rejected looks so."""
    answers = [
        value
        for row in rows
        for name, value in row.items()
        if name.lower() in ("chosen", "rejected") and value
    ]
    return bool(answers) and sum(map(looks, answers)) >= len(answers) / 2


def _is_dialogue(answer: Any) -> bool:
    return isinstance(answer, str) and (dialogues.HUMAN in answer or dialogues.ASSISTANT in answer)


def _labels(rows: Sequence[Values]) -> bool:
    values = [v for row in rows for name, v in row.items() if name.lower() == "label"]
    known = [value for value in values if value is not None]
    return bool(known) and all(_label(value) is not None for value in known)


# ---------------------------------------------------------------------- the table

FORMATS: dict[str, Format] = {
    "alpaca": Format("conversations", ("instruction", "output"), _alpaca, ("input", "history")),
    "dolly": Format("conversations", ("instruction", "response"), _dolly, ("context",)),
    "prompt_completion": Format(
        "conversations", ("prompt", "completion"), _prompt_completion, ("label",),
        also={"response": "completion", "answer": "completion"},
    ),
    "messages": Format("conversations", ("messages",), _messages),
    "sharegpt": Format("conversations", ("conversations",), _sharegpt),
    "question_answer": Format("conversations", ("question", "answer"), _question_answer),
    "explicit_prompt": Format(
        "preferences", ("prompt", "chosen", "rejected"), _explicit,
        also={"question": "prompt"}, write=_write_explicit,
    ),
    "implicit_prompt": Format(
        "preferences", ("chosen", "rejected"), _implicit,
        looks=lambda rows: _mostly(rows, lambda answer: isinstance(list_of(answer), list)),
        write=_write_implicit,
    ),
    "hh_rlhf": Format(
        "preferences", ("chosen", "rejected"), _dialogues,
        looks=lambda rows: _mostly(rows, _is_dialogue), write=_write_dialogues,
    ),
    "alpaca_preference": Format(
        "preferences", ("instruction", "chosen", "rejected"), _alpaca_preference,
        ("input", "history"),
        looks=lambda rows: _mostly(rows, lambda answer: isinstance(answer, str)),
    ),
    "unpaired": Format(
        "labelled answers", ("prompt", "completion", "label"), _unpaired,
        also={"response": "completion", "answer": "completion"},
        looks=_labels, write=_write_unpaired,
    ),
    "prompt_only": Format("prompts", ("prompt",), _prompt_only),
}  # fmt: skip
"""By name; those of TRL where it has one. A new format is one more entry."""

OLD_NAMES = {"explicit": "explicit_prompt", "hh": "hh_rlhf", "kto": "unpaired"}
