"""What can be known to fail before the first page is read."""

import logging

import phonenumbers
from datatrove.utils.word_tokenizers import StanzaTokenizer, load_word_tokenizer

from foundling.base.config import ConfigError
from foundling.data.crawl.contamination import Index
from foundling.data.crawl.findings import switched_off
from foundling.data.crawl.language import load_model, model_file
from foundling.data.crawl.settings import CrawlConfig

log = logging.getLogger(__name__)


def check(config: CrawlConfig) -> None:
    """Say what is looked for and what is switched off.

    Raises:
        ConfigError: a model, a list, a language's words or an evaluation file cannot be had.
    """
    language = config.language
    try:
        words = load_word_tokenizer(language.code)
        if isinstance(words, StanzaTokenizer):
            _require_stanza_model(language.code, words.language)
        words.word_tokenize("a word")
    except (ValueError, ImportError) as error:
        raise ConfigError(f"language.code = {language.code}: {error}") from None
    if language.enabled:
        load_model(language.model)
        log.info(f"language: {language.code}, by {model_file(language.model).name}")
    of = config.personal_data
    if of.phone_numbers and of.phone_region not in phonenumbers.SUPPORTED_REGIONS:
        raise ConfigError(
            f"personal_data.phone_region = {of.phone_region}: no such region; expected one such "
            "as US or DE (ISO 3166 alpha-2)."
        )
    if config.contamination.files:
        index = Index(config.contamination)
        short = f", {index.num_short:,} of them too short to be looked for" * bool(index.num_short)
        log.info(f"contamination: {index.num_items:,} items{short}")
        if index.num_short == index.num_items:
            raise ConfigError(
                "contamination.files: no item has contamination.min_words = "
                f"{config.contamination.min_words} words; nothing would be found."
            )
    if off := switched_off(config):
        log.info(f"switched off: {', '.join(off)}")


def _require_stanza_model(code: str, model: str) -> None:
    """See that stanza has its model, which it would download."""
    from stanza.pipeline.core import DownloadMethod, Pipeline

    try:
        Pipeline(model, processors="tokenize", download_method=DownloadMethod.NONE)
    except FileNotFoundError as error:
        raise ConfigError(
            f"language.code = {code}: its words need a model of stanza, which is not here "
            f"({error}). Get it: python -c \"import stanza; stanza.download('{model}', "
            "processors='tokenize')\""
        ) from None
