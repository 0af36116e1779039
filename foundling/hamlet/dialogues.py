"""Dialogues: two villagers talk, in prose with quotation marks or line by line as in a play."""

from random import Random

from foundling.hamlet.chance import pick, sample
from foundling.hamlet.english import capital, finish
from foundling.hamlet.grammar import say
from foundling.hamlet.phrase_table import PhraseTable
from foundling.hamlet.stock import habits
from foundling.hamlet.world import World

_TABLE = PhraseTable("dialogues.txt")


def dialogue(world: World, rng: Random) -> str:
    """A conversation; about half are about the facts of the village."""
    one, other, third = sample(rng, world.people, 3)
    spot, goal, road = (place.spot for place in sample(rng, world.places, 3))
    slots = {
        "a": one.name, "b": other.name, "third": third.name,
        "place.at": spot.at, "place.to": "to the " + goal.name, "road": "to the " + road.name,
    }  # fmt: skip
    script = pick(rng, _TABLE.sections["scripts"].blocks)
    if "{q}" in " ".join(script) or "{C}" in " ".join(script):
        slots |= _matter(world, rng, (one.name, other.name))
    turns = [capital(say(rng, line, slots)) for line in script]
    speakers = (one.name, other.name)
    if rng.random() < 0.4:
        lines = [f"{speakers[i % 2]}: {turn}" for i, turn in enumerate(turns)]
        return finish("\n".join(lines))
    meeting = _TABLE.say(rng, "meetings", slots)
    parting = _TABLE.say(rng, "partings", slots)
    lines = [_spoken(rng, turn, speakers[i % 2], i) for i, turn in enumerate(turns)]
    glue = "\n" if rng.random() < 0.6 else " "
    text = glue.join(capital(line) for line in (meeting, *lines, parting) if line)
    return finish(text)


def _matter(world: World, rng: Random, speakers: tuple[str, str]) -> dict[str, str]:
    """A fact about someone else: question, right answer and wrong answer."""
    while True:
        fact = pick(rng, world.told)
        question, answer = pick(rng, fact.questions)
        barred = fact.subject in speakers or fact.value in speakers
        if barred or fact.relation in habits() or answer == fact.subject:
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
        return f'{_say_of(rng, "before", speaker, number)} "{turn}"'
    mark = turn[-1]
    verb = "asked" if mark == "?" else "cried" if mark == "!" else "said"
    speech = turn[:-1] + "," if mark == "." else turn
    return f'"{speech}" {_say_of(rng, verb, speaker, number)}.'


def _say_of(rng: Random, section: str, speaker: str, number: int) -> str:
    """How the speaker of this turn says it; the first turn draws from the first block."""
    known = _TABLE.sections[section]
    return say(rng, pick(rng, known.phrases if number else known.blocks[0]), {"x": speaker})
