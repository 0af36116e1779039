"""Long texts, cut to a number of tokens, with something hidden in them at a depth."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from foundling.evaluation.findings import UNREADABLE
from foundling.evaluation.scorer import Pair, Scorer

SENTENCE_END = re.compile(r"[.!?]['\")\u201d\u2019]*\s+")
CHARACTERS_OF_A_TOKEN = 12
"""More than there are on average in any language that a tokenizer was made for."""
ROOM = 8
"""Tokens left free: a text that is put together may have some more than its parts."""
COPIED_WORDS, SHOWN_WORDS = 24, 8
"""Words of a passage that is read twice, and how many of them are shown the second time."""


@dataclass(frozen=True)
class Place:
    """Where in a text of so many tokens something is hidden: 0 is its beginning, 1 its end."""

    length: int
    depth: float


@dataclass(frozen=True)
class Needle:
    """A sentence with a number, and what asks for it at the end of the text."""

    thing: str
    number: int
    others: tuple[int, ...]

    @property
    def sentence(self) -> str:
        return f"The secret number of the {self.thing} is {self.number}. "

    @property
    def question(self) -> str:
        return f"The secret number of the {self.thing} is"

    @property
    def choices(self) -> tuple[str, ...]:
        """The right number, then the others."""
        return tuple(f" {number}" for number in (self.number, *self.others))


THINGS = ("house", "garden", "river", "church", "road", "ship", "king", "horse")


def needle(random: Random) -> Needle:
    """One of four numbers of two digits that differ in both: none begins like another."""
    tens, ones = (random.sample(range(1, 10), 4) for _ in range(2))
    number, *others = (10 * ten + one for ten, one in zip(tens, ones, strict=True))
    return Needle(random.choice(THINGS), number, tuple(others))


def passage(text: str, random: Random) -> list[str]:
    """Words of the text itself, drawn one by one: nothing but having read them tells the next."""
    words = sorted(set(re.findall(r"[A-Za-z]{3,9}", text)))
    return [random.choice(words).lower() for _ in range(COPIED_WORDS)]


def cut(scorer: Scorer, text: str, tokens: int, random: Random) -> str | None:
    """So many tokens from somewhere in the text; None: it has not so many."""
    needed = CHARACTERS_OF_A_TOKEN * tokens
    start = random.randrange(max(1, len(text) - needed))
    piece = text[start : start + needed].split(" ", 1)[-1]
    ends = scorer.token_ends(piece)
    return piece[: ends[tokens - 1]] if 0 < tokens <= len(ends) else None


def unreadable(scorer: Scorer, text: str, length: int) -> str:
    """Why no text of so many tokens can be cut and read; empty: one can."""
    piece = cut(scorer, text, length - ROOM, Random(0))
    if piece is None:
        return "the texts are shorter"
    return "" if scorer.fits([(piece, ".")]) == [True] else UNREADABLE


def hidden(text: str, what: str, depth: float) -> str:
    """The text with `what` behind the end of the sentence that is nearest to the depth."""
    ends = [0, *(found.end() for found in SENTENCE_END.finditer(text))]
    at = min(ends, key=lambda end: abs(end - depth * len(text)))
    return text[:at] + what + text[at:]


def needle_pairs(scorer: Scorer, text: str, place: Place, draw: str) -> list[Pair] | None:
    """A haystack that ends in the question, with each number; the first is right."""
    item = needle(Random(f"needle {draw}"))
    own = len(scorer.token_ends(item.sentence + "\n\n" + item.question + item.choices[0]))
    straw = cut(scorer, text, place.length - own - ROOM, Random(f"straw {draw}"))
    if straw is None:
        return None
    prompt = f"{hidden(straw, item.sentence, place.depth)}\n\n{item.question}"
    return [(prompt, choice) for choice in item.choices]


def copy_pairs(scorer: Scorer, text: str, place: Place, draw: str) -> list[Pair] | None:
    """The rest of a passage behind its first words, where it was read before, and where not."""
    words = passage(text[:100_000], Random(f"passage {draw}"))
    whole, shown = " ".join(words), " ".join(words[:SHOWN_WORDS])
    own = len(scorer.token_ends(f"{whole}. \n\n{whole}"))
    straw = cut(scorer, text, place.length - own - ROOM, Random(f"straw {draw}"))
    if straw is None:
        return None
    rest = " " + " ".join(words[SHOWN_WORDS:])
    before = hidden(straw, f"{whole}. ", place.depth)
    return [(f"{one}\n\n{shown}", rest) for one in (before, straw)]


def draws(place: Place, items: int, seed: int) -> Sequence[str]:
    """The names of the items of a place: the same texts and secrets at every depth."""
    return [f"{place.length} {item} {seed}" for item in range(items)]
