"""What a model folder may not say, and what may not be in it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_interchange import (
    GEMMA2_LIKE,
    GEMMA3_LIKE,
    GPT2_LIKE,
    NEOX_LIKE,
    ROPE,
    VOCAB,
    build,
    edit,
    our_logits,
)

from foundling.base.config import ConfigError
from foundling.models import interchange

CONFIG_REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    ("llama", {"model_type": "lama"}, r'model_type = "lama": no such .* Did you mean "llama"\?'),
    ("llama", {"model_type": None}, "model_type"),
    ("llama", {"hidden_act": "gelu"}, 'hidden_act = "gelu": .* it can load "silu"'),
    ("gpt2", {"activation_function": "tanh"}, 'activation_function = "tanh": .*"gelu_new"'),
    ("gpt2", {"activation_function": ["gelu"]}, "wrong kind"),
    ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights = false"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = true"),
    ("gpt2", {"add_cross_attention": True}, "add_cross_attention = true"),
    ("llama", {"is_causal": False}, "is_causal = false"),
    ("llama", {"partial_rotary_factor": 0.5}, r"partial_rotary_factor = 0\.5"),
    ("llama", {"quantization_config": {"bits": 4}}, "quantization_config = "),
    ("llama", {"rope_scaling": {"type": "linear"}}, "rope_scaling = .*linear.*factor"),
    ("llama", {"rope_scaling": {"type": "ntk", "factor": 2.0}}, 'rope_scaling = .*"default" or'),
    ("llama", {"rope_scaling": {"rope_type": "linear", "type": "yarn"}}, "rope_scaling = .*yarn"),
    ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0, "b": 3}}, "b: no such setting.$"),
    (
        "llama",
        {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": ROPE},
        "rope_scaling = .*what rope_parameters says|rope_theta = ",
    ),
    ("llama", {"rope_parameters": {**ROPE, "rope_type": "llama3"}}, "rope_parameters = .*llama3"),
    ("llama", {"rope_parameters": {**ROPE, "partial_rotary_factor": 0.5}}, "rope_parameters = "),
    ("llama", {"rope_parameters": {"full_attention": ROPE}}, "rope_parameters = "),
    ("llama", {"rope_theta": 3.0, "rope_parameters": ROPE}, r"rope_theta = \[3.0, 500000.0\]"),
    ("llama", {"num_attention_heads": 5}, "num_attention_heads = 5"),
    ("llama", {"num_key_value_heads": 3}, "num_heads 4 is not a multiple of num_kv_heads 3"),
    ("llama", {"vocab_size": "many"}, "must be whole numbers"),
    ("llama", {"hidden_size": None}, "wrong kind"),
    ("llama", {"rms_norm_eps": "small"}, "norm_eps"),
    ("qwen3", {"layer_types": ["full_attention", "sliding_attention"] * 2}, "layer_types = "),
    ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention = true"),
    ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping = 50"),
    ("gemma3_text", {"rope_parameters": ROPE}, "rope_parameters = .*full_attention and"),
    (
        "gemma3_text",
        {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}},
        "rope_parameters = .*sliding_attention without a scaling",
    ),
    ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention = true"),
    ("gemma2", {"hidden_activation": "relu"}, 'hidden_activation = "relu"'),
    ("smollm3", {"no_rope_layers": [1, 0]}, "no_rope_layers = "),
    ("smollm3", {"layer_types": ["sliding_attention"] * 4}, "layer_types = .*by a window"),
    ("granite", {"embedding_multiplier": 0.0}, "embed_scale"),
    ("phi3", {"rope_scaling": {"type": "linear", "factor": 2.0}}, 'rope_.* "longrope"'),
    (
        "phi3",
        {
            "rope_parameters": None,
            "rope_scaling": {"type": "su", "short_factor": [1.0], "long_factor": [1.0]},
        },
        "short_factor has 1 numbers where 2 pairs turn",
    ),
    ("gpt_neox", {"rotary_pct": 0.3}, "rope_fraction|partial_rotary_factor"),
    ("gpt_neox", {"hidden_act": "silu"}, 'hidden_act = "silu"'),
    ("llama", {"model_type": "gemma3"}, 'model_type = "gemma3": .*gemma3_text'),
    ("qwen3", {"layer_types": ["chunked_attention"] * 3}, "layer_types = .*chunked"),
    ("qwen3", {"layer_types": ["sliding_attention"] * 3}, "layer_types = .*by a window"),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of each architecture, without a "foundling" entry."""
    root = tmp_path_factory.mktemp("models")
    for name, settings in (
        ("llama", {"qk_norm": False, "tied": False}),
        ("qwen3", {}),
        ("gpt2", GPT2_LIKE),
        ("gemma3_text", GEMMA3_LIKE),
        ("gemma2", {**GEMMA2_LIKE, "full_layers": [1], "attention_softcap": 2.0}),
        ("smollm3", {"qk_norm": False, "nope_layers": [1]}),
        ("granite", {"qk_norm": False, "residual_scale": 0.3}),
        ("phi3", {"qk_norm": False, "rope_fraction": 0.5}),
        ("gpt_neox", {**NEOX_LIKE, "rope_fraction": 0.5}),
    ):
        interchange.save(build(**settings, num_layers=3), root / name)
        edit(root / name, lambda config: config.pop("foundling"))
        edit(root / name, lambda config: config.pop("rope_theta", None))
        interchange.load(root / name)
    return root


@pytest.mark.parametrize(("name", "change", "message"), CONFIG_REFUSALS)
def test_settings_that_cannot_be_expressed_are_refused(
    name: str, change: dict[str, Any], message: str, folders: Path, tmp_path: Path
) -> None:
    folder = tmp_path / name
    shutil.copytree(folders / name, folder)
    edit(folder, lambda config: config.update(change))
    with pytest.raises(ConfigError, match=message) as refusal:
        interchange.load(folder)
    assert str(folder / "config.json") in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"model_type": "foundling"}',
                                  '{"model_type": "foundling", "foundling": {"rung": "attention"}}',
                                  '{"model_type": "foundling", "foundling": 3}'])  # fmt: skip
def test_a_broken_config_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json: cannot be read"):
        interchange.load(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json"):
        interchange.load(tmp_path)


def test_a_model_saved_before_its_settings_were_all_known_is_read(tmp_path: Path) -> None:
    ours = build(window=5)
    interchange.save(ours, tmp_path)
    later = ("rope_fraction", "rope_scaling", "nope_layers", "norm_unit_offset", "norm_placement",
             "qk_norm_width", "residual_scale", "parallel", "embed_scale", "attention_scale",
             "attention_softcap", "logit_divisor", "logit_softcap", "output_bias", "full_layers",
             "window_rope_theta", "family")  # fmt: skip
    edit(tmp_path, lambda config: [config["foundling"].pop(name) for name in later])
    again = interchange.load(tmp_path)
    assert again.spec == ours.spec
    assert torch.equal(our_logits(again), our_logits(ours))


def test_a_missing_key_is_named(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "gpt2", tmp_path, dirs_exist_ok=True)
    edit(tmp_path, lambda config: config.pop("n_head"))
    with pytest.raises(ConfigError, match="n_head: missing"):
        interchange.load(tmp_path)


Tensors = dict[str, torch.Tensor]
WEIGHT_REFUSALS: list[tuple[str, Callable[[Tensors], object], str]] = [
    (
        "llama",
        lambda t: t.pop("model.layers.1.mlp.up_proj.weight"),
        r"weights lack model\.layers\.1\.mlp\.up_proj\.weight \(1 in all\)",
    ),
    ("llama", lambda t: t.pop("lm_head.weight"), r"weights lack lm_head\.weight"),
    (
        "llama",
        lambda t: t.update({f"extra.{i}": torch.ones(1) for i in range(5)}),
        r"weights have also extra\.0, extra\.1, extra\.2, … \(5 in all\)",
    ),
    (
        "gpt2",
        lambda t: t.update({"transformer.h.1.attn.c_attn.bias": torch.ones(5)}),
        r"transformer\.h\.1\.attn\.c_attn\.bias is \[5\], not \[96\]",
    ),
    (
        "gpt2",
        lambda t: t.update({"transformer.h.1.attn.c_attn.weight": torch.ones(96, 32)}),
        r"c_attn\.weight is \[96, 32\], not \[32, 96\]",
    ),
    (
        "gpt2",
        lambda t: t.update({"lm_head.weight": torch.ones(VOCAB, 32)}),
        r"weights have also lm_head\.weight",
    ),
    (
        "qwen3",
        lambda t: t.update({"model.norm.weight": torch.ones(32, dtype=torch.int8)}),
        r"model\.norm\.weight is I8; save it as one of F32, F16, BF16",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "message"), WEIGHT_REFUSALS)
def test_weights_that_do_not_fit_are_refused_and_the_model_stays_as_it_was(
    name: str, change: Callable[[Tensors], object], message: str, folders: Path, tmp_path: Path
) -> None:
    shutil.copytree(folders / name, tmp_path, dirs_exist_ok=True)
    model = interchange.load(tmp_path)
    before = our_logits(model)
    perturbed = {k: v + 1 for k, v in load_file(tmp_path / "model.safetensors").items()}
    change(perturbed)
    save_file(perturbed, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=message):
        interchange.load_weights(model, tmp_path)
    assert torch.equal(our_logits(model), before)


def test_pickled_and_broken_weights_are_refused(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "qwen3", tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ConfigError, match="its weights cannot be read: "):
        interchange.load(tmp_path)
    weights.unlink()
    with pytest.raises(ConfigError, match=r"holds neither model\.safetensors nor"):
        interchange.load(tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"pytorch_model\.bin is pickled.*convert it"):
        interchange.load(tmp_path)
