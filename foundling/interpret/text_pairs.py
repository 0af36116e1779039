"""Two texts beside each other: how they are given, where they differ, which words correspond."""

from difflib import SequenceMatcher

from foundling.base.config import ConfigError
from foundling.interpret.antecedents import occurrences
from foundling.interpret.words import Reading


def second(text: str, compare: str) -> str:
    """The text to compare with; "... too wide" is the first from its last "too" on otherwise.

    Raises:
        ConfigError: the word behind the dots does not stand in the first text.
    """
    for dots in ("...", "…"):
        if compare.startswith(dots):
            rest = compare.removeprefix(dots).strip()
            word = rest.split()[0] if rest else ""
            there = occurrences(word, text) if word else []
            if not there:
                raise ConfigError(
                    f'compare = "{compare}": the dots stand for the first text up to the word '
                    f'that follows them, and "{word}" is not in it.'
                )
            return text[: there[-1][0]] + rest
    return compare


def joined(text: str, suffix: str) -> str:
    """The suffix behind the text, a space between.

    Raises:
        ConfigError: there is no text.
    """
    if not text.strip():
        raise ConfigError("the text is empty: there is no word to look at.")
    return f"{text.rstrip()} {suffix.strip()}" if suffix.strip() else text


def same_words(first: Reading, other: Reading) -> int:
    """How many words both begin with, to the last token: their rows are identical."""
    tokens = zip(first.tokens, other.tokens, strict=False)
    same = next((n for n, (a, b) in enumerate(tokens) if a != b), None)
    same = min(len(first.tokens), len(other.tokens)) if same is None else same
    words = zip(first.words, other.words, strict=False)
    differs = (n for n, (a, b) in enumerate(words) if a != b or a.stop_token > same)
    return next(differs, min(len(first.words), len(other.words)))


def aligned(first: Reading, other: Reading) -> list[tuple[int, int]]:
    """Which word stands for which: by position where they are equally many, else by likeness."""
    ours, theirs = ([word.text for word in reading.words] for reading in (first, other))
    if len(ours) == len(theirs):
        return [(n, n) for n in range(len(ours))]
    pairs = []
    for kind, a, b, c, d in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if kind in ("equal", "replace"):
            pairs += list(zip(range(a, b), range(c, d), strict=False))
    return pairs
