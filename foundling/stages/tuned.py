"""The model that a stage tunes: its parent, perhaps with adapters or with parts that are frozen."""

from pathlib import Path
from typing import Protocol

from safetensors.torch import load_file, save_file

from foundling.base.config import ConfigError
from foundling.models import adapters, interchange
from foundling.models.adapters import AdapterSettings
from foundling.models.language_model import LanguageModel
from foundling.objectives.reference import DisabledAdapter, FrozenModel
from foundling.stages.assembly import Machine
from foundling.stages.parent import Parent
from foundling.text.tokenizer import Tokenizer

ADAPTER = "adapter.safetensors"


class TunedSettings(Protocol):
    """What the settings of a stage say of the model."""

    @property
    def seed(self) -> int: ...
    @property
    def context(self) -> int | None: ...
    @property
    def dropout(self) -> float: ...
    @property
    def freeze(self) -> tuple[str, ...]: ...
    @property
    def adapter(self) -> AdapterSettings | None: ...


class Tuned:
    """The model as it learns, and how it comes out of a parent and out of a checkpoint.

    Raises:
        ConfigError: the settings do not fit the parent.
    """

    def __init__(self, settings: TunedSettings, parent: Parent, tokenizer: Tokenizer) -> None:
        self.settings, self.parent, self.tokenizer = settings, parent, tokenizer
        self.model: LanguageModel = self.untuned(settings.dropout)
        if settings.adapter is not None:
            adapters.add_adapters(self.model, settings.adapter, settings.seed)
        if settings.freeze:
            adapters.freeze(self.model, settings.freeze)
        self.context = self._context()

    def untuned(self, dropout: float = 0.0) -> LanguageModel:
        """The parent's model, with room for all tokens of the tokenizer."""
        return self.parent.load(vocab_size=self.tokenizer.vocab_size, dropout=dropout)

    def reference(self, machine: Machine) -> FrozenModel | DisabledAdapter:
        """The parent's model beside the one that learns, or inside it under adapters."""
        if self.settings.adapter is not None:
            return DisabledAdapter(self.model)
        return FrozenModel(self.untuned().to(machine.device))

    def load(self, folder: Path) -> None:
        """Fill the model from the `model` folder of a checkpoint."""
        if self.settings.adapter is None:
            interchange.load_weights(self.model, folder)
        else:
            adapters.load_adapter_state(self.model, load_file(folder / ADAPTER))

    def restart(self) -> None:
        """Give the model the weights that it began with."""
        fresh = self.untuned(self.settings.dropout)
        if self.settings.adapter is not None:
            adapters.add_adapters(fresh, self.settings.adapter, self.settings.seed)
        self.model.load_state_dict(fresh.state_dict())

    def save_more(self, folder: Path) -> None:
        """Write what a checkpoint holds beside the plain model."""
        if self.settings.adapter is not None:
            save_file(adapters.adapter_state(self.model), folder / ADAPTER)

    def _context(self) -> int:
        given, longest = self.settings.context, self.model.max_context
        if given is None and longest is None:
            raise ConfigError("context: this model reads texts of any length; say how long a row.")
        if given is not None and longest is not None and given > longest:
            raise ConfigError(f"context = {given}: the parent reads at most {longest} tokens.")
        context = given or longest
        assert context is not None
        return context
