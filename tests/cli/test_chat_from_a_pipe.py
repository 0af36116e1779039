"""Chats without a terminal."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from terminals import answer, engine

from foundling import cli
from foundling.runs.model_folder import save_model


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
