"""Files of tensors that several processes write together and any number reads.

They are torch's distributed checkpoint in safetensors: each file says in a header of JSON which
tensors it holds, and where in the whole of each its part lies. Nothing is pickled.
"""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from torch import Tensor

from foundling.base.group import Group

if TYPE_CHECKING:
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

_PART = re.compile(r"shard-(\d+)-model-\d+-of-\d+\.safetensors")
_WHOLE = re.compile(r"model-(\d+)-of-\d+\.safetensors")


def write(tensors: Mapping[str, Tensor], folder: Path, group: Group) -> None:
    """Write tensors into a folder, each process a file of the parts that it holds.

    Raises:
        OSError: a process could not write; the same on all.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    _save(tensors, HuggingFaceStorageWriter(str(folder), save_distributed=True), group)


def write_whole(
    tensors: Mapping[str, Tensor], folder: Path, group: Group, files: Mapping[str, int]
) -> None:
    """Write tensors that one process each holds whole, as the files of a model with their index.

    Args:
        files: of every tensor of any process, the number of its file, from 1; the files of a
            process are those of every `group.size`-th number.

    Raises:
        OSError: a process could not write; the same on all.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    _save(tensors, HuggingFaceStorageWriter(str(folder), dict(files)), group)


def writer_of(name: str, size: int) -> int:
    """The rank, of `size`, that wrote a file of this name; all others are the first one's."""
    if part := _PART.fullmatch(name):
        return int(part[1]) - 1
    found = _WHOLE.fullmatch(name)
    return (int(found[1]) - 1) % size if found else 0


def kinds(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """The shape and type of each tensor that the files of a folder hold, by name."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {
        name: (about.size, about.properties.dtype)
        for name, about in found.items()
        if isinstance(about, TensorStorageMetadata)
    }


def read(tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Fill tensors, of those that are sharded the part that lies here, from the files of a folder.

    Each process reads for itself, and nothing more than its parts.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    if tensors:
        with warnings.catch_warnings():
            # It supposes that one process alone is a mistake.
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            load(dict(tensors), storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)


def _save(tensors: Mapping[str, Tensor], writer: "HuggingFaceStorageWriter", group: Group) -> None:
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict_saver import save

    try:
        save(dict(tensors), storage_writer=writer, process_group=group.handle)
    except CheckpointException as error:
        for rank, (cause, _) in sorted(error.failures.items()):
            if isinstance(cause, OSError | SafetensorError):
                raise OSError(f"rank {rank}: {cause}") from error
        raise
