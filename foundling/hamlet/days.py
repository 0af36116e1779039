"""Days: the weather and the seasons, and what the villagers do in them."""

from random import Random

from foundling.hamlet.chance import between, pick, sample
from foundling.hamlet.english import capital, finish
from foundling.hamlet.grammar import say
from foundling.hamlet.phrase_table import PhraseTable
from foundling.hamlet.stock import STOCK
from foundling.hamlet.world import World

_TABLE = PhraseTable("days.txt")


def day(world: World, rng: Random) -> str:
    """A day: the weather, its effects, and some villagers at their habits."""
    months = _TABLE.groups("months")
    season = pick(rng, tuple(months))
    slots = {
        "village": world.name,
        "season": season,
        "month": pick(rng, months[season]),
        "day": pick(rng, STOCK["weekdays"]),
    }
    opening = capital(_TABLE.say(rng, "openings", slots))
    (weather, effect), (again, _) = sample(rng, _TABLE.rows(season, 2), 2)
    first = say(rng, weather, slots) + "."
    parts = [opening, first if opening[-1] != "." else capital(first)]
    if rng.random() < 0.65:
        parts.append(capital(say(rng, effect, slots)))
    if rng.random() < 0.25:
        parts.append(capital(say(rng, again, slots)) + ".")
    parts.append(_habits(world, rng, between(rng, 2, 4)))
    if rng.random() < 0.5:
        parts.append(_remark(world, rng, season))
    if rng.random() < 0.5:
        parts.append(capital(_TABLE.say(rng, "endings", slots)))
    return finish(" ".join(parts))


_JOINS = (", and ", ", while ", "; ", ", and ")


def _habits(world: World, rng: Random, n: int) -> str:
    text = ""
    doings: list[str] = []
    manner = pick(rng, ("", "", " as always", " as usual"))
    for i, person in enumerate(sample(rng, world.people, n)):
        doing = person.morning.past
        clause = person.name + " " + doing
        if doing in doings:
            clause = f"so did {person.name}" if doing == doings[-1] and i % 2 else f"{clause} too"
        doings.append(doing)
        if i == 0:
            text = clause + manner
        elif i % 2:
            join = ", and " if clause.startswith("so did") else pick(rng, _JOINS)
            text += join + clause
        else:
            text += ". " + pick(rng, ("", "", "then ", "at the same time ")) + clause
    return text + "."


def _remark(world: World, rng: Random, season: str) -> str:
    person = pick(rng, world.people)
    facts = world.query(person.name, "season")
    if facts[0].held_out or facts[0].value != season:
        return _TABLE.say(rng, "remarks", person.slots("who"))
    return _TABLE.say(rng, "glad", {**person.slots("who"), "season": season})
