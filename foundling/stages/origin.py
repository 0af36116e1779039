"""The model that a run begins with, and how it comes out of a parent and out of a checkpoint."""

from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file, save_file

from foundling.base.config import ConfigError
from foundling.models import adapters, interchange
from foundling.models.language_model import LanguageModel
from foundling.objectives.reference import DisabledAdapter, FrozenModel
from foundling.stages.machine import Machine
from foundling.stages.parent import Parent
from foundling.stages.settings import TunedConfig
from foundling.text.tokenizer import Tokenizer

ADAPTER = "adapter.safetensors"


class Origin:
    """The model as it learns, its tokenizer, and the parent, if any, that it comes from.

    Args:
        build: gives the model with the weights that it begins with, a new one at each call.
        context: tokens of the longest text to train on; None: the longest that the model reads.

    Raises:
        ConfigError: the model reads no text as long as `context`, or nothing says how long.
    """

    def __init__(
        self,
        build: Callable[[], LanguageModel],
        tokenizer: Tokenizer,
        context: int | None,
        parent: Parent | None = None,
        has_adapter: bool = False,
    ) -> None:
        self.build, self.tokenizer, self.parent = build, tokenizer, parent
        self.model, self.has_adapter = build(), has_adapter
        longest = self.model.max_context
        if context is None and longest is None:
            raise ConfigError("context: this model reads texts of any length; say how long a row.")
        if context is not None and longest is not None and context > longest:
            raise ConfigError(f"context = {context}: the parent reads at most {longest} tokens.")
        self.context: int = context or longest or 0

    def load(self, folder: Path) -> None:
        """Fill the model from the `model` folder of a checkpoint."""
        if self.has_adapter:
            adapters.load_adapter_state(self.model, load_file(folder / ADAPTER))
        else:
            interchange.load_weights(self.model, folder)

    def restart(self) -> None:
        """Give the model the weights that it began with."""
        self.model.load_state_dict(self.build().state_dict())

    def save_more(self, folder: Path) -> None:
        """Write what a checkpoint holds beside the plain model."""
        if self.has_adapter:
            save_file(adapters.adapter_state(self.model), folder / ADAPTER)

    def untuned(self) -> LanguageModel:
        """The parent's model, with room for all tokens of the tokenizer."""
        assert self.parent is not None, "only what has a parent has a reference"
        return self.parent.load(vocab_size=self.tokenizer.vocab_size)

    def reference(self, machine: Machine) -> FrozenModel | DisabledAdapter:
        """The parent's model beside the one that learns, or inside it under adapters."""
        if self.has_adapter:
            return DisabledAdapter(self.model)
        return FrozenModel(self.untuned().to(machine.device))


def from_parent(config: TunedConfig, out: Path, resume: bool) -> Origin:
    """The parent, with roles where chats are learned, perhaps with adapters or frozen in part.

    Raises:
        ConfigError: there is no such parent, or the settings do not fit it.
    """
    parent = Parent.of(config.parent, out, resume=resume)
    tokenizer = parent.tokenizer_for(config.data.style)

    def build() -> LanguageModel:
        model = parent.load(vocab_size=tokenizer.vocab_size, dropout=config.dropout)
        if config.adapter is not None:
            adapters.add_adapters(model, config.adapter, config.seed)
        if config.freeze:
            adapters.freeze(model, config.freeze)
        return model

    return Origin(build, tokenizer, config.context, parent, config.adapter is not None)
