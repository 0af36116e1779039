"""Comprehension: short accounts of who put, took or gave what, with questions about them."""

from itertools import pairwise
from random import Random

from foundling.hamlet.chance import between, pick, sample
from foundling.hamlet.english import capital, finish
from foundling.hamlet.grammar import say
from foundling.hamlet.phrase_table import PhraseTable
from foundling.hamlet.world import World

_TABLE = PhraseTable("comprehension.txt")


def account(world: World, rng: Random) -> str:
    """An account with one to three questions."""
    tell = pick(rng, (_hidden, _hidden, _handed, _gone))
    lines, asked = tell(world, rng)
    questions = [f"{capital(q)} {capital(a)}" for q, a in sample(rng, asked, between(rng, 1, 3))]
    glue = "\n" if rng.random() < 0.4 else " "
    return finish(glue.join([" ".join(capital(line) for line in lines), *questions]))


_Account = tuple[list[str], list[tuple[str, str]]]


def _ask(rng: Random, name: str, slots: dict[str, str]) -> tuple[str, str]:
    question, answer = pick(rng, _TABLE.rows(name, 2))
    return say(rng, question, slots), say(rng, answer, slots)


def _hidden(world: World, rng: Random) -> _Account:
    n = between(rng, 2, 4)
    names = [person.name for person in sample(rng, world.people, n + 1)]
    things, spots = sample(rng, _TABLE["things"], n), sample(rng, _TABLE["hidden"], n + 2)
    puts = _TABLE.sections["puts"]
    lines: list[str] = []
    asked: list[tuple[str, str]] = []
    for x, t, p in zip(names[:n], things, spots, strict=False):
        slots = {"x": x, "t": t, "p": p, "z": names[n]}
        lines.append(say(rng, pick(rng, puts.phrases if lines else puts.blocks[0]), slots))
        if rng.random() < 0.25 and len(spots) > n:
            asked.append(_ask(rng, "put by", slots))
            slots |= {"p": spots.pop(), "x": pick(rng, [name for name in names if name != x])}
            lines.append(_TABLE.say(rng, "moves", slots))
        asked.append(_ask(rng, "where", slots))
    return lines, asked


def _handed(world: World, rng: Random) -> _Account:
    names = [person.name for person in sample(rng, world.people, between(rng, 3, 5))]
    t = pick(rng, _TABLE["things"])
    slots = {"x": names[0], "t": t, "at": pick(rng, world.places).spot.at}
    lines = [_TABLE.say(rng, "starts", slots)]
    for x, y in pairwise(names):
        slots |= {"x": x, "y": y}
        lines.append(_TABLE.say(rng, "gives", slots))
    first = (f"who had the {t} first?", f"{names[0]}.")
    giver = (f"who gave the {t} to {names[-1]}?", f"{names[-2]}.")
    return lines, [_ask(rng, "holds", slots), first, giver]


def _gone(world: World, rng: Random) -> _Account:
    n = between(rng, 2, 4)
    people = sample(rng, world.people, n)
    spots = [place.spot for place in sample(rng, world.places, n + 1)]
    goes = _TABLE.sections["goes"]
    lines: list[str] = []
    asked: list[tuple[str, str]] = []
    for i, (person, spot) in enumerate(zip(people, spots, strict=False)):
        slots = {"x": person.name, "to": f"to the {spot.name}", "at": spot.at}
        lines.append(say(rng, pick(rng, goes.phrases if lines else goes.blocks[0]), slots))
        if i == 0 and rng.random() < 0.5:
            slots |= {"to": f"to the {spots[-1].name}", "at": spots[-1].at}
            lines.append(say(rng, "from there {x} went on {to}.", slots))
        asked.append(_ask(rng, "whither", slots))
    return lines, asked
