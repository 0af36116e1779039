"""How a transformer knows the order of tokens: rotary, sinusoidal or learned positions."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def rotary_angles(
    positions: Int[Tensor, "batch time"], head_dim: int, theta: float
) -> tuple[Float[Tensor, "batch 1 time half"], Float[Tensor, "batch 1 time half"]]:
    """Cosine and sine of `position · theta^(-2i/head_dim)`, in fp32.

    Source: Su et al. 2021, RoFormer, equation 15; halves rotate together as in Llama and Qwen.
    """
    exponents = torch.arange(0, head_dim, 2, device=positions.device).float() / head_dim
    # 1 / theta^x, not theta^-x: bit for bit the frequencies of transformers, at any position.
    angles = positions.float()[:, None, :, None] * (1.0 / theta**exponents)
    return angles.cos(), angles.sin()


def rotate(
    x: Float[Tensor, "batch heads time head_dim"],
    cos: Float[Tensor, "#batch 1 time half"],
    sin: Float[Tensor, "#batch 1 time half"],
) -> Float[Tensor, "batch heads time head_dim"]:
    """Turn each pair (i, i + half) by its angle; worked in fp32 at least.

    Only the first 2 · half numbers turn.
    """
    turning = 2 * cos.shape[-1]
    if turning < x.shape[-1]:
        return torch.cat((rotate(x[..., :turning], cos, sin), x[..., turning:]), dim=-1)
    first, second = x.to(torch.promote_types(x.dtype, cos.dtype)).chunk(2, dim=-1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.to(x.dtype)


def sinusoids(positions: Int[Tensor, "..."], dim: int) -> Float[Tensor, "... dim"]:
    """`sin(p / 10000^(2i/dim))` at even and the cosine at odd indices.

    Source: Vaswani et al. 2017, Attention Is All You Need, section 3.5.
    """
    even = torch.arange(0, dim, 2, device=positions.device).float()
    angles = positions.float()[..., None] * torch.exp(even * (-math.log(10_000.0) / dim))
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)[..., :dim]
