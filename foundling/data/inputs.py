"""The files that inputs name: files, folders, globs and data sets on the hub."""

import glob
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from foundling.data.faults import SourceError
from foundling.data.readers import READERS, hub, reader_of

_READ = ", ".join(READERS)


def expand(inputs: Sequence[str | Path]) -> tuple[dict[str, int | None], Counter[str]]:
    """The size of each file to read, and how many were left out, by suffix.

    The order is that of `inputs`; the files of a folder or a glob are sorted. The size of a pipe
    or of a data set on the hub is unknown.

    Raises:
        SourceError: an input is not there or holds nothing that can be read.
    """
    if not inputs:
        raise SourceError("no input", "No input was given.")
    ignored: Counter[str] = Counter()
    files = [file for given in inputs for file in _expand(str(given), ignored)]
    sizes = {file: Path(file).stat().st_size if Path(file).is_file() else None for file in files}
    return sizes, ignored


def _expand(given: str, ignored: Counter[str]) -> list[str]:
    if hub.is_on_hub(given):
        return [given]
    path = Path(given)
    if path.is_dir():
        return _folder(path, ignored)
    if path.exists():
        if not reader_of(given):
            raise SourceError("unknown suffix", f"{given}: not a kind that is read ({_READ}).")
        return [given]
    if not glob.has_magic(given):
        raise SourceError("missing", f"{given}: no such file or folder.")
    return _glob(given, ignored)


def _glob(pattern: str, ignored: Counter[str]) -> list[str]:
    found = sorted(glob.glob(pattern, recursive=True))
    if not found:
        raise SourceError("missing", f"{pattern}: nothing matches this pattern.")
    if found == [pattern]:
        raise SourceError("missing", f"{pattern}: cannot be opened.")
    names = [name for name in found if not Path(name).is_dir()]
    files = [name for name in names if reader_of(name)]
    if not files:
        raise SourceError("no text", f"{pattern}: none of {len(found)} matches is read ({_READ}).")
    ignored.update(Path(name).suffix or "no suffix" for name in names if not reader_of(name))
    return files


def _folder(folder: Path, ignored: Counter[str]) -> list[str]:
    files: list[str] = []
    others: Counter[str] = Counter()
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.startswith("."):
                others["hidden"] += 1
            elif reader_of(name):
                files.append(str(Path(parent) / name))
            else:
                others[Path(name).suffix or "no suffix"] += 1
    if not files:
        held = ", ".join(f"{n} {suffix}" for suffix, n in sorted(others.items())) or "nothing"
        raise SourceError("no text", f"{folder}: holds no text to read ({_READ}), only {held}.")
    ignored += others
    return sorted(files)
