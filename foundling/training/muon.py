"""Muon for matrices that are sharded over ranks: each is made orthogonal by one of them.

Momentum, decay and update go element by element, so shards do. Newton-Schulz needs whole matrices:
of every `world` of them each rank owns one. It is sent the shards of that one, in bf16, as
Newton-Schulz begins with rounding to that, and sends back shards of the result. No work is done
twice, and the weights are those of torch's Muon in one process, bit for bit.

Source: Jordan et al. 2024 (Muon); Liu et al. 2025, Muon is Scalable for LLM Training, section 2.3.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim._muon import _adjust_lr, _zeropower_via_newtonschulz

from foundling.training import shards


class ShardedMuon(torch.optim.Muon):
    """Muon over this rank's parts of `wholes`, in the same order.

    The mesh has all ranks there are, and they step together. Best for matrices of one shape to
    stand next to each other, as their owners work at the same time.
    """

    def __init__(self, parts: Sequence[Tensor], wholes: Sequence[DTensor], **values: Any) -> None:
        super().__init__(parts, **values)
        self.wholes = dict(zip(parts, wholes, strict=True))

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        assert closure is None, "gradients are there already"
        (group,) = self.param_groups
        moving = [part for part in group["params"] if part.grad is not None]
        world = dist.get_world_size()
        for start in range(0, len(moving), world):
            self._step_together(moving[start : start + world], group)

    def _step_together(self, parts: list[Tensor], group: dict[str, Any]) -> None:
        """Step matrices of which each has an owner of its own."""
        wholes = [self.wholes[part] for part in parts]
        directions = [self._direction(part, group) for part in parts]
        numbers = {key: group[key] for key in ("ns_coefficients", "ns_steps", "eps")}
        for part, whole, update in zip(
            parts, wholes, orthogonalised(wholes, directions, **numbers), strict=True
        ):
            rate = _adjust_lr(group["lr"], group["adjust_lr_fn"], whole.shape)
            part.mul_(1 - group["lr"] * group["weight_decay"])
            part.add_(update.to(part.device), alpha=-rate)

    def _direction(self, part: Tensor, group: dict[str, Any]) -> Tensor:
        """The gradient with Nesterov's momentum."""
        gradient, state = part.grad, self.state[part]
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        return gradient.lerp(state["momentum_buffer"], group["momentum"])


def orthogonalised(
    wholes: Sequence[DTensor], parts: Sequence[Tensor], **numbers: Any
) -> list[Tensor]:
    """This rank's parts, in bf16, of matrices that Newton-Schulz made orthogonal.

    Matrix i is owned by rank i, so there are no more matrices than ranks.

    Args:
        wholes: how each matrix is sharded.
        parts: this rank's parts of them.
        numbers: for Newton-Schulz.
    """
    mesh, rank, world = wholes[0].device_mesh, dist.get_rank(), dist.get_world_size()
    assert mesh.size() == world >= len(wholes), "one mesh of all ranks, in their order"
    shards_per_replica = mesh.size(mesh.ndim - 1)
    shard_of = [other % shards_per_replica for other in range(world)]
    # An owner has a whole copy of its matrix among the ranks of its own replica.
    near = [other // shards_per_replica == rank // shards_per_replica for other in range(world)]
    nothing = parts[0].new_empty(0, dtype=torch.bfloat16)
    flat = [part.bfloat16().flatten() for part in parts]
    sent = [flat[i] if i < len(flat) and near[i] else nothing for i in range(world)]
    if rank < len(wholes):
        mine = wholes[rank]
        sizes = [shards.num_elements(mine, shard_of[i]) * near[i] for i in range(world)]
        whole = _exchanged(sent, sizes, mesh.device_type).view(mine.shape)
        update = _zeropower_via_newtonschulz(whole, **numbers).flatten()
        sizes = [shards.num_elements(mine, shard) for shard in range(shards_per_replica)]
        sent = [*torch.split(update, sizes)] * (world // shards_per_replica)
    else:
        _exchanged(sent, [0] * world, mesh.device_type)
        sent = [nothing] * world
    sizes = [part.numel() for part in parts] + [0] * (world - len(parts))
    found = torch.split(_exchanged(sent, sizes, mesh.device_type), sizes)
    return [update.view(part.shape) for update, part in zip(found, parts, strict=False)]


def _exchanged(sent: Sequence[Tensor], sizes: list[int], device: str) -> Tensor:
    """What all ranks sent this one, in their order; `sent[i]` goes to rank i."""
    given = torch.cat([*sent]).to(device)
    received = given.new_empty(sum(sizes))
    dist.all_to_all_single(received, given, sizes, [part.numel() for part in sent])
    return received
