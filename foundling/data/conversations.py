"""What a row of a file holds: a conversation, a labelled one, or a pair of answers."""

from dataclasses import dataclass, field, replace
from typing import Self

from foundling.data.message_checks import check_messages
from foundling.data.messages import unweighted
from foundling.data.source_errors import RowError, SourceError
from foundling.text.chat import INSTRUCTING, Conversation, Message, Tools


@dataclass(frozen=True)
class SourcedConversation:
    """A conversation and the row that it came from.

    The first `given` messages are prompt, whoever wrote them.
    """

    where: str  # FILE:LINE or FILE#ROW
    messages: Conversation
    given: int = 0
    tools: Tools = field(default=(), kw_only=True)

    @property
    def prompt(self) -> Conversation:
        """Without the answer that ends it, if one does."""
        if self.given:
            return self.messages[: self.given]
        answered = bool(self.messages) and self.messages[-1].role == "assistant"
        return self.messages[:-1] if answered else self.messages

    def led_by(self, system: Message) -> Self:
        """With a system message at its front.

        Raises:
            RowError: it has another one.
        """
        messages = _led_by(system, self.messages)
        added = len(messages) - len(self.messages)
        return replace(self, messages=messages, given=self.given and self.given + added)

    def unlearned(self) -> Self:
        """With no answer that is learned from."""
        return replace(self, messages=_unlearned(self.messages, self.given))

    @property
    def is_learned(self) -> bool:
        """Whether an answer is learned from."""
        return _is_learned(self.messages, self.given)

    def check(self, *, blank_answers: bool = False) -> None:
        """Refuse what cannot be learned from.

        Raises:
            SourceError: the messages are not Unicode, blank or out of order, or hold no answer.
        """
        check_messages(self.where, self.messages, self.tools, blank_answers=blank_answers)
        if self.given >= len(self.messages):
            raise SourceError("no answer", f"{self.where}: the completion holds no message.")


@dataclass(frozen=True)
class LabelledConversation(SourcedConversation):
    """A prompt of `given` messages with an answer that is good (`label`) or is not."""

    label: bool = True


@dataclass(frozen=True)
class SourcedPair:
    """Two conversations that begin alike, and the row that they came from.

    The first `given` messages, the same on both sides, are the prompt; the rest is an answer.
    """

    where: str  # FILE:LINE or FILE#ROW
    chosen: Conversation
    rejected: Conversation
    given: int
    label: bool = True
    """Whether a labelled answer, which stands as the chosen one, is good."""
    tools: Tools = field(default=(), kw_only=True)

    @property
    def prompt(self) -> Conversation:
        return self.chosen[: self.given]

    @property
    def sides(self) -> tuple[LabelledConversation, LabelledConversation]:
        """The chosen answer as a good one, the rejected as a bad one."""
        good, bad = (
            LabelledConversation(self.where, side, self.given, label, tools=self.tools)
            for side, label in ((self.chosen, True), (self.rejected, False))
        )
        return good, bad

    def led_by(self, system: Message) -> Self:
        """With a system message at the front of both sides.

        Raises:
            RowError: one of them has another one.
        """
        chosen, rejected = (_led_by(system, side) for side in (self.chosen, self.rejected))
        given = self.given + len(chosen) - len(self.chosen)
        return replace(self, chosen=chosen, rejected=rejected, given=given)

    def unlearned(self) -> Self:
        """With no answer that is learned from."""
        chosen, rejected = (_unlearned(side, self.given) for side in (self.chosen, self.rejected))
        return replace(self, chosen=chosen, rejected=rejected)

    @property
    def is_learned(self) -> bool:
        """Whether both answers are learned from."""
        return all(_is_learned(side, self.given) for side in (self.chosen, self.rejected))

    def check(self) -> None:
        """Refuse what cannot be learned from.

        Raises:
            SourceError: an answer is missing or blank, both are the same, or the prompts differ.
        """
        for name, messages in (("chosen", self.chosen), ("rejected", self.rejected)):
            if len(messages) <= self.given:
                raise SourceError("no answer", f"{self.where}: {name} holds no answer.")
            check_messages(self.where, messages, self.tools)
        if unweighted(self.chosen) == unweighted(self.rejected):
            raise SourceError(
                "identical answers", f"{self.where}: chosen and rejected are the same."
            )
        begins = {side[self.given].role for side in (self.chosen, self.rejected)}
        if not self.given or begins != {"assistant"}:
            raise SourceError(
                "prompts differ",
                f"{self.where}: chosen and rejected do not answer the same prompt.",
            )


Held = SourcedConversation | SourcedPair
"""What a row holds; a labelled conversation is a conversation too."""


def _led_by(system: Message, messages: Conversation) -> Conversation:
    if not messages or messages[0].role not in INSTRUCTING:
        return (system, *messages)
    if messages[0].content != system.content:
        raise RowError(
            "two system messages", 'the column "system" and the first message say different things.'
        )
    return messages


def _unlearned(messages: Conversation, given: int) -> Conversation:
    front, answers = messages[:given], messages[given:]
    return (*front, *(replace(m, weight=0) if m.role == "assistant" else m for m in answers))


def _is_learned(messages: Conversation, given: int) -> bool:
    return any(message.role == "assistant" and message.weight for message in messages[given:])
