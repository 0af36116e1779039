"""HTML to text, each page within a time limit."""

from functools import partial

import trafilatura
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.extractors.base import ExtractorSandbox
from datatrove.pipeline.filters.base_filter import BaseFilter

from foundling.data.crawl.pages import HTML
from foundling.data.crawl.removed import Removed
from foundling.data.crawl.settings import ExtractionSection


class Extraction(BaseFilter):
    """trafilatura in datatrove's sandbox: a page that takes too long costs a process, no task.

    datatrove's own step drops such pages without an example, and counts the time that the sandbox
    needs to start as the page's: trafilatura is imported here, so that the sandbox starts with it.
    """

    name = "text of HTML"

    def __init__(self, settings: ExtractionSection, removed: Removed) -> None:
        super().__init__(removed)
        self.settings = settings

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        with ExtractorSandbox(timeout=self.settings.timeout_seconds) as self._sandbox:
            yield from super().run(data, rank, world_size)
        del self._sandbox

    def filter(self, document: Document) -> bool | tuple[bool, str]:
        if document.metadata.pop("kind") != HTML:
            return True
        page, of = document.text, self.settings
        extract = partial(_extracted, precise=of.favor_precision, deduplicate=of.deduplicate)
        document.text = ""  # of a page without text there is no example
        try:
            text = self._sandbox.process_document(page, extract)
        except TimeoutError:
            return False, "took too long"
        except Exception as error:
            return False, f"broken ({type(error).__name__})"
        if not text:
            return False, "no text"
        document.text = text
        return True


def _extracted(html: str, *, precise: bool, deduplicate: bool) -> str | None:
    text: str | None = trafilatura.extract(
        html, favor_precision=precise, include_comments=False, deduplicate=deduplicate
    )
    return text
