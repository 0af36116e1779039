"""Sharded steps beside whole ones: precision, recomputation, and what is sent."""

import json
import os
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import torch.multiprocessing as mp
from torch.utils._python_dispatch import TorchDispatchMode

from foundling import models
from foundling.base import ranks
from foundling.base.config import ConfigError
from foundling.base.precision import autocast
from foundling.base.sharded import is_sharded
from foundling.models.adapters import AdapterSettings, add_adapters
from foundling.models.batch import TokenBatch, passes_over
from foundling.models.language_model import LanguageModel
from foundling.objectives import Pretrain
from foundling.training.activations import checkpoint_activations
from foundling.training.optimizers import Optimizer, OptimizerSettings
from foundling.training.sharding import DistributedSettings, Sharding

CPU, ROWS, TIME = torch.device("cpu"), 6, 16
Figures = list[tuple[float, float]]
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "recomputed": {"recomputed": True},
    "bf16": {"precision": torch.bfloat16},
    "gathered for a step": {"gather": "step"},
    "adapted, for a layer": {"adapted": True, "gather": "layer"},
    "adapted": {"adapted": True},
}


def test_replicas_and_shards_fill_the_processes() -> None:
    assert DistributedSettings().shape(8, 4) == (8, 1)
    assert DistributedSettings(shard="full").shape(8, 4) == (1, 8)
    assert DistributedSettings(shard="hybrid").shape(8, 4) == (2, 4)
    assert DistributedSettings(shard="hybrid", replicas=4).shape(8, 8) == (4, 2)
    with pytest.raises(ConfigError, match="8 processes do not divide"):
        DistributedSettings(shard="hybrid", replicas=3).shape(8, 8)
    with pytest.raises(ConfigError, match='shard = "full" does not use replicas'):
        DistributedSettings.parse({"shard": "full", "replicas": 2})


@pytest.mark.distributed
def test_sharded_steps_are_those_of_one_process(tmp_path: Path) -> None:
    mp.spawn(_steps_of_a_rank, (str(tmp_path),), nprocs=2)
    found = json.loads((tmp_path / "steps.json").read_text())
    for name, options in VARIANTS.items():
        expected, _ = steps(**options)
        tolerance = 1e-3 if "bf16" in name else 1e-6
        for alone, shared in zip(expected, found[name][0], strict=True):
            assert shared == pytest.approx(alone, rel=tolerance), name
    sent = {name: counts for name, (_, counts) in found.items()}
    # Three groups (two blocks, and the rest); a step has three passes of each process.
    assert sent["gathered for a step"] == {"all_gather": 3, "reduce_scatter": 3}
    # The rest is kept from forward to backward, a block is gathered for each.
    assert sent["plain"] == {"all_gather": 3 * (2 * 2 + 1), "reduce_scatter": 3 * 3}
    # Frozen weights are gathered once; adapters lie in the blocks alone.
    assert sent["adapted"] == {"all_gather": 3, "reduce_scatter": 2}
    assert sent["adapted, for a layer"]["all_gather"] > 3 * 3


def _steps_of_a_rank(rank: int, folder: str) -> None:
    world = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    os.environ.update(world)
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    found = {name: steps(**options) for name, options in VARIANTS.items()}
    a_model_that_is_only_read_lets_go_of_its_blocks()
    if ranks.is_first():
        Path(folder, "steps.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def a_model_that_is_only_read_lets_go_of_its_blocks() -> None:
    model = tiny_model().requires_grad_(False)
    Sharding(DistributedSettings(shard="full"), CPU, torch.float32).shard(model)
    with torch.no_grad():
        model.hidden(torch.zeros(1, TIME, dtype=torch.long))
    blocks: Any = model.context.blocks
    assert all(is_sharded(parameter) for parameter in blocks.parameters())


def tiny_model() -> LanguageModel:
    return models.build(
        {"rung": "transformer", "dim": 32, "num_layers": 2, "num_heads": 4},
        vocab_size=64,
        context=TIME,
    )


def steps(
    *,
    recomputed: bool = False,
    adapted: bool = False,
    precision: torch.dtype = torch.float32,
    gather: str = "auto",
) -> tuple[Figures, dict[str, int]]:
    """Loss and gradient norm of three steps, row by row, and what the last one sent."""
    torch.manual_seed(0)
    model = tiny_model()
    if adapted:
        add_adapters(model, AdapterSettings(rank=2), seed=1)
    if recomputed:
        checkpoint_activations(model)
    settings = DistributedSettings.parse({"shard": "full", "gather": gather})
    sharding = Sharding(settings, CPU, precision)
    sharding.shard(model)
    optimizer = Optimizer(model, OptimizerSettings(kind="adamw", learning_rate=1e-3))
    tokens = torch.randint(0, 64, (ROWS, TIME + 1), generator=torch.Generator().manual_seed(1))
    positions = torch.arange(TIME).expand(ROWS, TIME)
    batch = TokenBatch(tokens[:, :-1], tokens[:, 1:].contiguous(), positions)
    figures: Figures = []
    for _ in range(3):
        optimizer.zero_grad()
        losses, passes = [], passes_over(batch, 1)
        with Sent() as sent:
            for number, (_, part) in enumerate(passes, 1):
                sharding.begin_pass(model, number == len(passes))
                with autocast(CPU, precision):
                    loss = Pretrain()(model, part)
                loss.total.backward()
                losses.append(loss.total.item())
        count = ROWS * TIME
        (total,) = ranks.sum_over_ranks(sum(losses))
        figures.append((total / count, optimizer.finish_gradients(count)))
        optimizer.step()
    return figures, sent.counts


class Sent(TorchDispatchMode):
    """Counts what is sent while it is entered."""

    KINDS: ClassVar = {"_allgather_base_": "all_gather", "_reduce_scatter_base_": "reduce_scatter"}

    def __init__(self) -> None:
        super().__init__()
        self.counts = dict.fromkeys(self.KINDS.values(), 0)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func._schema.name.removeprefix("c10d::")
        if name in self.KINDS:
            self.counts[self.KINDS[name]] += 1
        return func(*args, **(kwargs or {}))
