"""Sharded parameters are moved as whole ones are, on any mesh."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from foundling import models
from foundling.base.sharded import local
from foundling.models.adapters import AdapterSettings, add_adapters
from foundling.training import shards
from foundling.training.guard.guard import Guard
from foundling.training.guard.settings import GuardSettings
from foundling.training.optimizers import Optimizer, OptimizerSettings
from foundling.training.state import TrainingState

WORLD = 4
MESHES = [(1, 4), (2, 2), (4, 1)]
STEPS = 4


class Matrices(nn.Module):
    """More matrices than ranks, of which some have fewer rows than ranks, and other parameters."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        shapes = [(5, 3), (8, 6), (3, 7), (6, 6), (13, 4), (8, 6)]
        self.matrices = nn.ParameterList(nn.Parameter(torch.randn(shape)) for shape in shapes)
        self.embed = nn.Parameter(torch.randn(9, 4))
        self.norm = nn.Parameter(torch.randn(5))
        self.scale = nn.Parameter(torch.randn(1))


def sharded(mesh_shape: tuple[int, int], model: nn.Module) -> nn.Module:
    mesh = init_device_mesh("cpu", mesh_shape, mesh_dim_names=("replicate", "shard"))
    fully_shard(model, mesh=mesh)
    return model


def give_gradients(model: nn.Module, step: int) -> None:
    draw = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        gradient = torch.randn(parameter.shape, generator=draw).to(parameter.dtype)
        if isinstance(parameter, DTensor):
            gradient = distribute_tensor(
                gradient, parameter.device_mesh, parameter.placements, src_data_rank=None
            )
        parameter.grad = gradient


def compared(
    kind: str, ours: dict[str, torch.Tensor], wholes: dict[str, torch.Tensor]
) -> list[str]:
    """Which tensors differ from what one process has, and by what.

    Muon's may not by a bit. torch's fused AdamW rounds the last few elements of a tensor, which
    fill no vector register, another way than those before them, and shards end elsewhere.
    """
    differing = [] if ours.keys() == wholes.keys() else ["names"]
    for name in ours:
        mine, expected = local(ours[name]), shards.part_of(ours[name], wholes[name])
        rounding = 1e-6 if kind == "adamw" or "matrices" not in name else 0.0
        if not torch.allclose(mine, expected, rtol=rounding, atol=0.0):
            differing.append(f"{name}: {(mine - expected).abs().max()}")
    return differing


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def checked_updates(shape: tuple[int, int], kind: str) -> dict[str, Any]:
    """Whether the weights and the state are those of one process, and the figures of both."""
    settings = OptimizerSettings.parse({"kind": kind, "clip": 0.0})
    whole, parts = Matrices(), sharded(shape, Matrices())
    one, ours = Optimizer(whole, settings), Optimizer(parts, settings)
    figures = []
    for step in range(STEPS):
        for model in (whole, parts):
            give_gradients(model, step)
        norms = [optimizer.finish_gradients(8.0) for optimizer in (ours, one)]
        measured = zip(ours.step_measured(), one.step_measured(), strict=True)
        figures += [norms, *map(list, measured)]
    state, expected = ours.state(), one.state()
    resumed = Optimizer(sharded(shape, Matrices()), settings)
    resumed.load_state(expected)
    return {
        "figures": figures,
        "differing": compared(kind, weights(parts), weights(whole))
        + compared(kind, state, expected),
        "resumed": compared(kind, resumed.state(), expected),
    }


def checked_clipping(shape: tuple[int, int]) -> list[float]:
    """The norm before and after, of all ranks' shards: 1 after."""
    parts = sharded(shape, Matrices())
    optimizer = Optimizer(parts, OptimizerSettings(clip=1.0))
    give_gradients(parts, 1)
    before = optimizer.finish_gradients(2.0)
    return [before, optimizer.finish_gradients(1.0)]


def checked_low_bits(shape: tuple[int, int], kind: str) -> list[str]:
    """Where weights in bf16 are not the upper halves of those of one process."""
    settings = OptimizerSettings.parse({"kind": kind, "clip": 0.0, "learning_rate": 1e-6})
    models_ = [Matrices().bfloat16() for _ in range(2)]
    sharded(shape, models_[0])
    ours, one = (Optimizer(model, settings) for model in models_)
    for step in range(STEPS):
        for model, optimizer in zip(models_, (ours, one), strict=True):
            give_gradients(model, step)
            optimizer.step()
    muon = [name for name in ours.state() if name.startswith(("muon", "low_bits/matrices"))]
    state, expected = ours.state(), one.state()
    return compared(kind, weights(models_[0]), weights(models_[1])) + compared(
        kind, {name: state[name] for name in muon}, {name: expected[name] for name in muon}
    )


def checked_state(shape: tuple[int, int]) -> dict[str, Any]:
    """Snapshots, damage and frozen weights of a model of which each rank holds a part."""
    torch.manual_seed(0)
    model = models.build({"dim": 16, "num_layers": 1, "num_heads": 2}, vocab_size=11, context=8)
    add_adapters(model, AdapterSettings(rank=2), seed=1, tokens=[5])
    sharded(shape, model)
    restarts: list[int] = []
    state = TrainingState(
        model,
        Optimizer(model, OptimizerSettings()),
        stage_model=lambda group, copy: lambda folder: None,
        load_model=lambda folder: None,
        restart_model=lambda: restarts.append(1),
        guard=Guard(GuardSettings()),
    )
    state.measure()

    def move(step: int) -> list[torch.Tensor]:
        draw = torch.Generator().manual_seed(step)
        for parameter in state.optimizer.names:
            gradient = torch.randn(parameter.shape, generator=draw)
            parameter.grad = shards.sharded_like(parameter, shards.part_of(parameter, gradient))
        state.optimizer.step()
        return [local(parameter).clone() for parameter in model.parameters()]

    move(1)
    snapshot = state.snapshot()
    moved = move(2)
    state.restore(snapshot)
    found: dict[str, Any] = {"replayed": all(map(torch.equal, move(2), moved))}
    found["bytes"] = snapshot.nbytes
    state.reload_frozen()
    found["healthy"] = [state.defect(), len(restarts)]
    frozen = next(p for p in model.parameters() if not p.requires_grad)
    learned = max(state.optimizer.names, key=torch.Tensor.numel)
    if dist.get_rank() == 1:
        local(frozen).view(-1)[-1:].view(torch.uint8).bitwise_xor_(1)
    state.reload_frozen()
    found["frozen"] = len(restarts)
    if dist.get_rank() == 1:
        local(learned).view(-1)[-1:].fill_(1e6)
    found["grown"] = state.defect()
    if dist.get_rank() == 1:
        local(learned).view(-1)[-1:].fill_(math.nan)
    found["broken"] = state.defect()
    return found


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=WORLD)
    found = {
        str(shape): {
            "muon": checked_updates(shape, "muon"),
            "adamw": checked_updates(shape, "adamw"),
            "clipping": checked_clipping(shape),
            "low bits": [checked_low_bits(shape, kind) for kind in ("muon", "adamw")],
            "state": checked_state(shape),
        }
        for shape in MESHES
    }
    Path(folder, f"{rank}.json").write_text(json.dumps(found), "utf-8")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of four processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.get_context("forkserver").set_forkserver_preload(["foundling.training.state"])
    mp.start_processes(_rank, (str(folder),), nprocs=WORLD, start_method="forkserver")
    return [json.loads((folder / f"{rank}.json").read_text("utf-8")) for rank in range(WORLD)]


@pytest.mark.parametrize("shape", [str(shape) for shape in MESHES])
@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_updates_are_those_of_one_process(
    kind: str, shape: str, found: list[dict[str, Any]]
) -> None:
    for rank in found:
        checked = rank[shape][kind]
        assert checked["differing"] == checked["resumed"] == []
        assert checked["figures"] == found[0][shape][kind]["figures"]
        for ours, expected in checked["figures"]:
            assert ours == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("shape", [str(shape) for shape in MESHES])
def test_the_whole_gradient_is_clipped(shape: str, found: list[dict[str, Any]]) -> None:
    alone = Matrices()
    give_gradients(alone, 1)
    expected = Optimizer(alone, OptimizerSettings(clip=1.0)).finish_gradients(2.0)
    for rank in found:
        assert rank[shape]["clipping"] == pytest.approx([expected, 1.0], rel=1e-6)


@pytest.mark.parametrize("shape", [str(shape) for shape in MESHES])
def test_weights_in_bf16_keep_their_low_bits(shape: str, found: list[dict[str, Any]]) -> None:
    assert all(rank[shape]["low bits"] == [[], []] for rank in found)


@pytest.mark.parametrize("shape", [str(shape) for shape in MESHES])
def test_all_ranks_know_of_damage_in_one_shard(shape: str, found: list[dict[str, Any]]) -> None:
    for rank in found:
        state = rank[shape]["state"]
        assert state["replayed"]
        assert state["bytes"] == found[0][shape]["state"]["bytes"]
        assert state["healthy"] == ["", 0]
        assert state["frozen"] == 1
        assert "a weight is 1e+06" in state["grown"]
        assert state["broken"] == "a weight is not finite"
