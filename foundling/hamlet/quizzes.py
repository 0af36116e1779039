"""Quizzes: questions about the village with answers, true-or-false claims and riddles."""

from random import Random

from foundling.hamlet.chance import between, pick, sample
from foundling.hamlet.english import capital, finish, number
from foundling.hamlet.grammar import say
from foundling.hamlet.phrase_table import PhraseTable
from foundling.hamlet.world import World

_TABLE = PhraseTable("quizzes.txt")


def quiz(world: World, rng: Random) -> str:
    """A few questions with short or whole answers, in one of several layouts."""
    facts = sample(rng, world.told, between(rng, 2, 6))
    if rng.random() < 0.4:
        subject = pick(rng, world.people).name
        facts = sample(rng, world.stated_facts_of(subject), between(rng, 2, 6))
    layout = pick(rng, _TABLE["layouts"])
    whole = rng.random()
    entries = []
    for fact in facts:
        question, answer = pick(rng, fact.questions)
        if rng.random() < whole:
            answer = pick(rng, fact.clauses)
        entries.append(say(rng, layout, {"q": capital(question), "a": capital(answer)}))
    return finish(("\n" if rng.random() < 0.8 or "\n" in layout else " ").join(entries))


def truths(world: World, rng: Random) -> str:
    """True or false: claims with their verdicts and corrections."""
    lines = []
    layout = pick(rng, _TABLE.rows("verdicts", 2))
    for fact in sample(rng, world.told, between(rng, 2, 5)):
        right = pick(rng, fact.clauses)
        if rng.random() < 0.5:
            lines.append(say(rng, layout[0], {"c": capital(right)}))
            continue
        false = world.falsehoods(fact, 1, rng)
        if not false:
            continue
        claim = world.claim(fact.subject, fact.relation, false[0])
        slots = {"c": capital(pick(rng, claim.clauses)), "r": right, "R": capital(right)}
        lines.append(say(rng, layout[1], slots))
    return finish("\n".join(lines))


def ages(world: World, rng: Random) -> str:
    """Which of two people is older, derived from their ages."""
    one, other = sample(rng, world.people, 2)
    if one.age == other.age:
        verdict = f"they are the same age: both are {number(one.age)}"
    else:
        old, young = (one, other) if one.age > other.age else (other, one)
        verdict = _TABLE.say(
            rng,
            "older",
            {**old.slots("o"), **young.slots("y"), "n": number(old.age), "m": number(young.age),
             "d": number(old.age - young.age)},
        )  # fmt: skip
    slots = {"a": one.name, "b": other.name, "v": verdict, "V": capital(verdict)}
    return finish(_TABLE.say(rng, "ages", slots))


def riddle(world: World, rng: Random) -> str:
    """Some facts, then the name of the only villager they all fit."""
    while True:
        person = pick(rng, world.people)
        stated = [f for f in world.stated_facts_of(person.name) if f.relation in _RIDDLED]
        facts = sample(rng, stated, between(rng, 2, 4))
        fits = [
            p for p in world.people
            if all(world.is_true(p.name, f.relation, f.value) for f in facts)
        ]  # fmt: skip
        if len(fits) == 1:
            break
    clues = ". ".join(pick(rng, f.pronoun_clauses) for f in facts)
    return finish(_TABLE.say(rng, "riddles", {"c": clues, **person.slots("who")}))


_RIDDLED = frozenset(
    ("home", "age", "hair", "food", "belonging", "season", "fear", "morning", "market_day",
     "hobby", "lesson")
)  # fmt: skip
