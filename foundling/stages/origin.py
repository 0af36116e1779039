"""The model that a run begins with, and how it comes out of a parent and out of a checkpoint."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from foundling.base.config import ConfigError
from foundling.base.group import Group
from foundling.base.precision import hold
from foundling.base.sharded import like, sharded_modules
from foundling.models import adapters, interchange
from foundling.models.adapters import AdapterSettings
from foundling.models.language_model import LanguageModel
from foundling.models.quantised import quantise
from foundling.objectives.reference import DisabledAdapter, FrozenModel
from foundling.runs.model_folder import (
    Write,
    load_adapter_weights,
    save_model,
    staged_adapter,
    staged_model,
    token_ids,
)
from foundling.runs.run import Run
from foundling.stages.machine import Machine
from foundling.stages.parent import FOLDER, Parent
from foundling.stages.settings import TunedConfig
from foundling.text.tokenizer import Tokenizer
from foundling.training.sharding import Sharding

BASE = Path("../../..") / FOLDER
"""The run's copy of its parent, as seen from the model of a checkpoint."""


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
        adapter: AdapterSettings | None = None,
    ) -> None:
        self.build, self.tokenizer, self.parent = build, tokenizer, parent
        self.model, self.adapter = build(), adapter
        self.token_ids = {} if parent is None else token_ids(parent.folder)
        self._cast: Callable[[LanguageModel], None] = lambda model: None
        longest = self.model.max_context
        if context is None and longest is None:
            raise ConfigError("context: this model reads texts of any length; say how long a row.")
        if context is not None and longest is not None and context > longest:
            raise ConfigError(f"context = {context}: the parent reads at most {longest} tokens.")
        self.context: int = context or longest or 0

    def hold(self, machine: Machine) -> None:
        """Cast the model, now and after each restart.

        What learns is in the precision of the weights, what adapters stand on in that of the
        products.
        """
        self._cast = lambda model: _hold(model, self.adapter, machine)
        self._cast(self.model)

    def load(self, folder: Path) -> None:
        """Fill the model from the `model` folder of a checkpoint."""
        if self.adapter is not None:
            load_adapter_weights(self.model, folder)
        else:
            interchange.load_weights(self.model, folder)

    def restart(self) -> None:
        """Give the model the weights that it began with."""
        fresh = self.build()
        self._cast(fresh)
        with torch.no_grad():
            for mine, theirs in zip(_tensors(self.model), _tensors(fresh), strict=True):
                mine.copy_(like(theirs, mine))

    def stage(self, group: Group, *, copy: bool) -> Write:
        """What writes the model into a checkpoint; of one with adapters these alone.

        Args:
            group: the processes that write it together, of which each has to call this.
            copy: as the model is now, whatever it becomes until then.
        """
        if self.adapter is not None:
            assert self.parent is not None, "adapters stand on a parent"
            named = self.parent.facts["fingerprint"]
            return staged_adapter(self.model, self.tokenizer, self.adapter, BASE, named, group)
        if copy or group.size > 1:
            return staged_model(self.model, self.tokenizer, self.token_ids, group)
        return lambda folder: save_model(self.model, self.tokenizer, folder, self.token_ids)

    @contextmanager
    def untuned(
        self, machine: Machine, sharding: Sharding | None = None
    ) -> Iterator[LanguageModel]:
        """The parent's model on its device, with room for all tokens of the tokenizer.

        Under adapters it is the model itself, which has none as long as this lasts.
        """
        if self.adapter is not None:
            if not sharded_modules(self.model):  # else its shards are where they belong
                self.model.to(machine.device)
            with adapters.disabled(self.model):
                yield self.model
        else:
            yield self._parents_model(machine, sharding)

    def reference(
        self, machine: Machine, sharding: Sharding | None = None
    ) -> FrozenModel | DisabledAdapter:
        """The parent's model beside the one that learns, or inside it under adapters."""
        if self.adapter is not None:
            return DisabledAdapter(self.model)
        return FrozenModel(self._parents_model(machine, sharding))

    def _parents_model(self, machine: Machine, sharding: Sharding | None) -> LanguageModel:
        assert self.parent is not None, "only what has a parent has a reference"
        model = self.parent.load(self.tokenizer, dtype=None)
        hold(model, machine.precision)
        model.requires_grad_(False)
        if sharding is None:
            model.to(machine.device)
        else:
            sharding.shard(model)
        return model


def _hold(model: LanguageModel, adapter: AdapterSettings | None, machine: Machine) -> None:
    if adapter is None:
        hold(model, machine.weights)
        return
    if adapter.base != "full":
        quantise(model, adapter.base)
    hold(model, machine.precision, frozen_only=True)


def _tensors(model: LanguageModel) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def from_parent(config: TunedConfig, out: Path, resume: bool) -> Origin:
    """The parent, with roles where chats are learned, perhaps with adapters or frozen in part.

    Raises:
        ConfigError: there is no such parent, or the settings do not fit it.
    """
    parent = Parent.of(config.parent, out, resume=resume)
    tokenizer = parent.tokenizer_for(config.data)
    if resume:
        tokens = Run.open(out).manifest.get("learned_tokens", [])
    else:
        tokens = unlearned_tokens(parent, tokenizer) if config.adapter is not None else []

    def build() -> LanguageModel:
        model = parent.load(tokenizer, dropout=config.dropout, dtype=None)
        if config.adapter is not None:
            adapters.add_adapters(model, config.adapter, config.seed, tokens)
        if config.freeze:
            adapters.freeze(model, config.freeze)
        return model

    return Origin(build, tokenizer, config.context, parent, config.adapter)


def unlearned_tokens(parent: Parent, tokenizer: Tokenizer) -> list[int]:
    """The tokens that a parent has not learned yet: new ones, and those of a template new to it.

    A model that Foundling pretrained has the tokens of turns from the start, and no text with them,
    nor has one that it tuned on plain text.
    """
    before = parent.tokenizer()
    new = range(before.vocab_size, tokenizer.vocab_size)
    never_read = before.is_own and not parent.chats
    is_known = tokenizer.template is None or before.brings(tokenizer.template)
    unread = () if is_known and not never_read else tokenizer.template_ids
    return sorted({*new, *unread})
