"""datatrove's filters of quality, with our settings."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.filters.c4_filters import C4QualityFilter
from datatrove.pipeline.filters.fineweb_quality_filter import FineWebQualityFilter
from datatrove.pipeline.filters.gopher_quality_filter import GopherQualityFilter
from datatrove.pipeline.filters.gopher_repetition_filter import GopherRepetitionFilter
from datatrove.pipeline.filters.url_filter import URLFilter

from foundling.base.config import ConfigError
from foundling.data.crawl.removed import Removed
from foundling.data.crawl.settings import (
    C4Section,
    FineWebSection,
    QualitySection,
    RepetitionSection,
    UrlSection,
)

Make = Callable[[Any, str, Removed], BaseFilter]


def addresses(of: UrlSection, language: str, removed: Removed) -> BaseFilter:
    """datatrove's filter of addresses; without a look at the public suffix list on the web.

    A page without an address is kept.
    """
    import tldextract

    found = _Addresses(
        extra_domains=_lines("url.domains", of.domains),
        extra_urls=_lines("url.urls", of.urls),
        use_integrated_lists=of.lists,
        exclusion_writer=removed,
    )
    found.tldextractor = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    return found


class _Addresses(URLFilter):
    def filter(self, document: Any) -> Any:
        return super().filter(document) if document.metadata.get("url") else True


def _lines(setting: str, file: str) -> list[str]:
    if not file:
        return []
    try:
        return [line for line in Path(file).read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{setting} = {file}: cannot be read: {error}.") from None


def repetition(of: RepetitionSection, language: str, removed: Removed) -> BaseFilter:
    return GopherRepetitionFilter(
        dup_line_frac=of.dup_line_frac,
        dup_para_frac=of.dup_para_frac,
        dup_line_char_frac=of.dup_line_char_frac,
        dup_para_char_frac=of.dup_para_char_frac,
        top_n_grams=of.top_n_grams,
        dup_n_grams=of.dup_n_grams,
        exclusion_writer=removed,
        language=language,
    )


def quality(of: QualitySection, language: str, removed: Removed) -> BaseFilter:
    return GopherQualityFilter(
        min_doc_words=of.min_doc_words,
        max_doc_words=of.max_doc_words,
        min_avg_word_length=of.min_avg_word_length,
        max_avg_word_length=of.max_avg_word_length,
        max_symbol_word_ratio=of.max_symbol_word_ratio,
        max_bullet_lines_ratio=of.max_bullet_lines_ratio,
        max_ellipsis_lines_ratio=of.max_ellipsis_lines_ratio,
        max_non_alpha_words_ratio=of.min_alpha_words_ratio,  # datatrove's name says the opposite
        min_stop_words=of.min_stop_words,
        stop_words=list(of.stop_words),
        exclusion_writer=removed,
        language=language,
    )


def c4(of: C4Section, language: str, removed: Removed) -> BaseFilter:
    return C4QualityFilter(
        filter_no_terminal_punct=of.only_terminal_punctuation,
        min_num_sentences=of.min_num_sentences,
        min_words_per_line=of.min_words_per_line,
        max_word_length=of.max_word_length,
        filter_lorem_ipsum=of.lorem_ipsum,
        filter_javascript=of.javascript,
        filter_curly_bracket=of.curly_bracket,
        filter_policy=of.policy,
        exclusion_writer=removed,
        language=language,
    )


def fineweb(of: FineWebSection, language: str, removed: Removed) -> BaseFilter:
    return FineWebQualityFilter(
        line_punct_thr=of.line_punct_ratio,
        short_line_thr=of.short_line_ratio,
        short_line_length=of.short_line_length,
        char_duplicates_ratio=of.char_duplicates_ratio,
        new_line_ratio=of.new_line_ratio,
        exclusion_writer=removed,
        language=language,
    )


FILTERS: dict[str, Make] = {
    "url": addresses,
    "gopher_repetition": repetition,
    "gopher_quality": quality,
    "c4": c4,
    "fineweb": fineweb,
}
"""By the name of their section, in FineWeb's order; extraction and language follow `url`."""
