"""Self-attention: each token takes a learned weighted average of those before it."""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from foundling.base.config import Section
from foundling.models.batch import BatchView
from foundling.models.positions import rotary_angles, rotate

Rotary = tuple[Float[Tensor, "batch 1 time half"], Float[Tensor, "batch 1 time half"]]


@dataclass
class KeyValueCache:
    """The keys and values of all tokens seen, layer by layer, with room for `max_time`."""

    length: int = 0
    keys: list[Float[Tensor, "batch kv_heads max_time head_dim"]] = field(default_factory=list)
    values: list[Float[Tensor, "batch kv_heads max_time head_dim"]] = field(default_factory=list)
    max_time: int = 0

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append the new tokens' keys and values; all of this layer's, old and new."""
        stop = self.length + keys.shape[2]
        assert stop <= self.max_time, "the engine checks the length before it streams"
        if layer == len(self.keys):
            shape = (*keys.shape[:2], self.max_time, keys.shape[3])
            self.keys.append(keys.new_zeros(shape))
            self.values.append(values.new_zeros(shape))
        self.keys[layer][:, :, self.length : stop] = keys
        self.values[layer][:, :, self.length : stop] = values
        return self.keys[layer][:, :, :stop], self.values[layer][:, :, :stop]


@dataclass(frozen=True)
class Layout:
    """What all layers of one forward pass share: who may attend to whom, and the angles."""

    mask: Bool[Tensor, "#batch 1 time total"] | None
    """None: plainly causal, every row one document, no window."""
    rotary: Rotary | None


def layout(
    view: BatchView,
    *,
    window: int | None,
    theta: float | None,
    head_dim: int,
    cache: KeyValueCache | None,
) -> Layout:
    """Work out the mask and the angles once for all layers."""
    rotary = None if theta is None else rotary_angles(view.positions, head_dim, theta)
    time = view.positions.shape[1]
    seen = cache.length if cache is not None else 0
    one_document = view.documents is None and view.seen_until is None
    if seen == 0 and one_document and (window is None or window >= time):
        return Layout(None, rotary)
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
    return Layout(mask, rotary)


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


def pick(
    x: Float[Tensor, "batch time dim"], indices: Int[Tensor, " indices"]
) -> Float[Tensor, "indices dim"]:
    """The vectors at these indices of the flattened rows."""
    return x.flatten(0, 1).index_select(0, indices)


class Norm(nn.Module):
    """Root-mean-square or layer norm over the last axis, worked in fp32 at least.

    Source: Zhang and Sennrich 2019 (RMSNorm); Ba et al. 2016 (LayerNorm).
    """

    def __init__(self, dim: int, kind: str, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if kind == "layernorm" else None

    def forward(self, x: Float[Tensor, "... dim"]) -> Float[Tensor, "... dim"]:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        if self.bias is not None:
            wide = F.layer_norm(wide, wide.shape[-1:], self.weight, self.bias, self.eps)
        else:
            wide = F.rms_norm(wide, wide.shape[-1:], self.weight, self.eps)
        return wide.to(x.dtype)


def make_norm(dim: int, kind: str, eps: float) -> nn.Module:
    """A norm by its name; `none` leaves the vectors as they are."""
    return nn.Identity() if kind == "none" else Norm(dim, kind, eps)


def attend(
    query: Float[Tensor, "batch heads time head_dim"],
    key: Float[Tensor, "batch heads total head_dim"],
    value: Float[Tensor, "batch heads total head_dim"],
    mask: Bool[Tensor, "#batch 1 time total"] | None,
) -> Float[Tensor, "batch heads time head_dim"]:
    """softmax(q·k / √head_dim) · v; plainly causal where there is no mask.

    The queries are the last of the keys' tokens, and no mask shows a query a later key.
    """
    trains = torch.is_grad_enabled() and query.requires_grad
    small_bf16 = query.dtype == torch.bfloat16 and key.shape[2] <= 1024
    if trains and small_bf16 and query.device.type == "cpu":
        return _attend_by_products(query, key, value, mask)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)


BLOCK = 128
"""Queries worked at a time: few enough to leave out most later keys, enough for fast products."""


def _attend_by_products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """The same by plain matrix products, a block of queries with the keys up to its end at a time.

    Measured on 2 cores with AVX512-BF16, (64, 6, 256, 64), forward and backward: torch's CPU flash
    kernel 513 ms, this one 134 ms; in fp32 both take 200 ms, so there the kernel stays.
    """
    batch, heads, time, head_dim = query.shape
    before = key.shape[2] - time
    # Three axes: of four, every product would copy its slices.
    queries, keys, values = (x.flatten(0, 1) for x in (query, key, value))
    mixed = []
    for start in range(0, time, BLOCK):
        stop = min(start + BLOCK, time)
        seen = before + stop
        scores = torch.bmm(queries[:, start:stop], keys[:, :seen].transpose(1, 2)).float()
        scores = scores.view(batch, heads, stop - start, seen) / math.sqrt(head_dim)
        allowed = (
            torch.ones(stop - start, seen, dtype=torch.bool, device=query.device).tril(
                before + start
            )
            if mask is None
            else mask[:, :, start:stop, :seen]
        )
        weights = scores.masked_fill(~allowed, float("-inf")).softmax(dim=-1).to(value.dtype)
        mixed.append(torch.bmm(weights.flatten(0, 1), values[:, :seen]))
    return torch.cat(mixed, dim=1).view(batch, heads, time, head_dim)


class SelfAttention(nn.Module):
    """Grouped-query attention: softmax(q·k / √head_dim) averages the values.

    Source: Vaswani et al. 2017, equation 1; Ainslie et al. 2023 (grouped queries); Henry et al.
    2020 (QK-norm, here over each head before the rotation, as in Qwen3).
    """

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        qk_norm: bool,
        bias: bool,
        qkv_bias: bool,
        eps: float,
    ) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads, self.head_dim = num_heads, num_kv_heads, head_dim
        self.q = nn.Linear(dim, num_heads * head_dim, bias=qkv_bias)
        self.k = nn.Linear(dim, num_kv_heads * head_dim, bias=qkv_bias)
        self.v = nn.Linear(dim, num_kv_heads * head_dim, bias=qkv_bias)
        self.o = nn.Linear(num_heads * head_dim, dim, bias=bias)
        self.q_norm = Norm(head_dim, "rmsnorm", eps) if qk_norm else nn.Identity()
        self.k_norm = Norm(head_dim, "rmsnorm", eps) if qk_norm else nn.Identity()

    def forward(
        self,
        x: Float[Tensor, "batch time dim"],
        layout: Layout,
        cache: KeyValueCache | None = None,
        layer: int = 0,
        indices: Int[Tensor, " indices"] | None = None,
    ) -> Float[Tensor, "batch time dim"] | Float[Tensor, "indices dim"]:
        query, key, value = self.projected(x, layout)
        if cache is not None:
            key, value = cache.write(layer, key, value)
        key, value = self.repeated(key), self.repeated(value)
        mixed = attend(query, key, value, layout.mask)
        mixed = mixed.transpose(1, 2).flatten(2)
        result: Tensor = self.o(mixed if indices is None else pick(mixed, indices))
        return result

    def projected(
        self, x: Float[Tensor, "batch time dim"], layout: Layout
    ) -> tuple[
        Float[Tensor, "batch heads time head_dim"],
        Float[Tensor, "batch kv_heads time head_dim"],
        Float[Tensor, "batch kv_heads time head_dim"],
    ]:
        """Queries, keys and values, normed and rotated."""
        batch, time, _ = x.shape
        heads = (batch, time, -1, self.head_dim)
        query = self.q_norm(self.q(x).view(heads).transpose(1, 2))
        key = self.k_norm(self.k(x).view(heads).transpose(1, 2))
        if layout.rotary is not None:
            query, key = rotate(query, *layout.rotary), rotate(key, *layout.rotary)
        return query, key, self.v(x).view(heads).transpose(1, 2)

    def repeated(
        self, x: Float[Tensor, "batch kv_heads time head_dim"]
    ) -> Float[Tensor, "batch heads time head_dim"]:
        """Keys or values, once for each query head that shares them."""
        if self.num_kv_heads == self.num_heads:
            return x
        return x.repeat_interleave(self.num_heads // self.num_kv_heads, dim=1)


class AttentionSettings(Section):
    """Settings of the `attention` rung."""

    rung: Literal["attention"] = "attention"
    dim: int = Field(256, gt=0)
    num_heads: int = Field(4, gt=0)
    rope_theta: float = Field(10_000.0, gt=0)
    qk_norm: bool = True
    tied: bool = False

    @model_validator(mode="after")
    def _divides(self) -> "AttentionSettings":
        if self.dim % (2 * self.num_heads):
            raise ValueError(f"dim {self.dim} is not a multiple of 2 · num_heads {self.num_heads}")
        return self

    def resolved(self) -> "AttentionSettings":
        return self

    def build(self, context: int) -> tuple[nn.Module, int | None]:
        return Attention(**self.model_dump(exclude={"rung", "tied"})), context


class Attention(nn.Module):
    """One block of self-attention beside the last word: x + attention(norm(x)), then a norm."""

    supports_tree_mask = supports_indices = True

    def __init__(self, *, dim: int, num_heads: int, rope_theta: float, qk_norm: bool) -> None:
        super().__init__()
        self.theta, self.head_dim, self.width = rope_theta, dim // num_heads, dim
        self.attention_norm = Norm(dim, "rmsnorm", 1e-6)
        self.attention = SelfAttention(
            dim,
            num_heads=num_heads,
            num_kv_heads=num_heads,
            head_dim=self.head_dim,
            qk_norm=qk_norm,
            bias=False,
            qkv_bias=False,
            eps=1e-6,
        )
        self.norm = Norm(dim, "rmsnorm", 1e-6)

    def forward(
        self,
        x: Float[Tensor, "batch time dim"],
        view: BatchView,
        state: KeyValueCache | None = None,
        indices: Int[Tensor, " indices"] | None = None,
    ) -> Float[Tensor, "batch time dim"] | Float[Tensor, "indices dim"]:
        shared = layout(view, window=None, theta=self.theta, head_dim=self.head_dim, cache=state)
        mixed = self.attention(self.attention_norm(x), shared, state, indices=indices)
        x = mixed + (x if indices is None else pick(x, indices))
        if state is not None:
            state.length += x.shape[1]
        result: Tensor = self.norm(x)
        return result

    def new_state(self, batch: int, max_time: int) -> KeyValueCache:
        return KeyValueCache(max_time=max_time)

    def attended_width(self, time: int) -> float:
        """Width times tokens attended to, on average over a row."""
        return self.width * (time + 1) / 2
