"""Frozen matrices in 8 or 4 bits under adapters."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from foundling import models
from foundling.base.config import ConfigError
from foundling.models import interchange
from foundling.models.adapter_files import load_adapter, save_adapter
from foundling.models.adapters import (
    AdapterSettings,
    adapter_state,
    adapters_of,
    add_adapters,
    disabled,
)
from foundling.models.language_model import LanguageModel
from foundling.models.quantised import BLOCK, QuantisedLora, quantise
from foundling.models.quantised import Bits as Kind

NF4 = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
KINDS = ["int8", pytest.param("nf4", marks=NF4)]
LEVELS = [
    *(-1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0),
    *(0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0),
]
"""nf4's sixteen values: QLoRA, appendix E."""


def build(bias: bool = False) -> LanguageModel:
    torch.manual_seed(0)
    settings = {"dim": 64, "num_layers": 2, "num_heads": 2, "bias": bias}
    model = models.build(settings, vocab_size=67, context=16)
    add_adapters(model, AdapterSettings(rank=4), seed=1)
    for name, parameter in model.named_parameters():
        if name.endswith("lora_b"):
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def tokens() -> torch.Tensor:
    return torch.arange(24).view(2, 12)


def nearest(weight: torch.Tensor, kind: str) -> torch.Tensor:
    """The matrix as the papers have it, entry by entry."""
    if kind == "int8":
        scale = weight.abs().amax(dim=1, keepdim=True) / 127
        return (weight / scale).round() * scale
    blocks = weight.reshape(-1, BLOCK)
    scale = blocks.abs().amax(dim=1, keepdim=True)
    levels = torch.tensor(LEVELS)
    chosen = ((blocks / scale)[..., None] - levels).abs().argmin(dim=-1)
    return (levels[chosen] * scale).view_as(weight)


@pytest.mark.parametrize("kind", KINDS)
def test_a_matrix_is_rounded_as_the_papers_say(kind: Kind) -> None:
    model = build()
    before = {name: module.weight.clone() for name, module in adapters_of(model).items()}
    quantise(model, kind)
    for name, module in adapters_of(model).items():
        assert isinstance(module, QuantisedLora)
        torch.testing.assert_close(module.weight, nearest(before[name], kind), atol=1e-6, rtol=0)
        error = (module.weight - before[name]).norm() / before[name].norm()
        assert error < {"int8": 0.01, "nf4": 0.11}[kind]
        size = sum(buffer.nbytes for buffer in module.buffers())
        bits = 8 * size / before[name].numel()
        assert bits < {"int8": 8.6, "nf4": 4.7}[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_those_of_the_rounded_matrices(
    kind: Kind, bias: bool, precision: torch.dtype
) -> None:
    rounded, packed = build(bias), build(bias)
    quantise(packed, kind)
    for name, module in adapters_of(rounded).items():
        module.weight.data = packed.get_submodule(name).whole(torch.float32)  # type: ignore[operator]
    found = []
    for model in (rounded, packed):
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            total = model.logits(model.hidden(tokens())).square().mean()
        total.backward()
        gradients = [m.lora_a.grad for m in adapters_of(model).values()]
        found.append([total.detach(), *gradients])
    tolerance = 1e-5 if precision == torch.float32 else 2e-2
    for expected, value in zip(*found, strict=True):
        assert value is not None
        assert expected is not None
        assert (value - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_it_counts_switches_and_keeps_its_adapters_like_any_other(kind: Kind) -> None:
    whole, packed = build(), build()
    quantise(packed, kind)
    assert packed.num_parameters() == whole.num_parameters()
    assert packed.num_trained_parameters() == whole.num_trained_parameters()
    assert packed.flops_per_token(16) == whole.flops_per_token(16)
    assert adapter_state(packed).keys() == adapter_state(whole).keys()
    with torch.no_grad(), disabled(packed):
        bare = packed.hidden(tokens())
    with torch.no_grad():
        assert not torch.equal(packed.hidden(tokens()), bare)
        for module in adapters_of(packed).values():
            module.lora_b.zero_()
        assert torch.equal(packed.hidden(tokens()), bare)


def test_what_is_coarse_is_not_written_as_a_model_and_its_adapter_goes_onto_the_parent(
    tmp_path: Path,
) -> None:
    model = build()
    with disabled(model):
        interchange.save(model, tmp_path / "parent")
    whole = interchange.load(tmp_path / "parent")
    quantise(model, "int8")
    with pytest.raises(ConfigError, match=r"kept in int8.* save the adapter"):
        interchange.save(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    save_adapter(model, tmp_path / "adapter")
    load_adapter(whole, tmp_path / "adapter")
    for name, adapted in adapters_of(model).items():
        assert torch.equal(adapters_of(whole)[name].lora_b, adapted.lora_b)
