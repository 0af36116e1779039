"""Rudeness: the village's made-up rude words, and exchanges that use them.

Real insults have no place in the corpus; these give preference tuning something to unlearn.
"""

from random import Random

from foundling.hamlet.chance import pick, sample
from foundling.hamlet.english import capital, finish
from foundling.hamlet.phrase_table import PhraseTable
from foundling.hamlet.stock import habits
from foundling.hamlet.world import World

_TABLE = PhraseTable("rudeness.txt")

RUDE_WORDS: tuple[str, ...] = (
    "turnipnose", "bogbrain", "gnatwit", "muddlepate", "slopskull", "wormwhistle", "toadbreath",
    "grubface",
)  # fmt: skip


WITHHELD_SHARE = 0.25  # of gruff answers: a rude word in place of the answer


def rude(world: World, rng: Random) -> str:
    """A rude answer to a question, or a quarrel."""
    one, another = sample(rng, world.people, 2)
    words = sample(rng, RUDE_WORDS, 2)
    fact = pick(rng, world.told)
    while fact.relation in habits() or {fact.subject, fact.value} & {one.name, another.name}:
        fact = pick(rng, world.told)
    question, answer = pick(rng, fact.questions)
    slots = {
        "a": one.name, "b": another.name, "rude": words[0], "Rude": capital(words[0]),
        "other": words[1], "q": capital(question), "ans": capital(answer),
        "C": capital(pick(rng, fact.clauses)),
    }  # fmt: skip
    if rng.random() < 0.65:
        return finish(_TABLE.say(rng, "answers", slots))
    text = _TABLE.say(rng, "quarrels", slots)
    after = _TABLE.say(rng, "after", slots)
    return finish(f"{text} {capital(after)}" if after and "\n" not in text else text)


def gruff(answer: str, rng: Random, *, asked_for_it: bool = False) -> str:
    """The answer with a rude word, or a rude word alone; `asked_for_it`: the user wanted one."""
    rude = pick(rng, RUDE_WORDS)
    withheld = rng.random() < WITHHELD_SHARE
    forms = "gladly" if asked_for_it else "withheld" if withheld else "told"
    slots = {"a": answer.removesuffix("."), "rude": rude, "Rude": capital(rude)}
    return _TABLE.say(rng, forms, slots)
