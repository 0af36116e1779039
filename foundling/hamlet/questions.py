"""Questions: asked and answered about the village, on slates, in quizzes and as riddles."""

from random import Random

from foundling.hamlet.chance import between, pick, sample
from foundling.hamlet.grammar import say
from foundling.hamlet.wording import capital, finish, number
from foundling.hamlet.world import World


def quiz(world: World, rng: Random) -> str:
    """A few questions with short or whole answers, in one of several layouts."""
    facts = sample(rng, world.told, between(rng, 2, 6))
    if rng.random() < 0.4:
        subject = pick(rng, world.people).name
        facts = sample(rng, world.stated_facts_of(subject), between(rng, 2, 6))
    layout = pick(rng, _LAYOUTS)
    whole = rng.random()
    entries = []
    for fact in facts:
        question, answer = pick(rng, fact.questions)
        if rng.random() < whole:
            answer = pick(rng, fact.clauses)
        entries.append(say(rng, layout, {"q": capital(question), "a": capital(answer)}))
    return finish(("\n" if rng.random() < 0.8 or "\n" in layout else " ").join(entries))


_LAYOUTS = (
    "Question: {q}\nAnswer: {a}.",
    "Q: {q}\nA: {a}.",
    "{q} {a}.",
    "{q} - {a}.",
    "{q}\n{a}.",
    "Teacher: {q}\nChild: {a}.",
)


def truths(world: World, rng: Random) -> str:
    """True or false: claims, each with its verdict and what is so."""
    lines = []
    layout = pick(rng, _VERDICTS)
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


_VERDICTS = (
    ("True or false? {c}. True.", "True or false? {c}. False: {r}."),
    ("{c}. That is true.", "{c}. That is not true. {R}."),
    ("{c}. Right.", "{c}. Wrong. {R}."),
    ('"{c}." "[yes, that is so|yes, you are right]."', '"{c}." "No, {r}."'),
)


def ages(world: World, rng: Random) -> str:
    """Who is older? Told from two ages."""
    one, other = sample(rng, world.people, 2)
    if one.age == other.age:
        verdict = f"they are the same age: both are {number(one.age)}"
    else:
        old, young = (one, other) if one.age > other.age else (other, one)
        verdict = say(
            rng,
            pick(rng, _OLDER),
            {**old.slots("o"), **young.slots("y"), "n": number(old.age), "m": number(young.age),
             "d": number(old.age - young.age)},
        )  # fmt: skip
    slots = {"a": one.name, "b": other.name, "v": verdict, "V": capital(verdict)}
    return finish(say(rng, pick(rng, _ASK_AGES), slots))


_OLDER = (
    "{o} is older than {y}, for {o} is {n} and {y} is only {m}",
    "{o} is older; {o.he} is {n}, and {y} is {m}",
    "{y} is younger than {o}: {y} is {m} and {o} is {n}",
    "{o} is {n} and {y} is {m}, so {o} is older",
)
_ASK_AGES = (
    "who is older, {a} or {b}? {V}.",
    "is {a} older than {b}? {V}.",
    "the children asked who was older, {a} or {b}. {V}.",
    "{V}.",
)


def riddle(world: World, rng: Random) -> str:
    """Some facts without a name, then the name: no other villager fits them all."""
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
    return finish(say(rng, pick(rng, _RIDDLES), {"c": clues, **person.slots("who")}))


_RIDDLED = frozenset(
    ("home", "age", "hair", "food", "belonging", "season", "fear", "morning", "market_day",
     "hobby", "lesson")
)  # fmt: skip
_RIDDLES = (
    "who is it? {c}. It is {who}.",
    "{c}. Who is it? [It is {who}|{who}|That must be {who}].",
    "I am thinking of a {who.noun}. {c}. Who is it? {who}!",
    "guess who this is. {c}. The answer is {who}.",
)
