"""What a reference model gives: computed once, kept in a file under a key, looked up by number."""

import hashlib
import json
import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from foundling.base import durable, ranks
from foundling.base.config import ConfigError

KEY = "key"
ADVICE = "delete that file, and it is recomputed."
DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16"}
"""By their names in a file of safetensors."""

Layout = Mapping[str, tuple[tuple[int, ...], torch.dtype]]
"""By name, the shape and type of each tensor."""
Progress = Callable[[int, int], None]
"""(done, in all)."""


def file_of(folder: Path, key: Mapping[str, Any]) -> Path:
    """The file of what depends on all that `key` names (weights, data, precision, versions)."""
    text = json.dumps(_plain(key), sort_keys=True)
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.safetensors"


def open_stored(folder: Path, key: Mapping[str, Any], what: str) -> dict[str, Tensor]:
    """The tensors that were stored under `key`, mapped from their file; `what` names them.

    Raises:
        ConfigError: there are none, or they are not whole.
    """
    file = file_of(folder, key)
    if not file.is_file():
        raise ConfigError(f"{file}: no stored {what} of the reference here.")
    try:
        with safe_open(file, framework="pt") as opened:
            kept = json.loads((opened.metadata() or {})[KEY])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}; {ADVICE}") from None
    if kept != _plain(key):
        raise ConfigError(f"{file}: holds the {what} of another key; {ADVICE}")
    return tensors


@contextmanager
def stored(folder: Path, key: Mapping[str, Any], layout: Layout) -> Iterator[dict[str, Tensor]]:
    """Tensors to fill, mapped onto a file that gets its name when all is well, and else goes.

    Raises:
        OSError: the disk is full or broken.
    """
    final = file_of(folder, key)
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{final.stem}.", suffix=".partial", dir=folder)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "r+b") as file:
            header = _header(key, layout)
            size = len(header) + sum(_size(*one) for one in layout.values())
            # The room is taken now: a full disk is an error here, and a crash in a mapped file.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            file.write(header)
            file.flush()
            mapped = mmap.mmap(file.fileno(), size)
            yield _views(mapped, len(header), layout)
            mapped.flush()
        durable.sync(temporary)
        if not final.exists():  # another process may have been faster
            temporary.rename(final)
            durable.sync(folder)
    finally:
        temporary.unlink(missing_ok=True)


def compute(
    folder: Path,
    key: Mapping[str, Any],
    layout: Layout,
    parts: Iterable[tuple[Tensor, Tensor]],
    noun: str,
    progress: Progress,
    rest: Mapping[str, Tensor] | None = None,
) -> None:
    """Store what is computed: the first tensor of `layout` from `parts`, others from `rest`.

    Each process computes its `parts`, see `fill`; the first one stores those of all.

    Raises:
        OSError: the disk is full or broken.
        ValueError: as `fill`.
    """
    if ranks.is_first():
        with stored(folder, key, layout) as tensors:
            first = tensors[next(iter(layout))]
            fill(first, (one for part in parts for one in ranks.collected(part)), noun, progress)
            for name, value in (rest or {}).items():
                tensors[name].copy_(value)
    else:
        for part in parts:
            ranks.collected(part)
    ranks.barrier()


def fill(
    tensor: Tensor, parts: Iterable[tuple[Tensor, Tensor]], noun: str, progress: Progress
) -> None:
    """Put the (numbers, values) of batches into their places; `noun` names what is numbered.

    Raises:
        ValueError: a number is out of range or in no batch, or a value is not finite.
    """
    count, done = len(tensor), 0
    seen = torch.zeros(count, dtype=torch.bool)
    for ids, values in parts:
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < count:
            raise ValueError(f"{noun}_ids up to {int(ids.max())} among {count} {noun}s.")
        if not values.isfinite().all():
            raise ValueError(f"the reference gives a {noun} that is not finite.")
        tensor[ids] = values.to(tensor.dtype)
        seen[ids] = True
        done += len(ids)
        progress(min(done, count), count)
    if missing := int((~seen).sum()):
        first = int((~seen).nonzero()[0])
        raise ValueError(f"{missing} of {count} {noun}s are in no batch, first number {first}.")


def check_ids(ids: Tensor, count: int, file: Path, noun: str) -> None:
    """Raise ValueError where a batch has numbers that are not stored."""
    if ids.numel() and int(ids.max()) >= count:
        raise ValueError(
            f"{noun}_ids up to {int(ids.max())}: {file} holds those of {count} {noun}s; the data "
            "must be those it was made from."
        )


def _plain(key: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(dict(key), sort_keys=True, allow_nan=False))


def _size(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    return prod(shape) * dtype.itemsize


def _header(key: Mapping[str, Any], layout: Layout) -> bytes:
    """The head of a file of safetensors whose tensors stand in the order of `layout`."""
    content: dict[str, Any] = {"__metadata__": {KEY: json.dumps(_plain(key))}}
    at = 0
    for name, (shape, dtype) in layout.items():
        stop = at + _size(shape, dtype)
        content[name] = {"dtype": DTYPES[dtype], "shape": shape, "data_offsets": [at, stop]}
        at = stop
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 8)  # aligned
    return len(text).to_bytes(8, "little") + text


def _views(mapped: mmap.mmap, at: int, layout: Layout) -> dict[str, Tensor]:
    views = {}
    for name, (shape, dtype) in layout.items():
        flat = torch.frombuffer(mapped, dtype=dtype, count=prod(shape), offset=at)
        views[name] = flat.view(shape)
        at += _size(shape, dtype)
    return views
