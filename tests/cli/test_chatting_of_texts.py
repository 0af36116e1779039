"""Models without conversations at a terminal: they continue text."""

from pathlib import Path
from typing import Any

import pytest
from prompt_toolkit.input import PipeInput
from terminals import SETTINGS, Chat, contents, engine
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, pre_tokenizers
from tokenizers.models import BPE

from foundling.base.config import ConfigError
from foundling.cli.chat_terminal import ChatTerminal
from foundling.text.tokenizer import Tokenizer


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
