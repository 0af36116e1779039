"""Texts in which a word decides between two antecedents: a user's own, or the village's."""

import json
from pathlib import Path

from foundling.base.config import ConfigError
from foundling.data.readers.source_file import read_text
from foundling.hamlet import World, winograd_pairs
from foundling.interpret.antecedents import Coreference, coreference, occurrences

FIELDS = ("text", "decides", "right", "wrong", "group")


PER_SCHEMA = 2
"""Casts of each sentence form: for chance the forms count, and more casts only take longer."""


def village_coreferences(*, asked: bool = False) -> list[Coreference]:
    """Sentences of the village's Winograd pairs with their twins; `asked`: with the question."""
    pairs = winograd_pairs(World(), PER_SCHEMA)
    return [coreference(pair, asked=asked) for pair in pairs]


def read_coreferences(path: Path) -> list[Coreference]:
    """A file of JSON lines whose fields are words of the text, and a group.

    {"text": "The dog did not cross the lane because it was too tired.", "decides": "tired",
    "right": "the dog", "wrong": "the lane", "group": "cross"}: the last "tired", the first "the
    dog" and "the lane".

    Raises:
        ConfigError: a line is not such an object, or its words do not stand so; by its number.
    """
    found = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            found.append(_parsed(f"{path}, line {number:,}", line))
    if not found:
        raise ConfigError(f"{path}: holds no example.")
    return found


def _parsed(where: str, line: str) -> Coreference:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}: not JSON: {error.msg} at column {error.colno}.") from None
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: must be an object with {', '.join(FIELDS)}.")
    if unknown := sorted(row.keys() - set(FIELDS)):
        raise ConfigError(f"{where}: {unknown[0]}: no such field ({', '.join(FIELDS)}).")
    for name in FIELDS:
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise ConfigError(f"{where}: {name} must be text ({', '.join(FIELDS)} are needed).")
    spans = {}
    for name in ("decides", "right", "wrong"):
        there = occurrences(row[name].strip(), row["text"])
        if not there:
            raise ConfigError(f'{where}: {name} = "{row[name]}" does not stand in the text.')
        spans[name] = there[-1] if name == "decides" else there[0]
    if spans["right"] == spans["wrong"]:
        raise ConfigError(f'{where}: right and wrong are both "{row["right"]}".')
    if spans["decides"][0] < max(spans["right"][1], spans["wrong"][1]):
        raise ConfigError(
            f'{where}: decides = "{row["decides"]}" must stand behind right and wrong: a model '
            "that reads from left to right knows there, and not before, who is meant."
        )
    return Coreference(
        row["text"], spans["decides"], spans["right"], spans["wrong"], row["group"].strip()
    )
