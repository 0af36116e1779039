"""Files that survive a crash: synced to the disk, replaced atomically, locked while in use."""

import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foundling.base.config import ConfigError


def sync(path: Path) -> None:
    """Force the content of a file, or the names in a folder, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, whole."""
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        partial.write_bytes(content)
        sync(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Lock a file or folder, at most until the process ends; yields whether it was free.

    Args:
        wait: until it is.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        is_free = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            is_free = False
        yield is_free
    finally:
        os.close(descriptor)


@contextmanager
def fresh(out: Path) -> Iterator[Path]:
    """A path to write a file or folder at, which becomes `out` when all is written.

    Where anything fails, nothing is left of it.

    Raises:
        ConfigError: `out` exists; an empty folder is replaced.
    """
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: exists already; give another --out.")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        yield partial
        if out.is_dir() and partial.is_file():
            out.rmdir()
        os.replace(partial, out)
    except BaseException:
        shutil.rmtree(partial) if partial.is_dir() else partial.unlink(missing_ok=True)
        raise
