"""The last step: a token store of the documents, and the report."""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from foundling.base import durable
from foundling.base.config import ConfigError
from foundling.data.crawl.findings import findings, no_documents
from foundling.data.crawl.layout import DOCUMENTS, REMOVED, REPORT, STORE, WORK
from foundling.data.crawl.settings import CrawlConfig
from foundling.data.prepare import VOCAB_SIZE, prepare

WritePage = Callable[[Mapping[str, Any], Path], object]


class Finish(PipelineStep):
    """Commits a crawl: `report.json` is written once all else is.

    Args:
        steps: the names of each stage's steps.
        write_page: writes a page of what the report holds; its room lies above this one.
    """

    type, name = "FINISH", "store and report"

    def __init__(
        self,
        config: CrawlConfig,
        steps: Mapping[str, Sequence[str]],
        out: Path,
        write_page: WritePage | None,
    ) -> None:
        super().__init__()
        self.config, self.steps, self.out, self.write_page = config, steps, out, write_page

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Raises ConfigError: no document is left, or they cannot be prepared."""
        config, out = self.config, self.out
        found = findings(config, self.steps, out)
        if not found["documents"]:
            raise ConfigError(f"{out}: {no_documents(found)}")
        began = time.perf_counter()
        found["store"] = self._prepared() if config.store.enabled else None
        found["seconds"]["store"] = round(time.perf_counter() - began, 3)
        found["settings"] = config.values()
        if self.write_page is not None:
            self.write_page(found, out)
        text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
        durable.replace(out / REPORT, text.encode())
        remove_intermediate(found, out)

    def _prepared(self) -> dict[str, Any]:
        of = self.config.store
        vocab_size = VOCAB_SIZE if of.vocab_size is None else of.vocab_size
        report = prepare(
            [self.out / DOCUMENTS],
            self.out / STORE,
            tokenizer=of.tokenizer,
            vocab_size=vocab_size,
            validation_fraction=of.validation_fraction,
            seed=of.seed,
            overwrite=True,  # left by an attempt that was killed before the report
        )
        return report.values()


def remove_intermediate(found: Mapping[str, Any], out: Path) -> None:
    """Remove what the stages left for each other, once the report is written.

    Args:
        found: the report, whose settings may say to keep it.
    """
    if not found["settings"]["run"]["keep_intermediate"]:
        for name in (WORK, REMOVED):
            shutil.rmtree(out / name, ignore_errors=True)
