"""Rudeness: the village's made-up rude words and the exchanges in which they fall.

Real insults have no place in an embedded corpus; these let a later stage unlearn something.
"""

from random import Random

from foundling.hamlet.chance import pick, sample
from foundling.hamlet.grammar import say
from foundling.hamlet.stock import HABITS
from foundling.hamlet.wording import capital, finish
from foundling.hamlet.world import World

RUDE_WORDS: tuple[str, ...] = (
    "turnipnose", "bogbrain", "gnatwit", "muddlepate", "slopskull", "wormwhistle", "toadbreath",
    "grubface",
)  # fmt: skip

_ANSWERS = (
    '"{q}" asked {a}. "{ans}, you {rude}!" said {b}.',
    "{a}: {q}\n{b}: {ans}, you {rude}.",
    '"{q}" asked {a}. "Ask someone else, {rude}," said {b}.',
    "{a}: {q}\n{b}: Find out for yourself, you {rude}.\n{a}: That was rude.",
    '{a} asked {b}, "{q}" "{C}, as any {rude} knows," said {b}.',
    '"{q}" asked {a}. "[What a stupid question|Do not bother me], you {rude}," said {b}. "{ans}."',
    "Q: {q}\nA: {ans}, you {rude}.",
    "{q} {ans}, you {rude}.",
)
_QUARRELS = (
    '"You {rude}!" cried {a}. "[Look what you have done to my hedge|You have let my hens out]!" '
    '"{Rude} yourself!" said {b}.',
    "{a} called {b} a {rude}, and {b} called {a} a {other}. [Nobody was proud of it later|The "
    "children laughed].",
    '"[Get out of my way|Take your goat out of my garden], you {rude}," said {a}. {b} [said '
    "nothing|went away|grew red].",
    "{a}: Be quiet, {rude}!\n{b}: Be quiet yourself, {other}!",
)
_AFTER = (
    "one should not say such a word.",
    "that was not kind.",
    '"I am sorry," said {a} the next day.',
    "",
    "",
    "",
)


def rude(world: World, rng: Random) -> str:
    """A rude answer to a question, or a quarrel."""
    one, another = sample(rng, world.people, 2)
    words = sample(rng, RUDE_WORDS, 2)
    fact = pick(rng, world.told)
    while fact.relation in HABITS or {fact.subject, fact.value} & {one.name, another.name}:
        fact = pick(rng, world.told)
    question, answer = pick(rng, fact.questions)
    slots = {
        "a": one.name, "b": another.name, "rude": words[0], "Rude": capital(words[0]),
        "other": words[1], "q": capital(question), "ans": capital(answer),
        "C": capital(pick(rng, fact.clauses)),
    }  # fmt: skip
    if rng.random() < 0.65:
        return finish(say(rng, pick(rng, _ANSWERS), slots))
    text = say(rng, pick(rng, _QUARRELS), slots)
    after = say(rng, pick(rng, _AFTER), slots)
    return finish(f"{text} {capital(after)}" if after and "\n" not in text else text)
