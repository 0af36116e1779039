"""Conversations of files to tokens, as chats or as plain text; a row at fault is named."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from foundling.base.config import ConfigError
from foundling.data.conversations import SourcedConversation
from foundling.data.message_checks import beyond_text
from foundling.data.source_errors import SourceError
from foundling.text.chat import (
    Conversation,
    Learn,
    Rendered,
    Tools,
    later_exchanges,
    render_batch,
    render_plain,
)
from foundling.text.script import texts_of
from foundling.text.tokenizer import Tokenizer

Style = Literal["chat", "plain"]
SpecialTokens = Literal["text", "parse"]
OnLong = Literal["drop", "truncate_prompt", "error"]

BATCH = 1024  # conversations that are encoded together


@dataclass(frozen=True)
class Rendering:
    """How conversations become tokens.

    Args:
        style: "chat": by the tokenizer's chat template; "plain": a prompt and its completion as
            text, without roles.
        learn: the answers that are learned of a conversation.
        special_tokens: what a text that spells a special token becomes: "text", or that token
            ("parse", for plain text with markers of its own).

    Raises:
        ConfigError: special tokens are to be parsed in chats, where the template alone writes them.
    """

    tokenizer: Tokenizer
    style: Style = "chat"
    learn: Learn = "all"
    special_tokens: SpecialTokens = "text"

    def __post_init__(self) -> None:
        if self.special_tokens == "parse" and self.style == "chat":
            raise ConfigError(
                'special_tokens = "parse": only for style = "plain"; in a chat the template alone '
                "writes special tokens."
            )

    def check(self, on_long: OnLong) -> None:
        """Raises ConfigError: long prompts are to be cut that hold marks of their own."""
        if self.special_tokens == "parse" and on_long == "truncate_prompt":
            raise ConfigError(
                'on_long = "truncate_prompt": a prompt with special tokens of its own is not cut; '
                'give "drop" or "error".'
            )

    def of(
        self, conversations: Sequence[SourcedConversation]
    ) -> list[list[Rendered] | SourceError]:
        """The examples of each conversation, or what is wrong with it."""
        if self.style == "plain":
            return [self._plain(given) for given in conversations]
        try:
            found = render_batch(
                [given.messages for given in conversations],
                self.tokenizer,
                learn=self.learn,
                given=[given.given for given in conversations],
                tools=[given.tools for given in conversations],
            )
        except ConfigError as error:
            if len(conversations) == 1:
                return [_fault(conversations[0], error)]
            return [self.of([given])[0] for given in conversations]  # which one is at fault?
        return list(found)

    def each(
        self, conversations: Sequence[SourcedConversation]
    ) -> Iterator[tuple[SourcedConversation, list[Rendered] | SourceError]]:
        """Every conversation with what `of` makes of it."""
        for start in range(0, len(conversations), BATCH):
            batch = conversations[start : start + BATCH]
            yield from zip(batch, self.of(batch), strict=True)

    def again(self, given: SourcedConversation) -> Rendered:
        """A conversation that is one example.

        Raises:
            SourceError: it cannot be rendered.
        """
        (found,) = self.of([given])
        if isinstance(found, SourceError):
            raise found
        (rendered,) = found
        return rendered

    def spelled(self, conversations: Iterable[tuple[Conversation, Tools]]) -> Counter[str]:
        """The special tokens that rows spell and that stay text: in how many rows each."""
        if self.special_tokens == "parse":
            return Counter()
        found = self.tokenizer.controls.found
        return Counter(
            name
            for messages, tools in conversations
            for name in dict.fromkeys(
                text[start:stop]
                for text in texts_of(messages, tools)
                for start, stop in found(text)
            )
        )

    def _plain(self, given: SourcedConversation) -> list[Rendered] | SourceError:
        roles, more = [m.role for m in given.messages], beyond_text(given.messages, given.tools)
        if roles != ["user", "assistant"] or more:
            other = more or ", ".join(roles)
            return _fault(
                given,
                f'style = "plain" takes one prompt and one completion, not {other}; use "chat".',
            )
        prompt, completion = (message.content for message in given.messages)
        parse = self.special_tokens == "parse"
        try:
            return [render_plain(prompt, completion, self.tokenizer, parse=parse)]
        except ConfigError as error:
            return _fault(given, error)


def _fault(given: SourcedConversation, what: ConfigError | str) -> SourceError:
    return SourceError("not rendered", f"{given.where}: {what}")


def examples_of(
    given: SourcedConversation, found: Sequence[Rendered]
) -> list[tuple[SourcedConversation, Rendered]]:
    """Each example with its conversation: several are each up to an answer of their own.

    Their places are named "FILE:LINE (1 of 3)" and so on.
    """
    if len(found) == 1:
        return [(given, found[0])]
    learned = [
        place
        for place, message in enumerate(given.messages)
        if place >= given.given and message.role == "assistant" and message.weight
    ]
    parts = []
    for number, (place, rendered) in enumerate(zip(learned, found, strict=True), start=1):
        where = f"{given.where} ({number} of {len(found)})"
        parts.append((replace(given, where=where, messages=given.messages[: place + 1]), rendered))
    return parts


def without_oldest(given: SourcedConversation) -> SourcedConversation | None:
    """The conversation without its oldest exchange; None where it has but one."""
    messages = later_exchanges(given.messages, len(given.messages))
    if messages is None:
        return None
    front = len(given.messages) - len(messages)
    return replace(given, messages=messages, given=max(0, given.given - front))
