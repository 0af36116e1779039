"""The files that the inputs of a verb name: files, folders, globs, data sets on the hub."""

import glob
import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NoReturn

from foundling.data.readers import hub, kinds
from foundling.data.source_errors import SourceError


def expand(
    inputs: Sequence[str | Path], endings: Collection[str]
) -> tuple[dict[str, int | None], Counter[str]]:
    """The size of each file to read, and the number of files ignored, by suffix.

    A file is read if its name has one of the `endings`.
    The order is that of `inputs`; the files of a folder or a glob are sorted. The size of a pipe
    or of a data set on the hub is unknown.

    Raises:
        SourceError: an input is not there or holds no file that can be read.
    """
    if not inputs:
        raise SourceError("no input", "No input was given.")
    ignored: Counter[str] = Counter()
    files = [file for given in inputs for file in _expand(str(given), ignored, tuple(endings))]
    return {file: _size(file) for file in files}, ignored


def _size(file: str) -> int | None:
    if hub.is_on_hub(file) or (os.path.exists(file) and not os.path.isfile(file)):
        return None
    return os.path.getsize(file) if os.path.exists(file) else 0  # a broken link


def _expand(given: str, ignored: Counter[str], endings: tuple[str, ...]) -> list[str]:
    if hub.is_on_hub(given):
        return [given]
    path = Path(given)
    if path.is_dir():
        return _folder(path, ignored, endings)
    if os.path.lexists(path):
        if not _is_read(given, endings):
            raise SourceError(
                "unknown suffix", f"{given}: not a kind that is read ({kinds(endings)})."
            )
        return [given]
    if not glob.has_magic(given):
        raise SourceError("missing", f"{given}: no such file or folder.")
    return _glob(given, ignored, endings)


def _glob(pattern: str, ignored: Counter[str], endings: tuple[str, ...]) -> list[str]:
    found = sorted(glob.glob(pattern, recursive=True))
    if not found:
        raise SourceError("missing", f"{pattern}: nothing matches this pattern.")
    if found == [pattern]:
        raise SourceError("missing", f"{pattern}: cannot be opened.")
    names = [name for name in found if not Path(name).is_dir()]
    files = [name for name in names if _is_read(name, endings)]
    if not files:
        raise SourceError(
            "no text", f"{pattern}: none of {len(found)} matches is read ({kinds(endings)})."
        )
    ignored.update(
        Path(name).suffix or "no suffix" for name in names if not _is_read(name, endings)
    )
    return files


def _folder(folder: Path, ignored: Counter[str], endings: tuple[str, ...]) -> list[str]:
    files: list[str] = []
    others: Counter[str] = Counter()
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        others.update({"links to folders": len(links)} if links else {})
        for name in names:
            if name.startswith("."):
                others["hidden"] += 1
            elif _is_read(name, endings):
                files.append(str(Path(parent) / name))
            else:
                others[Path(name).suffix or "no suffix"] += 1
    if not files:
        held = ", ".join(f"{n} {suffix}" for suffix, n in sorted(others.items())) or "nothing"
        raise SourceError(
            "no text", f"{folder}: holds no text to read ({kinds(endings)}); it holds {held}."
        )
    ignored += others
    return sorted(files)


def _refuse(error: OSError) -> NoReturn:
    raise SourceError("unreadable", f"{error.filename}: {error.strerror}.")


def _is_read(name: str, endings: tuple[str, ...]) -> bool:
    return name.lower().endswith(endings)
