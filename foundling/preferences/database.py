"""The connection to the preference database: SQLite by default, PostgreSQL by URL."""

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from foundling.base.config import ConfigError
from foundling.preferences import schema

BUSY_MILLISECONDS = 60_000  # how long a writer waits for another process
_LOCK = int.from_bytes(b"foundlng", "big") >> 1  # of PostgreSQL's advisory lock


class Database:
    """Transactions that see and leave a consistent state; writers take turns.

    `identity` tells this database from any other that is served at the same address.

    What is committed is on the disk: SQLite syncs its write-ahead log at
    every commit, PostgreSQL does so unless its administrator has turned it off.
    """

    def __init__(self, place: str | Path, *, create: bool = True) -> None:
        self.url, self._shown = _url(place), shown(place)
        if not create and self._is_sqlite and not Path(self.url.database or "").is_file():
            raise ConfigError(f"{self._shown}: no such database of preferences.")
        self._engine = _engine(self.url)
        # Threads wait their turn here, in order; SQLite's own waiting is polling.
        self._turn = threading.Lock()
        try:
            with self.write() as connection:
                _check_schema(connection, self._shown, create)
                self.identity = _identity(connection)
        except DBAPIError as error:
            self.close()
            raise ConfigError(f"{self._shown}: cannot be opened: {_first_line(error)}") from None
        except BaseException:
            self.close()
            raise

    @property
    def _is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def read(self) -> Iterator[sql.Connection]:
        """A transaction that reads one consistent state."""
        with self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self, *, lasting: bool = True) -> Iterator[sql.Connection]:
        """A transaction during which nobody else writes; committed at the end, or rolled back.

        A commit that is not `lasting` may be lost if the machine itself dies before the next
        lasting one, but never without what was committed later: leases need not wait for the disk.
        """
        with self._turn, self._engine.connect() as connection:
            connection = connection.execution_options(writes=True, lasting=lasting)
            with connection.begin():
                if not self._is_sqlite:
                    if not lasting:
                        connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
                    connection.execute(sql.select(sql.func.pg_advisory_xact_lock(_LOCK)))
                yield connection

    def close(self) -> None:
        self._engine.dispose()


def shown(place: str | Path) -> str:
    """The file, or the URL without its password."""
    url = _url(place)
    return url.database or "" if url.get_backend_name() == "sqlite" else str(url)


def _url(place: str | Path) -> sql.URL:
    text = str(place)
    if "://" not in text:
        return sql.URL.create("sqlite", database=text)
    try:
        url = sql.make_url(text)
        backend = url.get_backend_name()
    except (ArgumentError, ValueError):
        raise ConfigError(
            f'"{text}": not a database URL; give a file or postgresql://...'
        ) from None
    if backend == "postgres":
        backend = "postgresql"
    if backend not in ("sqlite", "postgresql"):
        raise ConfigError(f'"{backend}": no such database (postgresql, sqlite); give another URL.')
    if backend == "sqlite" and url.database in (None, "", ":memory:"):
        raise ConfigError(f'"{text}": votes in memory would be lost; give the path of a file.')
    return url.set(drivername="sqlite" if backend == "sqlite" else "postgresql+psycopg")


def _engine(url: sql.URL) -> sql.Engine:
    if url.get_backend_name() == "sqlite":
        folder = Path(url.database or "").parent
        if not folder.is_dir():
            raise ConfigError(f"{url.database}: the folder {folder} is not there; make it first.")
        engine = sql.create_engine(url, pool_size=8, max_overflow=56)
        sql.event.listen(engine, "connect", _set_up_sqlite)
        sql.event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        return sql.create_engine(
            url, pool_size=8, max_overflow=24, isolation_level="READ COMMITTED", pool_pre_ping=True
        )
    except (ModuleNotFoundError, NoSuchModuleError):
        raise ConfigError(
            f"{url}: PostgreSQL needs psycopg; pip install 'foundling[postgres]'."
        ) from None


def _set_up_sqlite(connection: Any, _: object) -> None:
    # The driver is not to begin transactions of its own: SQLAlchemy, "pysqlite", says why.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {BUSY_MILLISECONDS}",
        "journal_mode = WAL",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sql.Connection) -> None:
    options = connection.get_execution_options()
    if not options.get("writes", False):
        connection.exec_driver_sql("BEGIN")
        return
    level = "FULL" if options["lasting"] else "NORMAL"
    connection.exec_driver_sql(f"PRAGMA synchronous = {level}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _check_schema(connection: sql.Connection, shown: str, create: bool) -> None:
    names = set(sql.inspect(connection).get_table_names())
    if schema.meta.name not in names:
        ours = names & set(schema.metadata.tables)
        if ours:
            raise ConfigError(
                f"{shown}: holds tables of something else ({', '.join(sorted(ours))}); "
                "give another database."
            )
        if not create:
            raise ConfigError(f"{shown}: holds no preferences; give another database.")
        schema.metadata.create_all(connection, checkfirst=False)
        for statement in schema.permanence(connection.dialect.name):
            connection.exec_driver_sql(statement)
        connection.execute(sql.insert(schema.meta).values(name="schema", value=str(schema.VERSION)))
        return
    query = sql.select(schema.meta.c.value).where(schema.meta.c.name == "schema")
    found = connection.execute(query).scalar_one_or_none()
    if found != str(schema.VERSION):
        raise ConfigError(
            f"{shown}: its schema is version {found}, this Foundling knows {schema.VERSION}; "
            "use the Foundling that wrote it, or another file."
        )


def _identity(connection: sql.Connection) -> str:
    """The database's random name; a database made by an earlier version gets one now."""
    query = sql.select(schema.meta.c.value).where(schema.meta.c.name == "identity")
    found = connection.execute(query).scalar_one_or_none()
    if found is None:
        found = secrets.token_hex(8)
        connection.execute(sql.insert(schema.meta).values(name="identity", value=found))
    return str(found)


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0]
