"""Brings figures together over all ranks, so that every rank decides the same."""

import torch
import torch.distributed as dist


def sum_over_ranks(*values: float) -> list[float]:
    """Each value's sum; as it is where there is one process."""
    return _reduced(values, dist.ReduceOp.SUM) if _several() else list(values)


def largest_over_ranks(*values: float) -> list[float]:
    """Each value's largest; one that is not a number anywhere is infinite."""
    if not _several():
        return list(values)
    worst = [float("inf") if value != value else value for value in values]
    return _reduced(worst, dist.ReduceOp.MAX)


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _reduced(values: tuple[float, ...] | list[float], how: dist.ReduceOp.RedOpType) -> list[float]:
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(tensor, how)
    found: list[float] = tensor.tolist()
    return found
