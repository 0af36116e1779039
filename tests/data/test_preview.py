"""The preview: every token shown once, what is learned told apart, and text that can do no harm."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from foundling.data import preview
from foundling.data.conversations import SourcedConversation
from foundling.data.examples import Examples
from foundling.text.chat import Message
from foundling.text.tokenizer import Tokenizer

settings.register_profile("foundling", deadline=None)
settings.load_profile("foundling")
TOKENIZER = Tokenizer.train_bytes(["the cat sat on the mat. naïve 🦉 東京\n"] * 9, 300)


def rows(*pairs: tuple[str, str], where: str = "rows.jsonl") -> list[preview.ShownRow]:
    conversations = [
        SourcedConversation(
            f"{where}:{n}", (Message("system", "s"), Message("user", a), Message("assistant", b))
        )
        for n, (a, b) in enumerate(pairs, start=1)
    ]
    examples, _ = Examples.make(conversations, TOKENIZER, max_length=10_000)
    return preview.preview_rows(examples, TOKENIZER, range(len(examples)))


def printed(shown: list[preview.ShownRow], *, colour: bool = False) -> str:
    console = Console(width=60, force_terminal=colour, color_system="standard" if colour else None)
    with console.capture() as capture:
        console.print(preview.terminal(shown))
    return capture.get()


ANSWER = st.text(min_size=1, max_size=20).filter(lambda text: bool(text.strip()))


@given(st.text(max_size=20), ANSWER)
def test_every_token_is_shown_once_with_the_text_that_it_is(prompt: str, answer: str) -> None:
    (row,) = rows((prompt, answer))
    ids = [id for token in row.tokens for id in token.ids]
    conversation = (Message("system", "s"), Message("user", prompt), Message("assistant", answer))
    examples, _ = Examples.make([SourcedConversation("", conversation)], TOKENIZER, max_length=999)
    assert ids == examples.tokens.tolist()
    assert row.num_tokens == len(ids)
    for kind, content in (("system", "s"), ("user", prompt), ("assistant", answer)):
        assert "".join(token.text for token in row.tokens if token.kind == kind) == content
    learned = "".join(token.text for token in row.tokens if token.learned)
    assert learned == f"{answer}<|end_of_turn|>"


def test_plain_text_tells_what_is_learned() -> None:
    text = printed(rows(("the cat", "sat\non 🦉"), ("[bold]a[/bold]", "b")))
    lines = [line.rstrip() for line in text.splitlines()]
    assert lines[0].startswith("special token   system message   prompt   answer   learned")
    assert "learned  sat↵" in lines
    assert "         on 🦉<|end_of_turn|>" in lines
    assert any(line.startswith("masked   <|begin_of_text|><|system|>s") for line in lines)
    assert "[bold]a[/bold]" in text
    assert re.search(r"row 2  rows\.jsonl:2  \d+ tokens, 2 learned \(\d+%\)", text)


def test_colours_and_underlines() -> None:
    text = printed(rows(("the cat", "sat")), colour=True)
    assert "\x1b[1;4;32msat\x1b[0m" in text
    assert "\x1b[36mthe cat\x1b[0m" in text
    assert "\x1b[1;4;7;35m<|end_of_turn|>\x1b[0m" in text


@pytest.mark.parametrize("character", ["\x1b", "\x07", "\r", "\x9b", "\u202e", "\u2066", "\x7f"])
def test_control_characters_do_nothing(character: str) -> None:
    shown = rows((f"a{character}b", f"c{character}d"), where=f"rows{character}")
    assert character not in printed(shown)
    page = preview.html(shown, title=f"x{character}", notes=[f"y{character}"])
    assert character not in page


class Tokens(HTMLParser):
    """Text and title of each token on a page, and everything that a page may load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str]] = []
        self.tags: set[str] = set()
        self.outside: list[str] = []
        self._open: tuple[str, str] | None = None

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = {name: value or "" for name, value in attributes}
        self.outside += [values[k] for k in ("src", "href") if k in values]
        if "title" in values:
            self._open = (values["class"], values["title"])

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.found.append((data, *self._open))

    def handle_endtag(self, tag: str) -> None:
        self._open = None


def test_the_page_holds_every_token_and_nothing_from_elsewhere() -> None:
    shown = rows(('<script>alert(1)</script> & "x"', "sat\n<b>on</b>"), ("the", "cat"))
    page = preview.html(shown, title="a <i>title</i>", notes=["ignored columns: <u>"])
    parser = Tokens()
    parser.feed(page)
    expected = [
        (token.text.replace("\n", "↵\n"), token.kind, token.learned)
        for row in shown
        for token in row.tokens
    ]
    found = [(text, looks.split()[1], "learned" in looks) for text, looks, _ in parser.found]
    assert found == expected
    titles = [re.findall(r"\d+", title) for _, _, title in parser.found]
    assert titles == [[str(id) for id in token.ids] for row in shown for token in row.tokens]
    assert not parser.tags & {"script", "b", "i" * 2, "u", "iframe", "img"}
    assert parser.outside == ["data:,"]
    assert "ignored columns: &lt;u&gt;" in page
    assert "prefers-color-scheme: dark" in page
    assert page.count("<article>") == 2
