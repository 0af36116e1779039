"""Dialogues: two villagers talk, in prose with quotation marks or line by line as in a play."""

from random import Random

from foundling.hamlet.chance import pick, sample
from foundling.hamlet.grammar import say
from foundling.hamlet.scripts import SCRIPTS
from foundling.hamlet.stock import HABITS
from foundling.hamlet.wording import capital, finish
from foundling.hamlet.world import World

# The first two of each also fit the first turn.
_ASKED = ("asked {x}", "{x} asked", "{x} asked", "{x} wanted to know", "said {x}")
_SAID = ("said {x}", "said {x}", "said {x}", "answered {x}", "{x} said", "{x} replied")
_CRIED = ("cried {x}", "called {x}", "{x} cried", "said {x}")
_BEFORE = ("{x} said, ", "{x} looked up. ", "{x} smiled. ", "{x} nodded. ",
"{x} thought for a moment. ",
           "{x} laughed. ")  # fmt: skip
_MEETINGS = (
    "{a} met {b} {place.at}.",
    "{a} and {b} were sitting {place.at}.",
    "{b} stood {place.at} when {a} came by.",
    "[it was raining|the sun was shining|it was late], and {a} and {b} were waiting {place.at}.",
    "{a} knocked at {b}'s door.",
    "on the way {road}, {a} caught up with {b}.",
    "",
    "",
)
_PARTINGS = (
    "then they [said goodbye|shook hands|went home].",
    "they talked for a while longer, and then it was time [to go|for supper].",
    "{a} [laughed|nodded] and went on.",
    "and so they parted.",
    "",
    "",
    "",
    "",
)


def dialogue(world: World, rng: Random) -> str:
    """A conversation; about half are about the facts of the village."""
    one, other, third = sample(rng, world.people, 3)
    spot, goal, road = (place.spot for place in sample(rng, world.places, 3))
    slots = {
        "a": one.name, "b": other.name, "third": third.name,
        "place.at": spot.at, "place.to": "to the " + goal.name, "road": "to the " + road.name,
    }  # fmt: skip
    script = pick(rng, SCRIPTS)
    if "{q}" in " ".join(script) or "{C}" in " ".join(script):
        slots |= _matter(world, rng, (one.name, other.name))
    turns = [capital(say(rng, line, slots)) for line in script]
    speakers = (one.name, other.name)
    if rng.random() < 0.4:
        lines = [f"{speakers[i % 2]}: {turn}" for i, turn in enumerate(turns)]
        return finish("\n".join(lines))
    meeting = say(rng, pick(rng, _MEETINGS), slots)
    parting = say(rng, pick(rng, _PARTINGS), slots)
    lines = [_spoken(rng, turn, speakers[i % 2], i) for i, turn in enumerate(turns)]
    glue = "\n" if rng.random() < 0.6 else " "
    text = glue.join(capital(line) for line in (meeting, *lines, parting) if line)
    return finish(text)


def _matter(world: World, rng: Random, speakers: tuple[str, str]) -> dict[str, str]:
    """A fact about someone else, asked, answered and mistaken."""
    while True:
        fact = pick(rng, world.told)
        question, answer = pick(rng, fact.questions)
        barred = fact.subject in speakers or fact.value in speakers
        if barred or fact.relation in HABITS or answer == fact.subject:
            continue
        for false in world.falsehoods(fact, 1, rng):
            wrong = dict(world.claim(fact.subject, fact.relation, false).questions).get(question)
            if wrong is not None and wrong != answer:
                return {
                    "q": question, "ans": capital(answer), "ans.low": answer, "false": wrong,
                    "C": capital(pick(rng, fact.clauses)),
                }  # fmt: skip


def _spoken(rng: Random, turn: str, speaker: str, number: int) -> str:
    draw = rng.random()
    if number > 1 and draw < 0.3:
        return f'"{turn}"'
    if draw < 0.45:
        before = say(rng, pick(rng, _BEFORE if number else _BEFORE[:2]), {"x": speaker})
        return f'{before}"{turn}"'
    mark = turn[-1]
    verbs: tuple[str, ...] = _ASKED if mark == "?" else _CRIED if mark == "!" else _SAID
    if not number:
        verbs = verbs[:2]
    tag = say(rng, pick(rng, verbs), {"x": speaker})
    speech = turn[:-1] + "," if mark == "." else turn
    return f'"{speech}" {tag}.'
