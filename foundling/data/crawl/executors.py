"""Runs the stages with one of datatrove's executors."""

import json
import logging
import multiprocessing
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stderr
from copy import deepcopy
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import dill
from datatrove.executor.base import PipelineExecutor
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.utils.logging import logger as datatrove_logger

from foundling.base import durable
from foundling.base.config import ConfigError
from foundling.base.process import cores
from foundling.data.crawl.layout import JOBS, LOGS
from foundling.data.crawl.settings import RunSection
from foundling.data.crawl.stages import Stage

log = logging.getLogger(__name__)

PERIOD_SECONDS = 30.0  # between two lines about a stage


def run(stages: Sequence[Stage], of: RunSection, out: Path) -> bool:
    """Run the stages, each after the one before; tasks that are completed are left out.

    Returns:
        Whether they have ended; with Slurm they are only submitted.

    Raises:
        ConfigError: the executor is not there, a worker was killed or a task failed.
    """
    if of.executor == "slurm":
        _submit(stages, of, out)
        return False
    for number, stage in enumerate(stages, start=1):
        which = f"stage {number} of {len(stages)}"
        executor = (_ray if of.executor == "ray" else _here)(stage, of, out)
        left = len(executor.get_incomplete_ranks())
        done = f", {stage.num_tasks - left} of them done before" if left < stage.num_tasks else ""
        log.info(f"{which}: {stage.name}, {_tasks(stage.num_tasks)}{done}")
        if left:
            with _told(executor, stage.name):
                executor.run()
        if failed := len(executor.get_incomplete_ranks()):
            raise ConfigError(
                f"{which}: {stage.name}: {failed} of {_tasks(stage.num_tasks)} failed; "
                f"{_logs(stage, out)}/logs says why. Then continue with --resume."
            )
    return True


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"


def _logs(stage: Stage, out: Path) -> str:
    return str(out / LOGS / stage.name)


def _here(stage: Stage, of: RunSection, out: Path) -> PipelineExecutor:
    workers = min(of.workers or cores(), stage.num_tasks)
    return _Here(
        list(stage.steps), tasks=stage.num_tasks, workers=workers, logging_dir=_logs(stage, out)
    )


class _Here(LocalPipelineExecutor):
    """Tasks in processes of this machine. datatrove's own pool waits for ever for a killed one.

    datatrove logs each step of each task on standard error; here its files hold that alone.
    """

    def run(self) -> None:
        """Raises ConfigError: a worker was killed, or a task raised it."""
        datatrove_logger.remove()
        self.save_executor_as_json()
        ranks = self.get_incomplete_ranks()
        if self.workers == 1:
            for rank in ranks:
                deepcopy(self).run_task(rank)
            return
        processes = multiprocessing.get_context("forkserver")
        ended, running = processes.Pipe(duplex=False)
        # The pipe is closed first: a task of a failed stage ends at once, as where this one dies.
        with (
            ended,
            ProcessPoolExecutor(
                self.workers, processes, _follow, (ended, dill.dumps(self))
            ) as pool,
            running,
        ):
            tasks = [pool.submit(_run_task, rank) for rank in ranks]
            try:
                for task in as_completed(tasks):
                    task.result()
            except BrokenProcessPool:
                raise ConfigError(
                    "a worker was killed, perhaps for want of memory: give fewer run.workers and "
                    "continue with --resume."
                ) from None

    def run_task(self, rank: int) -> None:
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
            try:
                self._run_for_rank(rank)
            finally:
                datatrove_logger.remove()  # it was set up anew for the next task


_pickled = b""  # the executor, in a worker


def _follow(ended: Connection, executor: bytes) -> None:
    """Prepare a worker: it ends with the run."""
    global _pickled
    _pickled = executor
    datatrove_logger.remove()

    def wait() -> None:
        ended.poll(None)
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _run_task(rank: int) -> None:
    try:
        dill.loads(_pickled).run_task(rank)
    except ConfigError as error:
        raise ConfigError(str(error)) from None  # a subclass may not survive pickling


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


def _submit(stages: Sequence[Stage], of: RunSection, out: Path) -> None:
    before, jobs = None, list[str]()
    for stage in stages:
        before = _slurm(stage, of, out, before)
        try:
            before.run()
        except FileNotFoundError as error:
            raise ConfigError(
                f"run.executor = slurm: {error.filename}: no such command here."
            ) from None
        if before.job_id != -1:  # no task was left to do
            jobs.append(str(before.job_id))
            durable.replace(out / JOBS, (json.dumps(jobs) + "\n").encode())


def refuse_queued(out: Path) -> None:
    """See that none of the jobs submitted for a crawl is left.

    Raises:
        ConfigError: Slurm still knows one, or cannot be asked.
    """
    if not (out / JOBS).is_file():
        return
    jobs = json.loads((out / JOBS).read_bytes())
    command = ["squeue", "--noheader", "--format=%F", f"--jobs={','.join(jobs)}"]
    unknown = (
        f"{out}: was submitted to Slurm as the jobs {', '.join(jobs)}; whether they have ended"
    )
    try:
        asked = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise ConfigError(
            f"{unknown} cannot be known here: no squeue. Where they have, delete {out / JOBS}."
        ) from None
    if asked.returncode and "Invalid job id" not in asked.stderr:  # it has forgotten them
        raise ConfigError(f"{unknown} is unknown: squeue: {asked.stderr.strip()}")
    if left := sorted(set(asked.stdout.split()) & set(jobs)):
        raise ConfigError(
            f"{out}: jobs of this crawl are still in Slurm's queue: {', '.join(left)}; let them "
            f"end, or end them with: scancel {' '.join(left)}"
        )


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
