"""The transformer: blocks of self-attention and an MLP on a residual stream."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from foundling.base.config import Section
from foundling.models.attending import mask_of
from foundling.models.attention import (
    KeyValueCache,
    MaskAndAngles,
    SelfAttention,
    make_norm,
)
from foundling.models.batch import BatchView
from foundling.models.blocks import GATED, Block, Mlp
from foundling.models.positions import sinusoids
from foundling.models.rope import LongRopeScaling, Rope, RopeScaling


class TransformerSettings(Section):
    """Settings of the `transformer` rung; the defaults are Qwen3's architecture.

    Layers are numbered from 0.
    """

    rung: Literal["transformer"] = "transformer"
    dim: int = Field(256, gt=0)
    num_layers: int = Field(4, gt=0)
    num_heads: int = Field(4, gt=0)
    num_kv_heads: int | None = Field(None, gt=0)
    """None: as many as `num_heads`."""
    head_dim: int | None = Field(None, gt=0)
    """None: `dim / num_heads`."""
    mlp: Literal["swiglu", "geglu", "geglu_tanh", "gelu", "gelu_tanh", "relu2"] = "swiglu"
    mlp_dim: int | None = Field(None, gt=0)
    """None: 4 · dim, or 8/3 · dim rounded up to a multiple of 32 where it is gated."""
    positions: Literal["rope", "sinusoidal", "learned", "none"] = "rope"
    rope_theta: float = Field(10_000.0, gt=0)
    rope_fraction: float = Field(1.0, gt=0, le=1)
    """The share of each head that turns, from its beginning; the rest knows no position."""
    rope_scaling: RopeScaling | None = None
    """How the rotary frequencies are stretched: `type` and what that type takes."""
    nope_layers: tuple[int, ...] = ()
    """Layers without rotary positions. Source: Yang et al. 2025, RoPE to NoPE and Back Again."""
    norm: Literal["rmsnorm", "layernorm", "none"] = "rmsnorm"
    norm_eps: float = Field(1e-6, gt=0)
    norm_unit_offset: bool = False
    """RMS norms multiply by 1 + weight, as in Gemma."""
    norm_placement: Literal["pre", "post", "both"] = "pre"
    """The norms stand before attention and MLP, behind them as in OLMo 2, or both as in Gemma 2."""
    qk_norm: bool | None = None
    """None: on, unless `norm` is none."""
    qk_norm_width: Literal["head", "whole"] = "head"
    """Queries and keys are normed head by head as in Qwen3, or over all heads as in OLMo 2."""
    residual: bool = True
    residual_scale: float = Field(1.0, gt=0)
    """Multiplies what attention and MLP add to the residual stream, as in Granite."""
    parallel: bool = False
    """Attention and MLP read the same vectors, as in GPT-NeoX."""
    embed_scale: float = Field(1.0, gt=0)
    """Multiplies the embeddings: √dim in Gemma, a setting in Granite."""
    attention_scale: float | None = Field(None, gt=0)
    """Multiplies q·k; None: 1 / √head_dim."""
    attention_softcap: float | None = Field(None, gt=0)
    """c: the scores s become c · tanh(s / c), as in Gemma 2."""
    logit_divisor: float = Field(1.0, gt=0)
    """Divides the logits, as in Granite."""
    logit_softcap: float | None = Field(None, gt=0)
    """c: the logits l become c · tanh(l / c), as in Gemma 2."""
    bias: bool = False
    """Biases of the projections and the MLP."""
    qkv_bias: bool | None = None
    """Biases of query, key and value alone; None: as `bias`."""
    output_bias: bool | None = None
    """A bias of the attention's output alone; None: as `bias`."""
    tied: bool = True
    dropout: float = Field(0.0, ge=0, lt=1)
    window: int | None = Field(None, gt=0)
    """Each token attends to itself and the `window - 1` before it; None: to all."""
    full_layers: tuple[int, ...] = ()
    """Layers that attend to all although there is a `window`, as in Gemma 3."""
    window_rope_theta: float | None = Field(None, gt=0)
    """The `rope_theta` of layers with a window, whose frequencies are not scaled, as in Gemma 3;
    None: they are as the others."""
    family: str | None = None
    """The `model_type` of `transformers` that it was read as, and is written as if it still fits;
    changes nothing else."""
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
        return self

    @model_validator(mode="after")
    def _turns(self) -> "TransformerSettings":
        if self.positions != "rope":
            defaults = TransformerSettings.model_fields
            for name in ("rope_theta", "rope_fraction", "rope_scaling", "nope_layers",
                         "window_rope_theta"):  # fmt: skip
                if getattr(self, name) != defaults[name].default:
                    raise ValueError(f"positions {self.positions} do not use {name}")
            return self
        turning = self.rope_dim
        if turning % 2 or not turning:
            raise ValueError(f"rope turns pairs: {turning} of the head dimension must be even")
        if isinstance(scaling := self.rope_scaling, LongRopeScaling):
            for name in ("short_factor", "long_factor"):
                if (given := len(getattr(scaling, name))) != turning // 2:
                    raise ValueError(f"{name} has {given} numbers where {turning // 2} pairs turn")
        return self

    @model_validator(mode="after")
    def _fits(self) -> "TransformerSettings":
        for name in ("full_layers", "nope_layers"):
            layers = getattr(self, name)
            if list(layers) != sorted({n for n in layers if 0 <= n < self.num_layers}):
                raise ValueError(
                    f"{name} {list(layers)}: give different layers in order, from 0 to "
                    f"{self.num_layers - 1}"
                )
        if self.window is None and (self.full_layers or self.window_rope_theta):
            raise ValueError("full_layers and window_rope_theta need a window")
        if self.norm != "rmsnorm" and self.norm_unit_offset:
            raise ValueError(f"norm {self.norm} has no unit offset")
        if self.norm == "none" and self.norm_placement != "pre":
            raise ValueError("norm none has no placement")
        return self

    @property
    def rope_dim(self) -> int:
        """How many numbers of a head turn."""
        return int((self.head_dim or self.dim // self.num_heads) * self.rope_fraction)

    def resolved(self) -> "TransformerSettings":
        """The same settings with every None that stands for a number worked out.

        The usual `attention_scale` is None, so that it says where a model is unusual.
        """
        hidden = -(-8 * self.dim // 96) * 32 if self.mlp in GATED else 4 * self.dim
        head_dim = self.head_dim or self.dim // self.num_heads
        usual = head_dim**-0.5
        return self.model_copy(
            update={
                "num_kv_heads": self.num_kv_heads or self.num_heads,
                "head_dim": head_dim,
                "mlp_dim": self.mlp_dim or hidden,
                "qk_norm": self.norm != "none" if self.qk_norm is None else self.qk_norm,
                "qkv_bias": self.bias if self.qkv_bias is None else self.qkv_bias,
                "output_bias": self.bias if self.output_bias is None else self.output_bias,
                "attention_scale": None if self.attention_scale == usual else self.attention_scale,
            }
        )

    def build(self, context: int) -> tuple[nn.Module, int | None]:
        """The context module, and the longest document it can read."""
        settings = self.resolved()
        windows = [None if n in self.full_layers else self.window for n in range(self.num_layers)]
        position_embed = nn.Embedding(context, self.dim) if self.positions == "learned" else None
        module = Transformer(
            [settings._block() for _ in range(self.num_layers)],
            settings._norm(),
            windows=windows,
            ropes=[self._rope(layer, window) for layer, window in enumerate(windows)],
            position_embed=position_embed,
            sinusoidal=self.positions == "sinusoidal",
            embed_scale=self.embed_scale,
            logit_divisor=self.logit_divisor,
            dropout=self.dropout,
        )
        initialise(module, self.init)
        return module, context

    def _block(self) -> Block:
        assert self.num_kv_heads is not None
        assert self.head_dim is not None
        assert self.mlp_dim is not None
        before, behind = self.norm_placement != "post", self.norm_placement != "pre"
        attention = SelfAttention(
            self.dim,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            qk_norm=self.qk_norm_width if self.qk_norm else "none",
            bias=bool(self.output_bias),
            qkv_bias=bool(self.qkv_bias),
            eps=self.norm_eps,
            scale=self.attention_scale,
            softcap=self.attention_softcap,
            unit_offset=self.norm_unit_offset,
        )
        return Block(
            attention,
            Mlp(self.dim, self.mlp_dim, self.mlp, self.bias),
            (self._norm(before), self._norm(before)),
            (self._norm(behind), self._norm(behind)),
            residual=self.residual,
            residual_scale=self.residual_scale,
            parallel=self.parallel,
            dropout=self.dropout,
        )

    def _norm(self, there: bool = True) -> nn.Module:
        kind = self.norm if there else "none"
        return make_norm(self.dim, kind, self.norm_eps, self.norm_unit_offset)

    def _rope(self, layer: int, window: int | None) -> Rope | None:
        if self.positions != "rope" or layer in self.nope_layers:
            return None
        if window is not None and self.window_rope_theta is not None:
            return Rope(self.rope_dim, self.window_rope_theta)
        return Rope(self.rope_dim, self.rope_theta, self.rope_scaling)


def initialise(module: "Transformer", init: str) -> None:
    """N(0, 0.02) and no bias; the output projections by `init`, see `TransformerSettings`."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=0.02)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
    for block in module.blocks:
        assert isinstance(block, Block)
        for output in (block.attention.o, block.mlp.down):
            std = 0.02 / math.sqrt(2 * len(module.blocks)) if init == "scaled" else 0.0
            nn.init.normal_(output.weight, std=std)


class Transformer(nn.Module):
    """Remembers all keys and values of the document; see `TransformerSettings`.

    `windows` and `ropes` say of each layer how far it attends and how its queries and keys turn.
    """

    supports_tree_mask = supports_indices = True

    def __init__(
        self,
        blocks: Sequence[Block],
        norm: nn.Module,
        *,
        windows: Sequence[int | None],
        ropes: Sequence[Rope | None],
        position_embed: nn.Embedding | None,
        sinusoidal: bool,
        embed_scale: float,
        logit_divisor: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.windows, self.sinusoidal = list(windows), sinusoidal
        self.ropes = list(dict.fromkeys(ropes))
        self.rope_of = [self.ropes.index(rope) for rope in ropes]
        self.length_rope = next((rope for rope in ropes if rope and rope.depends_on_length), None)
        self.position_embed = position_embed
        self.embed_scale, self.logit_divisor = embed_scale, logit_divisor
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm

    def forward(
        self,
        x: Float[Tensor, "batch time dim"],
        view: BatchView,
        state: KeyValueCache | None = None,
        indices: Int[Tensor, " indices"] | None = None,
    ) -> Float[Tensor, "batch time dim"] | Float[Tensor, "indices dim"]:
        time = x.shape[1]
        if state is not None and self.length_rope is not None:
            x, view = read_again(x, view, state, self.length_rope.regime(view))
        if self.embed_scale != 1.0:
            # As in transformers a model in bf16 throughout rounds it, and one in fp32 does not,
            # under autocast either: there it is the same however the weights are held.
            x = x * torch.full((), self.embed_scale, dtype=x.dtype, device=x.device)
        if self.position_embed is not None:
            x = x + self.position_embed(view.positions)
        elif self.sinusoidal:
            x = x + sinusoids(view.positions, x.shape[-1]).to(x.dtype)
        x = self.dropout(x)
        layouts = self._layouts(view, state)
        for index, block in enumerate(self.blocks):
            is_last = index == len(self.blocks) - 1
            # A stream's shapes change with each token: its blocks run as they are written.
            run = block if state is None else block.forward
            x = run(x, layouts[index], state, index, indices if is_last else None)
        if state is not None:
            state.length += view.positions.shape[1]
            x = x[:, -time:]
        x = self.norm(x)
        return x if self.logit_divisor == 1.0 else x / self.logit_divisor

    def _layouts(self, view: BatchView, state: KeyValueCache | None) -> list[MaskAndAngles]:
        """Each layer's; masks and angles are worked out once for all layers that share them."""
        masks = {
            window: mask_of(view, window, 0) if state is None else state.mask(view, window)
            for window in dict.fromkeys(self.windows)
        }
        angles = [rope.angles(view) if rope is not None else None for rope in self.ropes]
        return [
            MaskAndAngles(masks[window], angles[rope])
            for window, rope in zip(self.windows, self.rope_of, strict=True)
        ]

    def new_state(self, batch: int, max_time: int) -> KeyValueCache:
        return KeyValueCache(max_time=max_time)

    def attended_width(self, time: int) -> float:
        """Width times tokens attended to, on average over a row, halved by causality."""
        if not time:
            return 0.0
        total = 0.0
        for block, window in zip(self.blocks, self.windows, strict=True):
            assert isinstance(block, Block)
            reach = min(time, window or time)
            width = block.attention.num_heads * block.attention.head_dim
            total += width * (reach - reach * (reach - 1) / (2 * time))
        return total


def read_again(
    x: Float[Tensor, "batch new dim"],
    view: BatchView,
    state: KeyValueCache,
    regime: Int[Tensor, " batch"],
) -> tuple[Float[Tensor, "batch time dim"], BatchView]:
    """The new tokens alone, or all of the stream where its frequencies change with its length.

    What is stored was turned by, and computed with, the frequencies of a shorter document. So that
    streaming equals the whole, such a stream is read once more from its beginning.
    """
    seen, stop = state.length, state.length + x.shape[1]
    if state.inputs is None:
        state.inputs = x.new_zeros(x.shape[0], state.max_time, x.shape[2])
    state.inputs[:, seen:stop] = x
    known, state.regime = state.regime, regime
    if seen == 0 or known is None or torch.equal(known, regime):
        return x, view
    state.length = 0
    before = torch.arange(seen, device=x.device).expand(len(x), seen)
    until = view.seen_until
    if until is not None:
        until = torch.cat((torch.full_like(before, stop), until + seen), dim=1)
    positions = torch.cat((before, view.positions), dim=1)
    return state.inputs[:, :stop], BatchView(positions, view.documents, until)
