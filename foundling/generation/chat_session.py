"""A conversation with a model, turn by turn, which can be taken back and kept in a file."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field

from foundling.base import durable
from foundling.base.config import ConfigError
from foundling.data.messages import written
from foundling.data.reading import read_conversations
from foundling.generation.conversation import fitting_prompt
from foundling.generation.engine import Engine
from foundling.generation.request import Request, Stream
from foundling.generation.sampling import Sampling
from foundling.text.chat import INSTRUCTING, Conversation, Message, Tools, render_prompt

ENDING = ".jsonl"


class ChatSettings(Sampling):
    """How an answer is written."""

    max_tokens: int | None = Field(None, gt=0)
    """The most tokens of an answer; None: what the context holds."""

    @property
    def sampling(self) -> Sampling:
        """How tokens are drawn."""
        return Sampling.parse({name: getattr(self, name) for name in Sampling.model_fields})


class ChatSession:
    """A conversation with one model.

    Args:
        continues: the model has no chat template: the messages are one text, which it continues.
    """

    def __init__(self, engine: Engine, *, continues: bool = False) -> None:
        self.engine, self.continues = engine, continues
        self.messages: Conversation = ()
        self.tools: Tools = ()
        self.stream: Stream | None = None
        """The last answer's."""
        self._draw = 0

    @property
    def system(self) -> str:
        return self.messages[0].content if self._front else ""

    @system.setter
    def system(self, text: str) -> None:
        if text and self.continues:
            raise ConfigError("a model without a chat template has no system message.")
        self.messages = (
            *([Message("system", text)] if text else []),
            *self.messages[self._front :],
        )

    def ask(self, text: str, settings: ChatSettings) -> Iterator[str]:
        """The answer to a message, piece by piece.

        Message and answer are kept when the iterator ends or is closed, unless nothing was
        written.

        Raises:
            ConfigError: the message does not fit the context.
        """
        self._draw = 0
        return self._answer(text if self.continues else text.strip(), self.messages, settings)

    def again(self, settings: ChatSettings) -> Iterator[str]:
        """Another answer to the last message, drawn anew; it takes the place of the last.

        Raises:
            ConfigError: nothing was asked yet.
        """
        before = self._before_last()
        self._draw += 1
        return self._answer(self.messages[len(before)].content, before, settings)

    def undo(self) -> Message:
        """Take back the last message and its answer; the message.

        Raises:
            ConfigError: nothing was asked yet.
        """
        before = self._before_last()
        message, self.messages = self.messages[len(before)], before
        return message

    def clear(self) -> None:
        """Start again; the system message stays."""
        self.messages, self.tools = self.messages[: self._front], ()

    def stop(self) -> None:
        """End the answer that is being written, from any thread."""
        if self.stream is not None:
            self.stream.cancel()

    def count_tokens(self) -> int:
        """The tokens of the conversation as the model reads it."""
        tokenizer = self.engine.tokenizer
        if len(self.messages) == self._front:
            return 0
        if self.continues:
            return len(self._prompt(self.messages, None))
        prompt = render_prompt(self.messages[:-1], tokenizer, tools=self.tools)
        return len(prompt) + len(tokenizer.encode(self.messages[-1].content))

    # ------------------------------------------------------------------ inside

    @property
    def _front(self) -> int:
        return int(bool(self.messages) and self.messages[0].role in INSTRUCTING)

    def _before_last(self) -> Conversation:
        """The messages before the last of the user's."""
        asked = [place for place, one in enumerate(self.messages) if one.role == "user"]
        if not asked:
            raise ConfigError("there is no message yet.")
        return self.messages[: asked[-1]]

    def _text(self, messages: Conversation) -> str:
        return "".join(message.content for message in messages)

    def _answer(self, text: str, before: Conversation, settings: ChatSettings) -> Iterator[str]:
        asked, most = (*before, Message("user", text)), settings.max_tokens
        request = Request(
            tuple(self._prompt(asked, most)),
            most,
            settings.sampling,
            sample=self._draw,
            continues=self.continues,
            slide=self.continues,
        )
        pieces: list[str] = []
        with self.engine.submit(request) as self.stream:
            try:
                for chunk in self.stream:
                    pieces.append(chunk.text)
                    yield chunk.text
            finally:
                answer = "".join(pieces)
                if answer.strip():
                    self.messages = (*asked, Message("assistant", answer))

    def _prompt(self, asked: Conversation, max_tokens: int | None) -> list[int]:
        if not self.continues:
            return fitting_prompt(self.engine, asked, tools=self.tools, max_tokens=max_tokens)
        tokenizer = self.engine.tokenizer
        return [*tokenizer.begin_ids, *tokenizer.encode(self._text(asked))]


def save(sessions: Sequence[ChatSession], path: Path) -> None:
    """Write the conversations as rows that `sft` reads, one a line.

    Raises:
        ConfigError: one of them holds no answer, the name does not end in .jsonl, or the file
            cannot be written.
    """
    if path.suffix != ENDING:
        raise ConfigError(f"{path}: conversations are rows of JSON; end the name in {ENDING}.")
    rows = []
    for session in sessions:
        if session.continues or not any(one.role == "assistant" for one in session.messages):
            raise ConfigError("there is no conversation to save.")
        row = {"messages": [written(message) for message in session.messages]}
        rows.append(row | ({"tools": list(session.tools)} if session.tools else {}))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    try:
        durable.replace(path, text.encode(errors="backslashreplace"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}.") from None


def load(sessions: Sequence[ChatSession], path: Path) -> None:
    """Go on from the conversations of a file: one for each session, or one for all of them.

    Raises:
        ConfigError: the file cannot be read, or holds another number of conversations.
    """
    if any(session.continues for session in sessions):
        raise ConfigError("a model without a chat template cannot go on from a conversation.")
    found, _ = read_conversations([path], blank_answers=False, skip="")
    if len(found) not in (1, len(sessions)):
        wanted = " or ".join(map(str, dict.fromkeys((1, len(sessions)))))
        raise ConfigError(f"{path}: holds {len(found)} conversations; give a file with {wanted}.")
    for place, session in enumerate(sessions):
        loaded = found[place % len(found)]
        session.messages, session.tools = loaded.messages, loaded.tools
