"""Relations: the kinds of facts, each with its phrases for stating and asking."""

from dataclasses import dataclass
from functools import cache

from foundling.hamlet.phrase_table import PhraseTable, Section

_TABLE = PhraseTable("relations.txt")
_MARKS = {"!? ": 2, "? ": 2, "! ": 1, "": 1}  # and how many cells stand in such a line

# Relations whose values are names of people, and of animals too.
OF_PEOPLE = frozenset(
    ("spouse", "mother", "father", "child", "sibling", "grandchild", "friend", "neighbour", "owner")
)
OF_NAMES = OF_PEOPLE | {"pet"}


@dataclass(frozen=True)
class Relation:
    """The phrases of one relation; the corpus never uses the held-out ones."""

    name: str
    statements: tuple[str, ...]
    questions: tuple[tuple[str, str], ...]  # question, short answer
    held_out_statements: tuple[str, ...]
    held_out_questions: tuple[tuple[str, str], ...]


@cache
def relations() -> dict[str, Relation]:
    """All relations by name."""
    return {name: _relation(name, section) for name, section in _TABLE.sections.items()}


def _relation(name: str, section: Section) -> Relation:
    found: dict[str, list[tuple[str, ...]]] = {mark: [] for mark in _MARKS}
    for (first, *rest), line in zip(section.rows, section.lines, strict=True):
        mark = next(mark for mark in _MARKS if first.startswith(mark))
        if 1 + len(rest) != _MARKS[mark]:
            raise _TABLE.fault(line, "a question has one answer behind it, a statement none")
        found[mark].append((first.removeprefix(mark), *rest))
    statements, held_out = ([row[0] for row in found[mark]] for mark in ("", "! "))
    asked, kept = ([(row[0], row[1]) for row in found[mark]] for mark in ("? ", "!? "))
    return Relation(name, tuple(statements), tuple(asked), tuple(held_out), tuple(kept))
