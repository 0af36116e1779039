"""A chat at the terminal: messages and commands are typed, answers are written as they come."""

import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from prompt_toolkit import prompt
from rich.console import Console

from foundling.base.config import ConfigError, put, suggest
from foundling.cli.chat_answers import Answers, show, visible
from foundling.cli.chat_editor import KEYS, editor
from foundling.generation.chat_session import ChatSession, ChatSettings, load, save
from foundling.generation.engine import Engine
from foundling.generation.limits import UNBOUNDED_TOKENS

COMMANDS = {
    "/system": "TEXT: the system message; none: without one; alone: show it",
    "/retry": "another answer to the last message",
    "/undo": "take back the last message and its answer",
    "/clear": "start again; the system message stays",
    "/set": "NAME=VALUE ...: how answers are written; alone: show it",
    "/tokens": "how long the conversation is, and what the context holds",
    "/save": "FILE: keep the conversation as rows that sft reads (.jsonl)",
    "/load": "FILE: go on from a conversation",
    "/help": "show this",
    "/quit": "end the chat",
}
NONE = "none"
Ask = Callable[[ChatSession], Iterator[str]]


class ChatTerminal:
    """Sessions with one or two models, which get the same messages.

    Args:
        engines: by the names that stand above their answers.
        system: the system message; empty for none.
        untuned: the names of models that were not tuned on conversations.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        settings: ChatSettings,
        system: str = "",
        untuned: Collection[str] = (),
    ) -> None:
        self.sessions = {
            name: ChatSession(
                engine, continues=name in untuned or engine.tokenizer.template is None
            )
            for name, engine in engines.items()
        }
        self._settings, self._given_system = settings, system
        self._console = Console(highlight=False)
        self._editor = editor(COMMANDS, list(ChatSettings.model_fields))
        self._draft = ""
        self._own: set[Path] = set()  # files that this chat has read or written

    def run(self) -> None:
        """Ask and answer until /quit or Ctrl-D.

        Raises:
            ConfigError: a model has no chat template, and the user does not want to continue text.
        """
        for name, session in self.sessions.items():
            if session.continues:
                self._offer_to_continue(name, session)
        if self._given_system:
            self._system(self._given_system)
        self._note(
            "Alt+Enter begins a new line, Ctrl+C stops an answer, Ctrl+D ends; /help says more."
        )
        while True:
            draft, self._draft = self._draft, ""
            try:
                text = self._editor.prompt("> ", default=draft)
            except KeyboardInterrupt:  # the line is given up
                continue
            except EOFError:
                return
            try:
                if not self._obey(text):
                    return
            except ConfigError as error:
                self._note(f"error: {error}")

    def _offer_to_continue(self, name: str, session: ChatSession) -> None:
        chats = session.engine.tokenizer.template is not None
        why = "was not tuned on conversations" if chats else "has no chat template"
        self._note(f"{name}: {why}. It can continue what you write.")
        try:
            wanted = prompt("Continue text? [Y/n] ").strip().lower() in ("", "y", "yes")
        except (KeyboardInterrupt, EOFError):
            wanted = False
        if not (wanted or chats):
            raise ConfigError(f"{name}: {why}; --template gives it one.")
        session.continues = wanted

    def _obey(self, text: str) -> bool:
        """Do what was typed; False: the chat is over."""
        if any("\ud800" <= sign <= "\udfff" for sign in text):  # bytes that are no UTF-8
            raise ConfigError("what was typed is not UTF-8 text.")
        if not text.startswith("/"):
            if text.strip():
                self._answer(lambda session: session.ask(text, self._settings), text)
            return True
        name, _, rest = text.strip().partition(" ")
        if name == "/quit":
            return False
        if name not in COMMANDS:
            raise ConfigError(
                f"{name}: no such command {suggest(name, list(COMMANDS))} A message that begins "
                "with / has a space before it."
            )
        getattr(self, f"_{name[1:]}")(rest.strip())
        return True

    def _answer(self, ask: Ask, message: str) -> None:
        """Show what the models write; it is kept if all of them wrote something."""
        before = {name: session.messages for name, session in self.sessions.items()}
        asked = [ask(session) for session in self.sessions.values()]
        answers = Answers(asked, lambda: self._each(ChatSession.stop))
        show(answers, list(before), self._console)
        for which, (name, session) in enumerate(self.sessions.items()):
            if which in answers.errors:
                self._note(f"{self._of(name)}error: {answers.errors[which]}")
            elif session.stream is not None and session.stream.finish == "length":
                self._note(f"{self._of(name)}cut off: {self._limit(session)}.")
        if any(session.messages is before[name] for name, session in self.sessions.items()):
            for name, session in self.sessions.items():
                session.messages = before[name]
            self._note("there is no answer to keep; the conversation is as it was.")
            self._draft = message
        elif answers.stopped:
            self._note("stopped; what is written is kept.")

    def _limit(self, session: ChatSession) -> str:
        """What an answer that was cut off came up against."""
        if (most := self._settings.max_tokens) is not None:
            return f"max_tokens = {most}"
        if session.continues or session.engine.model.max_context is None:
            return f"{UNBOUNDED_TOKENS} tokens, if max_tokens is not set"
        return "the context is full"

    def _each(self, act: Callable[[ChatSession], object]) -> None:
        for session in self.sessions.values():
            act(session)

    # ------------------------------------------------------------------ commands

    def _system(self, text: str) -> None:
        for name, session in self.sessions.items():
            if session.continues:
                self._note(f"{self._of(name)}continues text, so that it has no system message.")
                continue
            if text:
                session.system = "" if text == NONE else text
            self._note(f"{self._of(name)}{session.system or 'no system message.'}")

    def _retry(self, rest: str) -> None:
        if self._settings.temperature == 0:
            self._note("temperature = 0 gives the same answer; /set temperature=0.7 gives others.")
        self._answer(lambda session: session.again(self._settings), "")

    def _undo(self, rest: str) -> None:
        self._each(lambda session: setattr(self, "_draft", session.undo().content))

    def _clear(self, rest: str) -> None:
        self._each(ChatSession.clear)

    def _set(self, rest: str) -> None:
        given: dict[str, Any] = {}
        for word in rest.split():
            name, equals, text = word.partition("=")
            if not (equals and name and text):
                raise ConfigError(f"/set {word}: expected NAME=VALUE.")
            put(given, name, _value(text))
        self._settings = ChatSettings.parse({**self._settings.values(), **given})
        shown = (
            f"{name}={NONE if value is None else value}"
            for name, value in self._settings.values().items()
        )
        self._note(" ".join(shown))

    def _tokens(self, rest: str) -> None:
        for name, session in self.sessions.items():
            bound, count = session.engine.model.max_context, session.count_tokens()
            holds = "has no bound" if bound is None else f"holds {bound:,}"
            full = bound is not None and count > bound
            left = ", so that the oldest messages are left out" if full else ""
            cached = 0 if session.stream is None else session.stream.cached_tokens
            found = f", of which the last answer found {cached:,} in the cache" if cached else ""
            self._note(f"{self._of(name)}{count:,} tokens{found}; the context {holds}{left}.")

    def _save(self, rest: str) -> None:
        path = _path(rest)
        if path.exists() and path not in self._own:
            raise ConfigError(f"{path}: exists already; give another name.")
        save(list(self.sessions.values()), path)
        self._own.add(path)
        self._note(f"{path}: written.")

    def _load(self, rest: str) -> None:
        path = _path(rest)
        load(list(self.sessions.values()), path)
        self._own.add(path)
        for name, session in self.sessions.items():
            self._note(f"{self._of(name)}{len(session.messages)} messages.")

    def _help(self, rest: str) -> None:
        self._note("\n".join(f"{name:10} {help}" for name, help in {**COMMANDS, **KEYS}.items()))

    # ------------------------------------------------------------------ words

    def _of(self, name: str) -> str:
        """What a line about one of several models begins with."""
        return f"{name}: " if len(self.sessions) > 1 else ""

    def _note(self, text: str) -> None:
        self._console.print(visible(text), style="dim", markup=False, soft_wrap=True)


def _path(text: str) -> Path:
    if not text:
        raise ConfigError("give the name of a file.")
    return Path(text).expanduser().absolute()


def _value(text: str) -> Any:
    """A value as TOML writes it, none, or a plain text."""
    if text == NONE:
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
