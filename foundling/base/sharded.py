"""Tensors and models of which each process holds a part, as `training.sharding` makes them.

Whatever is not sharded passes through as it is, so that callers need not know.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; every process must ask for it, in the same order."""
    full: Tensor = tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
    return full


def local(tensor: Tensor) -> Tensor:
    """The part that lies here, which may be empty."""
    if not is_sharded(tensor):
        return tensor
    part: Tensor = tensor.detach().to_local()  # type: ignore[attr-defined]
    return part


def like(whole: Tensor, tensor: Tensor) -> Tensor:
    """Something that every process holds whole, sharded as `tensor` is; nothing is sent."""
    if not is_sharded(tensor):
        return whole
    from torch.distributed.tensor import DTensor, distribute_tensor  # takes a moment

    assert isinstance(tensor, DTensor)
    return distribute_tensor(
        whole.to(tensor.device), tensor.device_mesh, tensor.placements, src_data_rank=None
    )


def is_sharded(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")


def sharded_modules(model: nn.Module) -> list[Any]:
    """The modules whose weights are gathered together, the model itself first."""
    return [module for module in model.modules() if hasattr(module, "unshard")]


def reshard(model: nn.Module) -> None:
    """Let go of all weights that were gathered.

    A forward pass without a backward pass leaves some of them gathered. They must go before the
    weights change, or the next pass would read the old ones.
    """
    for module in sharded_modules(model):
        module.reshard()


@contextmanager
def measuring(model: nn.Module) -> Iterator[None]:
    """While entered the model is only read, in evaluation mode, which it stays in."""
    model.eval()
    try:
        yield
    finally:
        reshard(model)


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """While entered, every process holds all weights, and any one may use the model by itself."""
    for module in sharded_modules(model):
        module.unshard()
    try:
        yield
    finally:
        reshard(model)
