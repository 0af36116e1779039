"""Stages whose tasks fail or whose workers are killed; folders that others work on."""

import json
import os
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("datatrove", reason='pip install "foundling[web]"')

from datatrove.executor.ray import RayPipelineExecutor
from datatrove.pipeline.base import PipelineStep

from foundling.base import durable
from foundling.base.config import ConfigError
from foundling.data.crawl import executors
from foundling.data.crawl.crawl import crawl
from foundling.data.crawl.settings import CrawlConfig, RunSection
from foundling.data.crawl.stages import Stage


class First(PipelineStep):
    """A step of which the first task does as told."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Any:
        if rank == 0 and self.what == "be killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if rank == 0 and self.what == "fail":
            raise ConfigError("no such page")
        return ()


def started(out: Path) -> CrawlConfig:
    """A crawl that has begun."""
    from foundling.data.crawl import record

    (out.parent / "a.html").write_text("<p>Hello.</p>")
    config = CrawlConfig.parse({"inputs": [str(out.parent / "a.html")]})
    record.begin(out, config, record.facts(config), resume=False, overwrite=False)
    return config


def test_a_killed_worker_ends_the_stage(tmp_path: Path) -> None:
    stage = Stage("rules", 2, [First("be killed")])
    with pytest.raises(ConfigError, match=r"a worker was killed.*fewer run\.workers"):
        executors.run([stage], RunSection(workers=2), tmp_path)


@pytest.mark.slow
def test_a_task_that_fails_in_a_worker_says_why_and_its_stage_is_continued(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such page"):
        executors.run([Stage("rules", 2, [First("fail")])], RunSection(workers=2), tmp_path)
    assert executors.run([Stage("rules", 2, [First("")])], RunSection(workers=2), tmp_path)
    assert len(list((tmp_path / "logs/rules/completions").iterdir())) == 2


def test_tasks_that_ray_gives_up_end_the_crawl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gives_up(executor: RayPipelineExecutor) -> None:  # as Ray's does: it only warns
        executor._run_for_rank(1)

    ray = ModuleType("ray")
    ray.is_initialized = lambda: True  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(RayPipelineExecutor, "run", gives_up)
    stages = [Stage("rules", 3, [First("")]), Stage("documents", 1, [First("fail")])]
    with pytest.raises(
        ConfigError, match=r"stage 1 of 2: rules: 2 of 3 tasks failed; .*logs/rules"
    ):
        executors.run(stages, RunSection(executor="ray"), tmp_path)


def test_what_another_process_works_on_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out"
    config = started(out)
    (out / "work").mkdir()
    with durable.locked(out), pytest.raises(ConfigError, match="another process works on it"):
        crawl(config, out, overwrite=True)
    assert (out / "work").exists()


SQUEUE = """#!/bin/bash
[[ "$*" == *--jobs=7,8 ]] || exit 3
[ -e "$QUEUE" ] || { echo "slurm_load_jobs error: $ANSWER" >&2; exit 1; }
cat "$QUEUE"
"""


@pytest.mark.parametrize("arguments", [{"resume": True}, {"overwrite": True}])
def test_a_crawl_whose_jobs_are_queued_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, bool]
) -> None:
    out = tmp_path / "out"
    config = started(out)
    (out / "jobs.json").write_text('["7", "8"]')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(ConfigError, match="no squeue"):
        crawl(config, out, **arguments)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "squeue").write_text(SQUEUE)
    (tmp_path / "bin" / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("QUEUE", str(tmp_path / "queue"))
    monkeypatch.setenv("ANSWER", "Unable to contact slurm controller")
    with pytest.raises(ConfigError, match="Unable to contact"):
        crawl(config, out, **arguments)
    (tmp_path / "queue").write_text("8\n8\n")
    with pytest.raises(ConfigError, match=r"still in Slurm's queue: 8; .*scancel 8"):
        crawl(config, out, **arguments)
    (tmp_path / "queue").unlink()
    monkeypatch.setenv("ANSWER", "Invalid job id specified")
    executors.refuse_queued(out)


def test_leftovers_go_where_the_report_is_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    config = started(out)
    (out / "work").mkdir()
    report = {"settings": {"run": {"keep_intermediate": True}}}
    (out / "report.json").write_text(json.dumps(report))
    assert crawl(config, out, resume=True) == report
    assert (out / "work").exists()
    report["settings"]["run"]["keep_intermediate"] = False
    (out / "report.json").write_text(json.dumps(report))
    crawl(config, out, resume=True)
    assert not (out / "work").exists()
