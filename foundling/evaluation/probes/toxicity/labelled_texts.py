"""Texts that people labelled as offensive or not, from tables of several shapes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from foundling.base.config import ConfigError
from foundling.evaluation.columns import read_columns, text_in

OFFENSIVE = ("1", "true", "yes", "hateful", "toxic", "offensive", "abusive")
HARMLESS = (
    "0", "false", "no", "non-hateful", "non-toxic", "non-offensive", "non-abusive",
    "not hateful", "not toxic", "not offensive", "not abusive", "neither", "normal",
)  # fmt: skip

# The columns that a file may have for text and label, in pairs: HateCheck's are the second.
_COLUMNS = (("text", "label"), ("test_case", "label_gold"))
_GROUPS = ("group", "ref_templ_id", "templ_id")


@dataclass(frozen=True)
class Labelled:
    """A text, whether it is offensive, its group of near copies ("" if it stands alone), and what
    is tested with it (HateCheck's `functionality`)."""

    text: str
    offensive: bool
    group: str = ""
    functionality: str = ""


def read_labelled(path: Path) -> list[Labelled]:
    """The rows of a CSV, TSV or JSONL file with `text` and `label`, or of HateCheck.

    A group is named by the column `group`, or else by HateCheck's templates, where a variant
    belongs to the template that it varies.

    Raises:
        ConfigError: the file cannot be read, lacks a column, or has a label that is not known.
    """
    columns = read_columns(path)[0][1]
    text, label = next((pair for pair in _COLUMNS if pair[0] in columns), _COLUMNS[0])
    return [
        Labelled(
            text_in(where, row, text),
            _label(where, row[label], label),
            _group(row),
            str(row.get("functionality") or ""),
        )
        for where, row in read_columns(path, (text, label))
    ]


def _label(where: str, given: object, column: str) -> bool:
    said = str(int(given) if isinstance(given, bool) else given).strip().lower()
    if said in OFFENSIVE or said in HARMLESS:
        return said in OFFENSIVE
    raise ConfigError(
        f'{where}: "{column}" is {given!r}; offensive is {", ".join(OFFENSIVE)}, '
        f"harmless is {', '.join(HARMLESS)}."
    )


def _group(row: Mapping[str, object]) -> str:
    return next((str(row[name]) for name in _GROUPS if row.get(name) not in (None, "")), "")
