"""Keys at a terminal: Ctrl-C, what is no text, history and completion."""

import io
import signal
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import PipeInput
from rich.console import Console
from terminals import Chat, answer, contents, engine

from foundling.cli.chat_answers import Answers, show
from foundling.cli.chat_editor import Commands
from foundling.cli.chat_terminal import COMMANDS
from foundling.generation.chat_session import ChatSession, ChatSettings


class Interrupting(io.StringIO):
    """Presses Ctrl-C when something is written the third time."""

    writes = 0

    def write(self, text: str) -> int:
        self.writes += 1
        if self.writes == 3:
            signal.raise_signal(signal.SIGINT)
        return super().write(text)


def test_ctrl_c_stops_an_answer_and_keeps_what_is_written() -> None:
    session, before = ChatSession(engine()), signal.getsignal(signal.SIGINT)
    settings = ChatSettings(temperature=0, max_tokens=300)
    answers = Answers([session.ask("the sun", settings)], session.stop)
    show(answers, ["first"], Console(file=Interrupting(), width=80))
    assert answers.stopped
    whole = answer(session.engine, "the sun", max_tokens=300)
    kept = contents(session)[1]
    assert whole.startswith(kept)
    assert 0 < len(kept) < len(whole)
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        answers.stop()


def test_bytes_that_are_no_text_are_refused(
    chat: Chat, keyboard: PipeInput, capsys: pytest.CaptureFixture[str]
) -> None:
    keyboard.send_bytes(b"the \xff\r")
    (session,) = chat("the sun\r", engine())
    assert contents(session)[0] == "the sun"
    assert "error: what was typed is not UTF-8 text." in capsys.readouterr().out


def test_ctrl_c_at_the_prompt_gives_up_the_line(chat: Chat) -> None:
    (session,) = chat("the rain\x03the sun\r", engine())
    assert contents(session)[0] == "the sun"


def test_nothing_is_kept_where_one_of_two_models_wrote_nothing(
    chat: Chat, capsys: pytest.CaptureFixture[str]
) -> None:
    sessions = chat("the miller asked the baker for rain\r", engine(), engine(context=8))
    assert [contents(session) for session in sessions] == [[], []]
    shown = capsys.readouterr().out
    assert "second: error: the message has" in shown
    assert "there is no answer to keep; the conversation is as it was." in shown


def test_what_was_typed_is_remembered_by_the_next_chat(chat: Chat, tmp_path: Path) -> None:
    chat("the sun\r", engine())
    (session,) = chat("\x1b[A shines\r", engine())
    assert contents(session)[0] == "the sun shines"
    file = tmp_path / "state" / "foundling" / "chat_history"
    assert file.stat().st_mode & 0o077 == 0
    assert file.parent.stat().st_mode & 0o077 == 0


def test_a_history_that_cannot_be_kept_is_a_warning(
    chat: Chat, tmp_path: Path, said: list[str]
) -> None:
    (tmp_path / "state").write_text("")
    (session,) = chat("the sun\r", engine())
    assert contents(session)[0] == "the sun"
    assert "what is typed is not kept" in said[0]


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("/s", ["/system", "/set", "/save"]),
        ("/set te", ["temperature="]),
        ("/set temperature=1 top", ["top_k=", "top_p="]),
        ("the /s", []),
        ("/load FOLDER/ke", ["pt.jsonl"]),
    ],
)
def test_commands_settings_and_files_are_completed(
    typed: str, found: list[str], tmp_path: Path
) -> None:
    (tmp_path / "kept.jsonl").write_text("")
    document = Document(typed.replace("FOLDER", str(tmp_path)))
    completer = Commands(COMMANDS, list(ChatSettings.model_fields))
    assert [one.text for one in completer.get_completions(document, CompleteEvent())] == found
