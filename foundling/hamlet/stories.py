"""Stories: short tales whose characters are villagers, consistent with the facts."""

from collections.abc import Mapping
from random import Random

from foundling.hamlet.chance import pick
from foundling.hamlet.english import capital, finish
from foundling.hamlet.grammar import say
from foundling.hamlet.phrase_table import PhraseTable
from foundling.hamlet.village import Person
from foundling.hamlet.winograd import incident
from foundling.hamlet.world import World

_TABLE = PhraseTable("stories.txt")
_PLOTS = PhraseTable("plots.txt")

_HELPERS = ("smith", "doctor", "postman")


def cast(world: World, rng: Random, needs: tuple[str, ...]) -> dict[str, str] | None:
    """Slots for a story's characters and place; None where the village lacks one."""
    people = world.people
    slots: dict[str, str] = {}
    taken: set[str] = set()
    for job in _HELPERS:
        if job in needs:
            holders = world.query(relation="job", value=job)
            if not holders:
                return None
            helper = world.person(holders[0].subject)
            slots |= helper.slots(job)
            taken.add(helper.name)
    if "child" in needs:
        people = tuple(person for person in people if person.child)
    if "adult" in needs:
        people = tuple(person for person in people if not person.child)
    if "pet" in needs:
        people = tuple(person for person in people if person.pet)
    who = pick(rng, [person for person in people if person.name not in taken])
    taken.add(who.name)
    if "friend" in needs:
        friend = world.person(who.friend or who.name)
        slots |= friend.slots("friend")
        taken.add(friend.name)
    others = [p for p in world.people if p.name not in taken and p.home != who.home]
    if "child" in needs:
        others = [p for p in others if p.child]
    # Another gender keeps "he" and "she" clear; that is not always so in life either.
    clear = [p for p in others if p.woman != who.woman]
    other = pick(rng, clear if clear and rng.random() < 0.85 else others)
    spot = pick(rng, world.places).spot
    tool, act = pick(rng, _TABLE.rows("tools", 2))
    slots |= who.slots("who") | other.slots("other")
    slots |= {
        "who.He": capital(slots["who.he"]),
        "village": world.name,
        "intro": _introduced(rng, who),
        "place": "the " + spot.name,
        "place.at": spot.at,
        "place.to": "to the " + spot.name,
        "tool": tool,
        "act": act,
        "weekday": pick(rng, ("Saturday", "Sunday", "Monday", "Friday")),
        "place_noise": pick(rng, _TABLE["noises"]),
    }
    if who.pet:
        slots |= {"pet": who.pet, "pet.kind": world.pet(who.pet).kind}
    return slots


def _introduced(rng: Random, who: Person) -> str:
    draw = rng.random()
    if draw < 0.4:
        return who.name
    if draw < 0.55:
        return f"{who.name} {who.surname}"
    if who.job:
        return (
            f"{who.name} the {who.job.name}" if draw < 0.9 else f"the {who.job.name}, {who.name},"
        )
    return ("little " if who.age < 12 else "young ") + who.name


def story(world: World, rng: Random) -> str:
    """A story: a plot, sometimes with an opening, an ending and an incident."""
    while True:
        plot = pick(rng, tuple(_PLOTS.sections.values()))
        slots = cast(world, rng, plot.notes)
        if slots is not None:
            break
    slots["month"] = pick(rng, _TABLE["months"])
    sentences = [say(rng, pick(rng, phase), slots) for phase in plot.blocks]
    if "dated" not in plot.notes:
        sentences[0] = _opened(rng, sentences[0], slots)
    if rng.random() < 0.35:
        sentences.append(_TABLE.say(rng, "endings", slots))
    breaks = rng.random() < 0.35
    text = ""
    for i, sentence in enumerate(sentences):
        glue = "\n" if breaks and i in (2, 4) else " "
        text += (glue if text else "") + capital(sentence)
    if rng.random() < 0.1:
        text += "\n" + incident(world, rng)
    return finish(text.replace(",.", "."))


def _opened(rng: Random, sentence: str, slots: Mapping[str, str]) -> str:
    if rng.random() < 0.4:
        return sentence
    opening = _TABLE.say(rng, "openings", slots)
    if sentence[0] == '"' and opening[-1] not in ".!":
        return sentence
    return f"{opening} {sentence}"
