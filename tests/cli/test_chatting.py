"""Chats at a terminal: keys come from a pipe, models are tiny."""

import io
import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, pre_tokenizers
from tokenizers.models import BPE

from foundling import cli, models
from foundling.base.config import ConfigError
from foundling.cli.chat_answers import Answers, Columns, show, visible
from foundling.cli.chat_editor import Commands
from foundling.cli.chat_terminal import COMMANDS, ChatTerminal
from foundling.data.reading import read_conversations
from foundling.generation.chat_session import ChatSession, ChatSettings, load, save
from foundling.generation.engine import Engine
from foundling.generation.request import Request
from foundling.generation.sampling import Sampling
from foundling.runs.model_folder import save_model
from foundling.text.chat import Message, ToolCall, render_prompt
from foundling.text.tokenizer import Tokenizer

TEXT = "the miller asked the baker for the weather: rain in the village, sun on the hill."
ROLES = Tokenizer.train_bytes([TEXT], vocab_size=300)
SETTINGS = ChatSettings(temperature=0, max_tokens=8)


def engine(seed: int = 5, tokenizer: Tokenizer = ROLES, context: int = 400) -> Engine:
    torch.manual_seed(seed)
    size = {"rung": "transformer", "dim": 16}
    model = models.build(size, vocab_size=tokenizer.vocab_size, context=context)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)  # away from uniform
    return Engine(model, tokenizer)


def answer(made: Engine, *said: str, system: str = "", **options: Any) -> str:
    """What the model says after these turns, the first of which is the user's."""
    turns = [Message(("user", "assistant")[place % 2], text) for place, text in enumerate(said)]
    front = [Message("system", system)] if system else []
    return made.chat([*front, *turns], **{"max_tokens": 8, "temperature": 0, **options})


def contents(session: ChatSession) -> list[str]:
    return [message.content for message in session.messages]


Chat = Callable[..., list[ChatSession]]


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


def test_messages_are_answered_and_remembered(
    chat: Chat, capsys: pytest.CaptureFixture[str]
) -> None:
    made = engine()
    (session,) = chat("the sun\r\r  the rain \r", made, system="be brief")
    first = answer(made, "the sun", system="be brief")
    second = answer(made, "the sun", first, "the rain", system="be brief")
    assert contents(session) == ["be brief", "the sun", first, "the rain", second]
    shown = capsys.readouterr().out
    assert shown.index(visible(first)) < shown.index(visible(second))
    assert "\x1b" not in shown


def test_several_lines_are_one_message(chat: Chat) -> None:
    keys = "a\\\rb\x1b\rc\r\x1b[200~if x:\n  y\n\nz\x1b[201~\r"
    (session,) = chat(keys, engine())
    assert contents(session)[::2] == ["a\nb\nc", "if x:\n  y\n\nz"]


def test_retry_draws_again_and_undo_gives_the_message_back(
    chat: Chat, capsys: pytest.CaptureFixture[str]
) -> None:
    made = engine()
    (session,) = chat("the sun\r/retry\r", made)
    assert contents(session) == ["the sun", answer(made, "the sun")]
    assert "temperature = 0 gives the same answer" in capsys.readouterr().out
    (session,) = chat("/set temperature=1.5 seed=3\rthe sun\r/retry\r/retry\r", made)
    request = Request(
        tuple(render_prompt(session.messages[:1], ROLES)), 8, Sampling(temperature=1.5, seed=3)
    )
    draws = [result.text for result in made.run([replace(request, sample=n) for n in range(3)])]
    assert contents(session)[1] == draws[2]
    assert len(set(draws)) == 3
    (session,) = chat("the sun\rthe rain\r/undo\r shines\r", made)
    first = answer(made, "the sun")
    assert contents(session)[:3] == ["the sun", first, "the rain shines"]
    (session,) = chat("/undo\r/retry\rthe sun\r/clear\r", made, system="be brief")
    assert contents(session) == ["be brief"]
    assert capsys.readouterr().out.count("error: there is no message yet.") == 2


def test_settings_and_the_system_message_are_set_shown_and_checked(
    chat: Chat, capsys: pytest.CaptureFixture[str]
) -> None:
    made = engine()
    keys = (
        "/set temperature=1 top_p=0.9 max_tokens=5\r/set top_p=none\r/set heat=1\r/set top_p=2\r"
        "/set top_p\r/sys\r/system\r/system be kind\rthe sun\r/system none\r/system\r"
    )
    (session,) = chat(keys, made)
    expected = answer(made, "the sun", system="be kind", temperature=1, max_tokens=5)
    assert contents(session) == ["the sun", expected]
    shown = capsys.readouterr().out
    for words in (
        "temperature=1.0 top_k=none top_p=0.9",
        "temperature=1.0 top_k=none top_p=none",
        "error: heat: no such setting",
        "error: top_p = 2: input should be less than or equal to 1",
        "error: /set top_p: expected NAME=VALUE.",
        "error: /sys: no such command",
        'Did you mean "/system"?',
        "be kind",
        "cut off: max_tokens = 5.",
    ):
        assert words in shown, words
    assert shown.count("no system message.") == 3


def test_what_cut_an_answer_off_is_told(keyboard: PipeInput) -> None:
    terminal = ChatTerminal({"first": engine()}, ChatSettings())
    (session,) = terminal.sessions.values()
    assert terminal._limit(session) == "the context is full"
    session.continues = True  # its text slides
    assert terminal._limit(session) == "256 tokens, if max_tokens is not set"


def test_tokens_are_counted_as_the_model_reads_them(
    chat: Chat, capsys: pytest.CaptureFixture[str], said: list[str]
) -> None:
    made = engine(context=30)
    (session,) = chat("/tokens\rthe sun\r/tokens\r", made)
    prompt = render_prompt(session.messages[:1], ROLES)
    count = len(prompt) + len(ROLES.encode(session.messages[1].content))
    assert session.count_tokens() == count
    shown = capsys.readouterr().out
    assert "0 tokens; the context holds 30." in shown
    assert f"{count} tokens; the context holds 30." in shown
    keys = "the sun\rthe rain\r/tokens\r"
    (session,) = chat(keys, made)
    assert said == ["the context is full: 2 earlier messages are left out."]
    assert "so that the oldest messages are left out" in capsys.readouterr().out
    long = "the miller asked the baker " * 20
    (session,) = chat(f"{long}\r", made)
    assert contents(session) == []
    assert "error: the message has" in capsys.readouterr().out


def test_a_conversation_is_saved_as_rows_for_sft_and_loaded(
    chat: Chat, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, file = engine(), tmp_path / "kept.jsonl"
    keys = f"the sun\r/save {file}\rthe rain\r/save {file}\r"
    (session,) = chat(keys, made, system="be brief")
    found, report = read_conversations([file])
    assert [held.messages for held in found] == [session.messages]
    assert report.format == "messages"
    (loaded,) = chat(f"/load {file}\r", made)
    assert loaded.messages == session.messages
    capsys.readouterr()
    keys = (
        f"/save {file}\r/save {tmp_path / 'new.jsonl'}\r/save\rthe sun\r/save {file}\r/save a.txt\r"
        f"/save {tmp_path / 'no' / 'folder.jsonl'}\r"
    )
    chat(keys, made)
    shown = capsys.readouterr().out
    assert shown.count("exists already; give another name.") == 2
    for words in (
        "there is no conversation to save.",
        "give the name of a file.",
        ".jsonl.",
        "be written",
    ):
        assert words in shown, words
    assert not (tmp_path / "new.jsonl").exists()
    chat(f"/load {tmp_path / 'none.jsonl'}\r", made)
    assert "none.jsonl" in capsys.readouterr().out


def test_calls_of_tools_are_kept_as_they_were_loaded(tmp_path: Path) -> None:
    kit = ({"type": "function", "function": {"name": "weather", "parameters": {}}},)
    call = ToolCall("weather", '{"place": "hill"}', "1")
    session = ChatSession(engine())
    session.tools, session.messages = (
        kit,
        (
            Message("user", "the weather"),
            Message("assistant", "", reasoning="hm", tool_calls=(call,), weight=0),
            Message("tool", "sun", tool_call_id="1", name="weather"),
            Message("assistant", "the sun"),
        ),
    )
    file = tmp_path / "kept.jsonl"
    save([session], file)
    other = ChatSession(engine())
    load([other], file)
    assert (other.messages, other.tools) == (session.messages, session.tools)


def test_two_models_answer_side_by_side(
    chat: Chat, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, other, file = engine(5), engine(6), tmp_path / "kept.jsonl"
    keys = f"the sun\r/tokens\r/save {file}\r"
    sessions = chat(keys, made, other)
    assert [contents(session) for session in sessions] == [
        ["the sun", answer(made, "the sun")],
        ["the sun", answer(other, "the sun")],
    ]
    assert "second: " in capsys.readouterr().out
    assert len(file.read_text().splitlines()) == 2
    assert [s.messages for s in chat(f"/load {file}\r", made, other)] == [
        session.messages for session in sessions
    ]
    chat(f"/load {file}\r", made)
    assert "holds 2 conversations; give a file with 1." in capsys.readouterr().out


def without_template() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(BPE({sign: id for id, sign in enumerate(["<end>", *alphabet])}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<end>"])
    return Tokenizer(backend, None, "<end>", None)


def test_a_model_without_a_chat_template_offers_to_continue_text(
    chat: Chat, keyboard: PipeInput, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = engine(tokenizer=without_template())
    keyboard.send_text("n\r")
    with pytest.raises(ConfigError, match="first: has no chat template"):
        ChatTerminal({"first": made}, SETTINGS).run()
    file = tmp_path / "kept.jsonl"
    keys = f"y\rthe sun \rand\r/system be brief\r/tokens\r/save {file}\r/load {file}\r/retry\r"
    (session,) = chat(keys, made)
    options: dict[str, Any] = {"max_tokens": 8, "temperature": 0}
    first = made.generate("the sun ", **options)
    second = made.generate(f"the sun {first}and", **options)
    assert contents(session) == ["the sun ", first, "and", second]
    shown = capsys.readouterr().out
    for words in (
        "continues text, so that it has no system message.",
        f"{session.count_tokens()} tokens;",
        "there is no conversation to save.",
        "cannot go on from a conversation",
    ):
        assert words in shown, words
    chat("\rthe sun\r", engine(), made, system="be brief")
    assert "second: continues text" in capsys.readouterr().out


@pytest.mark.parametrize(("wanted", "kept"), [("y", "the sun "), ("n", "the sun")])
def test_a_model_that_was_not_tuned_on_conversations_offers_it_too(
    wanted: str, kept: str, keyboard: PipeInput, capsys: pytest.CaptureFixture[str]
) -> None:
    keyboard.send_text(f"{wanted}\rthe sun \r\x04")
    terminal = ChatTerminal({"first": engine()}, SETTINGS, untuned=["first"])
    terminal.run()
    assert contents(terminal.sessions["first"])[0] == kept
    assert "first: was not tuned on conversations." in capsys.readouterr().out


def test_a_long_text_goes_on_past_the_context(chat: Chat) -> None:
    made = engine(tokenizer=without_template(), context=20)
    (session,) = chat("y\rthe miller asked\r the baker for the weather\r", made)
    assert len(contents(session)) == 4


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


# ---------------------------------------------------------------------- what is drawn


def drawn(pieces: list[tuple[int, str | None]], width: int, names: list[str]) -> str:
    """The screen's lines after the answers, which come as these pieces."""
    screen = io.StringIO()
    show(Pieces(pieces), names, Console(file=screen, width=width))
    return screen.getvalue()


class Pieces(Answers):
    """Answers in a fixed order."""

    def __init__(self, pieces: list[tuple[int, str | None]]) -> None:
        super().__init__([], lambda: None)
        self.pieces = pieces

    def __iter__(self) -> Iterator[tuple[int, str | None]]:
        return iter(self.pieces)


BOTH: list[tuple[int, str | None]] = [
    (1, "the rain "), (0, "the sun\n"), (1, "in the\x1b[2J village"), (1, None), (0, "on the hill"),
    (0, None),
]  # fmt: skip


def test_two_answers_stand_in_columns_where_they_fit() -> None:
    lines = drawn(BOTH, 90, ["first", "second"]).splitlines()
    assert [[part.strip() for part in line.split("│")] for line in lines] == [
        ["first", "second"],
        ["the sun", "the rain in the␛[2J village"],
        ["on the hill", ""],
        [""],
    ]
    assert len({line.index("│") for line in lines[:-1]}) == 1


def test_two_answers_stand_below_each_other_where_they_do_not_fit() -> None:
    assert drawn(BOTH, 60, ["first", "second"]).splitlines() == [
        "first", "the sun", "on the hill", "", "second", "the rain in the␛[2J village", "",
    ]  # fmt: skip


def test_rows_that_are_given_never_change() -> None:
    """However the texts come, the settled rows are those of the whole texts."""
    console = Console(file=io.StringIO(), width=2 * 12 + 5, height=8)
    texts = (TEXT * 2, f"{TEXT}\n\n" + "w" * 40 + " 天気予報 " * 8)
    for step in (1, 3, 11):
        columns, rows = Columns(["a", "b"], console), list[str]()
        for start in range(0, max(map(len, texts)), step):
            for which, text in enumerate(texts):
                if piece := text[start : start + step]:
                    columns.add(which, piece)
                if start < len(text) <= start + step:
                    columns.add(which, None)
            rows += [row.plain for row in columns.settled()]
            assert len(columns.open().plain.splitlines()) <= 8
        whole = Columns(["a", "b"], console)
        for which, text in enumerate(texts):
            whole.add(which, text)
            whole.add(which, None)
        assert rows == [row.plain for row in whole.settled()]


# ---------------------------------------------------------------------- without a terminal


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[int], str]:
    def write(seed: int) -> str:
        folder = tmp_path / f"model-{seed}"
        made = engine(seed)
        save_model(made.model, made.tokenizer, folder, {})
        return str(folder)

    return write


def call(*arguments: object) -> int:
    return cli.exit_code(lambda: cli.app([str(argument) for argument in arguments]))


def test_two_models_answer_from_a_pipe(
    saved: Callable[[int], str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = saved(5), saved(6)
    ours, theirs = answer(engine(5), "the sun"), answer(engine(6), "the sun")
    options = ("--max-tokens", 8)
    assert call("chat", first, second, "--message", "the sun", *options) == 0
    assert capsys.readouterr().out == f"model-5:\n{ours}\nmodel-6:\n{theirs}\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("the sun\nthe rain\n\nthe end\n"))
    assert call("chat", first, second, "--json", *options) == 0
    chats = json.loads(capsys.readouterr().out)["chats"]
    assert [one["model"] for one in chats] == [first, second]
    last = answer(engine(6), "the sun", theirs, "the rain")
    said = [message["content"] for message in chats[1]["messages"]]
    assert said == ["the sun", theirs, "the rain", last]
    assert call("chat", first, first) == 2
    assert "is given twice" in capsys.readouterr().err
