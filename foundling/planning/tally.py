"""Counts the bytes of all tensors that are alive, by what they are for."""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten


class Kind(StrEnum):
    """What memory is taken for."""

    WEIGHTS = "weights"
    GRADIENTS = "gradients"
    OPTIMIZER = "optimizer"
    REFERENCE = "reference"
    COPIES = "copies"
    """Weights in the precision of the products, made by autocast."""
    LOGITS = "logits"
    """A chunk of the loss."""
    ACTIVATIONS = "activations"
    """All else: what the backward pass needs, and what is being worked on."""


Moment = Mapping[Kind, float]
"""Bytes of each kind at one time."""
Shares = Mapping[Kind, float]
"""The part of each kind that counts; 1 where none is named."""


class Tally(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While entered, follows every tensor that is made, real or fake, until its memory is freed.

    What an operation takes for itself and frees before it returns is not seen; nor is what an
    allocator loses between tensors.

    Args:
        views: for each, the largest sum of bytes times shares is found, in each phase.
        vocab_size: of the model, by whose width logits are known.
    """

    def __init__(self, views: Sequence[Shares] = ({},), vocab_size: int = 0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.phase, self.vocab_size = "", vocab_size
        self.live = dict.fromkeys(Kind, 0)
        self.peaks: dict[tuple[str, int], dict[Kind, float]] = {}
        """The moment of the largest sum, by phase and number of the view."""
        self._views = [[view.get(kind, 1.0) for kind in Kind] for view in views]
        self._largest: dict[tuple[str, int], float] = {}
        self._known: dict[int, tuple[Kind, int]] = {}

    def mark(self, tensors: Iterable[Tensor], kind: Kind) -> None:
        """Say what these tensors are for."""
        for tensor in tensors:
            key = self._follow(tensor, kind)
            before, size = self._known[key]
            self.live[before] -= size
            self.live[kind] += size
            self._known[key] = kind, size
        self._look()

    def forget(self) -> None:
        """Begin anew to look for the largest sums, from what is alive now."""
        self.peaks.clear()
        self._largest.clear()
        self._look()

    @property
    def total(self) -> int:
        """Bytes that are alive."""
        return sum(self.live.values())

    @property
    def peak(self) -> float:
        """The most bytes at a time, over all phases, as the first view counts."""
        return max(size for (_, view), size in self._largest.items() if view == 0)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        before = len(self._known)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._follow(tensor, self._kind(func, args, tensor))
        if len(self._known) > before:
            self._look()
        return result

    def _kind(self, func: Any, args: tuple[Any, ...], made: Tensor) -> Kind:
        if func is aten._to_copy.default:
            source, _ = self._known.get(_key(args[0]), (None, 0))
            if source in (Kind.WEIGHTS, Kind.REFERENCE):
                return Kind.COPIES
        if made.ndim == 2 and made.shape[-1] == self.vocab_size and made.is_floating_point():
            return Kind.LOGITS
        return Kind.ACTIVATIONS

    def _follow(self, tensor: Tensor, kind: Kind) -> int:
        storage, key = tensor.untyped_storage(), _key(tensor)
        if key not in self._known:
            size = storage.nbytes()
            self._known[key] = kind, size
            self.live[kind] += size
            weakref.finalize(storage, self._freed, key)
        return key

    def _freed(self, key: int) -> None:
        kind, size = self._known.pop(key)
        self.live[kind] -= size

    def _look(self) -> None:
        live = self.live
        for number, shares in enumerate(self._views):
            total = sum(size * share for size, share in zip(live.values(), shares, strict=True))
            place = self.phase, number
            if total > self._largest.get(place, -1.0):
                self._largest[place] = total
                self.peaks[place] = dict(live)


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


class Supposed(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Answers what fake tensors cannot: numbers are 1, and a mask picks `count` places."""

    count = 1

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is aten._local_scalar_dense.default:
            kind = args[0].dtype
            return 1.0 if kind.is_floating_point else kind == torch.bool or 1
        if func is aten.nonzero.default:
            return args[0].new_empty(self.count, args[0].ndim, dtype=torch.int64)
        if func is aten.index.Tensor and args[1][0] is not None and args[1][0].dtype == torch.bool:
            given, mask = args[0], args[1][0]
            return given.new_empty(self.count, *given.shape[mask.ndim :])
        return func(*args, **(kwargs or {}))


@contextmanager
def supposing(tally: Tally) -> Iterator[Supposed]:
    """Within, tensors have shapes and no memory, and what would be alive is counted."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # takes a second

    supposed = Supposed()  # type: ignore[no-untyped-call]
    with FakeTensorMode(allow_non_fake_inputs=True), supposed, tally:
        yield supposed


def gradients_of(
    parameters: Iterable[Tensor], tally: Tally, ready: Callable[[Tensor], None]
) -> list[Any]:
    """Have gradients counted as such once they are whole; `ready` is called for each.

    Returns handles, by which it ends.
    """

    def hook(parameter: Tensor) -> None:
        assert parameter.grad is not None
        tally.mark([parameter.grad], Kind.GRADIENTS)
        ready(parameter)

    add: Callable[..., Any] = Tensor.register_post_accumulate_grad_hook
    return [add(parameter, hook) for parameter in parameters]
