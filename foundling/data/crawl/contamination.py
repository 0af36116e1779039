"""Removes documents that hold a passage of an evaluation item."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.utils.hashing import HashConfig, create_hash_func
from datatrove.utils.text import TextNormConfig, simplify_text

from foundling.base.config import ConfigError
from foundling.data.crawl.removed import Removed, where
from foundling.data.crawl.settings import ContaminationSection
from foundling.data.inputs import expand
from foundling.data.readers import ROW_READERS, TEXT_ENDINGS, is_text
from foundling.data.readers.source_file import SourceFile
from foundling.data.rows import Rows

# Lower case, no punctuation, as GPT-3's; a number stays the number it is.
_SAME = TextNormConfig(norm_numbers=False)
_NUMBER = re.compile(r"[#:]\d+$")  # of a row or a paragraph
HASHES = HashConfig(hash_fc="sha1")  # datatrove's way to call xxhash fails since its version 4
_PARAGRAPHS = re.compile(r"\n\s*\n")


class Contamination(BaseFilter):
    """Looks for `n_grams` successive words of an item, or all words of a shorter one.

    datatrove's own step takes its items from lighteval. The first item that
    a document holds is counted under its file, and some matches are kept for the report.
    """

    name = "contamination"

    def __init__(self, settings: ContaminationSection, removed: Removed) -> None:
        super().__init__(removed)
        self.settings = settings

    def filter(self, document: Document) -> bool | tuple[bool, str]:
        found = self._index.find(document.text)
        if found is None:
            return True
        item, passage = found
        document.metadata["contaminated_by"] = item
        document.metadata["passage"] = passage
        self.exclusion_writer.keep(
            MATCHES, document.id, lambda: self._match(document, item, passage)
        )
        return False, _NUMBER.sub("", item)

    def _match(self, document: Document, item: str, passage: str) -> dict[str, str]:
        """A match without personal data; none is recognized in a passage, which has no signs."""
        masked = self.exclusion_writer.masked
        is_left = passage in " ".join(_words(masked(document.text)))
        return {
            "where": masked(where(document)),
            "item": item,
            "passage": passage if is_left else PERSONAL,
        }

    @cached_property
    def _index(self) -> "Index":
        return Index(self.settings)


MATCHES = "matches"
PERSONAL = "(holds personal data)"


class Index:
    """The n-grams of all items, by length and hash.

    Raises:
        SourceError: a file cannot be read.
    """

    def __init__(self, settings: ContaminationSection) -> None:
        self._hash = create_hash_func(HASHES)
        self._items: list[str] = []
        self._grams: dict[int, dict[int, int]] = {}
        self.num_short = 0
        for name, texts in items(settings.files, settings.min_words, settings.fields):
            number = len(self._items)
            self._items.append(name)
            sizes = set[int]()
            for text in texts:
                words = _words(text)
                size = min(settings.n_grams, len(words))
                if size < settings.min_words:
                    continue
                sizes.add(size)
                grams = self._grams.setdefault(size, {})
                for gram in _grams(words, size):
                    grams.setdefault(self._hash(gram), number)
            self.num_short += not sizes

    @property
    def num_items(self) -> int:
        return len(self._items)

    def find(self, text: str) -> tuple[str, str] | None:
        """The first item of which `text` holds a passage, and the passage."""
        words = _words(text)
        for size, grams in self._grams.items():
            for gram in _grams(words, size):
                if (number := grams.get(self._hash(gram))) is not None:
                    return self._items[number], gram
        return None


def items(
    files: Sequence[str], min_words: int = 8, fields: Sequence[str] = ()
) -> Iterator[tuple[str, list[str]]]:
    """Each item's name and texts: the paragraphs of a text; the strings of a row, in its order.

    Of a row that offers choices there is one text for each. Since what lies beside a question,
    such as its id, would hide a short one, a string of `min_words` is also a text of its own.

    Args:
        fields: the fields of a row that are looked at; without any, all.

    Raises:
        ConfigError: a row has none of the fields.

    Example:
        {"query": "a b", "choices": ["c", "d"], "gold": 0} has the texts "a b c" and "a b d".
    """
    if not files:
        return
    for file, size in expand(files, (*TEXT_ENDINGS, *ROW_READERS))[0].items():
        if is_text(file):
            text = "".join(SourceFile(file, size).strings())
            for number, paragraph in enumerate(_PARAGRAPHS.split(text), start=1):
                yield f"{file}#{number}", [paragraph]
        else:
            for name, row in Rows([file]):
                given = {key: row[key] for key in fields or row if key in row}
                if fields and not given:
                    raise ConfigError(
                        f"{name}: has none of contamination.fields = {', '.join(fields)}; "
                        f"it has {', '.join(row)}."
                    )
                texts = _texts(given)
                alone = (text for text in _strings(given) if len(_words(text)) >= min_words)
                yield name, list(dict.fromkeys([*texts, *alone]))


def _texts(row: Mapping[str, Any]) -> list[str]:
    fields = [found for value in row.values() if (found := list(_strings(value)))]
    several = [index for index, found in enumerate(fields) if len(found) > 1]
    single = {index: found[0] for index, found in enumerate(fields) if len(found) == 1}
    texts = [
        " ".join(text for _, text in sorted({**single, index: choice}.items()))
        for index in several
        for choice in fields[index]
    ]
    return texts or [" ".join(single.values())]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from chain.from_iterable(map(_strings, value.values()))
    elif isinstance(value, list):
        yield from chain.from_iterable(map(_strings, value))


def _words(text: str) -> list[str]:
    simple: str = simplify_text(text, _SAME)
    return simple.split()


def _grams(words: Sequence[str], size: int) -> Iterator[str]:
    return (" ".join(words[at : at + size]) for at in range(len(words) - size + 1))
