"""Texts in which a word decides between two antecedents: a user's own, or the village's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foundling.base.config import ConfigError
from foundling.evaluation.columns import read_columns, text_in
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
    """A file of rows whose fields are words of the text, and a group.

    {"text": "The dog did not cross the lane because it was too tired.", "decides": "tired",
    "right": "the dog", "wrong": "the lane", "group": "cross"}: the last "tired", the first "the
    dog" and "the lane".

    Raises:
        ConfigError: a row is not such an object, or its words do not stand so; by its number.
    """
    return [_parsed(where, row) for where, row in read_columns(path, FIELDS)]


def _parsed(where: str, row: Mapping[str, Any]) -> Coreference:
    if unknown := sorted(row.keys() - set(FIELDS)):
        raise ConfigError(f"{where}: {unknown[0]}: no such field ({', '.join(FIELDS)}).")
    words = {name: text_in(where, row, name) for name in FIELDS}
    spans = {}
    for name in ("decides", "right", "wrong"):
        there = occurrences(words[name], row["text"])
        if not there:
            raise ConfigError(f'{where}: {name} = "{words[name]}" does not stand in the text.')
        spans[name] = there[-1] if name == "decides" else there[0]
    if spans["right"] == spans["wrong"]:
        raise ConfigError(f'{where}: right and wrong are both "{words["right"]}".')
    if spans["decides"][0] < max(spans["right"][1], spans["wrong"][1]):
        raise ConfigError(
            f'{where}: decides = "{words["decides"]}" must stand behind right and wrong: a model '
            "that reads from left to right knows there, and not before, who is meant."
        )
    return Coreference(row["text"], **spans, group=words["group"])
