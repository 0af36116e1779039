"""The settings of a model as the metadata of a GGUF file, and back."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from foundling.base.config import ConfigError
from foundling.models.gguf_layouts import FACTORS, FREQUENCIES, GgufLayout, Values
from foundling.models.rope import Llama3Scaling, yarn_magnitude

log = logging.getLogger(__name__)

LONGEST = 2**20
"""No model was trained on longer texts before its RoPE was scaled."""
OPTIONAL = (
    "attention.head_count_kv",
    "attention.key_length",
    "attention.sliding_window",
    "feed_forward_length",
)
"""Where these keys are missing, the others and the tensors say what holds."""
HARMLESS = ("vocab_size", "tensor_data_layout", "rope.scaling.finetuned")
"""Keys that change nothing of what a model computes."""
NEUTRAL = {
    "attention.causal": True,
    "attention.clamp_kqv": 0,
    "attention.sliding_window": 0,
    "expert_count": 0,
    "expert_used_count": 0,
    "rope.scaling.attn_factor": 1,
}
"""Values that stand for what holds without the key."""


def metadata(layout: GgufLayout, config: Values) -> Values:
    """What the file says of a model of this config.json, by whole keys.

    Raises:
        ConfigError: llama.cpp cannot run it; names the setting.
    """
    for key, value in layout.fixed(config).items():
        if config.get(key) != value:
            raise ConfigError(
                f"{key} = {config.get(key)}: llama.cpp runs {layout.architecture} with {value} "
                "alone; write the model with --format hf."
            )
    found: Values = {key: config.get(theirs) for key, theirs in layout.keys.items()}
    for key, theirs in layout.keys.items():
        if found[key] is None and key not in OPTIONAL:
            raise ConfigError(
                f"{theirs} = null: llama.cpp runs no {layout.architecture} without it; write the "
                "model with --format hf."
            )
    head_dim = _head_dim(layout, config)
    if "attention.key_length" in found:
        found |= {"attention.key_length": head_dim, "attention.value_length": head_dim}
    found |= _windows(layout, config, found["context_length"])
    if "rope_parameters" in config:
        found |= _scaling(layout, config)
    found["vocab_size"] = config["vocab_size"]
    prefix = layout.architecture
    return {f"{prefix}.{key}": value for key, value in found.items() if value is not None}


def extra_tensors(layout: GgufLayout, config: Values) -> dict[str, Float[Tensor, " half"]]:
    """The factors by which RoPE's frequencies are divided, which llama.cpp keeps as tensors."""
    rope = _rope(config) if "rope_parameters" in config else {"rope_type": "none"}
    if rope["rope_type"] == "llama3":
        return {FREQUENCIES: _llama3_factors(rope, _rotary_dim(layout, config))}
    return {name: torch.tensor(rope[key]) for key, name in FACTORS.items() if key in rope}


def config_of(
    layout: GgufLayout, model_type: str, fields: Mapping[str, Any], tensors: Mapping[str, Any]
) -> Values:
    """The config.json of a file, of the keys that Foundling reads.

    Args:
        tensors: by name; those of the RoPE scaling as arrays.

    Raises:
        ConfigError: the file lacks a setting, or says what Foundling cannot express.
    """
    prefix = f"{layout.architecture}."
    given = {k.removeprefix(prefix): v for k, v in fields.items() if k.startswith(prefix)}
    given = {k: v for k, v in given.items() if k not in HARMLESS and NEUTRAL.get(k) != v}
    config: Values = {"model_type": model_type}
    for key, theirs in layout.keys.items():
        if key not in given:
            if key not in OPTIONAL:
                raise ConfigError(f"{prefix}{key}: missing, and Foundling needs it.")
            continue
        value = given.pop(key)
        if not isinstance(value, bool) and not (isinstance(value, int | float) and value > 0):
            raise ConfigError(f"{prefix}{key} = {value}: must be a number above 0.")
        config[theirs] = _plain(value)
    # Before a model of these sizes is made: a wrong number may ask for any size.
    blocks = {name.split(".")[1] for name in tensors if name.startswith("blk.")}
    count, width = config[layout.keys["block_count"]], config[layout.keys["embedding_length"]]
    if count != len(blocks):
        raise ConfigError(f"{prefix}block_count = {count}, and there are {len(blocks)} blocks.")
    if list(tensors.get("token_embd.weight", ()))[1:] != [width]:
        raise ConfigError(f"{prefix}embedding_length = {width}: not that of token_embd.weight.")
    width_inside = layout.keys["feed_forward_length"]
    if width_inside not in config and "blk.0.ffn_down.weight" in tensors:
        config[width_inside] = int(tensors["blk.0.ffn_down.weight"][1])
    heads = config[layout.keys["attention.head_count"]]
    if "num_key_value_heads" in layout.keys.values():
        config.setdefault("num_key_value_heads", heads)
        config.setdefault("head_dim", config["hidden_size"] // heads)
    head_dim = _head_dim(layout, config)
    if (size := given.pop("attention.value_length", head_dim)) != head_dim:
        raise ConfigError(
            f"{prefix}attention.value_length = {size}: must be {head_dim}, as of keys."
        )
    config["vocab_size"] = int(tensors["token_embd.weight"][0])
    config["tie_word_embeddings"] = "output.weight" not in tensors
    if model_type in ("llama", "granite"):
        config["attention_bias"] = "blk.0.attn_q.bias" in tensors
        config["mlp_bias"] = "blk.0.ffn_up.bias" in tensors
    if layout.architecture != "gpt2":
        rope = _read_scaling(layout, config, given, tensors)
        config["rope_parameters"] = rope
        if "long_factor" in rope:  # where Phi-3 has it
            config["original_max_position_embeddings"] = rope["original_max_position_embeddings"]
    if layout.windows:
        config |= _read_windows(layout, config, given)
    if given:
        key, value = next(iter(given.items()))
        raise ConfigError(
            f"{prefix}{key} = {value}: Foundling has no such setting of a {model_type} model."
        )
    return {**config, **layout.fixed(config)}


def _plain(value: Any) -> Any:
    """A number of fp32 by its shortest name: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _head_dim(layout: GgufLayout, config: Values) -> int:
    dim, heads = (layout.keys[key] for key in ("embedding_length", "attention.head_count"))
    return int(config.get("head_dim") or config[dim] // config[heads])


def _rope(config: Values) -> Values:
    """The RoPE of the layers that attend to everything."""
    rope: Values = config["rope_parameters"]
    return dict(rope.get("full_attention", rope))


def _rotary_dim(layout: GgufLayout, config: Values) -> int:
    return int(_head_dim(layout, config) * (_rope(config).get("partial_rotary_factor") or 1.0))


def _windows(layout: GgufLayout, config: Values, context: int) -> Values:
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    if window is None or (not layout.windows and window >= context):
        return {}
    if not layout.windows:
        log.warning(
            "context length %s instead of %s: llama.cpp attends to everything, which is the "
            "same only within the window of the model.", f"{window:,}", f"{context:,}",
        )  # fmt: skip
        return {"context_length": window}
    slides = [kind == "sliding_attention" for kind in config["layer_types"]]
    usual = slides == _usual_windows(layout, len(slides))
    pattern = {} if usual else {"attention.sliding_window_pattern": slides}
    local = config["rope_parameters"].get("sliding_attention", {}).get("rope_theta")
    return {"attention.sliding_window": window, **pattern, "rope.freq_base_swa": local}


def _usual_windows(layout: GgufLayout, num_layers: int) -> list[bool]:
    return [bool((layer + 1) % layout.windows) for layer in range(num_layers)]


def _read_windows(layout: GgufLayout, config: Values, given: Values) -> Values:
    pattern = given.pop("attention.sliding_window_pattern", layout.windows)
    count = config["num_hidden_layers"]
    slides = [bool((i + 1) % pattern) for i in range(count)] if type(pattern) is int else pattern
    if "attention.sliding_window" not in given:
        raise ConfigError(f"{layout.architecture}.attention.sliding_window: missing.")
    kinds = ["sliding_attention" if slide else "full_attention" for slide in slides]
    return {"sliding_window": given.pop("attention.sliding_window"), "layer_types": kinds}


def _scaling(layout: GgufLayout, config: Values) -> Values:
    rope, kind = _rope(config), _rope(config)["rope_type"]
    found: Values = {
        "rope.freq_base": float(rope["rope_theta"]),
        "rope.dimension_count": _rotary_dim(layout, config),
    }
    if kind == "default":
        return found
    if kind == "linear":
        return {
            **found,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": float(rope["factor"]),
        }
    original = {"rope.scaling.original_context_length": rope["original_max_position_embeddings"]}
    if kind == "yarn" and rope.get("truncate", True):
        usual = yarn_magnitude(rope["factor"])
        if not math.isclose(rope.get("attention_factor", usual), usual, rel_tol=1e-6):
            raise _no_scaling(layout, "yarn with an attention_factor of its own")
        found |= {"rope.scaling.type": "yarn", "rope.scaling.factor": float(rope["factor"])}
        betas = {f"rope.scaling.yarn_{key}": rope.get(key) for key in ("beta_fast", "beta_slow")}
        return {**found, **original, **{k: float(v) for k, v in betas.items() if v is not None}}
    if kind not in layout.factors:
        raise _no_scaling(layout, kind)
    if kind == "longrope":
        sharper = float(rope["attention_factor"])
        found |= {"rope.scaling.type": "longrope", "rope.scaling.attn_factor": sharper}
    return {**found, **original}


def _no_scaling(layout: GgufLayout, kind: str) -> ConfigError:
    return ConfigError(
        f'rope_type = "{kind}": llama.cpp has no such RoPE for {layout.architecture}; write the '
        "model with --format hf."
    )


def _llama3_factors(rope: Values, dim: int) -> Float[Tensor, " half"]:
    scaling = Llama3Scaling(
        factor=rope["factor"],
        low_freq_factor=rope["low_freq_factor"],
        high_freq_factor=rope["high_freq_factor"],
        original_context=rope["original_max_position_embeddings"],
    )
    theta, exponents = rope["rope_theta"], torch.arange(0, dim, 2, dtype=torch.float64) / dim
    factors: Tensor = 1 / theta**exponents / scaling.frequencies(theta, exponents, None)
    return factors.float()


def _read_scaling(
    layout: GgufLayout, config: Values, given: Values, tensors: Mapping[str, Any]
) -> Values:
    """`given`: what is read is taken out."""
    rope: Values = {
        "rope_type": "default",
        "rope_theta": _plain(given.pop("rope.freq_base", 10_000.0)),
    }
    head_dim = _head_dim(layout, config)
    turned = given.pop("rope.dimension_count", head_dim)
    if turned != head_dim:
        rope["partial_rotary_factor"] = turned / head_dim
    rope |= _read_kind(layout, rope, config, given, tensors)
    if layout.architecture != "gemma3":
        return rope
    local = _plain(given.pop("rope.freq_base_swa", 10_000.0))
    return {
        "full_attention": rope,
        "sliding_attention": {"rope_type": "default", "rope_theta": local},
    }


def _read_kind(
    layout: GgufLayout,
    rope: Values,
    config: Values,
    given: Values,
    tensors: Mapping[str, Any],
) -> Values:
    kind = given.pop("rope.scaling.type", "linear")  # as llama.cpp takes it
    factor = _plain(given.pop("rope.scaling.factor", 0.0)) or 1.0
    original = given.pop("rope.scaling.original_context_length", None)
    stored = {name for name in tensors if name.startswith("rope_f")}
    is_plain = kind == "none" or (kind == "linear" and factor == 1)
    if stored == {FREQUENCIES} and is_plain:
        return _llama3_of(rope, tensors[FREQUENCIES], original)
    original = original or config["max_position_embeddings"]
    if stored == {*FACTORS.values()} and (is_plain or kind == "longrope"):
        return {
            "rope_type": "longrope",
            "original_max_position_embeddings": original,
            "attention_factor": _plain(given.pop("rope.scaling.attn_factor", 1.0)),
            **{key: [_plain(float(x)) for x in tensors[name]] for key, name in FACTORS.items()},
        }
    if stored or kind not in ("none", "linear", "yarn"):
        raise ConfigError(
            f'{layout.architecture}.rope.scaling.type = "{kind}" with {len(stored)} tensors of '
            "factors: Foundling has no such RoPE; it reads linear, yarn, longrope and Llama 3's."
        )
    if kind == "yarn":
        keys = ("beta_fast", "beta_slow")
        betas = {key: given.pop(f"rope.scaling.yarn_{key}", None) for key in keys}
        return {
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": original,
            **{key: _plain(value) for key, value in betas.items() if value is not None},
        }
    return {} if is_plain else {"rope_type": "linear", "factor": factor}


def _llama3_of(rope: Values, factors: Any, original: int | None) -> Values:
    """The settings that give these factors; only their ratios to the first context count."""
    found = torch.from_numpy(np.array(factors))
    factor = _plain(float(found.max()))
    sizes = [original] if original else [2**k for k in range(4, LONGEST.bit_length())]
    for size in sizes:
        settings = {
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": size,
        }
        made = _llama3_factors({**rope, **settings}, 2 * len(found))
        if torch.allclose(made, found, rtol=1e-4):
            return settings
    raise ConfigError(
        f"{FREQUENCIES}: not the RoPE scaling of Llama 3 with low_freq_factor 1 and "
        "high_freq_factor 4, the only one by such factors that Foundling reads."
    )
