"""Runs stages one after the other in each process of a launch; run as a program."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Work = tuple[str, Mapping[str, Any], Path, bool]
"""A stage's name, its settings, the run's folder, and whether it is resumed."""


def run_in(processes: int, works: Sequence[Work], scratch: Path) -> None:
    """Run the works in so many processes, which one launch starts."""
    plan = scratch / f"plan-{processes}-{len(list(scratch.iterdir()))}.json"
    plan.write_text(json.dumps([(s, v, str(out), again) for s, v, out, again in works]))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", __file__, str(plan)]
    path = os.pathsep.join(filter(None, sys.path))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def main(plan: Path) -> None:
    from foundling.stages import STAGES
    from foundling.stages.assembly import run_stage

    for name, values, out, resume in json.loads(plan.read_text()):
        stage = STAGES[name].load()
        run_stage(stage, stage.config.parse(values), Path(out), resume=resume)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
