"""The stock of names, trades, places, habits and things from which a village is drawn."""

from functools import cache
from typing import NamedTuple

from foundling.hamlet.phrase_table import PhraseTable

STOCK = PhraseTable("stock.txt")


class Job(NamedTuple):
    """A trade: where it is done, what it does (base, third person, past) and its tool."""

    name: str
    place: str
    base: str
    third: str
    past: str
    tool: str


class Spot(NamedTuple):
    """A place of the village: with its preposition, and whether it has walls and a door."""

    name: str
    at: str
    building: bool


class Habit(NamedTuple):
    """A verb phrase in base form, third person and past."""

    base: str
    third: str
    past: str


@cache
def jobs() -> tuple[Job, ...]:
    """All trades."""
    return tuple(Job(*row) for row in STOCK.rows("jobs", 6))


@cache
def spots() -> tuple[Spot, ...]:
    """All places."""
    return tuple(Spot(name, at, how == "building") for name, at, how in STOCK.rows("spots", 3))


@cache
def pets() -> dict[str, tuple[str, ...]]:
    """The names of each kind of animal."""
    return STOCK.groups("pets")


@cache
def habits() -> dict[str, dict[str, Habit]]:
    """For each relation that is a habit, its values by their base form."""
    return {
        relation: {row[0]: Habit(*row) for row in STOCK.rows(relation, 3)}
        for relation in ("morning", "market_day", "hobby")
    }
