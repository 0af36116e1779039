"""The transformer: blocks of self-attention and an MLP on a residual stream."""

import math
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from foundling.base.config import Section
from foundling.models.attention import (
    KeyValueCache,
    Layout,
    SelfAttention,
    layout,
    make_norm,
    pick,
)
from foundling.models.batch import BatchView
from foundling.models.positions import sinusoids


class TransformerSettings(Section):
    """Settings of the `transformer` rung; the defaults are Qwen3's architecture."""

    rung: Literal["transformer"] = "transformer"
    dim: int = Field(256, gt=0)
    num_layers: int = Field(4, gt=0)
    num_heads: int = Field(4, gt=0)
    num_kv_heads: int | None = Field(None, gt=0)
    """None: as many as `num_heads`."""
    head_dim: int | None = Field(None, gt=0)
    """None: `dim / num_heads`."""
    mlp: Literal["swiglu", "gelu", "gelu_tanh", "relu2"] = "swiglu"
    mlp_dim: int | None = Field(None, gt=0)
    """None: 4 · dim, or 8/3 · dim rounded up to a multiple of 32 for SwiGLU."""
    positions: Literal["rope", "sinusoidal", "learned", "none"] = "rope"
    rope_theta: float = Field(10_000.0, gt=0)
    norm: Literal["rmsnorm", "layernorm", "none"] = "rmsnorm"
    norm_eps: float = Field(1e-6, gt=0)
    qk_norm: bool | None = None
    """None: on, unless `norm` is none."""
    residual: bool = True
    bias: bool = False
    """Biases of the projections and the MLP."""
    qkv_bias: bool | None = None
    """Biases of query, key and value alone; None: as `bias`."""
    tied: bool = True
    dropout: float = Field(0.0, ge=0, lt=1)
    window: int | None = Field(None, gt=0)
    """Each token attends to itself and the `window - 1` before it; None: to all."""
    init: Literal["scaled", "zero"] = "scaled"
    """The output projections: N(0, 0.02/√(2·num_layers)) as in GPT-2, or zero."""

    @model_validator(mode="after")
    def _divides(self) -> "TransformerSettings":
        if self.head_dim is None and self.dim % self.num_heads:
            raise ValueError(f"dim {self.dim} is not a multiple of num_heads {self.num_heads}")
        if self.num_heads % (self.num_kv_heads or self.num_heads):
            raise ValueError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}"
            )
        if self.positions != "rope" and self.rope_theta != 10_000.0:
            raise ValueError(f"positions {self.positions} do not use rope_theta")
        if self.positions == "rope" and (self.head_dim or self.dim // self.num_heads) % 2:
            raise ValueError("rope turns pairs: the head dimension must be even")
        return self

    def resolved(self) -> "TransformerSettings":
        """The same settings with every None that stands for a number worked out."""
        hidden = -(-8 * self.dim // 96) * 32 if self.mlp == "swiglu" else 4 * self.dim
        return self.model_copy(
            update={
                "num_kv_heads": self.num_kv_heads or self.num_heads,
                "head_dim": self.head_dim or self.dim // self.num_heads,
                "mlp_dim": self.mlp_dim or hidden,
                "qk_norm": self.norm != "none" if self.qk_norm is None else self.qk_norm,
                "qkv_bias": self.bias if self.qkv_bias is None else self.qkv_bias,
            }
        )

    def build(self, context: int) -> tuple[nn.Module, int | None]:
        """The context module, and the longest document it can read."""
        return Transformer(
            context=context, **self.resolved().model_dump(exclude={"rung", "tied"})
        ), context


class Mlp(nn.Module):
    """Two layers, position by position.

    Source: Shazeer 2020 (SwiGLU); So et al. 2021, Primer (ReLU²).
    """

    def __init__(self, dim: int, hidden: int, kind: str, bias: bool) -> None:
        super().__init__()
        self.kind = kind
        self.gate = nn.Linear(dim, hidden, bias=bias) if kind == "swiglu" else None
        self.up = nn.Linear(dim, hidden, bias=bias)
        self.down = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Float[Tensor, "... dim"]) -> Float[Tensor, "... dim"]:
        up = self.up(x)
        if self.gate is not None:
            active = F.silu(self.gate(x)) * up
        elif self.kind == "relu2":
            active = F.relu(up).square()
        else:
            active = F.gelu(up, approximate="tanh" if self.kind == "gelu_tanh" else "none")
        result: Tensor = self.down(active)
        return result


class Block(nn.Module):
    """Pre-norm attention, then a pre-norm MLP, each added to the residual stream."""

    def __init__(
        self,
        attention: SelfAttention,
        mlp: Mlp,
        norms: tuple[nn.Module, nn.Module],
        *,
        residual: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.attention, self.mlp = attention, mlp
        self.attention_norm, self.mlp_norm = norms
        self.residual, self.dropout = residual, nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch time dim"],
        layout: Layout,
        cache: KeyValueCache | None,
        layer: int,
        indices: Int[Tensor, " indices"] | None,
    ) -> Float[Tensor, "batch time dim"] | Float[Tensor, "indices dim"]:
        mixed = self.dropout(self.attention(self.attention_norm(x), layout, cache, layer, indices))
        if indices is not None:
            x = pick(x, indices)
        x = x + mixed if self.residual else mixed
        changed = self.dropout(self.mlp(self.mlp_norm(x)))
        result: Tensor = x + changed if self.residual else changed
        return result


class Transformer(nn.Module):
    """Remembers all keys and values of the document; see `TransformerSettings`."""

    supports_tree_mask = supports_indices = True

    def __init__(
        self,
        *,
        context: int,
        dim: int,
        num_layers: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        mlp: str,
        mlp_dim: int,
        positions: str,
        rope_theta: float,
        norm: str,
        norm_eps: float,
        qk_norm: bool,
        residual: bool,
        bias: bool,
        qkv_bias: bool,
        dropout: float,
        window: int | None,
        init: str,
    ) -> None:
        super().__init__()
        self.positions, self.window, self.head_dim = positions, window, head_dim
        self.theta = rope_theta if positions == "rope" else None
        self.position_embed = nn.Embedding(context, dim) if positions == "learned" else None
        self.dropout = nn.Dropout(dropout)
        self.width = num_layers * num_heads * head_dim
        self.blocks = nn.ModuleList(
            Block(
                SelfAttention(
                    dim,
                    num_heads=num_heads,
                    num_kv_heads=num_kv_heads,
                    head_dim=head_dim,
                    qk_norm=qk_norm,
                    bias=bias,
                    qkv_bias=qkv_bias,
                    eps=norm_eps,
                ),
                Mlp(dim, mlp_dim, mlp, bias),
                (make_norm(dim, norm, norm_eps), make_norm(dim, norm, norm_eps)),
                residual=residual,
                dropout=dropout,
            )
            for _ in range(num_layers)
        )
        self.norm = make_norm(dim, norm, norm_eps)
        self._initialise(num_layers, init)

    def _initialise(self, num_layers: int, init: str) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for block in self.blocks:
            assert isinstance(block, Block)
            for output in (block.attention.o, block.mlp.down):
                std = 0.02 / math.sqrt(2 * num_layers) if init == "scaled" else 0.0
                nn.init.normal_(output.weight, std=std)

    def forward(
        self,
        x: Float[Tensor, "batch time dim"],
        view: BatchView,
        state: KeyValueCache | None = None,
        indices: Int[Tensor, " indices"] | None = None,
    ) -> Float[Tensor, "batch time dim"] | Float[Tensor, "indices dim"]:
        shared = layout(
            view, window=self.window, theta=self.theta, head_dim=self.head_dim, cache=state
        )
        if self.position_embed is not None:
            x = x + self.position_embed(view.positions)
        elif self.positions == "sinusoidal":
            x = x + sinusoids(view.positions, x.shape[-1]).to(x.dtype)
        x = self.dropout(x)
        for index, block in enumerate(self.blocks):
            is_last = index == len(self.blocks) - 1
            x = block(x, shared, state, index, indices if is_last else None)
        if state is not None:
            state.length += view.positions.shape[1]
        result: Tensor = self.norm(x)
        return result

    def new_state(self, batch: int, max_time: int) -> KeyValueCache:
        return KeyValueCache(max_time=max_time)

    def attended_width(self, time: int) -> float:
        """Width times tokens attended to, on average over a row, halved by causality."""
        reach = min(time, self.window) if self.window else time
        return self.width * (reach - reach * (reach - 1) / (2 * time)) if reach else 0.0
