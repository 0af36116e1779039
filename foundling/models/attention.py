"""Self-attention: each token takes a learned weighted average of those before it."""

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from foundling.base.config import Section
from foundling.models.attending import Mask, attend, mask_of
from foundling.models.batch import BatchView
from foundling.models.positions import rotate
from foundling.models.rope import Rope

Rotary = tuple[Float[Tensor, "batch 1 time half"], Float[Tensor, "batch 1 time half"]]


@dataclass
class KeyValueCache:
    """The keys and values of all tokens seen, layer by layer, with room for `max_time`."""

    length: int = 0
    keys: list[Float[Tensor, "batch kv_heads max_time head_dim"]] = field(default_factory=list)
    values: list[Float[Tensor, "batch kv_heads max_time head_dim"]] = field(default_factory=list)
    max_time: int = 0
    inputs: Float[Tensor, "batch max_time dim"] | None = None
    """What went into the first layer, where the tokens may have to be read again."""
    regime: Int[Tensor, " batch"] | None = None
    """Of rotary frequencies that depend on the length: which ones the keys were turned by."""

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

    def mask(self, view: BatchView, window: int | None) -> Mask:
        """Who of the new tokens may attend to whom."""
        return mask_of(view, window, self.length)


@dataclass(frozen=True)
class MaskAndAngles:
    """Who may attend to whom in a layer, and the angles of its queries and keys."""

    mask: Mask
    rotary: Rotary | None


def pick(
    x: Float[Tensor, "batch time dim"], indices: Int[Tensor, " indices"]
) -> Float[Tensor, "indices dim"]:
    """The vectors at these indices of the flattened rows."""
    return x.flatten(0, 1).index_select(0, indices)


class Norm(nn.Module):
    """Root-mean-square or layer norm over the last axis, worked in fp32 at least.

    `unit_offset`: the vectors are multiplied by 1 + weight, which starts at 0.
    Source: Zhang and Sennrich 2019 (RMSNorm); Ba et al. 2016 (LayerNorm); Gemma (1 + weight).
    """

    def __init__(self, dim: int, kind: str, eps: float, unit_offset: bool = False) -> None:
        super().__init__()
        self.eps, self.unit_offset = eps, unit_offset
        self.weight = nn.Parameter(torch.zeros(dim) if unit_offset else torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if kind == "layernorm" else None

    def forward(self, x: Float[Tensor, "... dim"]) -> Float[Tensor, "... dim"]:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        weight = self.weight.to(wide.dtype)
        if self.unit_offset:
            weight = 1.0 + weight
        if self.bias is not None:
            bias = self.bias.to(wide.dtype)
            wide = F.layer_norm(wide, wide.shape[-1:], weight, bias, self.eps)
        else:
            wide = F.rms_norm(wide, wide.shape[-1:], weight, self.eps)
        return wide.to(x.dtype)


def make_norm(dim: int, kind: str, eps: float, unit_offset: bool = False) -> nn.Module:
    """A norm by its name; `none` leaves the vectors as they are."""
    return nn.Identity() if kind == "none" else Norm(dim, kind, eps, unit_offset)


class SelfAttention(nn.Module):
    """Grouped-query attention: softmax(scale · q·k) averages the values.

    `qk_norm`: over each `head` before the rotation as in Qwen3, over the `whole` width as in
    OLMo 2, or `none`. Source: Vaswani et al. 2017, equation 1; Ainslie et al. 2023 (grouped
    queries); Henry et al. 2020 (QK-norm).
    """

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        qk_norm: str,
        bias: bool,
        qkv_bias: bool,
        eps: float,
        scale: float | None = None,
        softcap: float | None = None,
        unit_offset: bool = False,
    ) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads, self.head_dim = num_heads, num_kv_heads, head_dim
        self.scale, self.softcap = scale or head_dim**-0.5, softcap
        self.whole_norm = qk_norm == "whole"
        self.q = nn.Linear(dim, num_heads * head_dim, bias=qkv_bias)
        self.k = nn.Linear(dim, num_kv_heads * head_dim, bias=qkv_bias)
        self.v = nn.Linear(dim, num_kv_heads * head_dim, bias=qkv_bias)
        self.o = nn.Linear(num_heads * head_dim, dim, bias=bias)
        kind = "none" if qk_norm == "none" else "rmsnorm"
        widths = (num_heads, num_kv_heads) if self.whole_norm else (1, 1)
        self.q_norm, self.k_norm = (
            make_norm(width * head_dim, kind, eps, unit_offset) for width in widths
        )

    def forward(
        self,
        x: Float[Tensor, "batch time dim"],
        layout: MaskAndAngles,
        cache: KeyValueCache | None = None,
        layer: int = 0,
        indices: Int[Tensor, " indices"] | None = None,
    ) -> Float[Tensor, "batch time dim"] | Float[Tensor, "indices dim"]:
        query, key, value = self.projected(x, layout)
        if cache is not None:
            key, value = cache.write(layer, key, value)
        key, value = self.repeated(key), self.repeated(value)
        mixed = attend(query, key, value, layout.mask, scale=self.scale, softcap=self.softcap)
        mixed = mixed.transpose(1, 2).flatten(2)
        result: Tensor = self.o(mixed if indices is None else pick(mixed, indices))
        return result

    def projected(
        self, x: Float[Tensor, "batch time dim"], layout: MaskAndAngles
    ) -> tuple[
        Float[Tensor, "batch heads time head_dim"],
        Float[Tensor, "batch kv_heads time head_dim"],
        Float[Tensor, "batch kv_heads time head_dim"],
    ]:
        """Queries, keys and values, normed and rotated."""
        query = self._heads(self.q(x), self.q_norm)
        key = self._heads(self.k(x), self.k_norm)
        if layout.rotary is not None:
            query, key = rotate(query, *layout.rotary), rotate(key, *layout.rotary)
        return query, key, self._heads(self.v(x), nn.Identity())

    def _heads(self, x: Tensor, norm: nn.Module) -> Tensor:
        """(batch, time, heads · head_dim) as (batch, heads, time, head_dim), and normed."""
        if self.whole_norm:
            x = norm(x)
        batch, time, _ = x.shape
        x = x.view(batch, time, -1, self.head_dim).transpose(1, 2)
        return x if self.whole_norm else norm(x)

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
        self.width = dim
        self.rope = Rope(dim // num_heads, rope_theta)
        self.attention_norm = Norm(dim, "rmsnorm", 1e-6)
        self.attention = SelfAttention(
            dim,
            num_heads=num_heads,
            num_kv_heads=num_heads,
            head_dim=dim // num_heads,
            qk_norm="head" if qk_norm else "none",
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
        mask = mask_of(view, None, 0) if state is None else state.mask(view, None)
        layout = MaskAndAngles(mask, self.rope.angles(view))
        mixed = self.attention(self.attention_norm(x), layout, state, indices=indices)
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
