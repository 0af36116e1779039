"""Votes as a run's data: read from their database once, and kept with the run as a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from foundling.base.config import ConfigError
from foundling.data.preferences import PAIR_FORMATS, SourcedPair

_MAGIC = b"SQLite format 3\0"


def is_database(place: str) -> bool:
    """Whether it is a file of SQLite or the URL of a database, not a file of rows."""
    if place.startswith(("sqlite:", "postgresql:", "postgres:")):
        return True
    try:
        with Path(place).open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


@dataclass(frozen=True)
class Votes:
    """What annotators prefer, as rows, and a report of what was left out."""

    name: str
    rows: list[dict[str, Any]]
    report: Sequence[str]

    @classmethod
    def read(cls, place: str) -> Self:
        """The preferences that the votes in a database amount to.

        Raises:
            ConfigError: it is no database of preferences, or no pair has a preferred answer.
        """
        from foundling.preferences.database import shown
        from foundling.preferences.exchange import export
        from foundling.preferences.store import PreferenceStore

        with PreferenceStore.open(place, create=False) as store:
            found = export(store)
        name = shown(place)
        lines = [f"{name}: {line}" for line in found.report.lines()]
        if not found.train:
            raise ConfigError(f"{name}: no pair has a preferred answer; collect votes first.")
        return cls(name, found.train, lines)

    def pairs(self) -> list[SourcedPair]:
        parse = PAIR_FORMATS["explicit_prompt"].pair
        return [parse(f"{self.name}#{number}", row) for number, row in enumerate(self.rows, 1)]

    def write(self, file: Path) -> None:
        from foundling.preferences.exchange import write_rows

        write_rows(file, self.rows)
