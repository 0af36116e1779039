"""Losses as pure functions that never hold all logits at once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from foundling.models.batch import IGNORE
from foundling.models.token_rows import Head

CHUNK_LOGITS = 2**22
"""Logits held at a time: 16 MiB in fp32, near a core's share of cache."""
MIN_ROWS = 256
"""Rows held at a time where the vocabulary is large, up to four times as many logits."""


class AnchoredLoss(NamedTuple):
    """A loss anchored to a reference; all in nats, and all but `total` without gradients.

    Each row has 0 where its target is IGNORE, and `kl` is 0 where there is no reference.
    """

    total: Float[Tensor, ""]
    cross_entropy: Float[Tensor, " rows"]
    kl: Float[Tensor, " rows"]
    entropy: Float[Tensor, " rows"]


def linear_cross_entropy(
    hidden: Float[Tensor, "rows dim"],
    weight: Float[Tensor, "vocab dim"] | Head,
    targets: Int[Tensor, " rows"],
    *,
    z_loss: float = 0.0,
    softcap: float | None = None,
    chunk_rows: int | None = None,
    compiled: bool = False,
) -> tuple[Float[Tensor, ""], Float[Tensor, " rows"], Float[Tensor, " rows"]]:
    """Sum over rows of −log softmax(weight · hidden)[target] + z_loss · logsumexp².

    Returns the sum (with gradients), and without gradients each row's cross-entropy (0 where the
    target is IGNORE) and each row's logsumexp. The gradient is computed in the forward pass,
    chunk by chunk, so that at most `chunk_rows × vocab` logits exist at any time. The products run
    in autocast's precision, the softmax and all sums in fp32 at least.

    A frozen weight costs no gradient, and of a `Head` with learned rows these alone get one. With a
    `softcap` c the logits l are c · tanh(l / c) instead, in all of these functions.

    Source: Chowdhery et al. 2022, PaLM, section 5 (z-loss); Gemma 2, section 2 (soft-capping).
    """
    head, terms = _head(weight), _Terms(z_loss, softcap=softcap)
    chunk = chunk_rows or rows_of_a_chunk(len(head.matrix))
    total, rows, lse, _, _ = _apply(hidden, head, targets, terms, chunk, compiled)
    return total, rows, lse


def anchored_cross_entropy(
    hidden: Float[Tensor, "rows dim"],
    weight: Float[Tensor, "vocab dim"] | Head,
    targets: Int[Tensor, " rows"],
    *,
    reference_hidden: Float[Tensor, "rows reference_dim"] | None = None,
    reference_weight: Float[Tensor, "vocab reference_dim"] | None = None,
    strength: float = 0.0,
    softcap: float | None = None,
    chunk_rows: int | None = None,
    compiled: bool = False,
) -> AnchoredLoss:
    """Sum over rows of −log π(target) + strength · KL(π ‖ reference), over the whole vocabulary.

    With log p and log r of the policy and the reference, and d = log p − log r, the gradient of a
    row's logits is p − onehot(target) + strength · p ∘ (d − KL). It is computed chunk by chunk
    as in `linear_cross_entropy`; three times `chunk_rows × vocab` numbers exist at a time. No
    gradient goes to the reference, whose logits have the same soft-cap. A row whose target is
    ANCHOR has the KL alone. At strength 0 the reference only measures the KL: loss and gradients
    are bit for bit those without one.
    """
    head = _head(weight)
    chunk = chunk_rows or rows_of_a_chunk(len(head.matrix))
    plain = _Terms(entropy=True, softcap=softcap)
    if reference_hidden is None or reference_weight is None:
        if strength or reference_hidden is not None or reference_weight is not None:
            raise ValueError("an anchor needs the reference's hidden vectors and its weight.")
        total, rows, _, kl, entropy = _apply(hidden, head, targets, plain, chunk, compiled)
        return AnchoredLoss(total, rows, kl, entropy)
    anchor = (reference_hidden.detach(), reference_weight.detach())
    if strength:
        terms = _Terms(0.0, True, strength, anchor, softcap)
        total, rows, _, kl, entropy = _apply(hidden, head, targets, terms, chunk, compiled)
        return AnchoredLoss(total, rows, kl, entropy)
    total, rows, _, _, entropy = _apply(hidden, head, targets, plain, chunk, compiled)
    with torch.no_grad():
        measured = _Terms(anchor=anchor, softcap=softcap)
        _, _, _, kl, _ = _apply(hidden, head, targets, measured, chunk, compiled)
    return AnchoredLoss(total, rows, kl, entropy)


def linear_log_probs(
    hidden: Float[Tensor, "rows dim"],
    weight: Float[Tensor, "vocab dim"] | Head,
    targets: Int[Tensor, " rows"],
    chunk_rows: int | None = None,
    softcap: float | None = None,
) -> Float[Tensor, " rows"]:
    """log softmax(weight · hidden)[target] of each row, with gradients; 0 where it is IGNORE.

    The logits are computed chunk by chunk, and once more in the backward pass: what a row's
    gradient counts is known only when the loss is. At most `chunk_rows × vocab` exist at a time.
    The products run in autocast's precision, the softmax in fp32 at least.
    """
    head = _head(weight)
    chunk = chunk_rows or rows_of_a_chunk(len(head.matrix))
    result: Tensor = _LogProbs.apply(hidden, *head, targets, chunk, softcap)  # type: ignore[no-untyped-call]
    return result


def _head(weight: Tensor | Head) -> Head:
    return weight if isinstance(weight, Head) else Head(weight)


def rows_of_a_chunk(vocab_size: int) -> int:
    """As many rows as CHUNK_LOGITS holds, but enough that a product is worth reading the weight.

    Measured, 524 targets, vocabulary 49,152, width 576, bf16: 0.9 s with 85 rows, 0.6 s with 256.
    """
    fitting = CHUNK_LOGITS // vocab_size
    return max(1, fitting, min(MIN_ROWS, 4 * CHUNK_LOGITS // vocab_size))


class _Terms(NamedTuple):
    """What the loss is made of beside the cross-entropy, and what is measured."""

    z_loss: float = 0.0
    entropy: bool = False
    strength: float = 0.0
    anchor: tuple[Tensor, Tensor] | None = None
    """The reference's hidden vectors and weight."""
    softcap: float | None = None


def _apply(
    hidden: Tensor, head: Head, targets: Tensor, terms: _Terms, chunk_rows: int, compiled: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    result: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] = _ChunkedLoss.apply(  # type: ignore[no-untyped-call]
        hidden, *head, targets, terms, chunk_rows, compiled, torch.is_grad_enabled()
    )
    return result


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        matrix: Tensor,
        ids: Tensor | None,
        learned: Tensor | None,
        targets: Tensor,
        terms: _Terms,
        chunk_rows: int,
        compiled: bool,
        grad_enabled: bool,
    ) -> tuple[Tensor, ...]:
        # In here torch says that gradients are off, whatever they are outside.
        wants_gradient = grad_enabled and any(ctx.needs_input_grad)
        wants_matrix = grad_enabled and ctx.needs_input_grad[1]
        device = hidden.device.type
        autocasts = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocasts else hidden.dtype
        with torch.autocast(device, enabled=False):
            cast = Head(matrix, ids, learned).to(dtype)
            wide = torch.promote_types(dtype, torch.float32)
            columns = torch.zeros(4, len(hidden), dtype=wide, device=hidden.device).unbind()
            rows, lse, kl, _ = columns
            grad_hidden = torch.empty_like(hidden) if wants_gradient else None
            grad_matrix = torch.zeros_like(matrix, dtype=wide) if wants_matrix else None
            grad_learned = None if learned is None else torch.zeros_like(learned, dtype=wide)
            kernel = _compiled_chunk() if compiled else _chunk
            reference, reference_weight = terms.anchor or (hidden, cast.matrix)
            reference_weight = reference_weight.to(dtype)
            # A tensor: the kernel would be compiled anew for every number.
            strength = torch.full((), terms.strength, dtype=wide, device=hidden.device)
            for start in range(0, len(hidden), chunk_rows):
                part = slice(start, start + chunk_rows)
                anchor = (reference[part].to(dtype), reference_weight, strength)
                *figures, to_hidden, to_matrix, to_learned = kernel(
                    hidden[part].to(dtype),
                    cast,
                    targets[part],
                    terms.z_loss,
                    terms.entropy,
                    anchor if terms.anchor else None,
                    terms.softcap,
                    wants_gradient,
                    wants_matrix,
                )
                for column, figure in zip(columns, figures, strict=True):
                    if figure is not None:
                        column[part] = figure
                if grad_hidden is not None:
                    assert to_hidden is not None
                    grad_hidden[part] = to_hidden
                for gradient, more in ((grad_matrix, to_matrix), (grad_learned, to_learned)):
                    if gradient is not None and more is not None:
                        gradient += more
            total = rows.sum()
            if terms.z_loss:
                total = total + terms.z_loss * (lse.square() * (targets >= 0)).sum()
            if terms.strength:
                total = total + terms.strength * kl.sum()
        ctx.save_for_backward(grad_hidden, grad_matrix, grad_learned)
        ctx.mark_non_differentiable(*columns)
        return total, *columns

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_matrix, grad_learned = ctx.saved_tensors
        scale = gradients[0]
        matrix = None if grad_matrix is None else grad_matrix * scale
        learned = None if grad_learned is None else grad_learned * scale
        return (grad_hidden * scale).to(grad_hidden.dtype), matrix, None, learned, *[None] * 5


def _chunk(
    hidden: Tensor,
    head: Head,
    targets: Tensor,
    z_loss: float,
    wants_entropy: bool,
    anchor: tuple[Tensor, Tensor, Tensor] | None,
    softcap: float | None,
    wants_gradient: bool,
    wants_matrix: bool,
) -> tuple[Tensor | None, ...]:
    """Each row's cross-entropy, logsumexp, KL and entropy, and the gradients of the chunk's loss.

    The gradients are those of the hidden vectors, the matrix and the learned rows. What is not
    wanted is None. Computed in place: three times the chunk's logits, no more, and once more for
    the slope of a soft-cap.
    """
    supervised = targets >= 0
    index = torch.where(supervised, targets, 0)[:, None]
    logits = _logits(hidden, head, softcap)
    slope = _slope(logits, softcap) if softcap is not None and wants_gradient else None
    lse = logits.logsumexp(dim=-1)
    rows = (lse - logits.gather(1, index)[:, 0]) * supervised
    if not (wants_gradient or wants_entropy or anchor):
        return rows, lse, None, None, None, None, None
    kl = entropy = None
    log_probs = logits.sub_(lse[:, None])
    if anchor:
        ratio = _logits(anchor[0], Head(anchor[1]), softcap)
        ratio.sub_(ratio.logsumexp(dim=-1, keepdim=True)).neg_().add_(log_probs)
    probs = log_probs.exp() if wants_entropy or anchor else log_probs.exp_()
    if wants_entropy:
        entropy = -log_probs.mul_(probs).sum(dim=-1) * supervised
    if anchor:
        kl = log_probs.copy_(probs).mul_(ratio).sum(dim=-1) * (targets != IGNORE)
    if not wants_gradient:
        return rows, lse, kl, entropy, None, None, None
    factor = (1 + 2 * z_loss * lse if z_loss else torch.ones_like(lse)) * supervised
    if anchor and kl is not None:
        anchored = (targets != IGNORE) * anchor[2]
        gradient = probs.mul_(ratio.sub_(kl[:, None]).mul_(anchored[:, None]).add_(factor[:, None]))
    else:
        gradient = probs.mul_(factor[:, None])
    gradient = gradient.scatter_add_(1, index, -supervised.to(probs.dtype)[:, None])
    if slope is not None:
        gradient = gradient.mul_(slope)
    gradient = gradient.to(hidden.dtype)
    return rows, lse, kl, entropy, *_through(gradient, hidden, head, wants_matrix)


class _LogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        matrix: Tensor,
        ids: Tensor | None,
        learned: Tensor | None,
        targets: Tensor,
        chunk_rows: int,
        softcap: float | None,
    ) -> Tensor:
        device = hidden.device.type
        autocasts = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocasts else hidden.dtype
        with torch.autocast(device, enabled=False):
            cast = Head(matrix, ids, learned).to(dtype)
            wide = torch.promote_types(dtype, torch.float32)
            log_probs, lse = torch.zeros(2, len(hidden), dtype=wide, device=hidden.device).unbind()
            for start in range(0, len(hidden), chunk_rows):
                part = slice(start, start + chunk_rows)
                logits = _logits(hidden[part].to(dtype), cast, softcap)
                lse[part] = logits.logsumexp(dim=-1)
                index = targets[part].clamp(min=0)[:, None]
                log_probs[part] = logits.gather(1, index)[:, 0] - lse[part]
            log_probs *= targets >= 0
        ctx.save_for_backward(hidden, matrix, ids, learned, targets, lse)
        ctx.chunk_rows, ctx.dtype, ctx.softcap = chunk_rows, dtype, softcap
        return log_probs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, matrix, ids, learned, targets, lse = ctx.saved_tensors
        wants_hidden, wants_matrix = ctx.needs_input_grad[:2]
        scale = gradients[0] * (targets >= 0)
        with torch.autocast(hidden.device.type, enabled=False):
            cast = Head(matrix, ids, learned).to(ctx.dtype)
            grad_hidden = torch.empty_like(hidden) if wants_hidden else None
            grad_matrix = torch.zeros_like(matrix, dtype=lse.dtype) if wants_matrix else None
            grad_learned = None if learned is None else torch.zeros_like(learned, dtype=lse.dtype)
            for start in range(0, len(hidden), ctx.chunk_rows):
                part = slice(start, start + ctx.chunk_rows)
                rows = hidden[part].to(ctx.dtype)
                logits = _logits(rows, cast, ctx.softcap)
                slope = None if ctx.softcap is None else _slope(logits, ctx.softcap)
                probs = logits.sub_(lse[part, None]).exp_()
                gradient = probs.mul_(-scale[part, None])
                index = targets[part].clamp(min=0)[:, None]
                gradient = gradient.scatter_add_(1, index, scale[part, None])
                gradient = (gradient if slope is None else gradient.mul_(slope)).to(ctx.dtype)
                to_hidden, *others = _through(gradient, rows, cast, wants_matrix)
                if grad_hidden is not None:
                    grad_hidden[part] = to_hidden
                for total, more in zip((grad_matrix, grad_learned), others, strict=True):
                    if total is not None and more is not None:
                        total += more
        to_matrix = None if grad_matrix is None else grad_matrix.to(matrix.dtype)
        return grad_hidden, to_matrix, None, grad_learned, None, None, None


def _logits(hidden: Tensor, head: Head, softcap: float | None) -> Tensor:
    wide = torch.promote_types(hidden.dtype, torch.float32)
    logits = (hidden @ head.matrix.T).to(wide)
    if head.ids is not None and head.rows is not None:
        logits.index_copy_(1, head.ids, (hidden @ head.rows.T).to(wide))
    return logits if softcap is None else logits.div_(softcap).tanh_().mul_(softcap)


def _through(
    gradient: Tensor, hidden: Tensor, head: Head, wants_matrix: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """From the logits' gradient those of the hidden vectors, the matrix and the learned rows.

    Where there are learned rows, the logits' is overwritten.
    """
    if head.ids is None or head.rows is None:
        return gradient @ head.matrix, gradient.T @ hidden if wants_matrix else None, None
    learned = gradient.index_select(1, head.ids)
    gradient.index_fill_(1, head.ids, 0)  # the matrix's own rows there score nothing
    to_hidden = (gradient @ head.matrix).add_(learned @ head.rows)
    return to_hidden, gradient.T @ hidden if wants_matrix else None, learned.T @ hidden


def _slope(capped: Tensor, softcap: float) -> Tensor:
    """The derivative of c · tanh(l / c) by l, from its value."""
    return (capped / softcap).square_().neg_().add_(1)


_compiled: Callable[..., Any] | None = None


def _compiled_chunk() -> Callable[..., Any]:
    global _compiled
    if _compiled is None:
        _compiled = torch.compile(_chunk, dynamic=False)
    return _compiled
