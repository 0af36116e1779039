"""Pretrain on a Ray cluster: the same command in a process of its own on each worker.

    python deploy/ray_train.py --workers 16 -- pretrain run.toml --data s3://b/data --out /mnt/run

Ray Train 2.43 or newer gives each worker its rank and address; the command joins them. A worker or
a machine that fails ends the others, and Ray starts all of them again, which then resume.
"""

import argparse
import os
import subprocess
import sys
from typing import Any

RESUMES = "--resume-if-exists"


def work(settings: dict[str, Any]) -> None:
    """What each worker does: run the command with the environment of torchrun."""
    import ray.train

    context = ray.train.get_context()
    environment = {
        **os.environ,
        "RANK": str(context.get_world_rank()),
        "WORLD_SIZE": str(context.get_world_size()),
        "LOCAL_RANK": str(context.get_local_rank()),
        "LOCAL_WORLD_SIZE": str(context.get_local_world_size()),
        # Ray's own group listens at the port itself.
        "MASTER_PORT": str(int(os.environ["MASTER_PORT"]) + 1),
    }
    subprocess.run(settings["command"], env=environment, check=True)


def command_of(arguments: list[str]) -> list[str]:
    """The command that each worker runs."""
    more = [] if RESUMES in arguments else [RESUMES]
    return [sys.executable, "-m", "foundling", *arguments, *more]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, required=True, help="one for each GPU")
    parser.add_argument("--cpu", action="store_true", help="workers without a GPU")
    parser.add_argument("--storage", help="where Ray keeps its own files, such as s3://bucket/ray")
    parser.add_argument("--max-failures", type=int, default=3)
    parser.add_argument("arguments", nargs="+", help="of foundling, behind --")
    given = parser.parse_args()
    os.environ["RAY_TRAIN_V2_ENABLED"] = "1"
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    TorchTrainer(
        work,
        train_loop_config={"command": command_of(given.arguments)},
        scaling_config=ScalingConfig(num_workers=given.workers, use_gpu=not given.cpu),
        run_config=RunConfig(
            name="foundling",
            storage_path=given.storage,
            failure_config=FailureConfig(max_failures=given.max_failures),
        ),
    ).fit()


if __name__ == "__main__":
    main()
