"""Where a text can be cut so that the tokens of its parts are those of the whole.

Byte-level BPE splits a text into words by a regular expression before it merges anything. The
alternatives of the well-known expressions never go on from a character that is no white space to a
space, and they look ahead only within white space. So a text can be cut before a space that follows
on other text, and where a line begins or ends, as the expression treats line ends.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal
from unicodedata import normalize

MOST_BOUND = 16

Lines = Literal["before", "after"]
"""Whether a text is cut before its line ends (where they follow on a word) or behind them."""

_NUMBERS = {r"\p{N}", r"\p{N}+", r"\p{N}{1,3}"}
_REST = r"\s+(?!\S)"
_BEHIND = r"\s*[\r\n]+"
"""Takes all line ends of a row of white space at once, also where the text ends with them."""
_NEEDED = {
    r"[^\r\n\p{L}\p{N}]?\p{L}+",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*",
    _BEHIND,
    _REST,
    r"\s+",
}
"""Take all text together with one for numbers. What no alternative takes stays in one piece."""
_ALTERNATIVES = {r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", *_NUMBERS, *_NEEDED}
"""Of the expressions of GPT-4, Llama 3, Qwen 2 and 3, and Foundling's own.

Source: their tokenizer.json. The expression of GPT-2 is that of the step ByteLevel.
"""

_MARK = "\0"
_SPACES = [*filter(str.isspace, map(chr, range(0x3001))), "▁"]
"""White space to a regular expression, to Python or to sentencepiece."""
_SPACES_OF = re.compile(r"[\s▁]+")
_PLACES = {"before": r"(?<=[^\s▁{bound}])[ \n]", "after": r"(?<=[^\s▁]) |(?<=\n)(?=\S)"}
_STEM = re.compile(r"([ \n]?[A-Za-z]+)([!-&(-/:-@\[-`{-~“”—…].*)", re.DOTALL)
"""Letters, and what follows from a punctuation mark on that is no apostrophe."""


@dataclass(frozen=True)
class WordCuts:
    """The cuts that suit one tokenizer."""

    lines: Lines
    bound: str = ""
    """What white space may be bound to, so that it is not cut from it."""
    by_expression: bool = True
    """Whether a regular expression splits words from punctuation marks."""

    def first(self, before: str, text: str) -> int | None:
        """The first place in `text`, which follows on `before`, where it can be cut."""
        last = before[-1:]
        found = self._place.search(last + text, len(last))
        return None if found is None else found.start() - len(last)

    @cached_property
    def _place(self) -> re.Pattern[str]:
        return re.compile(_PLACES[self.lines].format(bound=re.escape(self.bound)))

    def parts(self, word: str) -> tuple[str, ...]:
        """A word cut in two where punctuation marks follow on its letters, if they do."""
        found = _STEM.fullmatch(word) if self.by_expression else None
        return (word,) if found is None else found.groups()

    def words(self, text: str) -> list[str] | None:
        """The text cut wherever it can be; None: it holds the mark that this works with."""
        if _MARK in text:
            return None
        # Replacing and splitting strings takes a fraction of the time of a regular expression.
        marked = text.replace(" ", _MARK + " ")
        if self.lines == "before":
            marked = marked.replace("\n", _MARK + "\n")
        spaces = [space for space in (*_SPACES, *self.bound) if space in text]
        for space in spaces:
            marked = marked.replace(space + _MARK, space)
        if self.lines == "after":
            marked = marked.replace("\n", "\n" + _MARK)
            for space in spaces:
                behind = "\n" if space == " " else ""
                marked = marked.replace(f"{behind}{_MARK}{space}", behind + space)
        return marked.split(_MARK)

    def keeps(self, text: str) -> bool:
        """Whether it is never cut, whatever stands around it."""
        words = self.words(text)
        if words is None or len(list(filter(None, words))) > 1:
            return False
        return self.parts(text) == (text,)


def word_cuts(settings: Mapping[str, Any]) -> WordCuts | None:
    """The cuts of a tokenizer, where it is of a kind that is known to keep its tokens.

    Args:
        settings: the content of tokenizer.json.
    """
    model, added = settings["model"], settings["added_tokens"]
    if model["type"] != "BPE" or model["dropout"] or model["continuing_subword_prefix"]:
        return None
    # A special token that a text spells is text. A plain one is found before words are.
    plain = [token for token in added if not token["special"]]
    if any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in plain):
        return None
    cuts = _by_splitter(settings)
    contents = {form for token in plain for form in _forms(token["content"])}
    if cuts is None or any(_joints(text) or not cuts.keeps(text) for text in contents):
        return None
    return cuts


def _forms(content: str) -> tuple[str, str]:
    """As an added token is given, and as a normalizer makes it before it is looked for."""
    return content, normalize("NFC", content)


def _by_splitter(settings: Mapping[str, Any]) -> WordCuts | None:
    """The cuts between the words that a tokenizer makes, but for its added tokens."""
    normalizer, splitter = settings["normalizer"], settings["pre_tokenizer"]
    if normalizer == _SPACES_MARKED and splitter in (None, _AT_SPACES):
        names = settings["model"]["vocab"]
        bound = {name[at] for name in names for at in _joints(name)}
        few = len(bound) <= MOST_BOUND
        return WordCuts("before", "".join(sorted(bound)), by_expression=False) if few else None
    if normalizer not in (None, {"type": "NFC"}) or splitter is None:
        return None
    steps = splitter["pretokenizers"] if splitter["type"] == "Sequence" else [splitter]
    match [step for step in steps if step["type"] != "Digits"]:
        case [{"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}]:
            return WordCuts("before")
        case [split, {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]:
            return WordCuts("after") if _is_known(split) else None
    return None


_SPACES_MARKED = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
_AT_SPACES = {
    "type": "Split",
    "pattern": {"String": " "},
    "behavior": "MergedWithPrevious",
    "invert": False,
}
"""Of Gemma 3, where it finds no spaces any more."""


def _joints(name: str) -> list[int]:
    """Where in a token white space follows on something else."""
    spaces = _SPACES_OF.findall(name)
    if not spaces or (name.startswith(spaces[0]) and len(spaces) == 1):
        return []  # nearly all
    return [at for at, (a, b) in enumerate(pairwise(name)) if a not in _SPACES and b in _SPACES]


def _is_known(step: Mapping[str, Any]) -> bool:
    """Whether a step splits by an expression of known alternatives, which take all text."""
    if step["type"] != "Split" or step["behavior"] != "Isolated" or step["invert"]:
        return False
    rest = step["pattern"].get("Regex", "")
    found = []
    while rest:
        alternative = next((one for one in _ALTERNATIVES if _begins(rest, one)), None)
        if alternative is None:
            return False
        found.append(alternative)
        rest = rest[len(alternative) + 1 :]
    takes_all = _NEEDED.issubset(found) and not _NUMBERS.isdisjoint(found)
    return takes_all and found.index(_BEHIND) < found.index(_REST)


def _begins(pattern: str, alternative: str) -> bool:
    return pattern == alternative or pattern.startswith(alternative + "|")
