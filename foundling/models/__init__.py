"""The table of rungs, from the last word alone to the transformer."""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from foundling.base.config import ConfigError, suggest
from foundling.models.attention import AttentionSettings
from foundling.models.bag_of_words import BagOfWordsSettings
from foundling.models.finite_lag import FiniteLagSettings
from foundling.models.language_model import LanguageModel
from foundling.models.next_word import NextWordSettings
from foundling.models.token_rows import new_rows
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


def widened(
    model: LanguageModel, vocab_size: int, known: int | None = None, seed: int = 0
) -> LanguageModel:
    """The same model with room for so many tokens; see `token_rows.new_rows` how new ones begin.

    All other weights are shared with `model`, which is of no use any more.

    Args:
        known: how many tokens it has learned, where rows beyond them are there already; None: all.
    """
    known = min(known or model.vocab_size, model.vocab_size)
    size = max(vocab_size, model.vocab_size)
    wider, weights = skeleton({**model.spec, "vocab_size": size}), model.state_dict()
    for name in ("embed.weight", "unembed.weight")[: 1 if model.tied else 2]:
        before, generator = weights[name], torch.Generator().manual_seed(seed)
        new = new_rows(before[:known].float(), max(vocab_size - known, 0), generator)
        rest = before[known + len(new) :]
        weights[name] = torch.cat((before[:known], new.to(before.dtype), rest))
    if model.tied:
        weights["unembed.weight"] = weights["embed.weight"]
    return _filled(wider, weights).train(model.training)


def with_settings(model: LanguageModel, **settings: Any) -> LanguageModel:
    """The same weights under other settings, of those that shape none of them.

    Such as `rope_theta`, `window` or `context`, where positions are not learned. The weights are
    shared with `model`.
    """
    other = skeleton({**model.spec, **settings})
    return _filled(other, model.state_dict()).train(model.training)


def _filled(model: LanguageModel, weights: Mapping[str, Tensor]) -> LanguageModel:
    """A `skeleton` with these weights in it."""
    model.load_state_dict(weights, assign=True)
    if model.tied:
        model.unembed.weight = model.embed.weight
    return model


def rebuild(spec: Mapping[str, Any]) -> LanguageModel:
    """A model of the shape that another one's `spec` describes."""
    values = {key: value for key, value in spec.items() if key not in ("vocab_size", "context")}
    return build(values, vocab_size=spec["vocab_size"], context=spec["context"])


def skeleton(spec: Mapping[str, Any]) -> LanguageModel:
    """The same on the meta device: its parameters have no memory before `materialise`."""

    def bare(_: nn.Module, __: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or parameter.is_meta:
            return parameter  # a tied one stays the same
        return nn.Parameter(parameter.to("meta"), parameter.requires_grad)

    hook = register_module_parameter_registration_hook(bare)  # type: ignore[arg-type]
    try:
        with _NothingDrawn():
            return rebuild(spec)
    finally:
        hook.remove()


class _NothingDrawn(TorchFunctionMode):
    """Leaves out what fills a tensor that has no memory; to draw one, torch imports for seconds."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        changed, name = args[0] if args else kwargs.get("tensor"), func.__name__
        in_place = name.endswith("_") and not name.startswith("_")
        if in_place and isinstance(changed, Tensor) and changed.is_meta:
            return changed
        return func(*args, **kwargs)


def materialise(model: nn.Module) -> None:
    """Give every parameter of a `skeleton` memory, with nothing in it yet."""
    made: dict[Tensor, nn.Parameter] = {}
    for module in model.modules():
        for name, bare in module.named_parameters(recurse=False):
            if bare not in made:
                made[bare] = nn.Parameter(
                    torch.empty(bare.shape, dtype=bare.dtype), bare.requires_grad
                )
            setattr(module, name, made[bare])
