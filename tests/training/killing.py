"""Kills a healing run before each of its writes in turn, and resumes it; run as a program."""

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

WORKERS = 2
AUDITED = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"}


def watch_writes(folder: Path, before_write: Callable[[str], None]) -> None:
    """Call `before_write` before each write below `folder` that training itself makes."""
    place, main = str(folder), threading.get_ident()
    fsync = os.fsync

    def concerns(path: object) -> bool:
        text = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
        return str(text).startswith(place) and threading.get_ident() == main

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in AUDITED or not concerns(arguments[0]):
            return
        reads = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if not reads:
            before_write(f"{event} {arguments[0]}")

    def watched_fsync(descriptor: int) -> None:
        if concerns(os.readlink(f"/proc/self/fd/{descriptor}")):
            before_write(f"fsync {descriptor}")
        fsync(descriptor)

    os.fsync = watched_fsync
    sys.addaudithook(hook)


def in_a_child(work: Callable[[], None]) -> int:
    """Run `work` in a fork of this process; its wait status."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def kill_and_resume(config_file: Path, folder: Path, first: int) -> tuple[list[int], list[int]]:
    """Kill before every other write from `first` on; the writes, and those that changed the end."""
    import torch
    from test_resume import weights_of

    torch.set_num_threads(1)
    expected = weights_of(folder / "whole")
    writes, different, number = [], [], first
    while True:
        out = folder / f"killed-{number}"
        if in_a_child(lambda out=out, number=number: train_until(config_file, out, number)) == 0:
            return writes, different
        writes.append(number)
        if out.exists():  # else it was killed before there was a run
            status = in_a_child(lambda out=out: train(config_file, out, resume=True))
            if status != 0 or weights_of(out) != expected:
                different.append(number)
        number += WORKERS


def train(config_file: Path, out: Path, *, resume: bool = False) -> None:
    """A run that skips a batch, goes back, and goes back once more."""
    from faults import Fault, FaultPlan

    from foundling.base.config import load_toml
    from foundling.stages.pretrain import PretrainConfig, pretrain

    faults = [
        Fault("loss", "scale", samples=range(21, 22), sticky=True, factor=3.0),
        Fault("parameter", "scale", samples=range(42, 43), sticky=True, factor=30.0),
    ]
    config = PretrainConfig.parse(load_toml(config_file))
    pretrain(config, out, resume=resume, seam=FaultPlan(faults))


def train_until(config_file: Path, out: Path, number: int) -> None:
    """Train, and die before the write of this number."""
    count = 0

    def before_write(what: str) -> None:
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    watch_writes(out, before_write)
    train(config_file, out)


def main(config_file: Path, folder: Path) -> None:
    """Print, as JSON, how many writes there were and after which kills the run ended otherwise."""
    from foundling.runs.records import read_records

    in_a_child(lambda: train(config_file, folder / "whole"))
    acts = read_records(folder / "whole" / "events.jsonl")
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool:
        found = pool.map(
            kill_and_resume, [config_file] * WORKERS, [folder] * WORKERS, range(1, WORKERS + 1)
        )
        writes, different = ([*chain(*lists)] for lists in zip(*found, strict=True))
    kinds = [event["kind"] for event in acts if event["phase"] == "intent"]
    print(json.dumps({"writes": len(writes), "different": sorted(different), "acts": kinds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
