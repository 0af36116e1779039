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

MOST_BOUND = 16

Lines = Literal["before", "after"]
"""Whether a text is cut before its line ends (where they follow on a word) or behind them."""

_ALTERNATIVES = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
    r"[^\r\n\p{L}\p{N}]?\p{L}+",
    r"\p{N}",
    r"\p{N}+",
    r"\p{N}{1,3}",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"\s*[\r\n]+",
    r"\s+(?!\S)",
    r"\s+",
}
"""Of the expressions of GPT-4, Llama 3, Qwen 2 and 3, and Foundling's own.

Source: their tokenizer.json. The expression of GPT-2 is that of the step ByteLevel.
"""
_REST = r"\s+(?!\S)"
_BEHIND = r"\s*[\r\n]+"
"""Takes all line ends of a row of white space at once, also where the text ends with them."""


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


def word_cuts(settings: Mapping[str, Any]) -> WordCuts | None:
    """The cuts of a tokenizer, where it is of a kind that is known to keep its tokens.

    Args:
        settings: the content of tokenizer.json.
    """
    model, added = settings["model"], settings["added_tokens"]
    if model["type"] != "BPE" or model["dropout"] or model["continuing_subword_prefix"]:
        return None
    plain = [token for token in added if not token["special"]]
    if any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in plain):
        return None
    if any(_joints(token["content"]) for token in plain):
        return None
    normalizer, splitter = settings["normalizer"], settings["pre_tokenizer"]
    if normalizer == _SPACES_MARKED and splitter in (None, _AT_SPACES):
        bound = {name[at] for name in model["vocab"] for at in _joints(name)}
        few = len(bound) <= MOST_BOUND
        return WordCuts("before", "".join(sorted(bound)), by_expression=False) if few else None
    if normalizer not in (None, {"type": "NFC"}) or splitter is None:
        return None
    steps = splitter["pretokenizers"] if splitter["type"] == "Sequence" else [splitter]
    *splits, last = [step for step in steps if step["type"] != "Digits"]
    if last["type"] != "ByteLevel" or last["add_prefix_space"]:
        return None
    if not splits:
        return WordCuts("before") if last["use_regex"] else None
    if last["use_regex"] or len(splits) > 1 or not _is_known(splits[0]):
        return None
    return WordCuts("after")


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
    """Whether a step splits by an expression all of whose alternatives are known."""
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
    return _BEHIND in found and found.index(_BEHIND) < found.index(_REST)


def _begins(pattern: str, alternative: str) -> bool:
    return pattern == alternative or pattern.startswith(alternative + "|")
