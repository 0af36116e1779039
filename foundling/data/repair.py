"""Repairs conversations whose turns are out of order, where the user asks for it."""

from collections.abc import Collection
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from foundling.base.config import ConfigError, suggest
from foundling.data.conversations import Held, SourcedPair
from foundling.text.chat import INSTRUCTING, Conversation, Message

Repair = Literal["merge", "trim"]
REPAIRS: tuple[Repair, ...] = ("merge", "trim")
Turns = list[tuple[Message, bool]]  # and whether it is prompt, whoever wrote it


def repaired(held: Held, how: Collection[Repair]) -> tuple[Held, list[str]]:
    """The repaired conversation or pair, and what was done to it.

    "trim" leaves out answers to nothing at the front, a question without an answer at the end, and
    a question with its empty answer. "merge" joins turns of one role that follow one another, and
    puts a later system message before the user's next one, by a blank line; it comes first, so that
    a blank answer with another after it takes no question away. Tools' messages stay apart, and
    so do answers of different weights and what is said after a call of tools.

    A pair stays as it is where its sides would not have the same prompt any more.
    """
    if isinstance(held, SourcedPair):
        chosen, rejected = (
            _repaired(side, held.given, how) for side in (held.chosen, held.rejected)
        )
        if chosen[1] != rejected[1]:
            return held, []
        done = list(dict.fromkeys(chosen[2] + rejected[2]))
        return replace(held, chosen=chosen[0], rejected=rejected[0], given=chosen[1]), done
    messages, given, done = _repaired(held.messages, held.given, how)
    return replace(held, messages=messages, given=given), done


def _repaired(
    messages: Conversation, given: int, how: Collection[Repair]
) -> tuple[Conversation, int, list[str]]:
    turns = [(message, index < given) for index, message in enumerate(messages)]
    done = []
    for name, repair in (("merge", _merged), ("trim", _trimmed)):
        if name in how:
            before, turns = turns, repair(turns)
            if turns != before:
                done.append(_WORDS[name])
    return tuple(message for message, _ in turns), sum(front for _, front in turns), done


def parse_repair(given: Any) -> Any:
    """The repairs that "merge,trim" names, where they are given as one text.

    Raises:
        ConfigError: one of them is unknown.
    """
    if not isinstance(given, str):
        return given
    names = [name.strip() for name in given.split(",") if name.strip()]
    for name in names:
        if name not in REPAIRS:
            raise ConfigError(f'repair = "{name}": no such repair {suggest(name, REPAIRS)}')
    return tuple(name for name in REPAIRS if name in names)


Repairs = Annotated[tuple[Repair, ...], BeforeValidator(parse_repair)]

_WORDS = {
    "trim": "conversations with turns left out",
    "merge": "conversations with turns joined",
}


def _trimmed(turns: Turns) -> Turns:
    front = [turn for turn in turns[:1] if turn[0].role in INSTRUCTING]
    kept: Turns = []
    for turn in turns[len(front) :]:
        message = turn[0]
        if message.role == "user" or (kept and (_says(message) or message.role == "tool")):
            kept.append(turn)
        elif message.role == "assistant":
            if kept and kept[-1][0].role == "tool":  # the whole exchange is without an answer
                asked = max(n for n, (earlier, _) in enumerate(kept) if earlier.role == "user")
                del kept[asked + 1 :]
            while kept and kept[-1][0].role == "user":
                kept.pop()
    while kept and kept[-1][0].role != "assistant":
        kept.pop()
    return front + kept


def _says(message: Message) -> bool:
    return bool(message.content.strip() or message.tool_calls)


def _merged(turns: Turns) -> Turns:
    joined: Turns = []
    for message, front in turns:
        if message.role in INSTRUCTING and joined and joined[-1][0].role not in INSTRUCTING:
            message = Message("user", message.content)
        if joined and joined[-1][1] == front and _go_together(joined[-1][0], message):
            joined[-1] = (_joined(joined[-1][0], message), front)
        else:
            joined.append((message, front))
    return joined


def _go_together(first: Message, then: Message) -> bool:
    if first.role == "tool" or (first.role, first.weight) != (then.role, then.weight):
        return False
    return not first.tool_calls or not then.content.strip()


def _joined(first: Message, then: Message) -> Message:
    content, reasoning = (
        "\n\n".join(text for text in texts if text.strip())
        for texts in ((first.content, then.content), (first.reasoning, then.reasoning))
    )
    calls = (*first.tool_calls, *then.tool_calls)
    return replace(first, content=content, reasoning=reasoning, tool_calls=calls)
