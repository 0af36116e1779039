"""The forms of files of preferences: a row to what it prefers, and back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from foundling.data.formats import FORMATS as CONVERSATIONS
from foundling.data.formats import RowError
from foundling.text.chat import Conversation, Message

Form = Literal["explicit", "messages", "hh", "kto"]

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"


@dataclass(frozen=True)
class Preferred:
    """An answer to a prompt that is preferred to another one."""

    prompt: Conversation
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Labelled:
    """An answer to a prompt that is good or is not."""

    prompt: Conversation
    completion: str
    label: bool


Read = Preferred | Labelled


@dataclass(frozen=True)
class PreferenceForm:
    """How rows of one form are told, written and read."""

    needs: tuple[str, ...]
    write: Callable[[Preferred, bool], list[dict[str, Any]]]
    read: Callable[[Mapping[str, Any]], Read]


def labelled_row(prompt: Conversation, completion: str, label: bool, text: bool) -> dict[str, Any]:
    """One row of the KTO form.

    Raises:
        RowError: the prompt is to be a string but has several messages.
    """
    if text:
        return {"prompt": _only(prompt), "completion": completion, "label": label}
    return {"prompt": _plain(prompt), "completion": _answer(completion), "label": label}


def _write_explicit(given: Preferred, text: bool) -> list[dict[str, Any]]:
    if text:
        prompt = _only(given.prompt)
        return [{"prompt": prompt, "chosen": given.chosen, "rejected": given.rejected}]
    return [
        {
            "prompt": _plain(given.prompt),
            "chosen": _answer(given.chosen),
            "rejected": _answer(given.rejected),
        }
    ]


def _write_messages(given: Preferred, text: bool) -> list[dict[str, Any]]:
    _no_text(text, "messages")
    front = _plain(given.prompt)
    return [
        {
            "chosen": [*front, *_answer(given.chosen)],
            "rejected": [*front, *_answer(given.rejected)],
        }
    ]


def _write_hh(given: Preferred, text: bool) -> list[dict[str, Any]]:
    if given.prompt[0].role == "system":
        raise RowError("system message", "HH-RLHF's text has no place for a system message.")
    contents = [*(m.content for m in given.prompt), given.chosen, given.rejected]
    if any(mark in f"\n\n{content}" for content in contents for mark in (HUMAN, ASSISTANT)):
        raise RowError("spells a role", f"a text holds {HUMAN!r} or {ASSISTANT!r}.")
    # The marks are followed by one space, which readers take away with any other.
    *front, chosen, rejected = (content.strip() for content in contents)
    marks = (HUMAN if m.role == "user" else ASSISTANT for m in given.prompt)
    prompt = "".join(f"{mark} {content}" for mark, content in zip(marks, front, strict=True))
    return [
        {
            "chosen": f"{prompt}{ASSISTANT} {chosen}",
            "rejected": f"{prompt}{ASSISTANT} {rejected}",
        }
    ]


def _write_kto(given: Preferred, text: bool) -> list[dict[str, Any]]:
    return [
        labelled_row(given.prompt, given.chosen, True, text),
        labelled_row(given.prompt, given.rejected, False, text),
    ]


def _read_explicit(row: Mapping[str, Any]) -> Preferred:
    prompt, chosen = prompted(row["prompt"], row["chosen"])
    _, rejected = prompted(row["prompt"], row["rejected"])
    return Preferred(prompt, chosen, rejected)


def _read_messages(row: Mapping[str, Any]) -> Preferred:
    read = CONVERSATIONS["messages"].conversation
    return _same_prompt(
        *(read({"messages": row[side]}).messages for side in ("chosen", "rejected"))
    )


def _read_hh(row: Mapping[str, Any]) -> Preferred:
    return _same_prompt(*(_turns(row[side], side) for side in ("chosen", "rejected")))


def _read_kto(row: Mapping[str, Any]) -> Labelled:
    if not isinstance(row["label"], bool):
        raise RowError("not a label", f'"label" is {row["label"]!r}; expected true or false.')
    prompt, completion = prompted(row["prompt"], row["completion"])
    return Labelled(prompt, completion, row["label"])


FORMS: dict[str, PreferenceForm] = {
    "explicit": PreferenceForm(("prompt", "chosen", "rejected"), _write_explicit, _read_explicit),
    "messages": PreferenceForm(("chosen", "rejected"), _write_messages, _read_messages),
    "hh": PreferenceForm(("chosen", "rejected"), _write_hh, _read_hh),
    "kto": PreferenceForm(("prompt", "completion", "label"), _write_kto, _read_kto),
}

# ---------------------------------------------------------------------- parts of a row


def _plain(messages: Conversation) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _only(prompt: Conversation) -> str:
    if len(prompt) != 1:
        raise RowError("several messages", "a prompt of several messages is no string.")
    return prompt[0].content


def _no_text(text: bool, form: str) -> None:
    if text:
        raise RowError("no strings", f'the form "{form}" has messages, not strings.')


def prompted(prompt: Any, completion: Any) -> tuple[Conversation, str]:
    """Prompt and answer, each a text or a list of messages.

    Raises:
        RowError: they are neither, or no answer ends them.
    """
    parse = CONVERSATIONS["prompt_completion"].conversation
    if isinstance(prompt, list) and isinstance(completion, str):
        completion = _answer(completion)
    messages = parse({"prompt": prompt, "completion": completion}).messages
    return _parted(messages)


def _parted(messages: Conversation) -> tuple[Conversation, str]:
    if len(messages) < 2 or messages[-1].role != "assistant":
        raise RowError("no answer", "the last message must be the assistant's.")
    return messages[:-1], messages[-1].content


def _same_prompt(chosen: Conversation, rejected: Conversation) -> Preferred:
    (front, good), (other, bad) = _parted(chosen), _parted(rejected)
    if front != other:
        raise RowError("different prompts", "chosen and rejected differ before the last answer.")
    return Preferred(front, good, bad)


def _turns(dialogue: Any, side: str) -> Conversation:
    """`"\\n\\nHuman: a\\n\\nAssistant: b"` is the user's "a" and the assistant's "b"."""
    if not isinstance(dialogue, str) or not dialogue.startswith(HUMAN):
        raise RowError("not HH's text", f'"{side}" does not begin with {HUMAN!r}.')
    messages = []
    for part in dialogue.split(HUMAN)[1:]:
        asked, *answers = part.split(ASSISTANT)
        messages.append(Message("user", asked.strip()))
        messages += [Message("assistant", answer.strip()) for answer in answers]
    return tuple(messages)
