"""Conversations at a terminal: turns, commands, files, and two models side by side."""

from dataclasses import replace
from pathlib import Path

import pytest
from prompt_toolkit.input import PipeInput
from terminals import ROLES, Chat, answer, contents, engine

from foundling.cli.chat_answers import visible
from foundling.cli.chat_terminal import ChatTerminal
from foundling.data.reading import read_conversations
from foundling.generation.chat_session import ChatSession, ChatSettings, load, save
from foundling.generation.request import Request
from foundling.generation.sampling import Sampling
from foundling.text.chat import Message, ToolCall, render_prompt


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
