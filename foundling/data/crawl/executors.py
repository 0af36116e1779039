"""Runs the stages with one of datatrove's executors."""

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from datatrove.executor.base import PipelineExecutor
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.utils.logging import logger as datatrove_logger

from foundling.base.config import ConfigError
from foundling.data.crawl.layout import LOGS
from foundling.data.crawl.settings import RunSection
from foundling.data.crawl.stages import Stage

log = logging.getLogger(__name__)

PERIOD_SECONDS = 30.0  # between two lines about a stage


def run(stages: Sequence[Stage], of: RunSection, out: Path) -> bool:
    """Run the stages, each after the one before; tasks that are completed are left out.

    Returns:
        Whether they have ended; with Slurm they are only submitted.

    Raises:
        ConfigError: the executor is not there.
    """
    if of.executor == "local":
        for number, stage in enumerate(stages, start=1):
            _run_here(stage, of, out, f"stage {number} of {len(stages)}")
        return True
    if of.executor == "ray":
        for stage in stages:
            _ray(stage, of, out).run()
        return True
    before = None
    for stage in stages:
        before = _slurm(stage, of, out, before)
    assert before is not None
    try:
        before.run()  # submits those that it depends on first
    except FileNotFoundError as error:
        raise ConfigError(
            f"run.executor = slurm: {error.filename}: no such command here."
        ) from None
    return False


def _logs(stage: Stage, out: Path) -> str:
    return str(out / LOGS / stage.name)


def _run_here(stage: Stage, of: RunSection, out: Path, which: str) -> None:
    workers = min(of.workers or len(os.sched_getaffinity(0)), stage.num_tasks)
    executor = _Quiet(
        list(stage.steps), tasks=stage.num_tasks, workers=workers, logging_dir=_logs(stage, out)
    )
    left = len(executor.get_incomplete_ranks())
    done = f", {stage.num_tasks - left} of them done before" if left < stage.num_tasks else ""
    tasks = "1 task" if stage.num_tasks == 1 else f"{stage.num_tasks} tasks"
    log.info(f"{which}: {stage.name}, {tasks}{done}")
    if left:
        with _told(executor, stage.name):
            executor.run()


class _Quiet(LocalPipelineExecutor):
    """datatrove logs each step of each task on standard error; here its files hold that alone."""

    def run(self) -> Any:
        datatrove_logger.remove()
        return super().run()

    def _launch_run_for_rank(self, *arguments: Any, **named: Any) -> Any:
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
            try:
                return super()._launch_run_for_rank(*arguments, **named)
            finally:
                datatrove_logger.remove()  # it was set up anew for the next task


@contextmanager
def _told(executor: PipelineExecutor, name: str) -> Iterator[None]:
    """While entered, say from time to time how many tasks are done."""
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(PERIOD_SECONDS):
            done = executor.world_size - len(executor.get_incomplete_ranks())
            log.info(f"{name}: {done:,} of {executor.world_size:,} tasks")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def _slurm(stage: Stage, of: RunSection, out: Path, before: Any) -> PipelineExecutor:
    from datatrove.executor.slurm import SlurmPipelineExecutor

    slurm = of.slurm
    if not slurm.partition:
        raise ConfigError("run.slurm.partition: Slurm needs a partition to submit jobs to.")
    return SlurmPipelineExecutor(
        list(stage.steps),
        tasks=stage.num_tasks,
        workers=of.workers or -1,
        time=slurm.time,
        partition=slurm.partition,
        cpus_per_task=slurm.cpus_per_task,
        mem_per_cpu_gb=slurm.mem_per_cpu_gb,
        qos=slurm.qos,
        env_command=slurm.env_command or None,
        sbatch_args=dict(argument.split("=", 1) for argument in slurm.sbatch_args),
        job_name=f"crawl-{stage.name}",
        logging_dir=_logs(stage, out),
        depends=before,
    )


def _ray(stage: Stage, of: RunSection, out: Path) -> PipelineExecutor:
    try:
        import ray
    except ImportError:
        raise ConfigError("run.executor = ray: needs Ray: pip install ray.") from None
    from datatrove.executor.ray import RayPipelineExecutor

    if not ray.is_initialized():
        ray.init()
    return RayPipelineExecutor(
        list(stage.steps),
        tasks=stage.num_tasks,
        workers=of.workers or -1,
        logging_dir=_logs(stage, out),
    )
