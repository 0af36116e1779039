"""Somebody at a terminal: keys come from a pipe."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput
from terminals import SETTINGS, Chat

from foundling.cli.chat_terminal import ChatTerminal
from foundling.generation.chat_session import ChatSession
from foundling.generation.engine import Engine


@pytest.fixture
def keyboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PipeInput]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        yield pipe


@pytest.fixture
def chat(keyboard: PipeInput) -> Chat:
    """Type keys into a chat with the engines, then Ctrl-C and Ctrl-D; its sessions."""

    def run(keys: str, *engines: Engine, system: str = "") -> list[ChatSession]:
        keyboard.send_text(keys + "\x03\x04")
        names = ("first", "second")
        terminal = ChatTerminal(dict(zip(names, engines, strict=False)), SETTINGS, system)
        terminal.run()
        return list(terminal.sessions.values())

    return run
