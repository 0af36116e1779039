"""Phrase tables: the words of the village, in text files that are edited without Python.

A heading `== name` or `== name: note note` begins a section. A line below it is one phrase, or
several cells divided by " | "; `\\n` in it is a line break, and a line `-` is the empty phrase. A
blank line begins a new block of the section. A line that begins with `#` is a comment.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random

from foundling.hamlet.chance import pick
from foundling.hamlet.grammar import parse, say

FOLDER = Path(__file__).parent / "tables"


@dataclass(frozen=True)
class Section:
    """The notes behind a heading; the lines below it as rows of cells, and their numbers.

    `blocks` are the phrases between blank lines.
    """

    notes: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    blocks: list[list[str]] = field(default_factory=list)

    @cached_property
    def phrases(self) -> tuple[str, ...]:
        """All cells. A phrase listed twice is drawn twice as often."""
        return tuple(cell for row in self.rows for cell in row)


class PhraseTable:
    """A file of sections, read at first use. Raises ValueError with file and line."""

    def __init__(self, file: str | Path) -> None:
        self.path = FOLDER / file

    @cached_property
    def sections(self) -> Mapping[str, Section]:
        """The sections by name, in the order of the file."""
        sections: dict[str, Section] = {}
        for number, line in enumerate(self.path.read_text("utf-8").splitlines(), 1):
            if line.startswith("=="):
                name, _, notes = (part.strip() for part in line[2:].partition(":"))
                if not name or name in sections:
                    raise self.fault(number, f"{line!r} is no new name of a section")
                sections[name] = section = Section(tuple(notes.split()))
                is_new_block = True
            elif not line.strip():
                is_new_block = True
            elif not line.startswith("#"):
                if not sections:
                    raise self.fault(number, "a heading, == name, must stand above the phrases")
                row = tuple(self._phrase(cell, number) for cell in line.split(" | "))
                section.rows.append(row)
                section.lines.append(number)
                if is_new_block:
                    section.blocks.append([])
                section.blocks[-1] += row
                is_new_block = False
        if empty := [name for name, section in sections.items() if not section.rows]:
            raise ValueError(f"{self.path.name}: sections that are empty: {', '.join(empty)}")
        return sections

    def __getitem__(self, name: str) -> tuple[str, ...]:
        """All phrases of the section."""
        return self.sections[name].phrases

    def rows(self, name: str, cells: int) -> list[tuple[str, ...]]:
        """The lines of the section, which must have this many cells each."""
        section = self.sections[name]
        for row, number in zip(section.rows, section.lines, strict=True):
            if len(row) != cells:
                raise self.fault(number, f"{len(row)} cells, where {name!r} has {cells} in a line")
        return section.rows

    def groups(self, name: str) -> dict[str, tuple[str, ...]]:
        """The lines of the section, by their first cell."""
        return {row[0]: row[1:] for row in self.sections[name].rows}

    def say(self, rng: Random, name: str, slots: Mapping[str, str]) -> str:
        """Draw one of the section's phrases and fill it."""
        return say(rng, pick(rng, self[name]), slots)

    def _phrase(self, cell: str, number: int) -> str:
        phrase = "" if cell.strip() == "-" else cell.strip().replace("\\n", "\n")
        try:
            parse(phrase)
        except ValueError as error:
            raise self.fault(number, str(error)) from None
        return phrase

    def fault(self, number: int, what: str) -> ValueError:
        """The error to raise for a line of the file."""
        return ValueError(f"{self.path.name}:{number}: {what}")
