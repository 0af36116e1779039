"""Changes that should change no answer: typing errors, other orders, options behind letters."""

import re
from collections.abc import Sequence
from random import Random
from string import ascii_uppercase

WORD = re.compile(r"(?<![\w'-])[a-z]{4,}(?![\w'-])")
"""Words that may be mistyped: four letters or more in lower case, so that names stay."""


def mistyped(text: str, share: float, seed: int) -> str:
    """The text with an error in this share of its words, in one at least; always the same.

    Two neighbouring letters of a word are swapped, one is left out or one is doubled, never the
    first. A text without a word that may be mistyped stays as it is.
    """
    words = list(WORD.finditer(text))
    rng = Random(f"mistyped {seed} {text}")
    count = min(len(words), max(1, round(share * len(words))))
    for found in sorted(rng.sample(words, count), key=lambda word: -word.start()):
        text = text[: found.start()] + _mistype(found.group(), rng) + text[found.end() :]
    return text


def _mistype(word: str, rng: Random) -> str:
    unequal = [i for i in range(1, len(word) - 1) if word[i] != word[i + 1]]
    kind = rng.choice(("swap", "drop", "double") if unequal else ("drop", "double"))
    if kind == "swap":
        at = rng.choice(unequal)
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    at = rng.randrange(1, len(word))
    return word[:at] + (word[at + 1 :] if kind == "drop" else word[at] + word[at:])


def orders(count: int, num_orders: int, seed: int) -> list[tuple[int, ...]]:
    """Different orders of `count` indices, the first as they are. There must be so many."""
    rng, found = Random(f"orders {seed}"), {tuple(range(count)): None}
    while len(found) < num_orders:
        found.setdefault(tuple(rng.sample(range(count), count)))
    return list(found)


def lettered(query: str, options: Sequence[str]) -> str:
    """A question with its options behind letters, up to where the answer begins.

    >>> lettered("Who sang?", ["Tom", "Ida"])
    'Who sang?\\nA) Tom\\nB) Ida\\nAnswer:'
    """
    lines = [
        f"{letter}) {option}" for letter, option in zip(ascii_uppercase, options, strict=False)
    ]
    return "\n".join([query, *lines, "Answer:"])
