"""What a transformer is stacked of: attention and an MLP, with norms around them."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from foundling.models.attention import KeyValueCache, MaskAndAngles, SelfAttention, pick

GATED = {"swiglu": "silu", "geglu": "gelu", "geglu_tanh": "gelu_tanh"}
"""Gated kinds of MLP, and what acts on the gate."""


def activate(x: Float[Tensor, "... dim"], name: str) -> Float[Tensor, "... dim"]:
    """Source: Hendrycks and Gimpel 2016 (GELU, and by tanh); So et al. 2021, Primer (ReLU²)."""
    if name == "silu":
        return F.silu(x)
    if name == "relu2":
        return F.relu(x).square()
    return F.gelu(x, approximate="tanh" if name == "gelu_tanh" else "none")


class Mlp(nn.Module):
    """Two layers, position by position; with a gate, down(act(gate(x)) · up(x)).

    Source: Shazeer 2020 (SwiGLU, GEGLU).
    """

    def __init__(self, dim: int, hidden: int, kind: str, bias: bool) -> None:
        super().__init__()
        self.activation = GATED.get(kind, kind)
        self.gate = nn.Linear(dim, hidden, bias=bias) if kind in GATED else None
        self.up = nn.Linear(dim, hidden, bias=bias)
        self.down = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Float[Tensor, "... dim"]) -> Float[Tensor, "... dim"]:
        up = self.up(x)
        if self.gate is not None:
            active = activate(self.gate(x), self.activation) * up
        else:
            active = activate(up, self.activation)
        result: Tensor = self.down(active)
        return result


class Block(nn.Module):
    """Attention, then an MLP, each normed before or after it and added to the residual stream.

    x + post_norm(attention(norm(x))), and the same with the MLP; a norm that is not there leaves
    its vectors as they are. `parallel`: the MLP reads what the attention reads. `residual_scale`
    multiplies what is added. Source: Xiong et al. 2020 (pre-norm); OLMo 2 (post-norm); Gemma 2
    (both); Wang and Komatsuzaki 2021, GPT-J (parallel); Granite (the multiplier).
    """

    def __init__(
        self,
        attention: SelfAttention,
        mlp: Mlp,
        norms: tuple[nn.Module, nn.Module],
        post_norms: tuple[nn.Module, nn.Module],
        *,
        residual: bool,
        residual_scale: float,
        parallel: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.attention, self.mlp = attention, mlp
        self.attention_norm, self.mlp_norm = norms
        self.attention_post_norm, self.mlp_post_norm = post_norms
        self.residual, self.residual_scale, self.parallel = residual, residual_scale, parallel
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch time dim"],
        layout: MaskAndAngles,
        cache: KeyValueCache | None,
        layer: int,
        indices: Int[Tensor, " indices"] | None,
    ) -> Float[Tensor, "batch time dim"] | Float[Tensor, "indices dim"]:
        mixed = self.attention(self.attention_norm(x), layout, cache, layer, indices)
        mixed = self._scaled(self.attention_post_norm(mixed))
        if indices is not None:
            x = pick(x, indices)
        if self.parallel:
            changed = self._scaled(self.mlp_post_norm(self.mlp(self.mlp_norm(x))))
            return x + mixed + changed if self.residual else mixed + changed
        x = x + mixed if self.residual else mixed
        changed = self._scaled(self.mlp_post_norm(self.mlp(self.mlp_norm(x))))
        return x + changed if self.residual else changed

    def _scaled(self, x: Tensor) -> Tensor:
        result: Tensor = self.dropout(x)
        return result if self.residual_scale == 1.0 else result * self.residual_scale
