"""The command's process: its cores, and Ctrl-C, which ends it with one line and exit code 130."""

import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

INTERRUPTED = 130


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_at_once(number: int = signal.SIGINT, frame: FrameType | None = None) -> None:
    """Leave without unwinding: no exception passes through C++, and every file survives a kill."""
    os.write(2, b"interrupted.\n")
    os._exit(INTERRUPTED)


def guard_interrupts() -> None:
    """From now on Ctrl-C ends the process at once; see `interruptible`."""

    def hook(unraisable: "UnraisableHookArgs") -> None:
        # Raised in a finalizer, where it would be printed and forgotten.
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            end_at_once()
        sys.__unraisablehook__(unraisable)

    signal.signal(signal.SIGINT, end_at_once)
    sys.unraisablehook = hook


@contextmanager
def interruptible() -> Iterator[None]:
    """While entered, the first Ctrl-C raises KeyboardInterrupt, so that a verb can clean up.

    While a module is being imported it still ends the process at once: KeyboardInterrupt in the
    middle of a C++ library that calls Python breaks that library, or is lost. Changes nothing in a
    process that `guard_interrupts` does not guard.
    """
    guarded = signal.getsignal(signal.SIGINT) is end_at_once
    if guarded:
        signal.signal(signal.SIGINT, _raise)
    try:
        yield
    finally:
        if guarded:
            signal.signal(signal.SIGINT, end_at_once)


def _raise(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, end_at_once)
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            end_at_once()
        frame = frame.f_back
    raise KeyboardInterrupt


def world_size(environment: Mapping[str, str] = os.environ) -> int:
    """How many processes a launcher such as torchrun started; 1 without one."""
    size = environment.get("WORLD_SIZE", "1")
    return int(size) if size.isdecimal() else 1


def process_number(environment: Mapping[str, str] = os.environ) -> int:
    """The number of this process among those that a launcher started; 0 without one."""
    number = environment.get("RANK", "0")
    return int(number) if world_size(environment) > 1 and number.isdecimal() else 0


def require_single(verb: str, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse to be one of several processes.

    Raises:
        ConfigError: a launcher such as torchrun started more than one.
    """
    if (size := world_size(environment)) > 1:
        from foundling.base.config import ConfigError

        raise ConfigError(
            f"WORLD_SIZE = {size}: foundling {verb} works in one process; start it without "
            "torchrun, or with --nproc-per-node 1."
        )
