"""Where the final hidden vectors of the reference model come from."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from foundling.base import durable
from foundling.base.config import ConfigError
from foundling.base.precision import autocast
from foundling.models.adapters import adapters_of, disabled
from foundling.models.batch import IGNORE, Batch, TokenBatch
from foundling.models.language_model import LanguageModel

HIDDEN, WEIGHT, RECORD = "hidden.bin", "weight.safetensors", "reference.json"
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
        return self.model.unembed.weight.detach()

    def hidden(self, batch: Batch) -> Tensor:
        return _due_vectors(self.model, batch)


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
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and id(parameter) not in trained:
                raise ConfigError(
                    f"{name} trains beside the adapters, so that switching them off does not give "
                    "the reference; freeze it, or give a frozen model."
                )

    @property
    def weight(self) -> Tensor:
        return self.model.unembed.weight.detach()

    def hidden(self, batch: Batch) -> Tensor:
        with disabled(self.model), evaluating(self.model):
            return _due_vectors(self.model, batch)


@dataclass(frozen=True)
class StoredHidden:
    """Vectors computed once and looked up by the batch's `target_ids`; see `store_hidden`."""

    folder: Path
    vectors: Float[Tensor, "targets dim"]
    """Mapped from the file."""
    weight: Float[Tensor, "vocab dim"]

    @classmethod
    def open(cls, folder: Path, key: Mapping[str, Any]) -> "StoredHidden":
        """The vectors that were stored under `key` in `folder`.

        Raises:
            ConfigError: there are none, or they are not whole.
        """
        path = place_of(folder, key)
        advice = "delete that folder, and they are computed anew."
        try:
            record = json.loads((path / RECORD).read_text("utf-8"))
            shape = tuple(map(int, record["shape"]))
            dtype = {str(d): d for d in TOLERANCE}[record["dtype"]]
            sizes, kept = record["sizes"], record["key"]
            for name in (HIDDEN, WEIGHT):
                if (path / name).stat().st_size != sizes[name]:
                    raise ConfigError(f"{path / name}: not {sizes[name]} bytes long; {advice}")
            weight = load_file(path / WEIGHT)["weight"]
        except FileNotFoundError:
            raise ConfigError(f"{path}: no stored vectors of the reference here.") from None
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{path}: cannot be read: {error}; {advice}") from None
        if kept != plain_key(key):
            raise ConfigError(f"{path}: holds the vectors of another key; {advice}")
        size = shape[0] * shape[1]
        if size * dtype.itemsize != sizes[HIDDEN] or weight.shape[1] != shape[1]:
            raise ConfigError(f"{path}: its files are not of the shape it says; {advice}")
        vectors = torch.from_file(str(path / HIDDEN), shared=False, size=size, dtype=dtype)
        return cls(path, vectors.view(shape), weight)

    def to(self, device: torch.device) -> "StoredHidden":
        """The same with the weight on `device`; the vectors go there batch by batch."""
        return StoredHidden(self.folder, self.vectors, self.weight.to(device))

    def hidden(self, batch: TokenBatch) -> Tensor:
        """Raises ValueError: the batch has no `target_ids`, or some that are not stored."""
        ids = _due_ids(batch).cpu()
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < len(self.vectors):
            raise ValueError(
                f"target_ids from {int(ids.min())} to {int(ids.max())}: {self.folder} holds those "
                f"of {len(self.vectors)} targets; the data must be those it was made from."
            )
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
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> StoredHidden:
    """The vectors of all targets of `batches`, computed now unless they lie in `folder`.

    `key` names all that they depend on (weights, data, precision, versions). They are stored in the
    precision in which they are multiplied: rounding once more then changes nothing. Written
    under another name and renamed when whole. `progress` is told targets done and in all.

    Raises:
        ConfigError: what lies there is not whole.
        ValueError: the batches do not hold each target from 0 to `num_targets` - 1.
        OSError: the disk is full or broken.
    """
    final = place_of(folder, key)
    if final.exists():
        return StoredHidden.open(folder, key).to(device)
    if num_targets < 1:
        raise ValueError(f"num_targets = {num_targets}: there must be one at least.")
    weight = model.unembed.weight.detach()
    dtype = weight.dtype if precision == torch.float32 else precision
    shape = (num_targets, weight.shape[1])
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".partial", dir=folder))
    try:
        _reserve(temporary / HIDDEN, shape[0] * shape[1] * dtype.itemsize)
        _fill(
            temporary / HIDDEN, shape, dtype, _vectors(model, batches, device, precision), progress
        )
        save_file({"weight": weight.to("cpu", dtype).contiguous()}, temporary / WEIGHT)
        sizes = {name: (temporary / name).stat().st_size for name in (HIDDEN, WEIGHT)}
        record = {"key": plain_key(key), "shape": shape, "dtype": str(dtype), "sizes": sizes}
        (temporary / RECORD).write_text(json.dumps(record, indent=2) + "\n", "utf-8")
        for name in (HIDDEN, WEIGHT, RECORD):
            durable.sync(temporary / name)
        durable.sync(temporary)
        if not final.exists():  # another process may have been faster
            temporary.rename(final)
            durable.sync(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return StoredHidden.open(folder, key).to(device)


def verify(
    stored: StoredHidden,
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
    advice = f"delete {stored.folder}, and they are computed anew."
    weight = model.unembed.weight.detach().to(stored.weight)
    if not torch.equal(weight, stored.weight):
        raise ConfigError(f"the stored weight is not the reference's; {advice}")
    generator = torch.Generator().manual_seed(seed)
    ids, vectors = next(_vectors(model, [batch], device, precision))
    chosen = torch.randperm(len(ids), generator=generator)[:num_targets]
    live, kept = vectors[chosen].double(), stored.hidden(batch).cpu()[chosen].double()
    off = ((live - kept).norm(dim=1) / live.norm(dim=1).clamp(min=1e-30)).tolist()
    allowed = TOLERANCE[stored.vectors.dtype]
    for target, difference in zip(ids[chosen].tolist(), off, strict=True):
        if not difference <= allowed:
            raise ConfigError(
                f"the stored vector of target {target} is off by {difference:.2g} of its length, "
                f"more than {allowed:g}; {advice}"
            )


def _due_vectors(model: LanguageModel, batch: Batch) -> Tensor:
    with torch.inference_mode():
        return model.at(batch.tokens, batch.view, batch.indices)


def _due_ids(batch: TokenBatch) -> Tensor:
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
            yield _due_ids(batch).cpu(), _due_vectors(model, batch.to(device)).cpu()


def _fill(
    file: Path,
    shape: tuple[int, int],
    dtype: torch.dtype,
    parts: Iterable[tuple[Tensor, Tensor]],
    progress: Callable[[int, int], None],
) -> None:
    mapped = torch.from_file(str(file), shared=True, size=shape[0] * shape[1], dtype=dtype)
    mapped, seen = mapped.view(shape), torch.zeros(shape[0], dtype=torch.bool)
    done = 0
    for ids, vectors in parts:
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < shape[0]:
            raise ValueError(f"target_ids up to {int(ids.max())} among {shape[0]} targets.")
        mapped[ids] = vectors.to(dtype)
        seen[ids] = True
        done += len(ids)
        progress(min(done, shape[0]), shape[0])
    if missing := int((~seen).sum()):
        first = int((~seen).nonzero()[0])
        raise ValueError(f"{missing} of {shape[0]} targets are in no batch, first number {first}.")


def _reserve(file: Path, size: int) -> None:
    """Take the room now: a full disk is an error here, and a crash in a mapped file."""
    with file.open("wb") as opened:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(opened.fileno(), 0, size)
        else:
            opened.truncate(size)


def plain_key(key: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(dict(key), sort_keys=True, allow_nan=False))


def place_of(folder: Path, key: Mapping[str, Any]) -> Path:
    text = json.dumps(plain_key(key), sort_keys=True)
    return folder / hashlib.sha256(text.encode()).hexdigest()[:32]


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
