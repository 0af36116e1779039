"""The packed runner beside the model's own pass, for every switch of the transformer."""

from typing import Any

import pytest
import torch
from torch import Tensor

from foundling import models
from foundling.base.config import ConfigError
from foundling.generation.kernels.library import available, library
from foundling.generation.kernels.weights import FORMATS
from foundling.generation.packed import PackedModel
from foundling.generation.packed_runner import PackedRunner
from foundling.generation.runners import Span
from foundling.generation.settings import EngineSettings
from foundling.models.adapters import AdapterSettings, add_adapters
from foundling.models.language_model import LanguageModel

pytestmark = pytest.mark.skipif(not available(), reason="needs a C++ compiler")

YARN = {"type": "yarn", "factor": 4.0, "original_context": 16}
LLAMA3 = {
    "type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_context": 16,
}  # fmt: skip
SWITCHES: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "llama": {"qk_norm": False, "tied": False, "rope_theta": 500.0, "rope_scaling": LLAMA3},
    "gemma 2": {
        "norm_unit_offset": True, "norm_placement": "both", "qk_norm": False, "window": 9,
        "full_layers": (1,), "embed_scale": 7.0, "mlp": "geglu_tanh", "attention_softcap": 5.0,
        "logit_softcap": 3.0, "attention_scale": 0.2, "head_dim": 10,
    },
    "gemma 3": {
        "norm_unit_offset": True, "norm_placement": "both", "window": 5, "full_layers": (2,),
        "window_rope_theta": 100.0, "rope_scaling": {"type": "linear", "factor": 8.0},
    },
    "gpt2": {
        "norm": "layernorm", "mlp": "gelu_tanh", "bias": True, "positions": "learned",
        "qk_norm": False, "num_kv_heads": 4,
    },
    "gpt-neox": {
        "norm": "layernorm", "mlp": "gelu", "bias": True, "parallel": True, "qk_norm": False,
        "rope_fraction": 0.5, "tied": False,
    },
    "granite": {"residual_scale": 0.3, "logit_divisor": 3.0, "embed_scale": 12.0},
    "olmo 2": {"norm_placement": "post", "qk_norm_width": "whole"},
    "smollm 3": {"nope_layers": (0, 2), "qkv_bias": True, "output_bias": True},
    "yarn": {"rope_scaling": YARN, "num_kv_heads": 1, "head_dim": 10},
    "vaswani": {"norm": "none", "positions": "sinusoidal", "mlp": "geglu", "parallel": True},
    "bare": {"residual": False, "mlp": "relu2", "positions": "none", "norm_placement": "post"},
    "attention": {"rung": "attention", "num_heads": 4},
}  # fmt: skip


def model_of(name: str, vocab: int = 101) -> LanguageModel:
    """A random model, with weights large enough for every part to matter."""
    switches = SWITCHES[name]
    shape = {"dim": 48, "num_layers": 3, "num_heads": 4, "num_kv_heads": 2, "mlp_dim": 70}
    spec = switches if "rung" in switches else {"rung": "transformer", **shape, **switches}
    model = models.build({"dim": 48, **spec}, vocab_size=vocab, context=64).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def tokens_of(count: int) -> list[int]:
    return torch.randint(0, 101, (count,)).tolist()


@torch.inference_mode()
def whole(model: LanguageModel, tokens: list[int]) -> Tensor:
    return model.logits(model.hidden(torch.tensor([tokens])))[0]


@pytest.mark.parametrize("name", SWITCHES)
def test_every_switch_is_as_in_the_model(name: str) -> None:
    model, tokens = model_of(name), tokens_of(40)
    runner = PackedRunner(model, cache_bytes=1 << 20, block_size=16)
    logits = runner.forward([Span(0, tokens, 0, 40, [3, 1, 7])])
    torch.testing.assert_close(logits, whole(model, tokens), atol=5e-5, rtol=2e-5)


@pytest.mark.parametrize("quantize", ["none", "int8", "int4"])
@pytest.mark.parametrize("name", ["gemma 2", "gpt-neox", "attention"])
def test_logits_depend_on_the_sequence_alone(name: str, quantize: Any) -> None:
    """Whole, token by token, in pieces beside others, at other blocks, with other threads."""
    model, tokens = model_of(name), tokens_of(50)
    runner = PackedRunner(model, quantize=quantize, cache_bytes=1 << 20, block_size=16)
    expected = runner.forward([Span(0, tokens, 0, 50, [3, 1, 7, 2])])
    found, at, blocks = [], 0, [12, 14, 10, 11]
    for count in (1, 15, 3, 20, 1, 1, 9):
        others = [
            Span(n + 1, tokens_of(n % 5 + 1), 0, n % 2, [20 + n]) for n in range(3 * (at % 9))
        ]
        middle = len(others) // 2
        span = Span(0, tokens[at : at + count], at, count, blocks)
        before = sum(other.num_logits for other in others[:middle])
        threads = torch.get_num_threads()
        torch.set_num_threads(1 + at % 2)
        logits = runner.forward([*others[:middle], span, *others[middle:]])
        torch.set_num_threads(threads)
        found.append(logits[before : before + count])
        at += count
    assert torch.equal(torch.cat(found), expected)


def test_a_draft_is_taken_back() -> None:
    model, tokens = model_of("qwen3"), tokens_of(20)
    runner = PackedRunner(model, cache_bytes=1 << 20, block_size=16)
    expected = runner.forward([Span(0, tokens, 0, 20, [0, 1])])
    runner.forward([Span(1, [*tokens[:10], 5, 6, 7], 0, 3, [2, 3])])
    found = runner.forward([Span(1, tokens[10:], 10, 10, [2, 3])])
    assert torch.equal(found, expected[10:])


def test_nothing_is_wanted_of_a_piece_of_a_prompt() -> None:
    runner = PackedRunner(model_of("llama"), cache_bytes=1 << 20)
    assert runner.forward([Span(0, tokens_of(5), 0, 0, [0])]).shape == (0, 101)


@pytest.mark.parametrize(
    ("tokens", "start", "blocks", "said"),
    [
        ([101], 0, [0], "no row"),
        ([-1], 0, [0], "negative"),
        ([1, 2], 31, [0], "too few blocks"),
        ([1], 64, [0, 1, 2], "longer than the context"),
    ],
)
def test_no_span_reaches_past_what_there_is(
    tokens: list[int], start: int, blocks: list[int], said: str
) -> None:
    runner = PackedRunner(model_of("qwen3"), cache_bytes=1 << 20, block_size=32)
    with pytest.raises(AssertionError, match=said):
        runner.forward([Span(0, tokens, start, 1, blocks)])


def test_bf16_weights_are_those_of_the_rounded_model() -> None:
    model, tokens = model_of("llama"), tokens_of(30)
    runner = PackedRunner(model, precision="bf16", cache_bytes=1 << 20)
    logits = runner.forward([Span(0, tokens, 0, 30, [0])])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and not name.startswith("embed"):
                parameter.copy_(parameter.bfloat16())
    found = library()
    assert found is not None
    near = 2e-2 if found.rounds_inputs(FORMATS.index("bf16")) else 2e-5
    torch.testing.assert_close(logits, whole(model, tokens), atol=2 * near, rtol=near)


def test_adapters_and_learned_rows_are_merged() -> None:
    model, tokens = model_of("qwen3"), tokens_of(30)
    add_adapters(model, AdapterSettings(rank=4), seed=1, tokens=[1, 2])
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    runner = PackedRunner(model, cache_bytes=1 << 20)
    logits = runner.forward([Span(0, tokens, 0, 30, [0])])
    torch.testing.assert_close(logits, whole(model, tokens), atol=1e-4, rtol=2e-5)


@pytest.mark.parametrize("name", ["qwen3", "llama", "gemma 2", "gpt-neox", "attention"])
@pytest.mark.parametrize("tokens", [[], [1, 2]])
def test_adapters_share_the_matrices_of_their_base(name: str, tokens: list[int]) -> None:
    base = model_of(name)
    model = models.rebuild(base.spec)
    model.load_state_dict(base.state_dict())
    add_adapters(model, AdapterSettings(rank=4), seed=1, tokens=tokens)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    packed = PackedModel.pack(base, "fp32")
    over = packed.with_adapters(model)
    for one, other in zip(packed.layers, over.layers, strict=True):
        assert one.qkv.data is other.qkv.data
        assert one.o.data is other.o.data
    assert (packed.head is over.head) == (not tokens)
    text = tokens_of(40)
    runner = PackedRunner(over, cache_bytes=1 << 20, block_size=16)
    logits = runner.forward([Span(0, text, 0, 40, [3, 1, 7])])
    torch.testing.assert_close(logits, whole(model.eval(), text), atol=1e-4, rtol=2e-5)
    assert (logits - whole(base, text)).abs().max() > 0.01
    parts = [
        runner.forward([Span(1, text[at : at + 8], at, 8, [8, 9, 10])]) for at in range(0, 40, 8)
    ]
    assert torch.equal(torch.cat(parts), logits)
    alone = PackedRunner(packed, cache_bytes=1 << 20, block_size=16)
    found = alone.forward([Span(0, text, 0, 40, [3, 1, 7])])
    torch.testing.assert_close(found, whole(base, text), atol=5e-5, rtol=2e-5)


def test_weights_are_rounded_in_one_way() -> None:
    with pytest.raises(ConfigError, match="precision = bf16 and quantize = int8"):
        EngineSettings.parse({"precision": "bf16", "quantize": "int8"})


def test_what_is_not_supported_is_said() -> None:
    assert PackedModel.supports(model_of("qwen3"))
    assert not PackedModel.supports(
        models.build({"rung": "bag_of_words", "dim": 8}, vocab_size=20, context=16)
    )
    dynamic = {"type": "dynamic", "factor": 2.0, "original_context": 8}
    spec = {"rung": "transformer", "dim": 16, "num_layers": 1, "rope_scaling": dynamic}
    assert not PackedModel.supports(models.build(spec, vocab_size=20, context=16))
