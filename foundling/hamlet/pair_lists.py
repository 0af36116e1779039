"""Pair lists: lists of made-up pairs that can be continued only from the list itself.

A list draws a fresh mapping and repeats its pairs; or it gives every word the made-up name of its
group, so that the name of a new word follows from the examples.
"""

from random import Random

from foundling.hamlet.chance import between, pick, sample, shuffled
from foundling.hamlet.phrase_table import PhraseTable

_TABLE = PhraseTable("pair_lists.txt")

MADE_UP: tuple[str, ...] = tuple(
    onset + rime
    for onset in ("t", "r", "z", "v", "fl", "kr", "gl", "dr", "p", "m", "sn", "qu")
    for rime in ("osk", "ill", "ampo", "eb", "ufa", "ong", "ixa", "arn", "umble", "oot")
    if onset + rime not in {"rill", "drill", "pill", "mill", "till", "krill", "quill", "prong",
                            "root", "fumble", "mumble", "tumble", "rumble", "grumble", "quong",
                            "ramp", "moot", "toot", "snoot", "darn", "tong", "fling"}
)  # fmt: skip

# Each layout: what opens the page, how a pair is written, what stands between two pairs, the end.
LAYOUTS: tuple[tuple[str, str, str, str], ...] = (
    ("", "{0} → {1}", "; ", "."),
    ("", "{0} → {1}", "\n", ""),
    ("", "{0}: {1}", "\n", ""),
    ("", "{0} = {1}", ", ", "."),
    ("", "{0} is {1}", "; ", "."),
    ("", "{0} means {1}", ". ", "."),
    ("", "{0} - {1}", "\n", ""),
    ("A list for today. ", "{0} → {1}", "; ", "."),
    ("Words of the travellers: ", "{0} = {1}", "; ", "."),
    ("The children made up a language. ", "they call {0} {1}", "; ", "."),
    ("A game of names:\n", "{0} → {1}", "\n", ""),
    ("On the back of the map was written: ", "{0} is {1}", ", ", "."),
    ("", "Q: {0} A: {1}", "\n", ""),
    ("", "word: {0}, answer: {1}", "\n", ""),
)


def word_groups() -> dict[str, tuple[str, ...]]:
    """The words of each group, such as fruits or tools."""
    return _TABLE.groups("groups")


def pair_list(rng: Random) -> str:
    """One list of pairs."""
    draw = rng.random()
    if draw < 0.6:
        pairs = _repeated(rng)
    elif draw < 0.85:
        pairs = _grouped(rng)
    else:
        table = _TABLE.rows(pick(rng, ("opposites", "young", "plurals")), 2)
        pairs = [(key, value) for key, value in sample(rng, table, between(rng, 5, 9))]
        if rng.random() < 0.4:
            pairs = [(value, key) for key, value in pairs if key != value]
    opening, pair, between_pairs, end = pick(rng, LAYOUTS)
    lines = [pair.format(*entry) for entry in pairs]
    if between_pairs == ". ":
        lines = [line[0].upper() + line[1:] for line in lines]
    return opening + between_pairs.join(lines) + end


def _repeated(rng: Random) -> list[tuple[str, str]]:
    """A random mapping, each pair two to four times; no two keys share a value."""
    words = word_groups()
    num_keys = between(rng, 3, 8)
    groups = sample(rng, list(words), 2)
    keys = sample(
        rng, words[groups[0]] + (words[groups[1]] if rng.random() < 0.4 else ()), num_keys
    )
    if rng.random() < 0.75:
        values = sample(rng, MADE_UP, num_keys)
    else:
        other = pick(rng, [group for group in words if group not in groups])
        values = sample(rng, words[other], num_keys)
    if rng.random() < 0.15:
        keys = sample(rng, [word for word in MADE_UP if word not in values], len(values))
    mapping = list(zip(keys, values, strict=False))
    pairs = shuffled(rng, mapping)
    for _ in range(between(rng, 1, 3)):
        again = shuffled(rng, mapping)
        if again[0] == pairs[-1]:
            again.append(again.pop(0))
        pairs += again
    return pairs


def _grouped(rng: Random) -> list[tuple[str, str]]:
    """Every word with the name of its group: the words are new, the rule is not."""
    words = word_groups()
    groups = sample(rng, list(words), between(rng, 2, 3))
    names = sample(rng, MADE_UP, len(groups))
    if rng.random() < 0.15:
        names = groups
    entries = [
        (word, name)
        for group, name in zip(groups, names, strict=True)
        for word in sample(rng, words[group], between(rng, 4, 7))
    ]
    return shuffled(rng, entries)
