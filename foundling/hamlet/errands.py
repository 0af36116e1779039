"""Errands: a villager needs a thing, goes to the one who makes it, meets a hitch and gets by."""

from random import Random

from foundling.hamlet.chance import pick
from foundling.hamlet.english import capital, finish
from foundling.hamlet.grammar import say
from foundling.hamlet.phrase_table import PhraseTable
from foundling.hamlet.world import World

_TABLE = PhraseTable("errands.txt")


def errand(world: World, rng: Random) -> str:
    """One errand to a villager with a trade."""
    maker = pick(rng, [person for person in world.people if person.job])
    job = maker.job.name if maker.job else ""
    who = pick(rng, [p for p in world.people if p is not maker and p.woman != maker.woman])
    other = pick(rng, [p for p in world.people if p is not maker and p is not who])
    _, good, why = pick(rng, [row for row in _TABLE.rows("goods", 3) if row[0] == job])
    slots = {
        **who.slots("who"), **maker.slots("maker"), **other.slots("other"),
        "good": good, "why": why, "job": job, "village": world.name,
        "place.at": pick(rng, world.places).spot.at,
    }  # fmt: skip
    hitch, way_out = pick(rng, _TABLE.rows("hitches", 2))
    lines = [pick(rng, _TABLE["needs"]), pick(rng, _TABLE["goes"]), hitch, way_out]
    if rng.random() < 0.7:
        lines.append(pick(rng, _TABLE["ends"]))
    return finish(" ".join(capital(say(rng, line, slots)) for line in lines))
