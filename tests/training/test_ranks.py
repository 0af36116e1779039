"""Figures brought together over two processes."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from faults import Fault, FaultPlan
from test_resume import weights_of

from foundling.base.config import ConfigError
from foundling.base.ranks import largest_over_ranks, start, sum_over_ranks
from foundling.stages.pretrain import PretrainConfig, pretrain

NAN, INF = math.nan, math.inf


def test_one_process_keeps_its_figures() -> None:
    assert sum_over_ranks(1.5, 2.0) == [1.5, 2.0]
    assert largest_over_ranks(1.5, INF) == [1.5, INF]


def test_each_process_needs_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match='device = "cuda:0": each of several processes takes'):
        start(device="cuda:0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="2 processes on a machine with 1 GPUs; start 1, or set"):
        start()


def _rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    mine = [(0.1, 3.0, INF, -4.0), (0.2, 5.0, 1.0, -9.0)][rank]
    broken = [(1.0, NAN, NAN, 2.0), (NAN, 1.0, INF, 7.0)][rank]
    found = {
        "sums": sum_over_ranks(*mine),
        "largest": largest_over_ranks(*mine),
        "broken": largest_over_ranks(*broken),
        "broken_sums": sum_over_ranks(*broken),
    }
    Path(folder, f"{rank}.json").write_text(json.dumps(found), "utf-8")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_find_the_same(tmp_path: Path) -> None:
    mp.spawn(_rank, (str(tmp_path),), nprocs=2)
    found = [json.loads((tmp_path / f"{rank}.json").read_text("utf-8")) for rank in range(2)]
    for rank in found:
        # In double precision: 0.1 + 0.2 is not what single precision makes of it.
        assert rank["sums"] == [0.1 + 0.2, 8.0, INF, -13.0]
        assert rank["largest"] == [0.2, 5.0, INF, -4.0]
        assert rank["broken"] == [INF, INF, INF, 7.0]
        assert [math.isnan(value) for value in rank["broken_sums"]] == [True, True, True, False]
        assert rank["broken_sums"][3] == 9.0


SITES = [("loss", "nan", 8), ("gradient", "inf", 14), ("parameter", "nan", 20)]


def _train_rank(rank: int, folder: str, values: dict[str, Any]) -> None:
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    faults = [Fault(site, kind, step=step, rank=1) for site, kind, step in SITES]
    plan = FaultPlan(faults)
    run = pretrain(PretrainConfig.parse(values), Path(folder, "run"), seam=plan)
    Path(folder, f"{rank}.json").write_text(json.dumps([len(plan.hits), run.events()]), "utf-8")
    pretrain(PretrainConfig.parse(values), Path(folder, "clean"))
    dist.destroy_process_group()


@pytest.mark.slow
def test_a_fault_on_one_rank_is_answered_alike_on_both(tiny: Any, tmp_path: Path) -> None:
    """What one rank finds all act on, and the run ends as one without faults."""
    config = tiny("training.steps=24", "guard.snapshot_every=5", "guard.healthy_after=5")
    mp.spawn(_train_rank, (str(tmp_path), config.values()), nprocs=2)
    found = [json.loads((tmp_path / f"{rank}.json").read_text("utf-8")) for rank in range(2)]
    assert [hits for hits, _ in found] == [0, len(SITES)]
    acts = [[(event["kind"], event["step"]) for event in events] for _, events in found]
    assert acts[0] == acts[1]
    assert {step for _, step in acts[0]} >= {8, 14}
    assert weights_of(tmp_path / "run") == weights_of(tmp_path / "clean")
