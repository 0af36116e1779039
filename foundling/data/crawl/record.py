"""What a crawl was started with; a resumed one must be the same, whatever datatrove thinks done."""

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import foundling
from foundling.base import durable
from foundling.base.config import ConfigError, dump_toml, flatten, load_json
from foundling.data.crawl.inputs import found
from foundling.data.crawl.language import model_file
from foundling.data.crawl.layout import RECORD
from foundling.data.crawl.settings import CrawlConfig, StoreSection
from foundling.data.inputs import expand
from foundling.data.prepare import existing_tokenizer
from foundling.data.readers import ROW_READERS, TEXT_ENDINGS

SETTINGS = "crawl.toml"
FREE = ("run.executor", "run.workers", "run.keep_intermediate", "run.slurm.", "report.")
"""Settings that a resumed crawl may change: they leave the documents as they are."""

_PACKAGES = ("datatrove", "trafilatura", "spacy", "phonenumbers")
_TASK_BYTES, _FEW_TASKS = 256_000_000, 8


def facts(config: CrawlConfig) -> dict[str, Any]:
    """All that decides what comes out: settings, files as they are, versions, number of tasks.

    Raises:
        ConfigError: a file is missing, or the tokenizer cannot be read.
    """
    ignored = Counter[str]()
    files = found(config.inputs, ignored)
    beside = {"url.domains": [config.url.domains], "url.urls": [config.url.urls]}
    if config.language.enabled:
        beside["language.model"] = [str(model_file(config.language.model))]
    if config.contamination.files:
        items, _ = expand(config.contamination.files, (*TEXT_ENDINGS, *ROW_READERS))
        beside["contamination.files"] = list(items)
    settings = dict(flatten(config.values()))
    num_bytes = sum(about["bytes"] for about in files.values())
    auto = min(len(files), max(_FEW_TASKS, -(-num_bytes // _TASK_BYTES)))
    return {
        "settings": {key: settings[key] for key in settings if not key.startswith(FREE)},
        "files": files,
        "ignored": dict(sorted(ignored.items())),
        "beside": {
            **{
                file: _state(setting, file)
                for setting, given in beside.items()
                for file in given
                if file
            },
            **_tokenizer(config.store),
        },
        "versions": {
            "foundling": foundling.__version__,
            **{name: version(name) for name in _PACKAGES},
        },
        "tasks": min(config.run.tasks, len(files)) or auto,
    }


def _tokenizer(of: StoreSection) -> dict[str, str]:
    """A hash of the tokenizer that is not made by the crawl."""
    if not of.enabled or of.tokenizer in ("bytes", "characters"):
        return {}
    return {of.tokenizer: existing_tokenizer(of.tokenizer).fingerprint}


def _state(setting: str, file: str) -> list[int]:
    try:
        stat = Path(file).stat()
    except OSError as error:
        reason = (error.strerror or str(error)).lower().removesuffix(" or directory")
        raise ConfigError(f"{setting} = {file}: {reason}.") from None
    return [stat.st_size, stat.st_mtime_ns]


def begin(
    out: Path, config: CrawlConfig, now: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> None:
    """Make the folder of a new crawl, or see that the one in it is the same.

    Raises:
        ConfigError: the folder holds something else, or the crawl was started with other facts.
    """
    held = (out / RECORD).is_file()
    if resume and held:
        if difference := _difference(load_json(out / RECORD), now):
            raise ConfigError(
                f"{difference}; the tasks that are done would not fit. Resume {out} as it was "
                "started, give another --out, or start anew with --overwrite."
            )
    else:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            if not held:
                raise ConfigError(f"{out}: is not empty and holds no crawl; give another --out.")
            if not overwrite:
                raise ConfigError(
                    f"{out}: holds a crawl; continue it with --resume, give another --out, or "
                    "start anew with --overwrite."
                )
            (out / RECORD).unlink()  # what is left of a killed clearing is no crawl to resume
            for path in out.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        out.mkdir(parents=True, exist_ok=True)
        durable.replace(out / RECORD, (json.dumps(now, indent=2) + "\n").encode())
    durable.replace(out / SETTINGS, dump_toml(config.values()).encode())


def _difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first thing that is not as it was."""
    then = json.loads(json.dumps(then))
    now = json.loads(json.dumps(now))
    for key in sorted(then["settings"].keys() | now["settings"].keys()):
        before, after = then["settings"].get(key), now["settings"].get(key)
        if before != after:
            return f"{key} = {after}: the crawl was started with {before}"
    for file in sorted(then["files"].keys() | now["files"].keys()):
        if file not in now["files"]:
            return f"{file}: is gone since the crawl was started"
        if file not in then["files"]:
            return f"{file}: is new since the crawl was started"
        if then["files"][file] != now["files"][file]:
            return f"{file}: has changed since the crawl was started"
    for file in now["beside"]:
        if then["beside"].get(file) != now["beside"][file]:
            return f"{file}: has changed since the crawl was started"
    for name, number in now["versions"].items():
        if then["versions"].get(name) != number:
            return f"{name} is {number}: the crawl was started with {then['versions'].get(name)}"
    if then["tasks"] != now["tasks"]:
        return f"there would be {now['tasks']} tasks: the crawl was started with {then['tasks']}"
    return ""
