"""This rank's part of a tensor that is sharded over ranks; a whole tensor is its own part.

Sharded is what `fully_shard` shards: by rows, in parts as `torch.chunk` makes them, over the last
dimension of the mesh; the dimension before it, where there is one, repeats the same shards.
"""

from torch import Tensor
from torch.distributed.tensor import DTensor

from foundling.base import ranks
from foundling.base.sharded import local


def sharded_like(tensor: Tensor, part: Tensor) -> Tensor:
    """A tensor of which `part` is this rank's part, as it is of `tensor`."""
    if not isinstance(tensor, DTensor):
        return part
    # from_local would move a part that is kept on the CPU to the mesh's device.
    return DTensor(part, tensor._spec, requires_grad=False)  # type: ignore[no-untyped-call]


def part_of(tensor: Tensor, value: Tensor) -> Tensor:
    """This rank's part of a value that is whole or sharded, where it is of the shape of `tensor`.

    What has another shape, such as a count or the part itself, stays as it is.
    """
    if isinstance(value, DTensor):
        return local(value)
    if isinstance(tensor, DTensor) and value.shape == tensor.shape:
        return value[slice(*rows(tensor))]
    return value


def rows(tensor: DTensor, shard: int | None = None) -> tuple[int, int]:
    """The first row of a shard (None: of this rank's), and one past its last.

    5 rows over 3 ranks: 0 to 2, 2 to 4, 4 to 5.
    """
    mesh, length = tensor.device_mesh, tensor.shape[0]
    if shard is None:
        shard = mesh.get_local_rank(mesh.ndim - 1)
    size = -(-length // mesh.size(mesh.ndim - 1))
    return min(length, shard * size), min(length, (shard + 1) * size)


def num_elements(tensor: DTensor, shard: int) -> int:
    """How many elements a shard has."""
    first, past = rows(tensor, shard)
    return (past - first) * (tensor.numel() // max(1, tensor.shape[0]))


def first_element(tensor: Tensor) -> int:
    """How many elements of the whole tensor come before this rank's part."""
    if not isinstance(tensor, DTensor):
        return 0
    return rows(tensor)[0] * (tensor.numel() // max(1, tensor.shape[0]))


def num_holders(tensor: Tensor) -> int:
    """How many ranks hold the same part: so often a sum over all ranks counts it."""
    if isinstance(tensor, DTensor):
        mesh = tensor.device_mesh
        return mesh.size() // mesh.size(mesh.ndim - 1)
    return ranks.world()
