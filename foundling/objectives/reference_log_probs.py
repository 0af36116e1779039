"""Where the reference's log-probabilities of the answers come from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from foundling.base.config import ConfigError
from foundling.base.precision import autocast
from foundling.base.ranks import on_first
from foundling.base.sharded import reshard
from foundling.models.batch import PreferenceBatch, share_of
from foundling.models.language_model import LanguageModel
from foundling.objectives.answers import Answers, answer_log_probs, summed, supervised_targets
from foundling.objectives.losses import linear_log_probs
from foundling.objectives.reference import DisabledAdapter, FrozenModel, evaluating
from foundling.objectives.reference_store import (
    ADVICE,
    Progress,
    check_ids,
    compute,
    file_of,
    open_stored,
)

TENSOR = "log_probs"
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-3}
"""How far a log-probability may be off, relative to its size (or to one nat, if that is more), by
the precision of the products, where a batch of another shape gave it.

Measured on 4 layers of width 128, dialogues of 430 nats, packed against alone: 2e-7 in fp32, 1e-4
in bf16.
"""


@runtime_checkable
class ReferenceLogProbs(Protocol):
    """A model that stays as it is, seen through the log-probabilities of whole answers."""

    def log_probs(self, batch: PreferenceBatch) -> Answers:
        """log π_reference(answer | prompt) in nats, without gradients."""
        ...


class LiveLogProbs:
    """Computed anew for each batch, by a frozen model or by the policy without its adapters."""

    def __init__(self, reference: FrozenModel | DisabledAdapter) -> None:
        self.reference = reference

    def log_probs(self, batch: PreferenceBatch) -> Answers:
        with torch.no_grad():
            hidden, cap = self.reference.hidden(batch), self.reference.model.logit_softcap
            targets = supervised_targets(batch)
            each = linear_log_probs(hidden, self.reference.weight, targets, softcap=cap)
            return summed(batch, each)


@dataclass(frozen=True)
class StoredLogProbs:
    """Computed once and looked up by the batch's `pair_ids`; see `store_log_probs`."""

    file: Path
    values: Float[Tensor, "pairs 2"]

    @classmethod
    def open(cls, folder: Path, key: Mapping[str, Any]) -> "StoredLogProbs":
        """What was stored under `key` in `folder`.

        Raises:
            ConfigError: there is nothing, or it is not whole.
        """
        file = file_of(folder, key)
        found = open_stored(folder, key, "log-probabilities")
        values = found.get(TENSOR, torch.empty(0))
        whole = values.ndim == 2 and values.shape[1] == 2 and bool(values.isfinite().all())
        if values.dtype != torch.float32 or not whole:
            raise ConfigError(f"{file}: does not hold two finite numbers a pair; {ADVICE}")
        return cls(file, values)

    def log_probs(self, batch: PreferenceBatch) -> Answers:
        """Raises ValueError: the batch has pairs that are not stored."""
        ids = batch.pair_ids.cpu()
        check_ids(ids, len(self.values), self.file, "pair")
        found = torch.where((ids >= 0)[..., None], self.values[ids.clamp(min=0)], 0.0)
        return found.to(batch.tokens.device, non_blocking=True)


def store_log_probs(
    model: LanguageModel,
    batches: Iterable[PreferenceBatch],
    num_pairs: int,
    folder: Path,
    key: Mapping[str, Any],
    *,
    device: torch.device,
    precision: torch.dtype,
    progress: Progress = lambda done, total: None,
) -> StoredLogProbs:
    """The log-probabilities of all pairs of `batches`, computed now unless they lie in `folder`.

    `key` names all that they depend on (weights, data, precision, versions). They are kept in
    fp32, two numbers a pair. `progress` is told pairs done and in all.

    Raises:
        ConfigError: what lies there is not whole.
        ValueError: the batches do not hold each pair from 0 to `num_pairs` - 1, with finite values.
        OSError: the disk is full or broken.
    """
    if not on_first(lambda: file_of(folder, key).exists()):
        layout = {TENSOR: ((num_pairs, 2), torch.float32)}
        parts = (_computed(model, batch, device, precision) for batch in map(share_of, batches))
        compute(folder, key, layout, parts, "pair", progress)
    found = StoredLogProbs.open(folder, key)
    if len(found.values) != num_pairs:
        raise ConfigError(
            f"{found.file}: holds {len(found.values)} pairs where there are {num_pairs}; {ADVICE}"
        )
    return found


def verify_log_probs(
    stored: StoredLogProbs,
    model: LanguageModel,
    batches: Iterable[PreferenceBatch],
    *,
    device: torch.device,
    precision: torch.dtype,
) -> None:
    """Compute the pairs of `batches` anew and compare.

    Raises:
        ConfigError: the stored log-probabilities are not the model's.
    """
    for batch in batches:
        ids, live = _computed(model, batch, device, precision)
        kept = stored.values[ids]
        off = (live - kept).abs() / live.abs().clamp(min=1)
        worst = int(off.amax(dim=1).argmax())
        if not float(off.max()) <= TOLERANCE[precision]:
            raise ConfigError(
                f"the stored log-probabilities of pair {int(ids[worst])} are "
                f"{kept[worst].tolist()} where the reference gives {live[worst].tolist()}; delete "
                f"{stored.file}, and they are recomputed."
            )


def _computed(
    model: LanguageModel, batch: PreferenceBatch, device: torch.device, precision: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The numbers of a batch's pairs and their log-probabilities, on the host."""
    with evaluating(model), torch.no_grad(), autocast(device, precision):
        values, _ = answer_log_probs(model, batch.to(device))
    reshard(model)
    there = batch.pair_ids >= 0
    return batch.pair_ids[there].cpu(), values.cpu()[there.cpu()].float()
