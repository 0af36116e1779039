"""Starting several processes: --nproc, its exit codes, Ctrl-C, and two machines under torchrun."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from several import Settings, environment, metrics, train
from test_same_losses import assert_same

from foundling.base.config import dump_toml
from foundling.runs import checkpoint

pytestmark = pytest.mark.distributed
PROGRAM = (sys.executable, "-m")


@pytest.fixture
def config(pretraining: Settings, tmp_path: Path) -> Callable[..., Path]:
    def write(*assignments: str) -> Path:
        file = tmp_path / "run.toml"
        file.write_text(dump_toml(pretraining("transformer", *assignments)))
        return file

    return write


def start(*arguments: object, **more: str) -> "subprocess.Popen[str]":
    command = [*PROGRAM, *map(str, arguments)]
    pipe, variables = subprocess.PIPE, environment() | more
    return subprocess.Popen(command, env=variables, stdout=pipe, stderr=pipe, text=True)


def test_a_fault_of_the_input_is_said_once_and_not_tried_again(
    config: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").touch()
    command = ("foundling", "pretrain", config(), "--out", tmp_path / "out")
    launched = start(*command, "--nproc", 2, "--max-restarts", 2)
    _, errors = launched.communicate()
    assert launched.returncode == 2
    assert errors.splitlines() == [f"error: {tmp_path / 'out'}: is not empty; give another --out."]


def test_ctrl_c_saves_and_one_process_resumes(config: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    file = config("training.steps=100000", "distributed.shard=full")
    launched = start("foundling", "pretrain", file, "--out", out, "--nproc", 2)
    while not (out / "metrics.jsonl").exists() or len(metrics(out)) < 4:
        assert launched.poll() is None, launched.communicate()[1]
        time.sleep(0.1)
    launched.send_signal(signal.SIGINT)
    _, errors = launched.communicate()
    assert launched.returncode == 130, errors
    assert errors.splitlines()[-1] == "interrupted; everything is saved. Resume with --resume."
    step = checkpoint.committed(out / "checkpoints")[-1].step
    assert step == metrics(out)[-1]["step"]
    resumed = start(
        *("foundling", "pretrain", "--resume", "--out", out, "--json"),
        *("--set", f"training.steps={step + 2}"),
    )
    told, errors = resumed.communicate()
    assert resumed.returncode == 0, errors
    assert json.loads(told)["step"] == step + 2


def test_two_machines(pretraining: Settings, config: Callable[..., Path], tmp_path: Path) -> None:
    """Two agents of torchrun, each with a process of its own."""
    short: tuple[str, ...] = ("training.steps=4", "validation.every=4", "distributed.shard=full")
    alone = train("pretrain", pretraining("transformer", *short), tmp_path / "alone")
    port = free_port()
    out, file = tmp_path / "out", config(*short)
    agents = [
        start(
            *("torch.distributed.run", "--nnodes", 2, "--nproc-per-node", 1, "--node-rank", node),
            *("--master-addr", "127.0.0.1", "--master-port", port),
            *("-m", "foundling", "pretrain", file, "--out", out, "--json"),
        )
        for node in range(2)
    ]
    ended: list[tuple[Any, Any]] = [agent.communicate() for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], ended
    assert [bool(told) for told, _ in ended] == [True, False]
    assert_same(alone, out)


def test_two_machines_meet_again_after_a_crash(config: Callable[..., Path], tmp_path: Path) -> None:
    """The machine whose process was killed counts a restart; the other need not."""
    endpoint, out = f"127.0.0.1:{free_port()}", tmp_path / "out"
    file = config(
        "training.steps=100", "validation.every=100", "checkpoint.every=5",
        "distributed.shard=full", "distributed.timeout_seconds=20",
    )  # fmt: skip
    agents = [
        start(
            *("torch.distributed.run", "--nnodes", 2, "--nproc-per-node", 1, "--max-restarts", 3),
            *("--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--rdzv-id", "two"),
            *("--local-addr", "127.0.0.1"),
            *("-m", "foundling", "pretrain", file, "--out", out, "--resume-if-exists"),
            TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1",
        )
        for _ in range(2)
    ]
    while not checkpoint.committed(out / "checkpoints"):
        assert agents[0].poll() is None, agents[0].communicate()
        time.sleep(0.05)
    (victim,) = children(agents[0].pid)
    os.kill(victim, signal.SIGKILL)
    ended: list[tuple[Any, Any]] = [agent.communicate(timeout=120) for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], ended
    assert "".join(errors for _, errors in ended).count("resuming at step") == 1
    assert checkpoint.committed(out / "checkpoints")[-1].step == 100


def children(process: int) -> list[int]:
    """The processes that it started."""
    listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return list(map(int, listed))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
