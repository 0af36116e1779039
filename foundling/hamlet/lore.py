"""Lore: common knowledge about trades, animals, causes, tools and their uses."""

from random import Random

from foundling.hamlet.chance import between, pick, sample
from foundling.hamlet.english import capital, finish, plural
from foundling.hamlet.grammar import say
from foundling.hamlet.phrase_table import PhraseTable
from foundling.hamlet.stock import jobs, spots

_TABLE = PhraseTable("lore.txt")


def lore(rng: Random) -> str:
    """Two to five lines of one sort of common knowledge."""
    tell = pick(rng, (_trade, _trade, _animal, _use, _cause))
    lines = [tell(rng) for _ in range(between(rng, 2, 5))]
    if rng.random() < 0.25:
        lines.append(
            say(rng, pick(rng, _TABLE["a saying"]), {"saying": pick(rng, _TABLE["sayings"])})
        )
    glue = "\n" if rng.random() < 0.3 else " "
    return finish(glue.join(capital(line) for line in dict.fromkeys(lines)))


def _trade(rng: Random) -> str:
    job = pick(rng, jobs())
    at = next(spot.at for spot in spots() if spot.name == job.place)
    slots = {
        "job": job.name, "jobs": plural(job.name), "base": job.base, "third": job.third,
        "tool": job.tool, "at": at,
    }  # fmt: skip
    return _TABLE.say(rng, "a trade", slots)


def _animal(rng: Random) -> str:
    animal, young, cry, food, home = pick(rng, _TABLE.rows("animals", 5))
    slots = {"animal": animal, "animals": plural(animal), "young": young, "cry": cry,
             "food": food, "home": home}  # fmt: skip
    return _TABLE.say(rng, "an animal", slots)


def _use(rng: Random) -> str:
    (tool, act), (wrong, _) = sample(rng, _TABLE.rows("uses", 2), 2)
    return _TABLE.say(rng, "a use", {"tool": tool, "act": act, "wrong": wrong})


def _cause(rng: Random) -> str:
    cause, effect = pick(rng, _TABLE.rows("causes", 2))
    return _TABLE.say(rng, "a cause", {"cause": cause, "effect": effect})
