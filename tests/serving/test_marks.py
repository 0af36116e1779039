"""Tokens are found again in rendered Markdown, and change nothing of it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundling.serving.marks import render_marked
from foundling.web.markdown import render

FIRST = 0xF0000


def marked(pieces: list[str]) -> str:
    return "".join(chr(FIRST + place) + piece for place, piece in enumerate(pieces))


def shown(pieces: list[str]) -> str:
    """The rendered HTML with each mark as the number of its token."""
    return re.sub(
        "[\U000f0000-\U0010fffd]",
        lambda m: f"{{{ord(m[0]) - FIRST}}}",
        render_marked(marked(pieces)),
    )


@pytest.mark.parametrize(
    ("pieces", "html"),
    [
        (["Hello", ",", " world"], "<p>{0}Hello{1}, {2}world</p>\n"),
        (["-", " one", "\n", "-", " two"], "<ul>\n<li>{1}one</li>\n<li>{4}two</li>\n</ul>\n"),
        (["1", ".", " one"], "<ol>\n<li>{2}one</li>\n</ol>\n"),
        (["a", " **", "bold", "**"], "<p>{0}a <strong>{2}bold</strong></p>\n"),
        (["```", "py", "\n", "x", " =", " 1", "\n", "```"],
         "<pre><code class=\"\">{3}x {4}= {5}1\n</code></pre>\n"),
        (["no", "_em", "pha", "sis", "_"], "<p>{0}no_em{2}pha{3}sis_</p>\n"),
    ],
)  # fmt: skip
def test_tokens_stay_where_they_were(pieces: list[str], html: str) -> None:
    assert shown(pieces) == html


def test_a_link_has_no_marks_where_they_would_change_it() -> None:
    pieces = ["see ", "[", "this", "]", "(", "https", "://a", ".example", ")"]
    assert render_marked(marked(pieces)) == render("".join(pieces))


@given(st.lists(st.text("ab 1\n*_`#->|[]()!.:\\&<$~\t", min_size=1, max_size=4), max_size=20))
def test_marks_never_change_what_is_rendered(pieces: list[str]) -> None:
    made = render_marked(marked(pieces))
    assert re.sub("[\U000f0000-\U0010fffd]", "", made) == render("".join(pieces))


def test_marks_open_no_door_to_markup() -> None:
    pieces = ["<", "img src=x ", "onerror", "='evil()'>", "[x", "](java", "script:evil())"]
    made = render_marked(marked(pieces))
    assert "<img" not in made
    assert "href" not in made
