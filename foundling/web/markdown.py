"""Renders the Markdown of answers as sanitised HTML."""

import html
import re
from collections.abc import Sequence
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.ruler import RuleOptionsType
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

TAGS = {
    "a", "blockquote", "br", "code", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol",
    "p", "pre", "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
# By Pandoc's rules: "$5 or $6" is no formula. Bounded, so that unclosed ones cost little.
_FORMULA = re.compile(
    r"\\\(.{1,2000}?\\\)|\\\[.{1,2000}?\\\]|\$\$[^$]{1,2000}\$\$|\$(?!\s)[^$\n]{1,500}(?<!\s)\$(?!\d)",
    re.DOTALL,
)
_DISPLAYED = {"$$": "$$", r"\[": r"\]"}
_MOST_LINES = 100  # of a displayed formula


def render(text: str) -> str:
    """Markdown as HTML without raw HTML, scripts or anything loaded from elsewhere.

    LaTeX is shown as its source, in `<code class="math">`; an image as its Markdown.
    """
    made = nh3.clean(
        _MARKDOWN.render(text),
        tags=TAGS,
        attributes={"a": {"href", "title"}, "ol": {"start"}},
        allowed_classes={"code": {"math"}},
        url_schemes={"http", "https", "mailto"},
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
    # Link definitions alone render as nothing.
    return made if made.strip() else f"<p>{html.escape(text)}</p>"


def _formula(state: StateInline, silent: bool) -> bool:
    found = _FORMULA.match(state.src, state.pos, state.posMax)
    if found is None:
        return False
    if not silent:
        state.push("formula", "", 0).content = found[0]
    state.pos = found.end()
    return True


def _displayed(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A formula on lines of its own: none of them begins a list or a heading."""

    def line(number: int) -> str:
        return state.src[state.bMarks[number] + state.tShift[number] : state.eMarks[number]].strip()

    first = line(start)
    close = _DISPLAYED.get(first[:2])
    if close is None or state.is_code_block(start):
        return False
    for number in range(start, min(end, start + _MOST_LINES)):
        text = first[2:] if number == start else line(number)
        if text.endswith(close):
            break
        if not text and number > start:
            return False
    else:
        return False
    if not silent:
        indent = state.sCount[start]
        state.push("displayed", "", 0).content = state.getLines(start, number + 1, indent, False)
        state.line = number + 1
    return True


def _source(_: Any, tokens: Sequence[Token], index: int, *__: Any) -> str:
    token = tokens[index]
    code = f'<code class="math">{html.escape(token.content)}</code>'
    return f"<pre>{code}</pre>\n" if token.type == "displayed" else code


def _image(_: Any, tokens: Sequence[Token], index: int, *__: Any) -> str:
    token = tokens[index]
    source = f"![{token.content}]({token.attrs['src']})"
    return f"<code>{html.escape(source)}</code>"


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True})
    parser.enable(["table", "strikethrough"])
    parser.inline.ruler.before("escape", "formula", _formula)
    interrupts: RuleOptionsType = {"alt": ["paragraph", "reference", "blockquote", "list"]}
    parser.block.ruler.before("fence", "displayed", _displayed, interrupts)
    for name, rule in (("formula", _source), ("displayed", _source), ("image", _image)):
        parser.add_render_rule(name, rule)
    return parser


_MARKDOWN = _parser()
