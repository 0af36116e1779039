"""The lower half of fp32 weights whose upper half is what the model holds in bf16.

Updates smaller than a 512th of a weight are lost where weights are kept in bf16 alone. Here a
weight stays whole: its upper 16 bits, rounded, are the parameter; the rest stands beside the
optimizer's moments, and joins it for the update. An update is then that of fp32 weights, bit for
bit, for two bytes a weight, and nothing is random.

Source: Micikevicius et al. 2018, Mixed Precision Training, section 3.1 (why updates need a master
copy, here kept in halves).
"""

import torch
from jaxtyping import Float, Int16
from torch import Tensor


def join(upper: Float[Tensor, "..."], lower: Int16[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The fp32 weight of a bf16 one and its low bits: 1.0 and -32768 give 0.99805."""
    return upper.view(torch.int16).int().bitwise_left_shift_(16).add_(lower).view(torch.float32)


def split(whole: Float[Tensor, "..."]) -> tuple[Float[Tensor, "..."], Int16[Tensor, "..."]]:
    """The nearest bf16 weight (away from zero in the middle), and what `join` needs beside it.

    One that is not a number stays one; which of them is lost.
    """
    bits = whole.view(torch.int32)
    upper = bits.add(2**15).bitwise_right_shift_(16)
    lower = bits - (upper << 16)
    # Rounding would carry the highest of their patterns over into zero.
    nearest = upper.to(torch.int16).view(torch.bfloat16)
    return torch.where(whole.isnan(), whole.bfloat16(), nearest), lower.to(torch.int16)
