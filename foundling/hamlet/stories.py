"""Stories: small tales of the village, cast from its people in keeping with the facts."""

from collections.abc import Mapping
from random import Random

from foundling.hamlet.chance import pick
from foundling.hamlet.grammar import say
from foundling.hamlet.plots_more import ALL_PLOTS
from foundling.hamlet.village import Person
from foundling.hamlet.winograd import incident
from foundling.hamlet.wording import capital, finish
from foundling.hamlet.world import World

_HELPERS = ("smith", "doctor", "postman")
_TOOLS = (
    ("spade", "dig in the garden"),
    ("axe", "cut wood"),
    ("rake", "rake up the leaves"),
    ("saw", "cut planks"),
    ("hammer", "mend the fence"),
    ("hoe", "weed the beans"),
)
_NOISES = ("a loud shout", "music", "the noise of a cart", "a strange bell", "barking")


def cast(world: World, rng: Random, needs: tuple[str, ...]) -> dict[str, str] | None:
    """Slots for a story's people, animals and place; None where the village lacks one."""
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
    tool, act = pick(rng, _TOOLS)
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
        "place_noise": pick(rng, _NOISES),
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


OPENINGS = (
    "one [fine|grey|cold|warm|windy] [morning|evening|afternoon] in {month},",
    "one day",
    "one day, not long ago,",
    "last [spring|summer|autumn|winter]",
    "a [long time|few years|week|month] ago",
    "on a [rainy|foggy|sunny|quiet] [Monday|Tuesday|Thursday|Saturday]",
    "it was a [hot|cold|wet|quiet|bright] day in {month}.",
    "this happened {place.at}.",
    "people in {village} still talk about it.",
    "I will tell you what happened [in {month}|last year|to {who}].",
    "here is a [true|short|little] story.",
    "listen!",
    "the sun was [shining|low|going down].",
    "the bells had just [rung|stopped].",
    "the wind was [cold|strong] that day.",
)
ENDINGS = (
    "that is the [whole story|end of the story].",
    "and that is how it was.",
    "{who} tells this story [every year|to everyone].",
    "people in {village} still speak of it.",
    "{who.he} never forgot it.",
    "that was a day to remember.",
    "since then [many years|two winters] have passed, but nobody has forgotten it.",
)
_MONTHS = ("March", "April", "May", "June", "July", "August", "September", "October")


def story(world: World, rng: Random) -> str:
    """A story: sometimes with an opening, an incident on the way and an ending."""
    while True:
        plot = pick(rng, ALL_PLOTS)
        slots = cast(world, rng, plot.needs)
        if slots is not None:
            break
    slots["month"] = pick(rng, _MONTHS)
    sentences = [say(rng, pick(rng, phase), slots) for phase in plot.phases]
    if plot.name not in _DATED:
        sentences[0] = _opened(rng, sentences[0], slots)
    if rng.random() < 0.35:
        sentences.append(say(rng, pick(rng, ENDINGS), slots))
    breaks = rng.random() < 0.35
    text = ""
    for i, sentence in enumerate(sentences):
        glue = "\n" if breaks and i in (2, 4) else " "
        text += (glue if text else "") + capital(sentence)
    if rng.random() < 0.1:
        text += "\n" + incident(world, rng)
    return finish(text.replace(",.", "."))


# Stories that say themselves when they happened.
_DATED = frozenset(
    ("high water", "snowed in", "the promise", "the old clock", "the stranger", "seeds",
     "the fire", "dark road", "present", "sick child",
     "market trade", "pet and thief")
)  # fmt: skip


def _opened(rng: Random, sentence: str, slots: Mapping[str, str]) -> str:
    if rng.random() < 0.4:
        return sentence
    opening = say(rng, pick(rng, OPENINGS), slots)
    if sentence[0] == '"' and opening[-1] not in ".!":
        return sentence
    return f"{opening} {sentence}"
