"""Pairs whose better answer is known, shown among the others to see who looks closely."""

import random
from pathlib import Path

from foundling.preferences.importing import read_preferences
from foundling.preferences.records import Answer, Pair


def gold_pairs(path: Path, seed: int = 0) -> list[Pair]:
    """The pairs of any file of preferences, chosen against rejected; `seed` draws which is A.

    Raises:
        ConfigError: the file cannot be read or is of no form that is known.
    """
    found, _ = read_preferences([path])
    pairs = []
    for _, given in found:
        chosen, rejected = Answer(given.chosen, "gold"), Answer(given.rejected, "gold")
        swap = random.Random(f"{seed}/{given.prompt}/{given.chosen}").random() < 0.5
        a, b = (rejected, chosen) if swap else (chosen, rejected)
        pairs.append(Pair(given.prompt, a, b, prompt_source=path.name, gold="B" if swap else "A"))
    return pairs
