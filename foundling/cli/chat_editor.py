"""The line that a chat is typed in: keys, history and completion."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

logger = logging.getLogger(__name__)

KEYS = {
    "Enter": "send",
    "Alt+Enter": "a new line; also a backslash before Enter",
    "Up, Ctrl+R": "what was typed before, and a search in it",
    "Ctrl+C": "stop the answer, keep what is written; at the prompt: give up the line",
    "Ctrl+D": "end the chat",
}


def editor(commands: Mapping[str, str], settings: Sequence[str]) -> PromptSession[str]:
    """A session that asks for one message after the other.

    Args:
        commands: help by name, such as "/save"; what follows "/set" is completed by `settings`,
            what follows a command whose help speaks of FILE by paths.
    """
    session: PromptSession[str] = PromptSession(
        history=_history(),
        multiline=True,
        prompt_continuation="  ",
        key_bindings=_keys(),
        completer=Commands(commands, settings),
        complete_while_typing=Condition(lambda: session.default_buffer.text.startswith("/")),
        enable_open_in_editor=True,
    )
    return session


def _history() -> History:
    """Kept in the user's state folder, which only the user can read."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    file = Path(state, "foundling", "chat_history")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
        with file.open("ab"):
            return FileHistory(file)
    except OSError as error:
        logger.warning(f"{file}: what is typed is not kept: {error.strerror}.")
        return InMemoryHistory()


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def _send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.is_cursor_at_the_end and buffer.text.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


class Commands(Completer):
    """Completes commands, names of settings and paths of files."""

    def __init__(self, commands: Mapping[str, str], settings: Sequence[str]) -> None:
        self._commands, self._settings = commands, settings
        self._paths = PathCompleter(expanduser=True)

    def get_completions(
        self, document: Document, complete_event: CompleteEvent
    ) -> Iterable[Completion]:
        command, space, rest = document.text_before_cursor.partition(" ")
        if not command.startswith("/"):
            return
        if not space:
            for name, help in self._commands.items():
                if name.startswith(command):
                    yield Completion(name, -len(command), display_meta=help)
        elif command == "/set":
            word = rest.rpartition(" ")[2]
            for name in self._settings:
                if name.startswith(word):
                    yield Completion(f"{name}=", -len(word))
        elif "FILE" in self._commands.get(command, ""):
            yield from self._paths.get_completions(Document(rest), complete_event)
