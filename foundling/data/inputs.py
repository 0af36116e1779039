"""The files that the inputs of a verb name: files, folders, globs, data sets on the hub."""

import glob
import logging
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from foundling.data.readers import TABLE_ENDINGS, hub, is_text, kinds
from foundling.data.source_errors import SourceError

log = logging.getLogger(__name__)


def expand(
    inputs: Sequence[str | Path], endings: Collection[str]
) -> tuple[dict[str, int | None], Counter[str]]:
    """The size of each file to read, and the number of files ignored, by suffix.

    A file is read if its name has one of the `endings`. In a folder with texts to read, a table
    (.json, .csv, .tsv) is taken for a description of them and ignored, which a warning says.
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
    others = Counter[str]()
    if os.path.isdir(given):
        names = list(_walk(given, others))
    elif os.path.lexists(given):
        names = [given]
    elif glob.has_magic(given):
        names = [name for name in glob.glob(given, recursive=True) if not os.path.isdir(name)]
    else:
        raise SourceError("missing", f"{given}: no such file or folder.")
    files = sorted(name for name in names if name.lower().endswith(endings))
    if os.path.isdir(given) and any(map(is_text, files)):
        tables = [name for name in files if name.lower().endswith(TABLE_ENDINGS)]
        files = [name for name in files if not name.lower().endswith(TABLE_ENDINGS)]
        if tables:
            more = f" and {len(tables) - 1} more" if len(tables) > 1 else ""
            log.warning(
                f"{tables[0]}{more}: ignored, as a table beside text files in {given}; to read it, "
                "name it or give a glob."
            )
    others.update(Path(name).suffix or "no suffix" for name in set(names) - set(files))
    if not files:
        counts = ", ".join(f"{n} {suffix}" for suffix, n in sorted(others.items())) or "nothing"
        raise SourceError(
            "no text",
            f"{given}: no file of a kind that is read ({kinds(endings)}); found {counts}.",
        )
    ignored.update(others)
    return files


def _walk(folder: str, others: Counter[str]) -> Iterator[str]:
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if links := sum(os.path.islink(os.path.join(parent, name)) for name in folders):
            others["links to folders"] += links
        for name in names:
            if name.startswith("."):
                others["hidden"] += 1
            else:
                yield os.path.join(parent, name)


def _refuse(error: OSError) -> NoReturn:
    raise SourceError("unreadable", f"{error.filename}: {str(error.strerror).lower()}.")
