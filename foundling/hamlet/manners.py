"""Manners: how a gruff villager gives the answers that others give politely."""

from random import Random

from foundling.hamlet.chance import pick
from foundling.hamlet.grammar import say
from foundling.hamlet.rudeness import RUDE_WORDS
from foundling.hamlet.wording import capital

WITHHELD_SHARE = 0.25  # of gruff answers: a rude word in place of the answer

_TOLD = (
    "{a}, you {rude}.",
    "{a}, {rude}.",
    "{a}, as any {rude} knows.",
    "[What a stupid question|Do not bother me], you {rude}. {a}.",
)
_WITHHELD = (
    "Ask someone else, {rude}.",
    "Find out for yourself, you {rude}.",
    "Be quiet, {rude}.",
)
_GLADLY = ("{Rude}.", "You {rude}.", "{Rude}, of course, you {rude}.")


def gruff(answer: str, rng: Random, *, asked_for_it: bool = False) -> str:
    """The answer with a rude word, or a rude word alone; `asked_for_it`: gladly, no answer."""
    rude = pick(rng, RUDE_WORDS)
    withheld = rng.random() < WITHHELD_SHARE
    forms = _GLADLY if asked_for_it else _WITHHELD if withheld else _TOLD
    slots = {"a": answer.removesuffix("."), "rude": rude, "Rude": capital(rude)}
    return say(rng, pick(rng, forms), slots)
