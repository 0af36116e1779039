"""Benchmark files as they are published: multiple choice, schemas, completions, balanced COPA."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from foundling.base.config import ConfigError
from foundling.evaluation.columns import read_columns, text_in
from foundling.evaluation.items import Completion, Item, MultipleChoice, Schema
from foundling.evaluation.native_rows import NATIVE, TEXT_ALONE, lambada

CLOSING = ".,;:!?"
MIRROR = 1000
"""In balanced COPA the mirror of item n is item n + 1000."""


Values = Mapping[str, Any]


def joined(prompt: str, continuation: str) -> tuple[str, str]:
    """The pair to score, with the space between the two at the front of the continuation.

    That is one space, but nothing where either has white space at the seam, where the prompt is
    empty, or before a closing mark.

    >>> joined("The cup fell because", "it was wet.")
    ('The cup fell because', ' it was wet.')
    >>> joined("We saw the lake", ".")
    ('We saw the lake', '.')
    """
    seam = prompt[-1:].isspace() or continuation[:1].isspace() or not prompt
    closes = continuation[:1] in tuple(CLOSING) and not continuation[1:2].isalnum()
    return prompt, continuation if seam or closes else " " + continuation


# ---------------------------------------------------------------------- JSON lines


def read_items(path: Path, notes: list[str] | None = None) -> list[Item]:
    """The items of a file of one form, inferred from the keys of its first row.

    Multiple choice has `query`, `choices` and `gold` (the index of the right one, from 0), a schema
    `context_options`, `continuation` and `gold`, a completion `context` and `continuation`; the
    rows of well-known data sets are read as they are published (`native_rows`).

    Args:
        notes: gets a line about keys that are not read.

    Raises:
        ConfigError: a row is not of the form, or of another one than the first.
    """
    items: list[Item] = []
    form: tuple[str, ...] | None = None
    unread: dict[str, None] = {}
    for where, row in read_columns(path):
        keys = form_of(row)
        if keys is None:
            forms = "; ".join(", ".join(keys) for keys in FORMS)
            raise ConfigError(
                f"{where}: has {', '.join(row) or 'no key'}; expected one of: {forms}."
            )
        if form is not None and keys != form:
            raise ConfigError(
                f"{where}: has {', '.join(keys)}, but the rows before it {', '.join(form)}; "
                "a file holds one form."
            )
        form = keys
        unread.update(dict.fromkeys(key for key in row if key not in keys))
        items.append(FORMS[keys](where, row))
    if unread and notes is not None:
        notes.append(f"{path.name}: not read: {', '.join(unread)}")
    return items


def form_of(row: Values) -> tuple[str, ...] | None:
    """The keys of the first form that the row has all keys of; None: of none."""
    fits = (keys for keys in FORMS if set(keys) <= set(row))
    return next((keys for keys in fits if keys != TEXT_ALONE or set(row) <= LAMBADA_KEYS), None)


def read_choices(path: Path, notes: list[str] | None = None) -> list[MultipleChoice]:
    """The items of a file of multiple choice. Raises ConfigError, as `read_items`."""
    items = read_items(path, notes)
    choices = [item for item in items if isinstance(item, MultipleChoice)]
    if len(choices) < len(items):
        raise ConfigError(f"{path}: no multiple choice; rows must have query, choices and gold.")
    return choices


def read_schemas(path: Path, notes: list[str] | None = None) -> list[Schema]:
    """The items of a file of schemas. Raises ConfigError, as `read_items`."""
    items = read_items(path, notes)
    schemas = [item for item in items if isinstance(item, Schema)]
    if len(schemas) < len(items):
        raise ConfigError(
            f"{path}: no schemas; rows must have context_options, continuation and gold."
        )
    return schemas


def _texts(where: str, row: Values, key: str) -> tuple[str, ...]:
    values = row[key]
    texts = isinstance(values, list) and all(isinstance(v, str) and v.strip() for v in values)
    if not texts or len(values) < 2:
        raise ConfigError(f"{where}: {key} = {values!r}: expected two or more texts, none empty.")
    if len(set(values)) < len(values):
        raise ConfigError(f"{where}: {key} = {values!r}: holds the same text twice.")
    return tuple(values)


def _text(where: str, row: Values, key: str) -> str:
    text_in(where, row, key)
    return str(row[key])  # with blanks around it, which a prompt may need


def _gold(where: str, row: Values, count: int) -> int:
    gold = row["gold"]
    if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < count:
        raise ConfigError(
            f"{where}: gold = {gold!r}: expected a whole number from 0 to {count - 1}."
        )
    return gold


def _multiple_choice(where: str, row: Values) -> Item:
    choices = _texts(where, row, "choices")
    return MultipleChoice(_text(where, row, "query"), choices, _gold(where, row, len(choices)))


def _schema(where: str, row: Values) -> Item:
    contexts = _texts(where, row, "context_options")
    gold = _gold(where, row, len(contexts))
    return Schema(contexts, _text(where, row, "continuation"), gold)


def _completion(where: str, row: Values) -> Item:
    return Completion(_text(where, row, "context"), _text(where, row, "continuation"))


FORMS: dict[tuple[str, ...], Callable[[str, Values], Item]] = {
    ("query", "choices", "gold"): _multiple_choice,
    ("context_options", "continuation", "gold"): _schema,
    ("context", "continuation"): _completion,
    **NATIVE,
    TEXT_ALONE: lambada,
}
LAMBADA_KEYS = {*TEXT_ALONE, "domain"}


# ---------------------------------------------------------------------- twins


def candidates(schema: Schema) -> tuple[str, ...]:
    """The ends of the contexts, from the first word in which they differ."""
    words = [context.split() for context in schema.contexts]
    same = 0
    while len({tuple(context[: same + 1]) for context in words}) == 1:
        same += 1
    return tuple(" ".join(context[same:]) for context in words)


def twins(schemas: Sequence[Schema]) -> list[list[int]]:
    """The indices of the items, twins together: sentences that differ in a word.

    Twins have the same contexts, or stand next to each other with the same continuation and a
    candidate in common: the word is then in the continuation or in the contexts.
    """
    groups: list[list[int]] = []
    of_contexts: dict[tuple[str, ...], list[int]] = {}
    for index, schema in enumerate(schemas):
        group = of_contexts.get(schema.contexts)
        if group is None and index and _share_an_end(schemas[index - 1], schema):
            group = of_contexts[schemas[index - 1].contexts]
        if group is None:
            group = []
            groups.append(group)
        group.append(index)
        of_contexts[schema.contexts] = group
    return groups


def _share_an_end(one: Schema, other: Schema) -> bool:
    same = zip(candidates(one), candidates(other), strict=False)
    return one.continuation == other.continuation and any(a == b for a, b in same)


# ---------------------------------------------------------------------- balanced COPA

CONNECTIVES = {"cause": "because", "effect": "so"}


def read_balanced_copa(path: Path) -> list[tuple[MultipleChoice, MultipleChoice]]:
    """The items and their mirrors, which have the same alternatives and the other one right.

    A premise reads on to its connective and the alternatives begin in lower case: "The man fell
    because" "the floor was wet." A mirror has the alternatives in its item's order.

    Of the parser no external entity is read and none is expanded without bound: xml.etree reads no
    file and no address that a document names, and expat limits what entities grow to.

    Source: Kavumba et al. 2019, When Choosing Plausible Alternatives, Clever Hans can be Clever.

    Raises:
        ConfigError: the file is no such XML, an item is broken, or its mirror does not fit.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ConfigError(f"{path}: no well-formed XML: {error}.") from None
    items: dict[int, MultipleChoice] = {}
    for element in root.iter("item"):
        id = element.get("id", "")
        if not id.isdecimal() or int(id) in items:
            raise ConfigError(f'{path}: item id="{id}": expected a number that no other item has.')
        items[int(id)] = _alternatives(f"{path}: item {id}", element)
    pairs = []
    for number, item in items.items():
        mirror = items.get(number + MIRROR)
        if mirror is None:
            continue
        if set(mirror.choices) != set(item.choices) or _right(mirror) == _right(item):
            raise ConfigError(
                f"{path}: item {number + MIRROR} must have the alternatives of item {number}, "
                "and the other one right."
            )
        gold = item.choices.index(_right(mirror))
        pairs.append((item, MultipleChoice(mirror.query, item.choices, gold)))
    if not pairs:
        raise ConfigError(f"{path}: no item has a mirror, an item whose id is {MIRROR} higher.")
    return pairs


def _right(item: MultipleChoice) -> str:
    return item.choices[item.gold]


def _alternatives(where: str, element: ElementTree.Element) -> MultipleChoice:
    texts = {name: (element.findtext(name) or "").strip() for name in ("p", "a1", "a2")}
    asks, gold = element.get("asks-for"), element.get("most-plausible-alternative")
    empty = [name for name, text in texts.items() if not text]
    if empty or texts["a1"] == texts["a2"]:
        raise ConfigError(
            f"{where}: expected <p>, <a1> and <a2>, none empty, the last two different."
        )
    if asks not in CONNECTIVES or gold not in ("1", "2"):
        raise ConfigError(
            f'{where}: asks-for="{asks}" most-plausible-alternative="{gold}": expected cause or '
            "effect, and 1 or 2."
        )
    query = f"{texts['p'].rstrip('.')} {CONNECTIVES[asks]}"
    return MultipleChoice(query, (_lower(texts["a1"]), _lower(texts["a2"])), int(gold) - 1)


def _lower(text: str) -> str:
    """The text with its first letter in lower case, but for the word "I"."""
    first = text.split()[0]
    return text if first == "I" or first.startswith("I'") else text[:1].lower() + text[1:]
