"""The files of a crawl: local ones, or those of an object store by fsspec."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from foundling.base.config import ConfigError
from foundling.data.inputs import expand
from foundling.data.readers import kinds

log = logging.getLogger(__name__)

PACKINGS = ("", ".gz", ".zst")
WARC_ENDINGS = tuple(e + p for e in (".warc", ".warc.wet", ".wet") for p in PACKINGS)
HTML_ENDINGS = tuple(e + p for e in (".html", ".htm", ".xhtml") for p in PACKINGS)
ROW_ENDINGS = tuple(".jsonl" + p for p in PACKINGS)
ENDINGS = (*WARC_ENDINGS, *HTML_ENDINGS, *ROW_ENDINGS)
_STATES = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated")  # by the store


def found(inputs: Sequence[str], ignored: Counter[str] | None = None) -> dict[str, dict[str, Any]]:
    """The size and the state of each file, by its absolute path or URL.

    The state changes when the file does: its time, or what an object store says of its content.

    Args:
        ignored: gets the number of files of kinds that are not read, by suffix.

    Raises:
        ConfigError: an input is not there or holds no file that is read.
    """
    files: dict[str, dict[str, Any]] = {}
    for given in inputs:
        some, others = _remote(given) if "://" in given else _local(given)
        files |= some
        if ignored is not None:
            ignored.update(others)
    return files


def _local(given: str) -> tuple[dict[str, dict[str, Any]], Counter[str]]:
    sizes, ignored = expand([given], ENDINGS)
    files = {
        os.path.abspath(file): {"bytes": size or 0, "state": os.stat(file).st_mtime_ns}
        for file, size in sizes.items()
    }
    return files, ignored


def _remote(given: str) -> tuple[dict[str, dict[str, Any]], Counter[str]]:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(given)
        listed = system.glob(path) if "*" in path else system.find(path)
        infos = {name: system.info(name) for name in listed if name.lower().endswith(ENDINGS)}
    except ImportError as error:
        raise ConfigError(f"{given}: {error}.") from None
    if not infos:
        raise ConfigError(f"{given}: no file that is read ({kinds(ENDINGS)}).")
    files = {
        system.unstrip_protocol(name): {
            "bytes": info.get("size") or 0,
            "state": next((str(info[key]) for key in _STATES if info.get(key)), ""),
        }
        for name, info in infos.items()
    }
    if unknown := [file for file, about in files.items() if not about["state"]]:
        log.warning(
            f"{unknown[0]}: its store tells no time and no ETag ({len(unknown):,} such files); "
            "--resume sees by its size alone whether it has changed."
        )
    others = (PurePosixPath(name).suffix or "no suffix" for name in set(listed) - set(infos))
    return files, Counter(others)
