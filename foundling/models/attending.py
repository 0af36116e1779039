"""softmax(q · k) · v: who may attend to whom, and by which kernel."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from foundling.models.batch import BatchView

LONG = 1024
"""Tokens of a row up to which a mask of time × time is held: 4 MiB a row in fp32, as kernels take
it."""


@dataclass(frozen=True)
class Parts:
    """Who may attend to whom in long rows, read in parts: no mask of time × time is held.

    Documents are read one by one, and behind a window their queries block by block, so memory
    grows in line with the length. A document with branches has a mask of its own length, squared.
    """

    view: BatchView
    window: int | None

    def whole(self) -> Bool[Tensor, "#batch 1 time time"]:
        """The same as a mask."""
        mask = causal_mask(self.view, self.window, 0)
        assert mask is not None, "without one nothing is read in parts"
        return mask

    def lengths(self) -> list[list[int]]:
        """The tokens of each document, row by row."""
        documents = self.view.documents
        assert documents is not None
        ends = F.pad(documents[:, 1:] != documents[:, :-1], (0, 1), value=True).cpu()
        return [row.nonzero()[:, 0].diff(prepend=torch.tensor([-1])).tolist() for row in ends]

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float | None,
        softcap: float | None,
    ) -> Tensor:
        """See the function `attend`."""
        if self.view.documents is None:
            return _behind_window(query, key, value, self.window, scale, softcap)
        result: Tensor = _by_document(query, key, value, self, scale, softcap)
        return result


Mask = Bool[Tensor, "#batch 1 time total"] | Parts | None
"""Who may attend to whom; None: plainly causal, every row one document, no window."""


def mask_of(view: BatchView, window: int | None, seen: int) -> Mask:
    """Who may attend to whom, behind `seen` tokens of a stream, in the form that takes least."""
    time = view.positions.shape[1]
    if seen or time <= LONG or (view.documents is None and view.seen_until is not None):
        return causal_mask(view, window, seen)
    if view.documents is None and (window is None or window >= time):
        return None
    if view.positions.is_cuda:
        # On a device without its kernel nothing is imported for it: it takes a second.
        from foundling.models.block_sparse import BlockSparse

        return BlockSparse(view, window)
    return Parts(view, window)


def causal_mask(
    view: BatchView, window: int | None, seen: int
) -> Bool[Tensor, "#batch 1 time total"] | None:
    """Who may attend to whom, behind `seen` tokens of a stream; None: all that came before."""
    time = view.positions.shape[1]
    one_document = view.documents is None and view.seen_until is None
    if seen == 0 and one_document and (window is None or window >= time):
        return None
    device = view.positions.device
    query = torch.arange(seen, seen + time, device=device)[:, None]
    key = torch.arange(seen + time, device=device)[None, :]
    mask = key <= query
    if window is not None and view.seen_until is None:
        mask = mask & (key > query - window)
    mask = mask[None, None]
    if view.seen_until is not None:
        mask = mask & _by_branch(view, window, seen)[:, None]
    elif view.documents is not None:
        assert seen == 0, "a stream is one document"
        same = view.documents[:, :, None] == view.documents[:, None, :]
        mask = mask & same[:, None]
    return mask


def _by_branch(view: BatchView, window: int | None, seen: int) -> Bool[Tensor, "batch time total"]:
    """Who may see whom of a tree behind `seen` tokens; the window is measured along the branch."""
    until, positions = view.seen_until, view.positions
    assert until is not None
    time = torch.arange(until.shape[1], device=until.device)
    allowed = F.pad(until[:, None, :] > time[:, None], (seen, 0), value=True)
    if window is not None:
        before = torch.arange(seen, device=until.device).expand(len(until), seen)
        reached = torch.cat((before, positions), dim=1)
        allowed = allowed & (reached[:, None, :] > positions[:, :, None] - window)
    return allowed


def attend(
    query: Float[Tensor, "batch heads time head_dim"],
    key: Float[Tensor, "batch heads total head_dim"],
    value: Float[Tensor, "batch heads total head_dim"],
    mask: Mask,
    *,
    scale: float | None = None,
    softcap: float | None = None,
) -> Float[Tensor, "batch heads time head_dim"]:
    """softmax(scale · q·k) · v; plainly causal where there is no mask; see `attention_scores`.

    `scale` is 1 / √head_dim where none is given. The queries are the last of the keys' tokens,
    and no mask shows a query a later key.
    """
    if isinstance(mask, Parts):
        return mask.attend(query, key, value, scale, softcap)
    trains = torch.is_grad_enabled() and query.requires_grad
    small_bf16 = query.dtype == torch.bfloat16 and key.shape[2] <= 1024
    if softcap is not None or (trains and small_bf16 and query.device.type == "cpu"):
        return _attend_by_products(query, key, value, mask, scale, softcap)
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scale
    )


@torch.compiler.disable  # type: ignore[untyped-decorator]  # a graph for each set of lengths
def _by_document(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    parts: Parts,
    scale: float | None,
    softcap: float | None,
) -> Tensor:
    """Each document as if it were a row."""
    view, rows = parts.view, []
    for row, lengths in enumerate(parts.lengths()):
        queries, keys, values = (
            torch.split(x[row : row + 1], lengths, dim=2) for x in (query, key, value)
        )
        mixed, start = [], 0
        for q, k, v, length in zip(queries, keys, values, lengths, strict=True):
            if view.seen_until is None:
                mixed.append(_behind_window(q, k, v, parts.window, scale, softcap))
            else:
                part = slice(row, row + 1), slice(start, start + length)
                tree = BatchView(view.positions[part], seen_until=view.seen_until[part] - start)
                mask = causal_mask(tree, parts.window, 0)
                mixed.append(attend(q, k, v, mask, scale=scale, softcap=softcap))
            start += length
        rows.append(torch.cat(mixed, dim=2))
    return torch.cat(rows)


def _behind_window(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    window: int | None,
    scale: float | None,
    softcap: float | None,
) -> Tensor:
    """Rows of one document: blocks of queries, each with the keys of its own block and the last.

    Source: Beltagy et al. 2020, Longformer, section 3.1 (overlapping chunks).
    """
    batch, heads, time, head_dim = query.shape
    if window is None or window >= time:
        return attend(query, key, value, None, scale=scale, softcap=softcap)
    size = max(window, BLOCK)
    count = -(-time // size)
    queries, keys, values = (
        F.pad(x, (0, 0, 0, count * size - time))
        .view(batch, heads, count, size, head_dim)
        .transpose(1, 2)
        for x in (query, key, value)
    )  # batch count heads size head_dim
    places = torch.arange(2 * size, device=query.device)
    later = places[size:, None]
    mask = ((places <= later) & (places > later - window))[None, None]
    first = attend(
        queries[:, 0], keys[:, 0], values[:, 0], mask[..., size:], scale=scale, softcap=softcap
    )
    if count == 1:
        return first[:, :, :time]
    last, own = slice(None, -1), slice(1, None)
    key_pairs, value_pairs = (
        torch.cat((x[:, last], x[:, own]), dim=3).flatten(0, 1) for x in (keys, values)
    )
    rest = attend(
        queries[:, own].flatten(0, 1), key_pairs, value_pairs, mask, scale=scale, softcap=softcap
    )
    mixed = torch.cat((first[:, None], rest.view(batch, count - 1, heads, size, head_dim)), dim=1)
    return mixed.transpose(1, 2).flatten(2, 3)[:, :, :time]


BLOCK = 128
"""Queries worked at a time: few enough to leave out most later keys, enough for fast products."""


def _attend_by_products(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float | None = None,
    softcap: float | None = None,
) -> Tensor:
    """The same by plain matrix products, a block of queries with the keys up to its end at a time.

    Measured on 2 cores with AVX512-BF16, (64, 6, 256, 64), forward and backward: torch's CPU flash
    kernel 513 ms, this one 134 ms; in fp32 both take 200 ms, so there the kernel stays. A soft-cap
    has no kernel. Of long rows each block is computed anew in the backward pass: its weights are as
    many as queries times keys. Measured, a step of 2 layers of 2 heads with a soft-cap: 216 MiB for
    a row of two documents in 8,192 tokens, 432 MiB in 16,384.
    """
    batch, heads, time, head_dim = query.shape
    scale = 1 / math.sqrt(head_dim) if scale is None else scale
    before = key.shape[2] - time
    is_kept = key.shape[2] <= LONG or not torch.is_grad_enabled()

    def mix(queries: Tensor, keys: Tensor, values: Tensor, allowed: Tensor | None) -> Tensor:
        if allowed is None:  # made anew too: of all blocks it is half of time × time
            seen = keys.shape[1]
            allowed = torch.ones(queries.shape[1], seen, dtype=torch.bool, device=query.device)
            allowed = allowed.tril(seen - queries.shape[1])
        products = torch.bmm(queries, keys.transpose(1, 2))
        scores = attention_scores(products, scale, softcap).view(batch, heads, *products.shape[1:])
        weights = scores.masked_fill(~allowed, float("-inf")).softmax(dim=-1).to(values.dtype)
        return torch.bmm(weights.flatten(0, 1), values)

    # Three axes: of four, every product would copy its slices.
    queries, keys, values = (x.flatten(0, 1) for x in (query, key, value))
    mixed = []
    starts = range(0, time, BLOCK)
    # The largest first: each block then fits into the memory that the one before it has freed.
    for start in starts if is_kept else reversed(starts):
        stop = min(start + BLOCK, time)
        seen = before + stop
        allowed = None if mask is None else mask[:, :, start:stop, :seen]
        given = queries[:, start:stop], keys[:, :seen], values[:, :seen], allowed
        mixed.append(mix(*given) if is_kept else checkpoint(mix, *given, use_reentrant=False))
    return torch.cat(mixed if is_kept else mixed[::-1], dim=1).view(batch, heads, time, head_dim)


def attention_scores(
    products: Float[Tensor, "*n time total"], scale: float, softcap: float | None
) -> Float[Tensor, "*n time total"]:
    """scale · q·k in fp32 at least, or c · tanh(scale · q·k / c) with a soft-cap c.

    Source: Gemma team 2024, Gemma 2, section 2 (soft-capping).
    """
    scores = products.to(torch.promote_types(products.dtype, torch.float32)) * scale
    return scores if softcap is None else (scores / softcap).tanh() * softcap
