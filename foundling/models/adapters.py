"""Low-rank adapters: small matrices, and rows of new tokens, that train beside frozen ones."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from foundling.base.config import ConfigError, Section
from foundling.base.sharded import like
from foundling.models.language_model import LanguageModel
from foundling.models.token_rows import TokenRows, learn_rows, merge_rows, rows_of

_ADAPTER = (".lora_a", ".lora_b")


class AdapterSettings(Section):
    """Which matrices get adapters, and of what kind."""

    rank: int = Field(16, gt=0)
    alpha: float = Field(32.0, gt=0)
    """The adapter's product counts alpha / rank, or alpha / √rank with `rslora`."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of the adapter's input."""
    targets: tuple[str, ...] = Field(("*",), min_length=1)
    """Patterns of the context module's matrices: a last name (`q`), or a whole one
    (`blocks.0.*`)."""
    rslora: bool = False
    base: Literal["full", "int8", "nf4"] = "full"
    """How the frozen matrices under the adapters are kept in training: full is in its precision;
    int8 and nf4 take a half and a quarter of bf16's memory. What is merged later stands on the
    parent's own weights."""


class LoraLinear(nn.Linear):
    """y = x Wᵀ + b + scale · dropout(x) Aᵀ Bᵀ, with W and b as they were and A and B small.

    Source: Hu et al. 2022 (LoRA), section 4.1; Kalajdzievski 2023 (rsLoRA), theorem 3.2.
    """

    def __init__(
        self, linear: nn.Linear, *, rank: int, alpha: float, dropout: float, rslora: bool
    ) -> None:
        super().__init__(
            linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta"
        )
        self.weight, self.bias = linear.weight, linear.bias
        self.rank, self.alpha, self.rslora = rank, alpha, rslora
        self.scale = alpha / (math.sqrt(rank) if rslora else rank)
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        # Over a matrix that is still in its file, on the CPU.
        device = "cpu" if self.weight.is_meta else self.weight.device
        a, b = (rank, linear.in_features), (linear.out_features, rank)
        self.lora_a = nn.Parameter(torch.zeros(a, dtype=wide, device=device))
        self.lora_b = nn.Parameter(torch.zeros(b, dtype=wide, device=device))
        self.dropout = nn.Dropout(dropout)
        self.enabled = True

    def forward(self, x: Float[Tensor, "... dim_in"]) -> Float[Tensor, "... dim_out"]:
        result = self.base(x)
        if not self.enabled:
            return result
        low = F.linear(self.dropout(x), self.lora_a.to(x.dtype))
        return result + self.scale * F.linear(low, self.lora_b.to(low.dtype))

    def base(self, x: Float[Tensor, "... dim_in"]) -> Float[Tensor, "... dim_out"]:
        """What the frozen matrix gives."""
        return F.linear(x, self.weight, self.bias)

    def merged(self) -> Float[Tensor, "dim_out dim_in"]:
        """The one matrix that does the same, rounded once."""
        weight, b, a = (x.detach().double() for x in (self.weight, self.lora_b, self.lora_a))
        return (weight + self.scale * (b @ a)).to(self.weight.dtype)


def add_adapters(
    model: LanguageModel, settings: AdapterSettings, seed: int, tokens: Sequence[int] = ()
) -> None:
    """Put adapters on the matrices that `settings.targets` names, and freeze everything else.

    The model gives the same logits as before: B starts at zero. A is drawn from `seed`. The rows of
    `tokens` in the embedding and in the head learn beside the adapters, whole.

    Raises:
        ConfigError: a pattern matches nothing, or the model has adapters.
    """
    _require_plain(model)
    linears = linears_of(model)
    chosen: dict[str, None] = {}
    for pattern in settings.targets:
        found = [
            name
            for name in linears
            if fnmatchcase(name.rpartition(".")[2], pattern)
            or fnmatchcase(name.removeprefix("context."), pattern)
        ]
        if not found:
            raise _no_match(f'adapter.targets = "{pattern}"', "matrix", linears)
        chosen |= dict.fromkeys(found)
    generator, made = torch.Generator().manual_seed(seed), {}
    for name in (name for name in linears if name in chosen):
        made[name] = LoraLinear(
            linears[name],
            rank=settings.rank,
            alpha=settings.alpha,
            dropout=settings.dropout,
            rslora=settings.rslora,
        )
        drawn = torch.empty(settings.rank, linears[name].in_features)
        nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
        with torch.no_grad():
            made[name].lora_a.copy_(drawn)
    attach(model, made)
    if tokens:
        learn_rows(model, tokens)


def attach(model: LanguageModel, adapted: Mapping[str, LoraLinear]) -> None:
    """Replace the matrices of these names by adapted ones; only the adapters train then.

    Raises:
        ConfigError: the model has adapters.
    """
    _require_plain(model)
    model.requires_grad_(False)
    for name, module in adapted.items():
        model.set_submodule(name, module.train(model.training))


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Freeze the parameters whose names match a pattern (`embed.*`, `context.blocks.0.*`).

    Raises:
        ConfigError: a pattern matches nothing, or nothing is left to train.
    """
    parameters = dict(model.named_parameters())
    for pattern in patterns:
        found = [name for name in parameters if fnmatchcase(name, pattern)]
        if not found:
            raise _no_match(f'freeze = "{pattern}"', "parameter", parameters)
        for name in found:
            parameters[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ConfigError(f"freeze = {list(patterns)}: nothing is left to train; freeze less.")


@contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """The model as it is without its adapters and learned rows."""
    parts: list[LoraLinear | TokenRows] = [*adapters_of(model).values(), *rows_of(model).values()]
    states = [(module, module.enabled) for module in parts]
    try:
        for module in parts:
            module.enabled = False
        yield
    finally:
        for module, state in states:
            module.enabled = state


def merge(model: LanguageModel) -> None:
    """Fold adapters and learned rows into their matrices: the model is plain and trains whole."""
    merge_rows(model)
    for name, adapted in adapters_of(model).items():
        shape = (adapted.in_features, adapted.out_features)
        linear = nn.Linear(*shape, bias=adapted.bias is not None, device="meta")
        linear.weight, linear.bias = nn.Parameter(adapted.merged()), adapted.bias
        model.set_submodule(name, linear.train(adapted.training))
    model.requires_grad_(True)


def adapters_of(model: nn.Module) -> dict[str, LoraLinear]:
    """The adapted matrices of a model by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, LoraLinear)}


def linears_of(model: LanguageModel) -> dict[str, nn.Linear]:
    """The matrices that can be adapted, by name: those of the context module."""
    modules = model.context.named_modules(prefix="context")
    return {name: module for name, module in modules if isinstance(module, nn.Linear)}


def learned_tokens(model: nn.Module) -> list[int]:
    """The tokens whose rows learn beside the adapters."""
    rows = next(iter(rows_of(model).values()), None)
    return [] if rows is None else [int(id) for id in rows.ids]


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of the adapters and learned rows by name, as they are."""
    state: dict[str, Tensor] = model.state_dict()
    rows = {f"{name}.learned.{part}" for name in rows_of(model) for part in ("ids", "rows")}
    return {k: v for k, v in state.items() if k in rows or k.endswith(_ADAPTER)}


def load_adapter_state(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Fill the adapters with what `adapter_state` gave; nothing changes if it does not fit.

    Raises:
        ConfigError: it is of other adapters.
    """
    ours = adapter_state(model)
    for name in sorted({*ours, *tensors}):
        shapes = [list(state[name].shape) if name in state else "not there"
                  for state in (tensors, ours)]  # fmt: skip
        if shapes[0] != shapes[1]:
            raise ConfigError(
                f"adapter {name}: {shapes[0]} in the saved one, {shapes[1]} in the model; use the "
                "adapter settings that it was made with."
            )
    for name, tensor in tensors.items():
        ours[name].copy_(like(tensor, ours[name]))


def plain_weights(model: nn.Module) -> dict[str, Tensor]:
    """The model's tensors without the adapters, under the names that they have without them."""
    state: dict[str, Tensor] = model.state_dict()
    return {k: v for k, v in state.items() if not k.endswith(_ADAPTER) and ".learned." not in k}


def merged_weight(model: nn.Module, name: str) -> Tensor:
    """One tensor of `merged_weights`."""
    module_name, _, leaf = name.rpartition(".")
    module = model.get_submodule(module_name)
    if isinstance(module, LoraLinear) and leaf == "weight":
        return module.merged()
    tensor: Tensor = getattr(module, leaf)  # of one with learned rows: with these in it
    return tensor.detach()


def merged_weights(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of the plain model that does the same; the model stays as it is."""
    return {name: merged_weight(model, name) for name in plain_weights(model)}


def _require_plain(model: nn.Module) -> None:
    if adapters_of(model) or rows_of(model):
        raise ConfigError("the model has adapters already; merge them first.")


def _no_match(given: str, what: str, names: Iterable[str]) -> ConfigError:
    known = dict.fromkeys(re.sub(r"\.\d+\.", ".*.", name) for name in names)
    return ConfigError(f"{given}: matches no {what} of the model ({', '.join(known)}).")
