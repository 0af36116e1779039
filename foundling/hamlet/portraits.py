"""Portraits: descriptions of villagers, animals, houses and places, told from the facts."""

from collections.abc import Sequence
from random import Random

from foundling.hamlet.chance import between, pick, sample, shuffled
from foundling.hamlet.english import capital, finish
from foundling.hamlet.facts import Fact
from foundling.hamlet.grammar import say
from foundling.hamlet.phrase_table import PhraseTable
from foundling.hamlet.relations import OF_NAMES
from foundling.hamlet.world import World

_TABLE = PhraseTable("portraits.txt")

_FIRST = ("job", "home", "age", "hair")


def tell(world: World, rng: Random, facts: Sequence[Fact], name_first: bool = True) -> str:
    """The facts of one subject as running text, with pronouns where they are clear."""
    sentences: list[str] = []
    frames = shuffled(rng, _TABLE["hearsay"])
    further = shuffled(rng, _TABLE["further"])
    named = not name_first
    i = 0
    while i < len(facts):
        fact = facts[i]
        clause = pick(rng, fact.pronoun_clauses if named and rng.random() < 0.75 else fact.clauses)
        other = fact.relation in OF_NAMES
        i += 1
        draw = rng.random()
        if draw < 0.42 and i < len(facts) and not other:
            other = facts[i].relation in OF_NAMES
            second = pick(rng, facts[i].pronoun_clauses)
            relative = _relative(fact, clause, second) if draw < 0.14 else None
            clause = relative or _TABLE.say(rng, "joined", {"c": clause, "d": second})
            i += 1
        elif draw < 0.52 and frames:
            clause = say(rng, frames.pop(), {"c": clause, "village": world.name})
        elif draw < 0.6 and sentences and further:
            clause = say(rng, further.pop(), {"c": clause})
        sentences.append(clause + ".")
        named = not other
    return " ".join(capital(sentence) for sentence in sentences)


def _relative(fact: Fact, clause: str, second: str) -> str | None:
    """Two clauses as one: "Ada, who lives at Fox Hall, is the baker"; None where they clash."""
    he = fact.pronoun_slots["s"]
    verb, first = second.removeprefix(he + " "), clause.removeprefix(fact.subject + " ")
    whole = verb != second and first != clause and not set(",:;") & set(verb + first)
    if he == "it" or not whole:
        return None
    return f"{fact.subject}, who {verb}, {first}"


def portrait(world: World, rng: Random) -> str:
    """A villager."""
    person = pick(rng, world.people)
    facts = world.stated_facts_of(person.name)
    chosen = sample(rng, facts, between(rng, 3, 9))
    first = [fact for fact in chosen if fact.relation in _FIRST]
    rest = [fact for fact in chosen if fact.relation not in _FIRST]
    slots = {**person.slots("who"), "village": world.name}
    opening = _TABLE.say(rng, "openings", slots)
    closing = _TABLE.say(rng, "closings", slots)
    body = tell(world, rng, first + rest, name_first=not opening)
    text = " ".join(part for part in (opening, body, closing) if part)
    if person.pet and rng.random() < 0.25:
        text += "\n" + animal(world, rng, person.pet)
    return finish(text)


def animal(world: World, rng: Random, name: str | None = None) -> str:
    """A pet, with a few words about its owner when they may be told."""
    pet = world.pet(name) if name else pick(rng, world.pets)
    facts = shuffled(rng, world.stated_facts_of(pet.name))[: between(rng, 2, 3)]
    about = world.query(pet.owner, "pet", pet.name)[0]
    text = tell(world, rng, facts)
    if rng.random() < 0.6:
        text = pick(rng, about.clauses) + ". " + text
    habit = _TABLE.say(rng, "animal habits", {"pet": pet.name, "kind": pet.kind})
    return finish(f"{text} {habit}")


def place(world: World, rng: Random) -> str:
    """A place of the village and the people who work there."""
    spot = pick(rng, world.places).spot
    facts = shuffled(rng, world.stated_facts_of(spot.name))[: between(rng, 2, 5)]
    sentences = [pick(rng, fact.clauses) + "." for fact in facts]
    workers = [f for f in world.query(relation="workplace", value=spot.name) if not f.held_out]
    if workers:
        subject = workers[0].subject
        sentences.append(pick(rng, workers[0].clauses) + ".")
        job = world.query(subject, "job")[0]
        if rng.random() < 0.7:
            sentences.append(pick(rng, job.pronoun_clauses) + ".")
    slots = {"at": spot.at, "the": "the " + spot.name, "village": world.name}
    sentences.append(_TABLE.say(rng, "scenes", slots))
    if rng.random() < 0.4:
        sentences.insert(0, _TABLE.say(rng, "place openings", slots))
    return finish(" ".join(sentences))


def house(world: World, rng: Random) -> str:
    """A house and those who live in it."""
    home = pick(rng, world.village.houses)
    living = [person for person in world.people if person.home == home]
    names = [person.name for person in living]
    sentences = [pick(rng, fact.clauses) + "." for fact in world.stated_facts_of(home)]
    slots = {"home": home, "street": world.village.streets[home], "n": str(len(names))}
    sentences.insert(0, say(rng, "{home} [stands|lies] in {street}.", slots))
    for person in shuffled(rng, living)[:3]:
        facts = [
            fact for fact in world.stated_facts_of(person.name)
            if fact.relation in ("home", "job", "spouse", "mother", "father", "age", "pet")
        ]  # fmt: skip
        sentences.append(tell(world, rng, sample(rng, facts, 2)))
    return finish(" ".join(sentences))
