"""Kills a healing run before each of its writes in turn, and resumes it; run as a program."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def main(config_file: Path, folder: Path) -> None:
    """Print, as JSON, how many writes there were and after which kills the run ended otherwise."""
    import torch
    from faults import Fault, FaultPlan
    from test_resume import weights_of

    from foundling.config import load_toml
    from foundling.records import read_records
    from foundling.stage import PretrainConfig, pretrain

    torch.set_num_threads(1)
    config = PretrainConfig.parse(load_toml(config_file))
    faults = [
        Fault("loss", "scale", samples=range(33, 34), sticky=True, factor=3.0),
        Fault("parameter", "scale", samples=range(70, 71), sticky=True, factor=30.0),
    ]

    def train(out: Path, *, resume: bool = False) -> None:
        pretrain(config, out, resume=resume, seam=FaultPlan(faults))

    def killed_before(number: int, out: Path) -> Callable[[], None]:
        count = 0

        def before_write(what: str) -> None:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

        def work() -> None:
            watch_writes(out, before_write)
            train(out)

        return work

    train(folder / "whole")
    expected = weights_of(folder / "whole")
    events = read_records(folder / "whole" / "events.jsonl")
    different, number = [], 0
    while True:
        number += 1
        out = folder / f"killed-{number}"
        if in_a_child(killed_before(number, out)) == 0:
            break
        if not out.exists():
            continue
        status = in_a_child(lambda out=out: train(out, resume=True))
        if status != 0 or weights_of(out) != expected:
            different.append(number)
    acts = [event["kind"] for event in events if event["phase"] == "intent"]
    print(json.dumps({"writes": number - 1, "different": different, "acts": acts}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
