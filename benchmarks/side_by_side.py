"""Runs variants of one piece of work in turn, in processes of their own, and compares medians."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from pretrain import machine

WARM_UP = 2  # steps: the first compiles and fills the allocator
Step = Callable[[], int]
"""Trains one step; how many units of work it did."""
Measured = list[dict[str, float]]
"""Units and seconds of each step."""
PARITY = "parity"
"""What a variant's process is asked for in place of its speed."""


@dataclass(frozen=True)
class Work:
    """One piece of work for us and a peer; a variant is "NAME PRECISION ..."."""

    name: str
    unit: str
    file: str
    """The data, in the folder that --data-root names."""
    ours: Sequence[str]
    peers: Sequence[str]
    ratio_over: str
    prepare: Callable[[Path, Path], dict[str, Any]]
    """Given the data's folder, writes what every variant starts from; facts for the record."""
    step: Callable[[Path, str], Step]
    """A step of ours."""
    peer: Callable[[Path, str, int], Measured]
    """Times the steps of the peer."""
    parity: Callable[[Path, bool], Any]
    """What must be equal: ours, or if so asked the peer's."""
    compare: Callable[[Any, Any], Any]
    """How far ours and the peer's are apart."""
    real: bool = False
    """It is done on a model that --model names, which `prepare` finds as `model` in its folder."""

    @property
    def variants(self) -> tuple[str, ...]:
        return (self.ours[0], self.peers[0], *self.ours[1:], *self.peers[1:])


def run(work: Work, description: str) -> None:
    """The command line of a benchmark."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--data-root", default=os.environ.get("FOUNDLING_DATA_ROOT"))
    parser.add_argument("--peer-python", default=sys.executable, help="where TRL is installed")
    if work.real:
        parser.add_argument("--model", type=Path, help="a folder with real weights and a template")
    parser.add_argument("--parity", action="store_true", help="compare the figures, not the speed")
    parser.add_argument("--quick", action="store_true", help="two variants, one step each")
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    parser.add_argument("--steps", type=int, default=6, help="timed steps of a round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument(
        "--only", dest="variants", nargs="+", choices=work.variants, default=work.variants
    )
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.variant:
        answer = _answer(work, arguments.variant, arguments.folder, arguments.steps)
        print(json.dumps({"answer": answer, "peak_gib": peak_gib()}))
        return
    if arguments.data_root is None:
        parser.error(f"--data-root: the folder of {work.file}; or set FOUNDLING_DATA_ROOT")
    if work.real and arguments.model is None:
        parser.error("--model: give the folder of a real model")
    if arguments.quick:
        arguments.steps, arguments.rounds, arguments.variants = 1, 1, work.variants[:2]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if work.real:
            (folder / "model").symlink_to(arguments.model.resolve())
        facts = work.prepare(Path(arguments.data_root), folder)
        processes = _Processes(folder, arguments.peer_python, arguments.steps)
        versions = processes.peer_versions()
        if versions is None:
            print(f"TRL is not installed in {arguments.peer_python}: left out", file=sys.stderr)
            arguments.variants = [v for v in arguments.variants if v in work.ours]
        result: dict[str, Any] = {"name": work.name, "unit": work.unit}
        if arguments.parity:
            result["ours"], _ = processes.run(f"ours {PARITY}")
            if versions is not None:
                result["peer"], _ = processes.run(f"trl {PARITY}")
                result["difference"] = work.compare(result["ours"], result["peer"])
        else:
            result |= _compare(work, processes, arguments)
    result |= {"peer_name": versions and f"TRL ({versions})", "work": facts}
    print(json.dumps({**result, "machine": machine()}))


def time_trainer(train: Callable[[Any], None], units: int) -> Measured:
    """Of a `transformers` trainer, from the end of one step to the end of the next.

    `train` is given a callback for the trainer; it trains `WARM_UP` steps and those to be timed.
    """
    from transformers import TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    train(Clock())
    return [{"units": units, "seconds": b - a} for a, b in pairwise(ends[WARM_UP - 1 :])]


def quiet() -> None:
    """The libraries' notes and bars would end up among the figures."""
    import logging

    from datasets import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    logging.disable(logging.WARNING)
    disable_progress_bars()
    transformers_logging.disable_progress_bar()


def _answer(work: Work, variant: str, folder: Path, steps: int) -> Any:
    """What the process of one variant prints."""
    name, how = variant.split(maxsplit=1)
    if how == PARITY:
        return work.parity(folder, name == "trl")
    if name == "trl":
        return work.peer(folder, how, steps)
    step = work.step(folder, how)
    for _ in range(WARM_UP):
        step()
    measured = []
    for _ in range(steps):
        start = time.perf_counter()
        units = step()
        measured.append({"units": units, "seconds": time.perf_counter() - start})
    return measured


def peak_gib(process: int | str = "self") -> float:
    """The most memory that a process, by default this one, has held, in GiB.

    Not getrusage's: that of a child begins with the most that its parent held.
    """
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**20


class _Processes:
    """Runs each variant in a process of its own, ours and the peer in their own interpreters."""

    def __init__(self, folder: Path, peer_python: str, steps: int) -> None:
        import torch

        self.folder, self.peer_python, self.steps = folder, peer_python, steps
        threads = str(torch.get_num_threads())
        self.environment = {**os.environ, "OMP_NUM_THREADS": threads, "TQDM_DISABLE": "1"}
        self.environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}

    def peer_versions(self) -> str | None:
        """None: the peer is not installed in its interpreter."""
        names = ("trl", "transformers", "torch")
        code = "from importlib.metadata import version as v; import trl; "
        code += f"print(', '.join(f'{{n}} {{v(n)}}' for n in {names}))"
        done = subprocess.run([self.peer_python, "-c", code], capture_output=True, text=True)
        return done.stdout.strip().splitlines()[-1] if done.returncode == 0 else None

    def run(self, variant: str) -> tuple[Any, float]:
        """What it answers, and the most memory that it held, in GiB."""
        python = self.peer_python if variant.startswith("trl") else sys.executable
        command = [python, sys.argv[0], "--variant", variant, "--folder", str(self.folder)]
        command += ["--steps", str(self.steps)]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{variant} failed:\n{done.stderr[-3000:]}")
        said = json.loads(done.stdout.splitlines()[-1])
        return said["answer"], said["peak_gib"]


def _rates(measured: Measured) -> Iterator[float]:
    return (step["units"] / step["seconds"] for step in measured)


def _compare(work: Work, processes: _Processes, arguments: argparse.Namespace) -> dict[str, Any]:
    """Every variant in turn, and the medians of the units a second."""
    found: dict[str, Measured] = {variant: [] for variant in arguments.variants}
    peaks: dict[str, list[float]] = {variant: [] for variant in arguments.variants}
    for _ in range(arguments.rounds):
        for variant, measured in found.items():
            steps, peak = processes.run(variant)
            measured += steps
            peaks[variant].append(peak)
            if not arguments.json:
                rate = median(_rates(measured))
                print(f"{variant}: {rate:.2f} {work.unit}, {peak:.2f} GiB", file=sys.stderr)
    medians = {variant: median(_rates(measured)) for variant, measured in found.items()}
    base = medians.get(work.ratio_over)
    return {
        "ours": {v: round(rate, 2) for v, rate in medians.items() if v in work.ours},
        "peer": {v: round(rate, 2) for v, rate in medians.items() if v in work.peers},
        "ratio": {v: round(rate / base, 2) for v, rate in medians.items()} if base else {},
        "ratio_over": work.ratio_over,
        "peak_gib": {variant: round(median(values), 2) for variant, values in peaks.items()},
        "steps": {
            v: [[int(step["units"]), round(step["seconds"], 3)] for step in measured]
            for v, measured in found.items()
        },
    }
