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

log = logging.getLogger(__name__)

LONGEST = 2**20
"""No model was trained on longer texts before its RoPE was scaled."""


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
    if layout.architecture == "gemma2" and config["attn_logit_softcapping"] is None:
        raise ConfigError("attn_logit_softcapping: llama.cpp runs no gemma2 without it.")
    found: Values = {key: config.get(theirs) for key, theirs in layout.keys.items()}
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
    for key in layout.keys:
        value = given.get(key, 1)
        if not isinstance(value, bool) and not (isinstance(value, int | float) and value > 0):
            raise ConfigError(f"{prefix}{key} = {value}: must be a number above 0.")
    config: Values = {"model_type": model_type}
    config |= {theirs: _plain(given[key]) for key, theirs in layout.keys.items() if key in given}
    for key in ("context_length", "embedding_length", "block_count", "attention.head_count"):
        if layout.keys[key] not in config:
            raise ConfigError(f"{prefix}{key}: missing, and Foundling needs it.")
    # Before a model of these sizes is made: a wrong number may ask for any size.
    blocks = {name.split(".")[1] for name in tensors if name.startswith("blk.")}
    count, width = config[layout.keys["block_count"]], config[layout.keys["embedding_length"]]
    if count != len(blocks):
        raise ConfigError(f"{prefix}block_count = {count}, and there are {len(blocks)} blocks.")
    if list(tensors.get("token_embd.weight", ()))[1:] != [width]:
        raise ConfigError(f"{prefix}embedding_length = {width}: not that of token_embd.weight.")
    if "blk.0.ffn_down.weight" in tensors:
        config[layout.keys["feed_forward_length"]] = int(tensors["blk.0.ffn_down.weight"][1])
    heads = config[layout.keys["attention.head_count"]]
    if "num_key_value_heads" in layout.keys.values():
        config.setdefault("num_key_value_heads", heads)
        config.setdefault("head_dim", config["hidden_size"] // heads)
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
    return {**config, **layout.fixed(config)}


def _plain(value: Any) -> Any:
    """A number of fp32 by its shortest name: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value))) if isinstance(value, float) else value


def _head_dim(layout: GgufLayout, config: Values) -> int:
    dim, heads = (layout.keys[key] for key in ("embedding_length", "attention.head_count"))
    return int(config.get("head_dim") or config[dim] // config[heads])


def _rope(config: Values) -> Values:
    """The RoPE of the layers that attend to everything."""
    rope = dict(config["rope_parameters"])
    rope = dict(rope.get("full_attention", rope))
    rope.setdefault("rope_type", "default")
    for key in ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings"):
        if config.get(key) is not None:
            rope.setdefault(key, config[key])
    rope.setdefault("original_max_position_embeddings", config["max_position_embeddings"])
    return rope


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


def _read_windows(layout: GgufLayout, config: Values, given: Mapping[str, Any]) -> Values:
    pattern = given.get("attention.sliding_window_pattern", layout.windows)
    count = config["num_hidden_layers"]
    slides = [bool((i + 1) % pattern) for i in range(count)] if type(pattern) is int else pattern
    if "attention.sliding_window" not in given:
        raise ConfigError(f"{layout.architecture}.attention.sliding_window: missing.")
    kinds = ["sliding_attention" if slide else "full_attention" for slide in slides]
    return {"sliding_window": given["attention.sliding_window"], "layer_types": kinds}


def _scaling(layout: GgufLayout, config: Values) -> Values:
    rope, kind = _rope(config), _rope(config)["rope_type"]
    found: Values = {
        "rope.freq_base": float(rope["rope_theta"]),
        "rope.dimension_count": _rotary_dim(layout, config),
    }
    original = {"rope.scaling.original_context_length": rope["original_max_position_embeddings"]}
    if kind == "default":
        return found
    if kind == "linear":
        return {
            **found,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": float(rope["factor"]),
        }
    usual = 0.1 * math.log(rope["factor"]) + 1 if kind == "yarn" else None
    if kind == "yarn" and rope.get("truncate", True) and "mscale" not in rope:
        if not math.isclose(rope.get("attention_factor") or usual or 0, usual or 0, rel_tol=1e-6):
            raise _no_scaling(layout, "yarn with an attention_factor of its own")
        found |= {"rope.scaling.type": "yarn", "rope.scaling.factor": float(rope["factor"])}
        betas = {f"rope.scaling.yarn_{key}": rope.get(key) for key in ("beta_fast", "beta_slow")}
        return {**found, **original, **{k: float(v) for k, v in betas.items() if v is not None}}
    if kind not in layout.factors:
        raise _no_scaling(layout, kind)
    if kind == "longrope":
        found |= {
            "rope.scaling.type": "longrope",
            "rope.scaling.attn_factor": _longrope(rope, config),
        }
    return {**found, **original}


def _no_scaling(layout: GgufLayout, kind: str) -> ConfigError:
    return ConfigError(
        f'rope_type = "{kind}": llama.cpp has no such RoPE for {layout.architecture}; write the '
        "model with --format hf."
    )


def _longrope(rope: Values, config: Values) -> float:
    """By how much attention is sharpened. Source: transformers, modeling_rope_utils.py."""
    if rope.get("attention_factor"):
        return float(rope["attention_factor"])
    original = rope["original_max_position_embeddings"]
    factor = rope.get("factor") or config["max_position_embeddings"] / original
    return math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0


def _llama3_factors(rope: Values, dim: int) -> Float[Tensor, " half"]:
    """Source: transformers, modeling_rope_utils.py, `_compute_llama3_parameters`."""
    waves = 2 * math.pi * rope["rope_theta"] ** (torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    original, factor = rope["original_max_position_embeddings"], rope["factor"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    smooth = ((original / waves - low) / (high - low)).clamp(0, 1)
    factors: Tensor = 1 / ((1 - smooth) / factor + smooth)
    return factors.float()


def _read_scaling(
    layout: GgufLayout, config: Values, given: Mapping[str, Any], tensors: Mapping[str, Any]
) -> Values:
    rope: Values = {
        "rope_type": "default",
        "rope_theta": _plain(given.get("rope.freq_base", 10_000.0)),
    }
    head_dim = _head_dim(layout, config)
    turned = given.get("rope.dimension_count", head_dim)
    if turned != head_dim:
        rope["partial_rotary_factor"] = turned / head_dim
    kind = given.get("rope.scaling.type", "none")
    factor = _plain(given.get("rope.scaling.factor", 1.0))
    original = given.get("rope.scaling.original_context_length")
    if FREQUENCIES in tensors:
        rope |= _llama3_of(rope, tensors[FREQUENCIES], original)
    elif "rope_factors_long.weight" in tensors:
        rope |= {
            "rope_type": "longrope",
            "original_max_position_embeddings": original or config["max_position_embeddings"],
        }
        for key, name in FACTORS.items():
            rope[key] = [_plain(float(factor)) for factor in tensors[name]]
        if "rope.scaling.attn_factor" in given:
            rope["attention_factor"] = _plain(given["rope.scaling.attn_factor"])
    elif kind == "yarn":
        rope |= {"rope_type": "yarn", "factor": factor}
        rope |= {"original_max_position_embeddings": original} if original else {}
        for key in ("beta_fast", "beta_slow"):
            if (value := given.get(f"rope.scaling.yarn_{key}")) is not None:
                rope[key] = _plain(value)
    elif factor != 1:
        rope |= {"rope_type": "linear", "factor": factor}
    if not layout.windows:
        return rope
    if layout.architecture == "gemma2":
        return rope
    local = _plain(given.get("rope.freq_base_swa", 10_000.0))
    return {
        "full_attention": rope,
        "sliding_attention": {"rope_type": "default", "rope_theta": local},
    }


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
