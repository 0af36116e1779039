"""What two processes check of their checkpoints; run as a program in each of them."""

import json
import re
import resource
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from foundling.base import ranks, sharded_files
from foundling.base.group import Group
from foundling.base.sharded import local
from foundling.runs import checkpoint
from foundling.runs.checkpoint import BrokenCheckpoint
from foundling.stages import STAGES
from foundling.stages.assembly import run_stage
from foundling.training.pulse import Pulse
from foundling.training.rewind import TrainingStopped
from foundling.training.state import _copied
from foundling.training.watchdog import Watchdog


@contextmanager
def full_disk(rank: int, size: int = 2000) -> Iterator[None]:
    """No file of one process may grow further."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if ranks.rank() == rank:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def tensors() -> dict[str, Tensor]:
    """Some that are sharded, evenly and not, some replicated, one whole."""
    generator = torch.Generator().manual_seed(0)
    mesh = init_device_mesh("cpu", (1, ranks.world()), mesh_dim_names=("replicate", "shard"))
    found: dict[str, Tensor] = {}
    for name, shape, dtype in (
        ("even", (64, 32), torch.float32),
        ("uneven", (7, 5), torch.bfloat16),
        ("one row", (1, 9), torch.float32),
        ("bits", (4, 3), torch.int16),
    ):
        drawn = (100 * torch.randn(shape, generator=generator)).to(dtype)
        for kind, placement in (("sharded", Shard(0)), ("replicated", Replicate())):
            placed = distribute_tensor(drawn, mesh, [Replicate(), placement], src_data_rank=None)
            found[f"{kind}/{name}/value"] = placed
    return found | {"whole/step/value": torch.tensor(3.0)}


def same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(local(one), local(other))


def commit_fails_everywhere(folder: Path, group: Group) -> None:
    """A disk that is full for one process is an error for all, and older checkpoints stay."""
    written = _copied(tensors())

    def write(path: Path) -> None:
        sharded_files.write(written, path / "state", group)

    first = checkpoint.commit(folder, 1, write, {}, group)
    assert len([name for name in first.facts["files"] if "shard-" in name]) == 2
    for rank in range(group.size):
        with full_disk(rank), pytest.raises(OSError, match=f"rank {rank}: "):
            checkpoint.commit(folder, 2, write, {}, group)
        ranks.barrier()
        assert [path.name for path in sorted(folder.iterdir())] == ["step-00000001"]
        ranks.barrier()
    checkpoint.commit(folder, 2, write, {}, group)

    read = {name: torch.zeros_like(tensor) for name, tensor in written.items()}
    sharded_files.read(read, first.path / "state")
    assert all(same(read[name], tensor) for name, tensor in written.items())


def all_find_the_same(folder: Path, group: Group) -> None:
    """Whichever file is broken, and whichever process reads it."""
    newest = checkpoint.newest_whole(folder, group=group)
    assert newest is not None
    assert newest.step == 2
    for name in newest.facts["files"]:
        file = newest.path / name
        content = file.read_bytes()
        ranks.barrier()
        if ranks.is_first():
            file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        ranks.barrier()
        with pytest.raises(BrokenCheckpoint, match=re.escape(name)):
            checkpoint.open_whole(newest.path, group)
        found = checkpoint.newest_whole(folder, group=group)
        assert found is not None
        assert found.step == 1
        ranks.barrier()
        if ranks.is_first():
            file.write_bytes(content)
        ranks.barrier()


def train_with_a_full_disk(values: dict[str, Any], out: Path) -> None:
    """All processes stop, and the checkpoints before are intact.

    That of step 8 may still be being written when the disk is full at step 9.
    """
    stage = STAGES["pretrain"].load()
    disk = full_disk(rank=1)

    def seam(site: str, step: int, samples: object, value: Any) -> Any:
        if (site, step) == ("state", 9):
            disk.__enter__()
        return value

    with pytest.raises(TrainingStopped, match="the last checkpoint is intact"):
        run_stage(stage, stage.config.parse(values), out, seam=seam)
    disk.__exit__(None, None, None)
    ranks.barrier()
    found = [one.step for one in checkpoint.committed(out / "checkpoints")]
    assert found in ([4], [4, 8]), found
    assert not list((out / "checkpoints").glob(".*"))
    ranks.barrier()
    run_stage(stage, stage.config.parse(values), out, resume=True)


def copy_is_taken_first(folder: Path, group: Group) -> None:
    """What is written is the state as it was when it was copied, whatever the weights are since."""
    before, changing = tensors(), tensors()
    staged = _copied(changing)
    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(sharded_files.write, staged, folder, group)
        while not writing.done():
            for tensor in changing.values():
                local(tensor).add_(1)
    writing.result()
    read = {name: torch.zeros_like(tensor) for name, tensor in before.items()}
    sharded_files.read(read, folder)
    assert all(same(read[name], tensor) for name, tensor in before.items())


def what_fails_on_one_fails_on_all(group: Group) -> None:
    def act() -> None:
        if group.rank == 1:
            raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        group.together(act)


def one_that_works_alone_is_named() -> None:
    with Watchdog(Pulse(), limit=600.0) as watchdog:

        def work() -> str:
            watchdog._publish()
            assert watchdog._first_works_alone()
            return watchdog._who_is_behind()

        assert ranks.on_first(work).startswith("the others wait for process 0, ")
        watchdog._publish()
        ranks.barrier()
        assert not watchdog._first_works_alone()
        ranks.barrier()


def main(plan: Path) -> None:
    ranks.start()
    group = Group.of_all(60.0)
    for name, values, out, resume in json.loads(plan.read_text()):
        if name == "commit":
            commit_fails_everywhere(Path(out), group)
            all_find_the_same(Path(out), group)
            copy_is_taken_first(Path(out) / "copied", group)
            what_fails_on_one_fails_on_all(group)
            one_that_works_alone_is_named()
        elif name == "full disk":
            train_with_a_full_disk(values, Path(out))
        else:
            stage = STAGES[name].load()
            run_stage(stage, stage.config.parse(values), Path(out), resume=resume)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
