"""Letters: what the villagers write to each other, on paper and on the notice board."""

from random import Random

from foundling.hamlet.chance import between, pick, sample
from foundling.hamlet.english import capital, finish, listing
from foundling.hamlet.grammar import say
from foundling.hamlet.phrase_table import PhraseTable
from foundling.hamlet.portraits import tell
from foundling.hamlet.stock import STOCK
from foundling.hamlet.world import World

_TABLE = PhraseTable("letters.txt")


def letter(world: World, rng: Random) -> str:
    """A letter from one villager to another, with news of a third."""
    sender, receiver, third = sample(rng, world.people, 3)
    slots = {"to": receiver.name, "place.at": pick(rng, world.places).spot.at}
    body = [_TABLE.say(rng, "thanks", slots)]
    body += [say(rng, source, slots) for source in sample(rng, _TABLE["news"], between(rng, 1, 2))]
    if rng.random() < 0.7:
        facts = [
            fact for fact in world.stated_facts_of(third.name)
            if fact.value not in (sender.name, receiver.name)
        ]  # fmt: skip
        body.append(_TABLE.say(rng, "others", {"x": third.name}))
        body.append(tell(world, rng, sample(rng, facts, between(rng, 1, 3)), name_first=False))
    if rng.random() < 0.75:
        body.append(_TABLE.say(rng, "requests", slots))
    closing = pick(rng, _TABLE["closings"])
    greeting = _TABLE.say(rng, "greetings", slots)
    glue = " " if closing.endswith("from") else "\n"
    text = " ".join(capital(sentence) for sentence in body)
    return finish(f"{greeting}\n{text}\n{closing}{glue}{sender.name}")


_HEADS = ("Notice\n", "NOTICE\n", "To all: ", "", "", "")


def notice(world: World, rng: Random) -> str:
    """A notice on the board: something lost, for sale or to happen."""
    who = pick(rng, world.people)
    pet = pick(rng, world.pets)
    slots = {
        **who.slots("who"), "home": who.home, "day": pick(rng, STOCK["weekdays"]),
        "things": listing(sample(rng, _TABLE["things"], between(rng, 1, 3))),
        "thing": pick(rng, _TABLE["taken"]),
        "place.at": pick(rng, world.places).spot.at,
        "pet": pet.name, "kind": pet.kind, "colour": pet.colour,
    }  # fmt: skip
    draw = rng.random()
    if draw < 0.35:
        text = _TABLE.say(rng, "lost", slots)
        if rng.random() < 0.6 and "Found" not in text:
            text += f" {pet.owner}"
    elif draw < 0.65:
        text = _TABLE.say(rng, "sale", slots)
    else:
        text = _TABLE.say(rng, "events", slots)
    return finish(pick(rng, _HEADS) + text)
