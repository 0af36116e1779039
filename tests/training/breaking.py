"""Runs pretraining in each process of a launch while faults are put in; run as a program."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
from faults import Fault, FaultPlan

HANG_SECONDS, SLOW_SECONDS = 3600, 0.2


@dataclass(frozen=True)
class End:
    """How a process ends at a step, in one start of the launch.

    kill, hang, disk or memory; term: it is asked to stop; slow: it is slow from the step on.
    """

    kind: str
    step: int
    rank: int
    start: int = 0


def run_with_faults(
    processes: int,
    works: Sequence[tuple[Mapping[str, Any], Path, Sequence[Fault | End]]],
    scratch: Path,
    *,
    restarts: int = 0,
) -> subprocess.CompletedProcess[str]:
    """Train runs one after the other; a launch that starts again resumes the run that it left."""
    plan = scratch / f"faults-{len(list(scratch.iterdir()))}.json"
    plan.write_text(
        json.dumps(
            [
                (values, str(out), [(type(fault).__name__, asdict(fault)) for fault in faults])
                for values, out, faults in works
            ],
            default=lambda samples: [samples.start, samples.stop],
        )
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", f"--max-restarts={restarts}"]
    path = os.pathsep.join(filter(None, sys.path))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    return subprocess.run(
        [*command, __file__, str(plan)], env=environment, capture_output=True, text=True
    )


class Ends:
    """Call it as the loop's seam."""

    def __init__(self, ends: Sequence[End], start: int) -> None:
        self.ends = [end for end in ends if end.start == start]

    def __call__(self, site: str, step: int, samples: Sequence[int], value: Any) -> Any:
        from foundling.base import ranks

        for end in self.ends:
            is_due = step == end.step or (end.kind == "slow" and step > end.step)
            if is_due and (site, ranks.rank()) == ("batch", end.rank):
                _end(end.kind)
        return value


def _end(kind: str) -> None:
    if kind == "slow":
        time.sleep(SLOW_SECONDS)
        return
    if kind == "term":
        os.kill(os.getpid(), signal.SIGTERM)
        return
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "hang":
        time.sleep(HANG_SECONDS)
    if kind == "disk":
        raise OSError(errno.EIO, "the disk cannot be read")
    raise RuntimeError("out of memory: tried to allocate 99 GiB")


def main(plan: Path) -> None:
    from foundling.cli.app import logging  # type: ignore[attr-defined]
    from foundling.runs.run import is_run
    from foundling.stages.pretrain import PretrainConfig, pretrain
    from foundling.training.interrupt import Interrupted
    from foundling.training.rewind import TrainingStopped

    logging.getLogger("foundling").addHandler(logging.StreamHandler())
    start = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    for values, out, given in json.loads(plan.read_text()):
        faults = [Fault(**_ranged(f)) for name, f in given if name == "Fault"]
        ends = Ends([End(**end) for name, end in given if name == "End"], start)
        seam = FaultPlan(faults)

        def both(site: str, step: int, samples: Any, value: Any, seam=seam, ends=ends) -> Any:
            return ends(site, step, samples, seam(site, step, samples, value))

        folder = Path(out)
        try:
            pretrain(PretrainConfig.parse(values), folder, resume=is_run(folder), seam=both)
        except Interrupted:
            print(f"interrupted: {out}")
        except TrainingStopped as stopped:
            if not ends.ends:
                print(f"stopped: {stopped}")
                continue
            raise


def _ranged(fault: dict[str, Any]) -> dict[str, Any]:
    samples = fault["samples"]
    return {**fault, "samples": samples and range(*samples)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
