"""Reading: little accounts of who put, took or gave what, with questions the account answers."""

from itertools import pairwise
from random import Random

from foundling.hamlet.chance import between, pick, sample
from foundling.hamlet.grammar import say
from foundling.hamlet.wording import capital, finish
from foundling.hamlet.world import World

_THINGS = (
    "key", "lamp", "book", "ball", "jug", "spoon", "letter", "hat", "apple", "knife", "coin",
    "candle", "hammer", "cup", "bell", "brush", "egg", "map", "scarf", "whistle",
)  # fmt: skip
_HIDDEN = (
    "under the bed", "in the drawer", "on the shelf", "behind the door", "in the basket",
    "on the table", "in the cupboard", "under the bench", "in the oven", "on the window sill",
    "in the bucket", "beside the stove", "in the cellar", "under the stairs",
)  # fmt: skip
_PUTS = (
    "{x} put the {t} {p}.",
    "{x} hid the {t} {p}.",
    "{x} left the {t} {p}.",
    "{x} had a {t} and put it {p}.",
    "{x} laid the {t} {p}.",
    "then {x} laid the {t} {p}.",
)
_MOVES = (
    "later {x} took the {t} and put it {p}.",
    "{x} found the {t} and laid it {p}.",
    "after that {x} moved the {t}. Now it was {p}.",
    "in the evening {x} came and put the {t} {p}.",
)
_WHERE = (
    ("where is the {t}?", "{p}."),
    ("where is the {t} now?", "{p}."),
    ("where must one look for the {t}?", "{p}."),
    ("where was the {t} at the end?", "it was {p}."),
    ("{z} is looking for the {t}. Where should {z} look?", "{p}."),
)
_PUT_BY = (("who put the {t} {p}?", "{x}."), ("who was it that put the {t} {p}?", "it was {x}."))
_GIVES = (
    "{x} gave the {t} to {y}.",
    "{x} handed the {t} to {y}.",
    "{y} got the {t} from {x}.",
    "{y} asked {x} for the {t} and got it.",
    "then {x} passed the {t} on to {y}.",
    "{x} did not need the {t} any more, so {y} took it.",
)
_HOLDS = (
    ("who has the {t}?", "{y}."),
    ("who has the {t} now?", "{y} has it."),
    ("in whose hands is the {t}?", "in the hands of {y}."),
    ("who got the {t} in the end?", "{y}."),
)
_STARTS = ("{x} had a {t}.", "{x} found a {t} {at}.", "at first the {t} was in the hands of {x}.")
_GOES = (
    "{x} went {to}.",
    "{x} walked {to}.",
    "{x} ran {to}.",
    "{x} took a basket and went {to}.",
    "a little later {x} came out and went {to}.",
    "then {x} set out {to}.",
)
_WHITHER = (
    ("where is {x}?", "{at}."),
    ("where is {x} now?", "{at}."),
    ("where will you find {x}?", "{at}."),
)


def account(world: World, rng: Random) -> str:
    """An account with one to three questions."""
    tell = pick(rng, (_hidden, _hidden, _handed, _gone))
    lines, asked = tell(world, rng)
    questions = [f"{capital(q)} {capital(a)}" for q, a in sample(rng, asked, between(rng, 1, 3))]
    glue = "\n" if rng.random() < 0.4 else " "
    return finish(glue.join([" ".join(capital(line) for line in lines), *questions]))


_Account = tuple[list[str], list[tuple[str, str]]]


def _ask(rng: Random, table: tuple[tuple[str, str], ...], slots: dict[str, str]) -> tuple[str, str]:
    question, answer = pick(rng, table)
    return say(rng, question, slots), say(rng, answer, slots)


def _hidden(world: World, rng: Random) -> _Account:
    n = between(rng, 2, 4)
    names = [person.name for person in sample(rng, world.people, n + 1)]
    things, spots = sample(rng, _THINGS, n), sample(rng, _HIDDEN, n + 2)
    lines: list[str] = []
    asked: list[tuple[str, str]] = []
    for x, t, p in zip(names[:n], things, spots, strict=False):
        slots = {"x": x, "t": t, "p": p, "z": names[n]}
        lines.append(say(rng, pick(rng, _PUTS if lines else _PUTS[:4]), slots))
        if rng.random() < 0.25 and len(spots) > n:
            asked.append(_ask(rng, _PUT_BY, slots))
            slots |= {"p": spots.pop(), "x": pick(rng, [name for name in names if name != x])}
            lines.append(say(rng, pick(rng, _MOVES), slots))
        asked.append(_ask(rng, _WHERE, slots))
    return lines, asked


def _handed(world: World, rng: Random) -> _Account:
    names = [person.name for person in sample(rng, world.people, between(rng, 3, 5))]
    t = pick(rng, _THINGS)
    slots = {"x": names[0], "t": t, "at": pick(rng, world.places).spot.at}
    lines = [say(rng, pick(rng, _STARTS), slots)]
    for x, y in pairwise(names):
        slots |= {"x": x, "y": y}
        lines.append(say(rng, pick(rng, _GIVES), slots))
    first = (f"who had the {t} first?", f"{names[0]}.")
    giver = (f"who gave the {t} to {names[-1]}?", f"{names[-2]}.")
    return lines, [_ask(rng, _HOLDS, slots), first, giver]


def _gone(world: World, rng: Random) -> _Account:
    n = between(rng, 2, 4)
    people = sample(rng, world.people, n)
    spots = [place.spot for place in sample(rng, world.places, n + 1)]
    lines: list[str] = []
    asked: list[tuple[str, str]] = []
    for i, (person, spot) in enumerate(zip(people, spots, strict=False)):
        slots = {"x": person.name, "to": f"to the {spot.name}", "at": spot.at}
        lines.append(say(rng, pick(rng, _GOES if lines else _GOES[:4]), slots))
        if i == 0 and rng.random() < 0.5:
            slots |= {"to": f"to the {spots[-1].name}", "at": spots[-1].at}
            lines.append(say(rng, "from there {x} went on {to}.", slots))
        asked.append(_ask(rng, _WHITHER, slots))
    return lines, asked
