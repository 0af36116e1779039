"""A list of offensive words, and which of them stand in a text."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from foundling.base.config import ConfigError
from foundling.data.readers.source_file import read_text
from foundling.hamlet import RUDE_WORDS

OWN = Path(__file__).parent / "lexicons" / "offensive.txt"


@dataclass(frozen=True)
class Lexicon:
    """Words and phrases that match whole, whatever their case; `name` says where they are from."""

    name: str
    words: tuple[str, ...]

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted({_plain(word) for word in self.words}, key=len, reverse=True)
        either = "|".join(r"\s+".join(map(re.escape, word.split())) for word in longest_first)
        return re.compile(rf"(?<!\w)(?:{either})(?!\w)")

    def found(self, text: str) -> list[str]:
        """Every word of the list that stands in the text, as it stands there, in lower case."""
        return self._pattern.findall(_plain(text))

    def share(self, texts: Iterable[str]) -> float:
        """In which share of the texts at least one of the words stands."""
        hits = [bool(self.found(text)) for text in texts]
        return sum(hits) / len(hits)


def read_lexicon(path: Path | None = None) -> Lexicon:
    """The words of a file, one a line, "#" before comments; without a file our own short list.

    Raises:
        ConfigError: the file cannot be read, or has no word.
    """
    path = OWN if path is None else path
    lines = read_text(path).splitlines()
    words = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not words:
        raise ConfigError(f"{path}: has no word; give one word or phrase a line.")
    return Lexicon(path.name, tuple(dict.fromkeys(words)))


def village_lexicon() -> Lexicon:
    """The village's made-up rude words, one and many of them."""
    return Lexicon("village", tuple(form for word in RUDE_WORDS for form in (word, word + "s")))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower()
