"""Runs stages one after the other in each process of a launch; run as a program."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Settings = Callable[..., dict[str, Any]]
"""Makes the settings of a run from what it is of and from overrides."""
Work = tuple[str, Mapping[str, Any], Path, bool]
"""A stage's name, its settings, the run's folder, and whether it is resumed."""


def run_in(processes: int, works: Sequence[Work], scratch: Path, program: str = __file__) -> None:
    """Run the works, by this program or another, in so many processes, which one launch starts."""
    plan = scratch / f"plan-{len(list(scratch.iterdir()))}.json"
    plan.write_text(json.dumps([(s, v, str(out), again) for s, v, out, again in works]))
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    ended = subprocess.run(
        [sys.executable, *launcher, program, str(plan)],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr


def environment() -> dict[str, str]:
    """That of a program which imports what the tests import."""
    path = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def metrics(run: Path) -> list[dict[str, Any]]:
    """Without who was slow, which depends on the machine."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["split"] != "straggler"]


def train(stage: str, values: Mapping[str, Any], out: Path, resume: bool = False) -> Path:
    """In this process, which may be one of several."""
    from foundling.stages import STAGES
    from foundling.stages.assembly import run_stage

    loaded = STAGES[stage].load()
    run_stage(loaded, loaded.config.parse(values), out, resume=resume)
    return out


def main(plan: Path) -> None:
    for stage, values, out, resume in json.loads(plan.read_text()):
        train(stage, values, Path(out), resume)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
