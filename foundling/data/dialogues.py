"""HH-RLHF's dialogues: the messages of a conversation as one text."""

import re
from collections.abc import Sequence

from foundling.data.source_errors import RowError
from foundling.text.chat import INSTRUCTING, Conversation, Message, Role

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
_ROLES: dict[str, Role] = {HUMAN: "user", ASSISTANT: "assistant"}


def parsed(chosen: object, rejected: object) -> tuple[Conversation, str, str]:
    """The prompt that two dialogues share, and the answer that ends each.

    Raises:
        RowError: they are no dialogues, or differ before the last turn.
    """
    sides = []
    for name, text in (("chosen", chosen), ("rejected", rejected)):
        if not isinstance(text, str):
            raise RowError("not a text", f'"{name}" is a {type(text).__name__}, not a text.')
        before, found, answer = text.rpartition(ASSISTANT)
        if not found or any(mark in answer for mark in _ROLES):
            raise RowError("no answer", f"{name} does not end with a turn of the Assistant's.")
        sides.append((before, answer.strip()))
    (before, good), (other, bad) = sides
    if before != other:
        raise RowError(
            "prompts differ", "chosen and rejected differ before the last turn of the Assistant's."
        )
    return _turns(before), good, bad


def _turns(text: str) -> Conversation:
    """The messages of a dialogue: "\\n\\nHuman: Hi\\n\\nAssistant: Yes?" is two."""
    pieces = re.split(f"({HUMAN}|{ASSISTANT})", text)
    if pieces[0].strip():
        raise RowError("text before the first turn", f"text before the first turn: {pieces[0]!r}.")
    turns = zip(pieces[1::2], pieces[2::2], strict=True)
    return tuple(Message(_ROLES[mark], content.strip()) for mark, content in turns)


def written(prompt: Conversation, answers: Sequence[str]) -> list[str]:
    """One dialogue for each answer to a prompt.

    Raises:
        RowError: there is a system message, or a text spells a turn.
    """
    if prompt[0].role in INSTRUCTING:
        raise RowError("system message", "HH-RLHF's text has no place for a system message.")
    contents = [*(message.content for message in prompt), *answers]
    if any(mark in f"\n\n{content}" for content in contents for mark in _ROLES):
        raise RowError("spells a role", f"a text holds {HUMAN!r} or {ASSISTANT!r}.")
    # A mark is followed by one space, which readers take away with any other.
    marks = (HUMAN if message.role == "user" else ASSISTANT for message in prompt)
    turns = zip(marks, (message.content.strip() for message in prompt), strict=True)
    front = "".join(f"{mark} {content}" for mark, content in turns)
    return [f"{front}{ASSISTANT} {answer.strip()}" for answer in answers]
