"""The digests of the documents that came before, on disk."""

import sqlite3
from pathlib import Path


class Seen:
    """Used as a context; begins empty and leaves nothing in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "seen.sqlite"

    def __enter__(self) -> "Seen":
        self._base = sqlite3.connect(self._file, isolation_level=None)
        self._base.execute("PRAGMA journal_mode = OFF")
        self._base.execute("PRAGMA synchronous = OFF")
        self._base.execute("PRAGMA cache_size = -65536")  # KiB
        self._base.execute("CREATE TABLE seen (digest BLOB PRIMARY KEY) WITHOUT ROWID")
        self._base.execute("BEGIN")
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()
        self._file.unlink(missing_ok=True)

    def add(self, digest: bytes) -> bool:
        """Whether `digest` is new."""
        done = self._base.execute("INSERT OR IGNORE INTO seen VALUES (?)", (digest,))
        return done.rowcount == 1
