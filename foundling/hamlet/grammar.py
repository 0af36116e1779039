"""Grammar: phrase templates with slots `{who}` and alternatives `[went|walked]`.

Example: `say(rng, "{who} [went|ran] home", {"who": "Ada"})` is "Ada went home" or "Ada ran home".
"""

from collections.abc import Mapping
from functools import cache
from itertools import product
from random import Random
from typing import NamedTuple, Union


class Slot(NamedTuple):
    """A place in a phrase that is filled from outside."""

    name: str


class Choice(NamedTuple):
    """Alternatives, one of which is said."""

    options: tuple["Phrase", ...]


Phrase = tuple[Union[str, Slot, "Choice"], ...]


@cache
def parse(source: str) -> Phrase:
    """Parse a template. Raises ValueError on unbalanced marks."""
    phrase, end = _parse_phrase(source, 0, nested=False)
    if end != len(source):
        raise ValueError(f"unbalanced brackets in template {source!r}")
    return phrase


def _parse_phrase(source: str, start: int, nested: bool) -> tuple[Phrase, int]:
    parts: list[str | Slot | Choice] = []
    text = ""
    i = start
    while i < len(source):
        mark = source[i]
        if mark in "|]" and nested:
            break
        if mark in "|]":
            raise ValueError(f"stray {mark!r} in template {source!r}")
        if mark not in "{[":
            text += mark
            i += 1
            continue
        if text:
            parts.append(text)
            text = ""
        if mark == "{":
            end = source.find("}", i)
            if end < 0:
                raise ValueError(f"unbalanced braces in template {source!r}")
            parts.append(Slot(source[i + 1 : end]))
            i = end + 1
        else:
            choice, i = _parse_choice(source, i + 1)
            parts.append(choice)
    if text:
        parts.append(text)
    return tuple(parts), i


def _parse_choice(source: str, start: int) -> tuple[Choice, int]:
    options: list[Phrase] = []
    i = start
    while True:
        option, i = _parse_phrase(source, i, nested=True)
        options.append(option)
        if i >= len(source):
            raise ValueError(f"unbalanced brackets in template {source!r}")
        i += 1
        if source[i - 1] == "]":
            return Choice(tuple(options)), i


def say(rng: Random, source: str, slots: Mapping[str, str]) -> str:
    """Fill the slots and draw the alternatives. Raises ValueError on a slot that is not given."""
    said: list[str] = []
    try:
        _say(parse(source), rng.random, slots, said.append)
    except KeyError as error:
        known = ", ".join(sorted(slots))
        raise ValueError(f"template {source!r} has a slot {error} ({known})") from None
    return "".join(said)


def _say(phrase, draw, slots, add) -> None:  # type: ignore[no-untyped-def]
    # Unannotated: the innermost loop of the generator, also under runtime type checks.
    for part in phrase:
        kind = type(part)
        if kind is str:
            add(part)
        elif kind is Slot:
            add(slots[part[0]])
        else:
            options = part[0]
            _say(options[int(draw() * len(options))], draw, slots, add)


def expand(source: str, slots: Mapping[str, str]) -> tuple[str, ...]:
    """Every text that the template can say with these slots, in order."""
    return tuple(dict.fromkeys(_expand(parse(source), slots)))


def _expand(phrase: Phrase, slots: Mapping[str, str]) -> list[str]:
    columns: list[list[str]] = []
    for part in phrase:
        if isinstance(part, str):
            columns.append([part])
        elif isinstance(part, Slot):
            columns.append([slots[part.name]])
        else:
            columns.append([text for option in part.options for text in _expand(option, slots)])
    return ["".join(row) for row in product(*columns)]
