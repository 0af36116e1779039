"""What messages must be: text, in order, and nothing that a verb cannot use."""

from collections.abc import Iterable

from foundling.base.config import ConfigError
from foundling.data.readers.fields import half_a_pair
from foundling.data.source_errors import SourceError
from foundling.text.chat import Conversation, Tools, check_roles
from foundling.text.script import texts_of


def check_texts(where: str, texts: Iterable[str]) -> None:
    """Refuse what neither a tokenizer nor a database takes as text.

    Raises:
        SourceError: a text at `where` holds half of a surrogate pair, or NUL.
    """
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise half_a_pair(where, text, error) from None
        if "\0" in text:
            at = text.index("\0")
            raise SourceError("not text", f"{where}: NUL (U+0000) at character {at} of the text.")


def check_messages(
    where: str, messages: Conversation, tools: Tools = (), *, blank_answers: bool = False
) -> None:
    """Refuse messages that are no conversation to learn from.

    Raises:
        SourceError: the messages at `where` are not Unicode, blank or out of order.
    """
    check_texts(where, texts_of(messages, tools))
    for message in messages:
        if message.content.strip() or message.tool_calls:
            continue
        if message.role == "user" or (message.role == "assistant" and not blank_answers):
            what = "prompt" if message.role == "user" else "answer"
            raise SourceError(f"empty {what}", f"{where}: the {what} is empty.")
    if blank_answers and messages and messages[-1].role == "assistant":
        check_prompt(where, messages[:-1], tools)
        return
    try:
        check_roles(messages, training=True)
    except ConfigError as error:
        raise SourceError("roles out of order", f"{where}: {error}") from None


def check_prompt(where: str, messages: Conversation, tools: Tools = ()) -> None:
    """Refuse messages that no answer can follow.

    Raises:
        SourceError: they are not Unicode, out of order, or the last is blank or an answer.
    """
    check_texts(where, texts_of(messages, tools))
    try:
        check_roles(messages, training=False)
    except ConfigError as error:
        raise SourceError("roles out of order", f"{where}: {error}") from None
    if messages[-1].role == "user" and not messages[-1].content.strip():
        raise SourceError("empty prompt", f"{where}: the prompt is empty.")


def check_shown(where: str, messages: Conversation, tools: Tools = ()) -> None:
    """Refuse what a person who compares answers would not see.

    Raises:
        SourceError: the conversation at `where` has tools, calls of them, or reasoning.
    """
    held = beyond_text(messages, tools)
    if held:
        raise SourceError(
            "not text alone", f"{where}: the conversation has {held}, which cannot be compared."
        )


def beyond_text(messages: Conversation, tools: Tools = ()) -> str:
    """What a conversation has besides roles and contents; empty where it has nothing else."""
    if tools or any(message.tool_calls or message.role == "tool" for message in messages):
        return "tools"
    return "reasoning" if any(message.reasoning for message in messages) else ""
