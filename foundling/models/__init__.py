"""The table of rungs, from the last word alone to the transformer."""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from foundling.base.config import ConfigError, suggest
from foundling.models.attention import AttentionSettings
from foundling.models.bag_of_words import BagOfWordsSettings
from foundling.models.finite_lag import FiniteLagSettings
from foundling.models.language_model import LanguageModel
from foundling.models.next_word import NextWordSettings
from foundling.models.transformer import TransformerSettings


@runtime_checkable
class RungSettings(Protocol):
    """What the table holds: a rung's settings, which build its context module."""

    @property
    def dim(self) -> int: ...
    @property
    def tied(self) -> bool: ...
    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str = "") -> "RungSettings": ...
    def values(self) -> dict[str, Any]: ...
    def resolved(self) -> "RungSettings": ...
    def build(self, context: int) -> tuple[nn.Module, int | None]: ...


RUNGS: dict[str, type[RungSettings]] = {
    "next_word": NextWordSettings,
    "finite_lag": FiniteLagSettings,
    "bag_of_words": BagOfWordsSettings,
    "attention": AttentionSettings,
    "transformer": TransformerSettings,
}


def rung_settings(values: Mapping[str, Any]) -> RungSettings:
    """The checked settings of the rung that `values["rung"]` names.

    Raises:
        ConfigError: no such rung, or a setting that it does not have.
    """
    name = values.get("rung", "transformer")
    known = dict(RUNGS)
    if name not in known:  # asked only then: looking for plugins reads every package's metadata
        known |= {point.name: point.load() for point in entry_points(group="foundling.rungs")}
    if name not in known:
        raise ConfigError(f'model.rung = "{name}": no such rung {suggest(str(name), list(known))}')
    return known[name].parse(values, "model")


def build(values: Mapping[str, Any], *, vocab_size: int, context: int) -> LanguageModel:
    """A new model, weights drawn from torch's global generator.

    `context` is the longest document that the model shall read.
    """
    settings = rung_settings(values).resolved()
    module, max_context = settings.build(context)
    return LanguageModel(
        vocab_size=vocab_size,
        dim=settings.dim,
        context=module,
        max_context=max_context,
        tied=settings.tied,
        spec={**settings.values(), "vocab_size": vocab_size, "context": context},
    )


def widened(model: LanguageModel, vocab_size: int) -> LanguageModel:
    """The same model with room for more tokens, each of which begins as the mean of the others."""
    wider, weights = rebuild({**model.spec, "vocab_size": vocab_size}), model.state_dict()
    for name in ("embed.weight", "unembed.weight"):
        known = weights[name]
        new = known.mean(dim=0, keepdim=True).expand(vocab_size - len(known), -1)
        weights[name] = torch.cat((known, new))
    wider.load_state_dict(weights)
    return wider


def rebuild(spec: Mapping[str, Any]) -> LanguageModel:
    """A model of the shape that another one's `spec` describes."""
    values = {key: value for key, value in spec.items() if key not in ("vocab_size", "context")}
    return build(values, vocab_size=spec["vocab_size"], context=spec["context"])
