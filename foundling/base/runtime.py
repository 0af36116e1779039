"""The machine: device, threads, memory allocator, seeds, and its matrix rate."""

import ctypes
import hashlib
import os
import time
from functools import cache

import torch

from foundling.base.config import ConfigError, suggest


def pick_device(name: str = "auto") -> torch.device:
    """`auto` is CUDA where there is one, else the CPU.

    Raises:
        ConfigError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.split(":")[0] not in ("cpu", "cuda"):
        raise ConfigError(
            f'device = "{name}": no such device {suggest(name, ["auto", "cpu", "cuda"])}'
        )
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f'device = "{name}": this machine has no CUDA device; use "cpu" or "auto".'
        )
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f'device = "{name}": expected "cpu", "cuda" or "cuda:N".') from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f'device = "{name}": there are {torch.cuda.device_count()} CUDA devices.')
    return device


def memory_bytes(device: torch.device) -> int:
    """How much memory a device has in all."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def keep_memory() -> bool:
    """Tell glibc to keep freed memory instead of giving it back between steps.

    Every step frees and takes the same gigabytes; giving them back costs page faults, a third of
    a step's time on a CPU. Returns whether the allocator took the settings (glibc only).
    """
    trim_threshold, mmap_max, arena_max = -1, -4, -8  # malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # One arena: autograd's thread then reuses what the main thread freed.
    settings = ((trim_threshold, 2**31 - 1), (mmap_max, 0), (arena_max, 1))
    taken = [mallopt(key, value) == 1 for key, value in settings]
    return all(taken)


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that is a pure function of `parts`."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def seed_everything(*parts: int | str) -> None:
    """Seed torch on every device from `parts`."""
    torch.manual_seed(derive_seed(*parts))


def use_deterministic_sums(device: torch.device) -> None:
    """On CPUs, let no sum depend on which thread comes first; elsewhere leave torch as it is.

    Compiled code adds up an embedding's gradient by atomic additions otherwise, and a run would
    not come out the same twice.
    """
    torch.use_deterministic_algorithms(device.type == "cpu")
    # By default torch would also fill all new memory with NaN, which costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def use_threads(count: int | None) -> int:
    """Set the number of CPU threads of torch (None: as torch chose) and return it."""
    if count is not None:
        torch.set_num_threads(count)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    return torch.get_num_threads()


def matrix_rate(device: torch.device, precision: torch.dtype) -> float:
    """Floating-point operations a second of a square matrix product, the best of six.

    Measured once in a process for each number of threads.
    """
    return _matrix_rate(device, precision, torch.get_num_threads())


@cache
def _matrix_rate(
    device: torch.device, precision: torch.dtype, threads: int, size: int = 1024
) -> float:
    left = torch.randn(size, size, device=device).to(precision)
    right = torch.randn(size, size, device=device).to(precision)
    best = 0.0
    for _ in range(6):  # the first is a warm-up whose time may count only by being the best
        start = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best
