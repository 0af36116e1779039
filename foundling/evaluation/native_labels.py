"""Labelled texts as well-known data sets have them: TREC, tables without a header."""

import re
from pathlib import Path
from typing import Any

from foundling.data.readers import TABLE_ENDINGS
from foundling.data.readers.source_file import read_text
from foundling.data.rows import Rows

TREC_WORDS = {
    "ABBR": "abbreviation", "ENTY": "entity", "DESC": "description", "HUM": "person",
    "LOC": "location", "NUM": "number",
}  # fmt: skip
"""Its coarse classes, in the order of their numbers in its rows."""
TREC_LINE = rf"(?P<label>{'|'.join(TREC_WORDS)}):\w+ (?P<text>.*)"
TREC_CLASS = "coarse_label"


def as_published(path: Path) -> dict[str, Any]:
    """The settings that say how a file is read (`TaskSettings`); none where it is like no other."""
    if path.suffix == ".txt":
        first = next((line.strip() for line in read_text(path).splitlines() if line.strip()), "")
        is_trec = re.fullmatch(TREC_LINE, first) is not None
        return {"pattern": TREC_LINE, "labels": TREC_WORDS} if is_trec else {}
    _, row = next(iter(Rows([path])))
    if {"text", TREC_CLASS} <= set(row):
        words = {str(number): word for number, word in enumerate(TREC_WORDS.values())}
        return {"text": "text", "answer": TREC_CLASS, "labels": words}
    if path.name.lower().endswith(TABLE_ENDINGS) and _is_headless(list(row)):
        return {"columns": ("text", "label")}
    return {}


def _is_headless(names: list[str]) -> bool:
    """Whether two names of columns are a text and a number: SST-2's lines in many copies."""
    return len(names) == 2 and names[1].strip().isdecimal() and " " in names[0].strip()
