"""How well a tuned model still predicts the text that its first ancestor learned from."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from foundling.base.config import ConfigError
from foundling.base.object_store import is_url
from foundling.data.mixture import Mixture
from foundling.metrics.perplexity import Perplexity
from foundling.models.language_model import LanguageModel
from foundling.stages.machine import Machine
from foundling.stages.parent import Parent
from foundling.stages.settings import ForgettingSettings
from foundling.stages.text_loss import loss_by_source
from foundling.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


def resolved(settings: ForgettingSettings, parent: Parent | None) -> ForgettingSettings:
    """With the store that the parent learned from, if it is still there."""
    if settings.data is not None or parent is None or parent.pretraining_data is None:
        return settings
    if not is_url(parent.pretraining_data) and Mixture.find(parent.pretraining_data) is None:
        logger.warning(
            f"{parent.pretraining_data} is gone, or a part of it: forgetting is not measured."
        )
        return settings
    return settings.model_copy(update={"data": parent.pretraining_data})


@dataclass(frozen=True)
class Forgetting:
    """The text, opened anew at each measurement.

    Raises:
        ConfigError: there is text, and it is of another tokenizer than the parent's.
    """

    settings: ForgettingSettings
    tokenizer: Tokenizer
    """The parent's: what its text was encoded with."""
    context: int
    batch_size: int
    machine: Machine

    def __post_init__(self) -> None:
        if self.settings.data is not None:
            self.text()

    def text(self) -> Mixture:
        text = Mixture.open(str(self.settings.data))
        if text.tokenizer_fingerprint != self.tokenizer.fingerprint:
            raise ConfigError(
                f"forgetting.data = {self.settings.data}: its tokens are of another tokenizer than "
                "the parent's; prepare it with the parent's tokenizer.json."
            )
        return text

    def measure(self, model: LanguageModel, check: Callable[[], None]) -> dict[str, float | None]:
        """The figures of a validation record; none where there is no text."""
        if self.settings.data is None:
            return {}
        found = loss_by_source(
            model,
            self.text(),
            self.tokenizer,
            context=self.context,
            batch_size=self.batch_size,
            max_tokens=self.settings.max_tokens,
            machine=self.machine,
            check=check,
        )
        whole = Perplexity.together(list(found.values()))
        return {
            "pretraining_loss_nats": whole.loss_nats,
            "pretraining_bits_per_byte": whole.bits_per_byte,
        }
