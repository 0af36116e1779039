"""The tensors of a model folder: `model.safetensors`, or shards and their index."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from foundling.base import durable
from foundling.base.config import ConfigError, load_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARDS = "model-*-of-*.safetensors"
SHARD_BYTES = 5 * 10**9
"""The largest file written, if no tensor alone is larger: `transformers`' limit up to version 4.

Version 5 writes up to 50 GB; every reader takes either, and smaller files are easier to move.
"""
MAPPED_BYTES = 256 * 2**20
"""What is read of a file before it is mapped again: pages that were read count as our memory."""


class Stored(NamedTuple):
    """Where a tensor lies."""

    file: Path
    name: str
    shape: list[int]
    dtype: str
    """As safetensors calls it: F32, BF16, …"""


def find(folder: Path) -> dict[str, Stored]:
    """Every tensor of a folder by name; nothing is read but the heads of the files.

    Raises:
        ConfigError: there are no safetensors, or not all that the index names.
        SafetensorError, OSError: a file cannot be read.
    """
    found = {}
    for path in files(folder):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                part = file.get_slice(name)
                found[name] = Stored(path, name, part.get_shape(), part.get_dtype())
    return found


def read(wanted: Iterable[Stored]) -> Iterator[Tensor]:
    """Tensor by tensor as they are stored, without keeping what was read in memory.

    What is given is a part of the mapped file: copy it, and let it go.
    """
    file: Any = None
    path, size = None, 0
    for stored in wanted:
        if file is None or path != stored.file or size > MAPPED_BYTES:
            file, path, size = safe_open(stored.file, "pt"), stored.file, 0
        tensor = file.get_slice(stored.name)[:]
        size += tensor.nbytes
        yield tensor
        del tensor


def write(
    folder: Path, sizes: Mapping[str, int], make: Callable[[str], Tensor], limit: int
) -> None:
    """Write tensors, in files of at most `limit` bytes and an index where one is not enough.

    They take the place of those that the folder held. Where the process is killed in the middle,
    the folder holds the old ones, the new ones, or none that can be read, and never some of both.

    Args:
        sizes: bytes of each tensor by name.
        make: gives the tensor of a name, when its file is written.
    """
    shards = split(sizes, limit)
    weight_map: dict[str, str] = {}
    with TemporaryDirectory(dir=folder, prefix=".weights-") as partial:
        for number, names in enumerate(shards, 1):
            many = f"model-{number:05}-of-{len(shards):05}.safetensors"
            file = many if len(shards) > 1 else WEIGHTS
            tensors = {name: make(name) for name in names}
            save_file(tensors, Path(partial, file), metadata={"format": "pt"})
            weight_map |= dict.fromkeys(names, file)
        (folder / INDEX).unlink(missing_ok=True)  # of shards that are about to be replaced
        for file in sorted(set(weight_map.values())):
            os.replace(Path(partial, file), folder / file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
        durable.replace(folder / INDEX, (json.dumps(index, indent=2) + "\n").encode())
    for file in {WEIGHTS, *(path.name for path in folder.glob(SHARDS))} - {*weight_map.values()}:
        (folder / file).unlink(missing_ok=True)


def split(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """The names of the tensors that each file of at most `limit` bytes holds, in order."""
    shards: list[list[str]] = [[]]
    room = limit
    for name, size in sizes.items():
        if size > room and shards[-1]:
            shards.append([])
            room = limit
        shards[-1].append(name)
        room -= size
    return shards


def files(folder: Path) -> list[Path]:
    """The files that hold the weights of a folder.

    Raises:
        ConfigError: there are no safetensors, or not all that the index names.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        index = load_json(folder / INDEX).get("weight_map")
        named = {str(file) for file in index.values()} if isinstance(index, dict) else set()
        for file in named or {"weight_map"}:
            if Path(file).name != file or not (folder / file).is_file():
                raise ConfigError(f"{folder / INDEX}: {file}: no such file here; copy it too.")
        return [folder / file for file in sorted(named)]
    if pickled := [
        p.name for p in folder.glob("*") if p.suffix in (".bin", ".pt", ".pth", ".ckpt")
    ]:
        raise ConfigError(
            f"{folder}: {pickled[0]} is pickled, and opening it could run any code; convert it to "
            f"{WEIGHTS}: open it in `transformers` and call save_pretrained."
        )
    raise ConfigError(f"{folder}: holds neither {WEIGHTS} nor {INDEX}.")
