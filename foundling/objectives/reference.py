"""Where the final hidden vectors of the reference model come from."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from foundling.base.config import ConfigError
from foundling.base.precision import autocast
from foundling.base.ranks import on_first
from foundling.base.sharded import reshard, whole
from foundling.models.adapters import adapters_of, disabled
from foundling.models.batch import IGNORE, Batch, TokenBatch, share_of
from foundling.models.language_model import LanguageModel
from foundling.models.token_rows import rows_of
from foundling.objectives.reference_store import (
    ADVICE,
    Progress,
    check_ids,
    compute,
    file_of,
    open_stored,
)

HIDDEN, WEIGHT = "hidden", "weight"
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.bfloat16: 0.05}
"""How far a vector may be off, relative to its length, where a batch of another shape gave it.

Measured on 6 layers of width 384: 5e-7 in fp32, 0.0045 in bf16; weights of another seed: 1.3.
"""


@runtime_checkable
class Reference(Protocol):
    """A model that stays as it is, seen through its final hidden vectors."""

    @property
    def weight(self) -> Float[Tensor, "vocab dim"]:
        """The unembedding."""
        ...

    def hidden(self, batch: TokenBatch) -> Float[Tensor, "targets dim"]:
        """The vectors at the supervised targets of the batch, row by row, without gradients."""
        ...


class FrozenModel:
    """A model of its own, frozen and in evaluation mode from now on."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model.eval().requires_grad_(False)

    @property
    def weight(self) -> Tensor:
        return whole(self.model.unembed.weight.detach())

    def hidden(self, batch: Batch) -> Tensor:
        return _supervised_vectors(self.model, batch)


class DisabledAdapter:
    """The policy itself without its adapters, which are all that trains.

    Raises:
        ConfigError: the model has no adapters, or something else trains too.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        adapters = adapters_of(model)
        if not adapters:
            raise ConfigError("the model has no adapters to switch off; give a frozen model.")
        trained = {id(p) for module in adapters.values() for p in (module.lora_a, module.lora_b)}
        trained |= {id(learned.rows) for learned in rows_of(model).values()}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and id(parameter) not in trained:
                raise ConfigError(
                    f"{name} trains beside the adapters, so that switching them off does not give "
                    "the reference; freeze it, or give a frozen model."
                )

    @property
    def weight(self) -> Tensor:
        with disabled(self.model):
            return whole(self.model.unembed.weight.detach())

    def hidden(self, batch: Batch) -> Tensor:
        with disabled(self.model), evaluating(self.model):
            return _supervised_vectors(self.model, batch)


@dataclass(frozen=True)
class StoredHidden:
    """Vectors computed once and looked up by the batch's `target_ids`; see `store_hidden`."""

    file: Path
    vectors: Float[Tensor, "targets dim"]
    """Mapped from the file."""
    weight: Float[Tensor, "vocab dim"]

    @classmethod
    def open(cls, folder: Path, key: Mapping[str, Any]) -> "StoredHidden":
        """The vectors that were stored under `key` in `folder`.

        Raises:
            ConfigError: there are none, or they are not whole.
        """
        file, found = file_of(folder, key), open_stored(folder, key, "vectors")
        if found.keys() != {HIDDEN, WEIGHT} or found[HIDDEN].shape[1:] != found[WEIGHT].shape[1:]:
            raise ConfigError(f"{file}: does not hold vectors and their weight; {ADVICE}")
        return cls(file, found[HIDDEN], found[WEIGHT])

    def to(self, device: torch.device) -> "StoredHidden":
        """The same with the weight on `device`; the vectors go there batch by batch."""
        return StoredHidden(self.file, self.vectors, self.weight.to(device))

    def hidden(self, batch: TokenBatch) -> Tensor:
        """Raises ValueError: the batch has no `target_ids`, or some that are not stored."""
        ids = _supervised_ids(batch).cpu()
        check_ids(ids, len(self.vectors), self.file, "target")
        return self.vectors[ids].to(batch.tokens.device, non_blocking=True)


def store_hidden(
    model: LanguageModel,
    batches: Iterable[TokenBatch],
    num_targets: int,
    folder: Path,
    key: Mapping[str, Any],
    *,
    device: torch.device,
    precision: torch.dtype,
    progress: Progress = lambda done, total: None,
) -> StoredHidden:
    """The vectors of all targets of `batches`, computed now unless they lie in `folder`.

    `key` names all that they depend on (weights, data, precision, versions). They are stored in the
    precision in which they are multiplied: rounding once more then changes nothing.
    `progress` is told targets done and in all.

    Raises:
        ConfigError: what lies there is not whole.
        ValueError: the batches do not hold each target from 0 to `num_targets` - 1.
        OSError: the disk is full or broken.
    """
    if on_first(lambda: file_of(folder, key).exists()):
        return StoredHidden.open(folder, key).to(device)
    if num_targets < 1:
        raise ValueError(f"num_targets = {num_targets}: there must be one at least.")
    weight = whole(model.unembed.weight.detach())
    dtype = weight.dtype if precision == torch.float32 else precision
    shape = (num_targets, weight.shape[1])
    layout = {HIDDEN: (shape, dtype), WEIGHT: (tuple(weight.shape), dtype)}
    parts = _vectors(model, map(share_of, batches), device, precision)
    compute(folder, key, layout, parts, "target", progress, {WEIGHT: weight})
    return StoredHidden.open(folder, key).to(device)


def verify(
    kept: StoredHidden,
    model: LanguageModel,
    batch: TokenBatch,
    *,
    device: torch.device,
    precision: torch.dtype,
    seed: int = 0,
    num_targets: int = 8,
) -> None:
    """Compute some targets of `batch`, drawn at random, anew and compare.

    Raises:
        ConfigError: the stored vectors or the stored weight are not the model's.
    """
    advice = f"delete {kept.file}, and they are recomputed."
    weight = whole(model.unembed.weight.detach()).to(kept.weight)
    if not torch.equal(weight, kept.weight):
        raise ConfigError(f"the stored weight is not the reference's; {advice}")
    generator = torch.Generator().manual_seed(seed)
    ids, vectors = next(_vectors(model, [batch], device, precision))
    chosen = torch.randperm(len(ids), generator=generator)[:num_targets]
    live, there = vectors[chosen].double(), kept.hidden(batch).cpu()[chosen].double()
    off = ((live - there).norm(dim=1) / live.norm(dim=1).clamp(min=1e-30)).tolist()
    allowed = TOLERANCE[kept.vectors.dtype]
    for target, difference in zip(ids[chosen].tolist(), off, strict=True):
        if not difference <= allowed:
            raise ConfigError(
                f"the stored vector of target {target} is off by {difference:.2g} of its length, "
                f"more than {allowed:g}; {advice}"
            )


def _supervised_vectors(model: LanguageModel, batch: Batch) -> Tensor:
    with torch.no_grad():  # not inference mode: a sharded model's weights are gathered here
        return model.at(batch.tokens, batch.view, batch.indices)


def _supervised_ids(batch: TokenBatch) -> Tensor:
    if batch.target_ids is None:
        raise ValueError(
            "the batch has no target_ids, by which stored vectors are found; take a data set "
            "that numbers its targets, or a frozen model as the reference."
        )
    return batch.target_ids[batch.targets != IGNORE]


def _vectors(
    model: LanguageModel,
    batches: Iterable[TokenBatch],
    device: torch.device,
    precision: torch.dtype,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The numbers of the supervised targets and their vectors, batch by batch, on the host."""
    for batch in batches:
        with evaluating(model), autocast(device, precision):
            found = _supervised_ids(batch).cpu(), _supervised_vectors(model, batch.to(device)).cpu()
        reshard(model)
        yield found


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """In evaluation mode, every module back in its own mode afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
