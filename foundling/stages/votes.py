"""Votes as training data: read once from their database, and kept in the run as a file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from foundling.base.config import ConfigError
from foundling.data.conversations import SourcedPair
from foundling.data.formats import FORMATS

if TYPE_CHECKING:
    from foundling.preferences.records import Who

_MAGIC = b"SQLite format 3\0"


def is_database(place: str) -> bool:
    """Whether `place` is an SQLite file or a database URL, not a file of rows."""
    if place.startswith(("sqlite:", "postgresql:", "postgres:")):
        return True
    try:
        with Path(place).open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


@dataclass(frozen=True)
class Votes:
    """Pairs that votes have decided, and a report of what was left out."""

    name: str
    pairs: list[SourcedPair]
    report: Sequence[str]

    @classmethod
    def read(cls, place: str, *, who: "Who" = "all", without: Sequence[str] = ()) -> Self:
        """The pairs that the votes in a database decide, as `Selection` chooses these.

        Raises:
            ConfigError: it is no database of preferences, or no pair has a preferred answer.
        """
        from foundling.preferences.database import shown
        from foundling.preferences.exchange import decide
        from foundling.preferences.selection import Selection
        from foundling.preferences.store import PreferenceStore

        with PreferenceStore.open(place, create=False) as store:
            found, report = decide(store, Selection(who, tuple(without)))
        name = shown(place)
        pairs = [held for each in found for held in each.held if isinstance(held, SourcedPair)]
        if not pairs:
            raise ConfigError(f"{name}: no pair has a preferred answer; collect votes first.")
        numbered = [replace(pair, where=f"{name}#{n}") for n, pair in enumerate(pairs, 1)]
        return cls(name, numbered, [f"{name}: {line}" for line in report.lines()])

    def write(self, file: Path) -> None:
        """The pairs as rows with an explicit prompt."""
        from foundling.preferences.exchange import write_rows

        write = FORMATS["explicit_prompt"].write
        assert write is not None
        write_rows(file, [row for pair in self.pairs for row in write(pair, False)])
