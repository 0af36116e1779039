"""Shortens the names of models and runs, which may be paths."""

from collections.abc import Sequence

LONGEST_NAME = 23  # characters beside a figure
LONGEST_IN_TABLE = 48


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Names without the folders that all share; names that are still long lose their beginning.

    >>> short_names(["runs/sft", "runs/dpo"])
    {'runs/sft': 'sft', 'runs/dpo': 'dpo'}
    """
    parts = {name: name.split("/") for name in names}
    shared = 0
    while len({tuple(words[: shared + 1]) for words in parts.values()}) == 1 and all(
        len(words) > shared + 1 for words in parts.values()
    ):
        shared += 1
    short = {name: "/".join(words[shared:]) for name, words in parts.items()}
    ends = {name: cut(text, LONGEST_IN_TABLE) for name, text in short.items()}
    return ends if len(set(ends.values())) == len(ends) else short


def cut(name: str, longest: int = LONGEST_NAME) -> str:
    """A name cut to `longest` characters at its beginning: paths differ at their ends."""
    return name if len(name) <= longest else "…" + name[1 - longest :]
