"""Databases for the tests: files of SQLite, and a real server of PostgreSQL where there is one."""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from foundling.preferences.records import Answer, Pair, Verdict
from foundling.preferences.store import PreferenceStore
from foundling.text.chat import Message

_numbers = count()


def _program(name: str) -> str | None:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], str]]:
    """Makes a new, empty database and gives its URL."""
    programs = [_program(name) for name in ("initdb", "pg_ctl", "createdb")]
    initdb, control, createdb = programs
    if initdb is None or control is None or createdb is None:
        pytest.skip("PostgreSQL's server is not installed (Debian: apt install postgresql)")
    if importlib.util.find_spec("psycopg") is None:
        pytest.skip("psycopg is not installed (pip install 'foundling[postgres]')")
    # The server refuses to run as root; Debian's package brings a user for it.
    user: str | None = None
    if os.geteuid() == 0:
        if "postgres" not in {entry.pw_name for entry in pwd.getpwall()}:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        user = "postgres"
    folder = Path(tempfile.mkdtemp(prefix="foundling-pg-"))
    if user is not None:
        shutil.chown(folder, user)

    def call(*words: str) -> None:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(words, check=True, user=user, cwd="/", timeout=300, **quiet)  # type: ignore[call-overload]

    data = str(folder / "data")
    try:
        call(initdb, "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8")
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}'"
        call(control, "-D", data, "-o", options, "-w", "-t", "240", "start")

        def make() -> str:
            name = f"votes{next(_numbers)}"
            call(createdb, "-h", str(folder), "-U", "postgres", name)
            return f"postgresql://postgres@/{name}?host={folder}"

        yield make
    finally:
        subprocess.run(
            [control, "-D", data, "-m", "immediate", "stop"], user=user, cwd="/", check=False,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A file or a URL."""
    if request.param == "sqlite":
        return str(tmp_path / "votes.db")
    make: Callable[[], str] = request.getfixturevalue("postgres")
    return make()


@pytest.fixture
def store(place: str) -> Iterator[PreferenceStore]:
    with PreferenceStore.open(place) as opened:
        yield opened


@pytest.fixture
def file_store(tmp_path: Path) -> Iterator[PreferenceStore]:
    """In SQLite, for what has nothing to do with the database."""
    with PreferenceStore.open(tmp_path / "votes.db") as opened:
        yield opened


@pytest.fixture
def pair_of() -> Callable[..., Pair]:
    def make(number: int, gold: Verdict | None = None, a: str = "", b: str = "") -> Pair:
        prompt = (Message("user", f"question {number}"),)
        first, second = a or f"first {number}", b or f"second {number}, longer"
        return Pair(prompt, Answer(first, "old"), Answer(second, "new"), gold=gold)

    return make
