"""Losses as pure functions that never hold all logits at once."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from foundling.batch import IGNORE

CHUNK_LOGITS = 2**22
"""Logits held at a time: 16 MiB in fp32, near a core's share of cache."""


def linear_cross_entropy(
    hidden: Float[Tensor, "rows dim"],
    weight: Float[Tensor, "vocab dim"],
    targets: Int[Tensor, " rows"],
    *,
    z_loss: float = 0.0,
    chunk_rows: int | None = None,
    compiled: bool = False,
) -> tuple[Float[Tensor, ""], Float[Tensor, " rows"], Float[Tensor, " rows"]]:
    """Sum over rows of −log softmax(weight · hidden)[target] + z_loss · logsumexp².

    Returns the sum (with gradients), and without gradients each row's cross-entropy (0 where the
    target is IGNORE) and each row's logsumexp. The gradient is worked out in the forward pass,
    chunk by chunk, so that at most `chunk_rows × vocab` logits exist at any time. The products run
    in autocast's precision, the softmax and all sums in fp32 at least.

    Source: Chowdhery et al. 2022, PaLM, section 5 (z-loss).
    """
    chunk = chunk_rows or max(1, CHUNK_LOGITS // weight.shape[0])
    result: tuple[Tensor, Tensor, Tensor] = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden, weight, targets, z_loss, chunk, compiled, torch.is_grad_enabled()
    )
    return result


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        z_loss: float,
        chunk_rows: int,
        compiled: bool,
        grad_enabled: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        # In here torch says that gradients are off, whatever they are outside.
        wants_gradient = grad_enabled and (hidden.requires_grad or weight.requires_grad)
        device = hidden.device.type
        autocasts = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocasts else hidden.dtype
        with torch.autocast(device, enabled=False):
            cast = weight.to(dtype)
            wide = torch.promote_types(dtype, torch.float32)
            rows = torch.empty(len(hidden), dtype=wide, device=hidden.device)
            lse = torch.empty_like(rows)
            grad_hidden = torch.empty_like(hidden) if wants_gradient else None
            grad_weight = torch.zeros_like(weight, dtype=wide) if wants_gradient else None
            kernel = _compiled_chunk() if compiled else _chunk
            for start in range(0, len(hidden), chunk_rows):
                part = slice(start, start + chunk_rows)
                rows[part], lse[part], to_hidden, to_weight = kernel(
                    hidden[part].to(dtype), cast, targets[part], z_loss, wants_gradient
                )
                if grad_hidden is not None and grad_weight is not None:
                    assert to_hidden is not None
                    assert to_weight is not None
                    grad_hidden[part] = to_hidden
                    grad_weight += to_weight
            total = rows.sum()
            if z_loss:
                total = total + z_loss * (lse.square() * (targets != IGNORE)).sum()
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.mark_non_differentiable(rows, lse)
        return total, rows, lse

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale = gradients[0]
        weight = (grad_weight * scale) if ctx.needs_input_grad[1] else None
        return (grad_hidden * scale).to(grad_hidden.dtype), weight, None, None, None, None, None


def _chunk(
    hidden: Tensor, weight: Tensor, targets: Tensor, z_loss: float, wants_gradient: bool
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    due = targets != IGNORE
    index = torch.where(due, targets, 0)[:, None]
    logits = (hidden @ weight.T).to(torch.promote_types(hidden.dtype, torch.float32))
    lse = logits.logsumexp(dim=-1)
    rows = (lse - logits.gather(1, index)[:, 0]) * due
    if not wants_gradient:
        return rows, lse, None, None
    factor = 1 + 2 * z_loss * lse if z_loss else torch.ones_like(lse)
    softmax = (logits - lse[:, None]).exp() * (factor * due)[:, None]
    gradient = softmax.scatter_add(1, index, -due.to(softmax.dtype)[:, None]).to(hidden.dtype)
    return rows, lse, gradient @ weight, gradient.T @ hidden


_compiled: Callable[..., Any] | None = None


def _compiled_chunk() -> Callable[..., Any]:
    global _compiled
    if _compiled is None:
        _compiled = torch.compile(_chunk, dynamic=False)
    return _compiled
