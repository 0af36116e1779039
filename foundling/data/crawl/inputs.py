"""The files of a crawl: local ones, or those of an object store by fsspec."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from foundling.base.config import ConfigError
from foundling.data.inputs import expand

PACKINGS = ("", ".gz", ".zst")
WARC_ENDINGS = tuple(e + p for e in (".warc", ".warc.wet", ".wet") for p in PACKINGS)
HTML_ENDINGS = tuple(e + p for e in (".html", ".htm", ".xhtml") for p in PACKINGS)
ROW_ENDINGS = tuple(".jsonl" + p for p in PACKINGS)


def found(inputs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The size and the state of each file, by its absolute path or URL.

    The state changes when the file does: its time, or what an object store says of its content.

    Raises:
        ConfigError: an input is not there or holds no file that is read.
    """
    files: dict[str, dict[str, Any]] = {}
    for given in inputs:
        files |= _remote(given) if "://" in given else _local(given)
    return files


def _local(given: str) -> dict[str, dict[str, Any]]:
    sizes, _ = expand([given], (*WARC_ENDINGS, *HTML_ENDINGS, *ROW_ENDINGS))
    return {
        os.path.abspath(file): {"bytes": size or 0, "state": os.stat(file).st_mtime_ns}
        for file, size in sizes.items()
    }


def _remote(given: str) -> dict[str, dict[str, Any]]:
    import fsspec

    endings = (*WARC_ENDINGS, *HTML_ENDINGS)
    try:
        system, path = fsspec.core.url_to_fs(given)
        listed = system.glob(path) if "*" in path else system.find(path)
        infos = {name: system.info(name) for name in listed if name.lower().endswith(endings)}
    except ImportError as error:
        raise ConfigError(f"{given}: {error}.") from None
    if not infos:
        raise ConfigError(f"{given}: no file that is read ({', '.join(_plain(endings))}).")
    return {
        system.unstrip_protocol(name): {
            "bytes": info.get("size") or 0,
            "state": str(info.get("ETag") or info.get("mtime") or info.get("LastModified")),
        }
        for name, info in infos.items()
    }


def _plain(endings: Sequence[str]) -> Iterator[str]:
    return (ending for ending in endings if not ending.endswith((".gz", ".zst")))
