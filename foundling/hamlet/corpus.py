"""The corpus: an endless, seeded stream of documents about the village.

The stream of a seed and a split is a pure function of both and of the world. Train and validation
draw from different random streams of the same writers; neither uses a held-out fact, phrasing or
Winograd schema, so that these test generalisation and validation loss tests the fit.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Literal

from foundling.hamlet import (
    comprehension,
    days,
    dialogues,
    errands,
    letters,
    lore,
    pair_lists,
    portraits,
    quizzes,
    rudeness,
    stories,
    winograd,
)
from foundling.hamlet.chance import weighted
from foundling.hamlet.world import World

Split = Literal["train", "validation"]


@dataclass(frozen=True)
class Document:
    """A text and the name of its kind."""

    kind: str
    text: str


# Kind, share of documents, writer.
KINDS: tuple[tuple[str, float, Callable[[World, Random], str]], ...] = (
    ("portrait", 16, portraits.portrait),
    ("animal", 3, portraits.animal),
    ("place", 7, portraits.place),
    ("house", 3, portraits.house),
    ("story", 24, stories.story),
    ("errand", 8, errands.errand),
    ("day", 7, days.day),
    ("dialogue", 13, dialogues.dialogue),
    ("letter", 5, letters.letter),
    ("notice", 4, letters.notice),
    ("quiz", 11, quizzes.quiz),
    ("truths", 3, quizzes.truths),
    ("ages", 2, quizzes.ages),
    ("riddle", 3, quizzes.riddle),
    ("reading", 7, comprehension.account),
    ("rude", 3, rudeness.rude),
    ("lore", 5, lambda world, rng: lore.lore(rng)),
    ("winograd", 6, winograd.incidents),
    ("page", 11, lambda world, rng: pair_lists.pair_list(rng)),
)


def labelled_documents(
    seed: int, split: Split = "train", world: World | None = None
) -> Iterator[Document]:
    """An endless stream of documents with their kinds. Raises ValueError on an unknown split."""
    if split not in ("train", "validation"):
        raise ValueError(f"split = {split!r}: no such split (train, validation)")
    village = world if world is not None else World()
    rng = Random(f"hamlet {split} {seed}")
    shares = [share for _, share, _ in KINDS]
    while True:
        kind, _, write = weighted(rng, KINDS, shares)
        yield Document(kind, write(village, rng))


def documents(seed: int, split: Split = "train", world: World | None = None) -> Iterator[str]:
    """The texts of `labelled_documents`."""
    return (document.text for document in labelled_documents(seed, split, world))


def text(num_characters: int, seed: int, split: Split = "train", world: World | None = None) -> str:
    """The first num_characters of the stream, documents separated by a blank line."""
    parts: list[str] = []
    length = 0
    for document in documents(seed, split, world):
        parts.append(document)
        length += len(document) + 2
        if length >= num_characters:
            break
    return "\n\n".join(parts)[:num_characters]


def write_corpus(
    path: str | Path,
    num_bytes: int,
    seed: int,
    split: Split = "train",
    world: World | None = None,
) -> int:
    """Write whole documents as JSON lines of `text` and `kind` until the texts hold num_bytes.

    Returns the number of documents.
    """

    def rows() -> Iterator[dict[str, str]]:
        written = 0
        for document in labelled_documents(seed, split, world):
            yield {"text": document.text, "kind": document.kind}
            written += len(document.text.encode())
            if written >= num_bytes:
                return

    return write_lines(path, rows())


def write_lines(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as JSON lines; return how many."""
    count = 0
    with Path(path).open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def take(
    num_documents: int, seed: int, split: Split = "train", world: World | None = None
) -> list[str]:
    """The first documents of the stream."""
    return list(islice(documents(seed, split, world), num_documents))
