"""The processes that train together: which one this is, and figures of all of them.

A launcher such as torchrun starts them and says so in the environment. With one process every
function here is the identity.
"""

import atexit
import os
import pickle
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from foundling.base.config import ConfigError

T = TypeVar("T")

_alone = False
"""The first process works by itself, see `on_first`."""


def start(timeout_seconds: float = 1800.0, device: str = "auto") -> None:
    """Join the other processes, once; does nothing where a launcher started none.

    Tensors on the host are sent by gloo, those on a GPU by NCCL; each process of a machine takes
    the GPU of its number, unless `device` is "cpu". A process that waits longer than
    `timeout_seconds` for another ends.

    Raises:
        ConfigError: the device is one GPU for all, or there are fewer GPUs than processes.
    """
    if dist.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return
    backend = "gloo"
    if device != "cpu":
        _require_gpu_each(device)
    if device != "cpu" and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        backend = "cpu:gloo,cuda:nccl"
    timeout = timedelta(seconds=timeout_seconds)
    store, number, count = next(rendezvous("env://", timeout=timeout))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        # torchrun keeps one store over all its starts, and processes would find where those of the
        # start before listened. (Where it makes a new one each time, its agents need not have
        # counted alike.)
        start_count = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = PrefixStore(f"start {start_count}", store)
    dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=timeout)
    atexit.register(dist.destroy_process_group)


def store() -> dist.Store:
    """Where processes leave each other words; a connection of its own, for a thread of its own."""
    copy: dist.Store = dist.distributed_c10d._get_default_store().clone()  # type: ignore[attr-defined]
    return copy


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _several() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if _several() else 0


def on_this_machine() -> int:
    """How many of the processes run on this machine; all of them where the launcher did not say."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", dist.get_world_size())) if _joined() else 1


def is_first() -> bool:
    """Whether this is the process that writes and reports."""
    return rank() == 0


def share(count: int) -> range:
    """This process's part of `count` things: contiguous, and no two parts differ by more than one.

    7 things of 3 processes: 0 to 1, 2 to 3, 4 to 6.
    """
    return range(rank() * count // world(), (rank() + 1) * count // world())


def sum_over_ranks(*values: float) -> list[float]:
    """Each value's sum, in double precision; as it is where there is one process."""
    return _reduced(values, dist.ReduceOp.SUM) if _several() else list(values)


def largest_over_ranks(*values: float) -> list[float]:
    """Each value's largest; one that is not a number anywhere is infinite."""
    if not _several():
        return list(values)
    worst = [float("inf") if value != value else value for value in values]
    return _reduced(worst, dist.ReduceOp.MAX)


def agreed(flag: bool) -> bool:
    """True on all processes where it is true on any."""
    return largest_over_ranks(float(flag))[0] > 0


def gathered(value: T) -> list[T]:
    """The value of each process, in the order of their numbers; it must be picklable."""
    if not _several():
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


def collected(value: T) -> list[T]:
    """On the first process the value of each, in the order of their numbers; nothing elsewhere."""
    if not _several():
        return [value]
    values: list[Any] | None = [None] * world() if is_first() else None
    dist.gather_object(value, values, dst=0)
    return values or []


def barrier() -> None:
    """Wait until every process is here."""
    agreed(False)


def on_first(work: Callable[[], T]) -> T:
    """What `work` gives, or raises, on the first process; all processes get the same.

    While the first works, it is alone: no other takes part in what it calls.
    """
    global _alone
    if not _several():
        return work()
    outcome: list[Any] = [None]
    if is_first():
        _alone = True
        try:
            outcome = [(work(), None)]
        except Exception as error:
            outcome = [(None, picklable(error))]
        finally:
            _alone = False
    dist.broadcast_object_list(outcome, src=0)
    value, failure = outcome[0]
    if failure is not None:
        raise failure
    return cast(T, value)


def is_alone() -> bool:
    """Whether this process works by itself while the others wait, see `on_first`."""
    return _alone


def _require_gpu_each(device: str) -> None:
    if ":" in device:
        raise ConfigError(
            f'training.device = "{device}": each of several processes takes a GPU of its own; '
            'give "cuda" or "auto".'
        )
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if 0 < count < processes:
        raise ConfigError(
            f'training.device = "{device}": {processes} processes on a machine with {count} GPUs; '
            f'start {count}, or set it to "cpu".'
        )


def _several() -> bool:
    return not _alone and _joined()


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def picklable(error: Exception) -> Exception:
    """The error as it can be sent: itself, or what it says."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _reduced(values: tuple[float, ...] | list[float], how: dist.ReduceOp.RedOpType) -> list[float]:
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(tensor, how)
    found: list[float] = tensor.tolist()
    return found
