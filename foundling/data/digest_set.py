"""A set of digests on disk, as large as the disk is: which documents came before."""

import sqlite3
from pathlib import Path


class DigestSet:
    """A context; its file in `folder` is gone afterwards."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "digests.sqlite"

    def __enter__(self) -> "DigestSet":
        self._base = sqlite3.connect(self._file, isolation_level=None)
        self._base.execute("PRAGMA journal_mode = OFF")
        self._base.execute("PRAGMA synchronous = OFF")
        self._base.execute("PRAGMA cache_size = -65536")  # KiB
        self._base.execute("CREATE TABLE digests (digest BLOB PRIMARY KEY) WITHOUT ROWID")
        self._base.execute("BEGIN")
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()
        self._file.unlink(missing_ok=True)

    def add(self, digest: bytes) -> bool:
        """Whether `digest` is new."""
        done = self._base.execute("INSERT OR IGNORE INTO digests VALUES (?)", (digest,))
        return done.rowcount == 1
