"""Repairs conversations whose turns are out of order, where the user asks for it."""

from collections.abc import Collection
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from foundling.base.config import ConfigError, suggest
from foundling.data.conversations import SourcedConversation
from foundling.text.chat import Message

Repair = Literal["merge", "trim"]
REPAIRS: tuple[Repair, ...] = ("merge", "trim")
Turns = list[tuple[Message, bool]]  # and whether it is prompt, whoever wrote it


def repaired(
    conversation: SourcedConversation, how: Collection[Repair]
) -> tuple[SourcedConversation, list[str]]:
    """The repaired conversation, and what was done to it.

    "trim" leaves out answers to nothing at the front, a question without an answer at the end, and
    a question with its empty answer. "merge" joins turns of one role that follow one another, and
    puts a later system message before the user's next one, by a blank line; it comes first, so that
    a blank answer with another after it takes no question away.
    """
    given = conversation.given
    turns = [(message, index < given) for index, message in enumerate(conversation.messages)]
    done = []
    for name, mend in (("merge", _merged), ("trim", _trimmed)):
        if name in how:
            before, turns = turns, mend(turns)
            if turns != before:
                done.append(_WORDS[name])
    messages = tuple(message for message, _ in turns)
    return replace(conversation, messages=messages, given=sum(front for _, front in turns)), done


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
    system = [turn for turn in turns[:1] if turn[0].role == "system"]
    kept: Turns = []
    for turn in turns[len(system) :]:
        message = turn[0]
        if message.role != "assistant" or (kept and message.content.strip()):
            kept.append(turn)
        else:
            while kept and kept[-1][0].role == "user":
                kept.pop()
    while kept and kept[-1][0].role != "assistant":
        kept.pop()
    return system + kept


def _merged(turns: Turns) -> Turns:
    joined: Turns = []
    for message, front in turns:
        if joined and message.role == "system" != joined[-1][0].role:
            message = Message("user", message.content)
        if joined and joined[-1] == (replace(joined[-1][0], role=message.role), front):
            texts = (joined[-1][0].content, message.content)
            text = "\n\n".join(text for text in texts if text.strip())
            joined[-1] = (Message(message.role, text), front)
        else:
            joined.append((message, front))
    return joined
