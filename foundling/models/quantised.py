"""Frozen matrices in 8 or 4 bits, under adapters that learn in fp32 (QLoRA)."""

import logging
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from foundling.base.config import ConfigError
from foundling.models.adapters import LoraLinear, adapters_of

Bits = Literal["int8", "nf4"]
BLOCK = 64
"""Weights that share a scale in nf4, as in QLoRA."""


class QuantisedLora(LoraLinear):
    """An adapted matrix that is kept in few bits, and made whole where it multiplies.

    `weight` reads as the whole matrix, in fp32. Nothing of it is in a state dict: it is made again
    from the parent's own weights.

    Source: Dettmers et al. 2022, LLM.int8(), section 2.1 (a scale for each row); Dettmers et al.
    2023, QLoRA, sections 2 and 3 (nf4, here without the second quantisation of its scales).
    """

    def __init__(self, adapted: LoraLinear, bits: Bits) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = adapted.in_features, adapted.out_features
        self.rank, self.alpha, self.rslora = adapted.rank, adapted.alpha, adapted.rslora
        self.scale, self.enabled, self.bits = adapted.scale, adapted.enabled, bits
        self.lora_a, self.lora_b, self.dropout = adapted.lora_a, adapted.lora_b, adapted.dropout
        self.register_parameter("bias", adapted.bias)
        make = _int8 if bits == "int8" else _nf4
        for name, tensor in make(adapted.weight.detach().float()).items():
            self.register_buffer(name, tensor, persistent=False)

    def whole(self, dtype: torch.dtype) -> Float[Tensor, "dim_out dim_in"]:
        """The matrix, as near to the parent's as its bits allow."""
        parts = dict(self.named_buffers(recurse=False))
        if self.bits == "int8":
            return (parts["packed"] * parts["scales"][:, None]).to(dtype)
        shape = torch.Size((self.out_features, self.in_features))
        return _whole_nf4(parts, shape, dtype)

    @property
    def weight(self) -> Float[Tensor, "dim_out dim_in"]:  # type: ignore[override]
        return self.whole(torch.float32)

    def base(self, x: Float[Tensor, "... dim_in"]) -> Float[Tensor, "... dim_out"]:
        result: Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
        return result


class _Product(torch.autograd.Function):
    """x · Wᵀ + b, with W made whole in either pass and kept for neither."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, module: QuantisedLora) -> Tensor:
        device = x.device.type
        autocasts = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocasts else x.dtype
        ctx.module, ctx.dtype = module, x.dtype
        bias = None if module.bias is None else module.bias.to(dtype)
        return F.linear(x.to(dtype), module.whole(dtype), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None]:
        (gradient,) = gradients
        return (gradient @ ctx.module.whole(gradient.dtype)).to(ctx.dtype), None


def quantise(model: nn.Module, bits: Bits) -> None:
    """Keep the matrices under the adapters of `model` in these bits from now on.

    Raises:
        ConfigError: nf4, and bitsandbytes is not installed.
    """
    for name, adapted in adapters_of(model).items():
        model.set_submodule(name, QuantisedLora(adapted, bits).train(adapted.training))


def bits_of(model: nn.Module) -> Bits | None:
    """How the matrices under a model's adapters are kept; None: whole."""
    found = (module.bits for module in model.modules() if isinstance(module, QuantisedLora))
    return next(found, None)


def _int8(weight: Tensor) -> dict[str, Tensor]:
    scales = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127
    return {"packed": (weight / scales[:, None]).round_().to(torch.int8), "scales": scales}


def _nf4(weight: Tensor) -> dict[str, Tensor]:
    packed, state = _bitsandbytes().quantize_4bit(
        weight.contiguous(), blocksize=BLOCK, quant_type="nf4"
    )
    return {"packed": packed, "scales": state.absmax, "code": state.code}


def _whole_nf4(parts: Mapping[str, Tensor], shape: torch.Size, dtype: torch.dtype) -> Tensor:
    functional = _bitsandbytes()
    state = functional.QuantState(
        absmax=parts["scales"], shape=shape, code=parts["code"], blocksize=BLOCK,
        quant_type="nf4", dtype=dtype,
    )  # fmt: skip
    whole: Tensor = functional.dequantize_4bit(parts["packed"], state)
    return whole


def _bitsandbytes() -> Any:
    # It would fetch another kernel, which is not used here, and warns where it cannot.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    try:
        from bitsandbytes import functional
    except ImportError:
        raise ConfigError(
            'adapter.base = "nf4": bitsandbytes is not installed; pip install '
            "'foundling[quantised]', or take int8."
        ) from None
    return functional
