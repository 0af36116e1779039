"""Markdown in which each token is marked, so that tokens are found again in what is rendered."""

import re

from foundling.web.markdown import render

# A mark is one of the characters that Unicode leaves to private use.
_MARK = re.compile("([\U000f0000-\U0010fffd])")
_SIGNS = "*_`[]<>&\\$~|#+-"  # of Markdown, wherever in a line


def render_marked(text: str) -> str:
    """Render Markdown and keep the marks, as far as they change nothing of what is rendered.

    Tried are all marks that stand before no sign of Markdown, then those before letters alone;
    without any, the text is rendered as it is.
    """
    plain = render(_MARK.sub("", text))
    for anywhere in (True, False):
        made = render(_thinned(text, anywhere))
        if _MARK.sub("", made) == plain:
            return made
    return plain


def _thinned(text: str, anywhere: bool) -> str:
    """The text with each mark after the white space that follows it, or left out.

    Before it, "-" and the number of a list would not begin an item: `-M item`, `1M. item`.
    """
    first, *rest = _MARK.split(text)
    made, begun = [first], _begun(first, False)
    for mark, piece in zip(rest[::2], rest[1::2], strict=True):
        word = piece.lstrip()
        space = piece[: len(piece) - len(word)]
        begun = _begun(space, begun)
        harmless = word[:1].isalpha() or (anywhere and begun and word[:1] not in _SIGNS)
        made += [space, mark if word and harmless else "", word]
        begun = _begun(word, begun)
    return "".join(made)


def _begun(piece: str, begun: bool) -> bool:
    """Whether the last line holds more than a number after this piece."""
    *earlier, line = piece.split("\n")
    return (begun and not earlier) or bool(line.strip(" \t0123456789"))
