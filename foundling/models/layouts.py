"""How architectures of `transformers` spell the settings and weights of our transformer."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from foundling.base.config import ConfigError, suggest
from foundling.models.transformer import TransformerSettings

Values = dict[str, Any]
Part = tuple[Callable[[Values], Values], Callable[[Values], Values]]
"""Our settings → keys of config.json; and back, or ConfigError where no setting does the same."""
Keys = Mapping[str, tuple[str, Any]]
"""Our setting → its key in config.json, and what holds where the key is missing."""
REQUIRED = object()
ALL = {"quantization_config": (None,), "is_causal": (True,), "partial_rotary_factor": (None, 1.0)}
"""Constants of every architecture, which no file of ours needs to name."""


class Name(NamedTuple):
    """A module or tensor of theirs, and ours that it holds, one's rows below the other's.

    In the tables `{}` stands for the number of the block.
    """

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False


@dataclass(frozen=True)
class Layout:
    """One architecture: what it is, what config.json says of it, how its weights are called."""

    architecture: str
    shape: Values
    """Our settings that it cannot vary."""
    keys: Keys
    constants: Mapping[str, tuple[Any, ...]]
    """Keys of which we express but these values; the first is written, and holds when missing."""
    parts: Sequence[Part]
    """What is more than a renamed key."""
    names: Sequence[Name]


def write_config(model_type: str, spec: Mapping[str, Any]) -> Values:
    """What config.json says of a model of these settings, if the architecture can be it."""
    layout, settings = LAYOUTS[model_type], dict(spec)
    config: Values = {"architectures": [layout.architecture], "model_type": model_type}
    config |= {key: settings[setting] for setting, (key, _) in layout.keys.items()}
    config |= {key: allowed[0] for key, allowed in layout.constants.items()}
    for write, _ in layout.parts:
        config |= write(settings)
    return config


def read_config(model_type: str, config: Values) -> Values:
    """The `spec` of our model that gives the same logits; dropout starts at 0.

    Keys that this table does not name do not change the logits in `transformers` either.

    Raises:
        ConfigError: there is none; names the setting.
    """
    layout = LAYOUTS[model_type]
    spec = dict(layout.shape)
    for setting, (key, default) in layout.keys.items():
        spec[setting] = config.get(key, default)
        if spec[setting] is REQUIRED:
            raise ConfigError(f"{key}: missing, and a {model_type} model needs it.")
    for key, allowed in {**layout.constants, **ALL}.items():
        if config.get(key, allowed[0]) not in allowed:
            raise _refusal(key, config[key], " or ".join(map(json.dumps, allowed)))
    for _, read in layout.parts:
        spec |= read(config)
    sizes = {name: spec.pop(name) for name in ("vocab_size", "context")}
    return {**TransformerSettings.parse(spec, "model").resolved().values(), **sizes}


def layout_for(spec: Mapping[str, Any]) -> str | None:
    """The first architecture whose config.json reads back as these settings."""
    for model_type in LAYOUTS if spec["rung"] == "transformer" else ():
        try:
            if not differences(spec, read_config(model_type, write_config(model_type, spec))):
                return model_type
        except ConfigError:
            continue
    return None


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The settings by which two models give different logits from the same weights."""
    free = ("dropout", "init")
    return [k for k in {**one, **other} if k not in free and one.get(k) != other.get(k)]


def tensor_names(model_type: str | None, ours: Collection[str], num_layers: int) -> list[Name]:
    """Which tensor of a file holds which of our parameters; None: our own names."""
    found = []
    for theirs, modules, transposed in LAYOUTS[model_type].names if model_type else ():
        for block in range(num_layers if "{}" in theirs else 1):
            for leaf in ("weight", "bias"):
                parts = tuple(f"{module.format(block)}.{leaf}" for module in modules)
                if parts[0] in ours:
                    turned = transposed and leaf == "weight"
                    found.append(Name(f"{theirs.format(block)}.{leaf}", parts, turned))
    named = {part for name in found for part in name.ours}
    return found + [Name(name, (name,)) for name in ours if name not in named]


def known_type(config: Values) -> str | None:
    """The `model_type` of config.json if it is in the table; None: our own names.

    Raises:
        ConfigError: no such architecture.
    """
    name = str(config.get("model_type"))
    if name not in LAYOUTS and name != "foundling":
        known = suggest(name, ["foundling", *LAYOUTS])
        raise ConfigError(f'model_type = "{name}": no such architecture {known}')
    return name if name in LAYOUTS else None


def _refusal(key: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(
        f"{key} = {json.dumps(value)}: Foundling has no such model; it can load {allowed}."
    )


def _activation(key: str, names: Mapping[str, str]) -> Part:
    """`names`: theirs → ours, first what they take where the key is missing."""

    def write(spec: Values) -> Values:
        return {key: next((name for name, ours in names.items() if ours == spec["mlp"]), "none")}

    def read(config: Values) -> Values:
        name = config.get(key, next(iter(names)))
        if name not in names:
            raise _refusal(key, name, " or ".join(map(json.dumps, names)))
        return {"mlp": names[name]}

    return write, read


def _write_rope(spec: Values) -> Values:
    theta = spec["rope_theta"]  # twice: transformers 5 reads the first, older tools the second
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta}, "rope_theta": theta}


def _read_rope(config: Values) -> Values:
    thetas: set[Any] = {config.get("rope_theta")}
    for key in ("rope_parameters", "rope_scaling"):
        rope = dict(config.get(key) or {})
        thetas.add(rope.pop("rope_theta", None))
        kinds = {rope.pop("rope_type", "default"), rope.pop("type", "default")}
        if kinds != {"default"} or rope:
            allowed = 'rope_type "default" with a rope_theta and nothing else'
            raise _refusal(key, config[key], allowed)
    if len(thetas := thetas - {None}) > 1:
        raise _refusal("rope_theta", sorted(thetas), "one value; leave the right one")
    return {"rope_theta": thetas.pop() if thetas else 10_000.0}


def _write_qwen_window(spec: Values) -> Values:
    window, layers = spec["window"], spec["num_layers"]
    return {
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "max_window_layers": layers if window is None else 0,
        "layer_types": ["full_attention" if window is None else "sliding_attention"] * layers,
    }


def _read_qwen_window(config: Values) -> Values:
    window = config.get("sliding_window", 4096) if config.get("use_sliding_window") else None
    layers, first = config["num_hidden_layers"], config.get("max_window_layers", 28)
    kinds = config.get("layer_types")
    if kinds is None:
        slides = [window is not None and layer >= first for layer in range(layers)]
        kinds = ["sliding_attention" if slide else "full_attention" for slide in slides]
    if kinds == ["full_attention"] * layers:
        return {"window": None}
    if kinds == ["sliding_attention"] * layers and window is not None:
        return {"window": window}
    raise _refusal("layer_types", kinds, "all full_attention, or all sliding_attention by a window")


def _read_llama_biases(config: Values) -> Values:
    attention, mlp = config.get("attention_bias", False), config.get("mlp_bias", False)
    if attention != mlp:
        allowed = f"the same as mlp_bias, which is {json.dumps(mlp)}"
        raise _refusal("attention_bias", attention, allowed)
    if config["hidden_size"] % config["num_attention_heads"]:
        raise _refusal(
            "num_attention_heads", config["num_attention_heads"], "divisors of the width"
        )
    return {"bias": mlp, "qkv_bias": attention}


ROPE: Part = (_write_rope, _read_rope)
SILU = _activation("hidden_act", {"silu": "swiglu", "swish": "swiglu"})
QWEN_WINDOW: Part = (_write_qwen_window, _read_qwen_window)
LLAMA_BIASES: Part = (
    lambda spec: {"attention_bias": spec["qkv_bias"], "mlp_bias": spec["bias"]},
    _read_llama_biases,
)
GPT2_ACTIVATION = _activation(
    "activation_function",
    {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu2": "relu2"},
)
GPT2_DROPOUT: Part = (
    lambda spec: {"resid_pdrop": spec["dropout"], "embd_pdrop": spec["dropout"], "attn_pdrop": 0.0},
    lambda config: {},
)

SHAPE = {"residual": True, "qk_norm": False, "bias": False, "qkv_bias": False}
LLAMA_SHAPE = {**SHAPE, "positions": "rope", "norm": "rmsnorm"}
LLAMA_KEYS = {
    "vocab_size": ("vocab_size", REQUIRED),
    "context": ("max_position_embeddings", REQUIRED),
    "dim": ("hidden_size", REQUIRED),
    "num_layers": ("num_hidden_layers", REQUIRED),
    "num_heads": ("num_attention_heads", REQUIRED),
    "num_kv_heads": ("num_key_value_heads", None),
    "head_dim": ("head_dim", None),
    "mlp_dim": ("intermediate_size", REQUIRED),
    "norm_eps": ("rms_norm_eps", 1e-6),
    "tied": ("tie_word_embeddings", False),
}
QWEN_KEYS = {"num_kv_heads": ("num_key_value_heads", 32)}
MISTRAL_KEYS = {"num_kv_heads": ("num_key_value_heads", 8), "window": ("sliding_window", 4096)}
GPT2_KEYS = {
    "vocab_size": ("vocab_size", REQUIRED),
    "context": ("n_positions", REQUIRED),
    "dim": ("n_embd", REQUIRED),
    "num_layers": ("n_layer", REQUIRED),
    "num_heads": ("n_head", REQUIRED),
    "mlp_dim": ("n_inner", None),
    "norm_eps": ("layer_norm_epsilon", 1e-5),
    "tied": ("tie_word_embeddings", True),
}


def _names(outside: Mapping[str, str], blocks: str, block: Mapping[str, str]) -> list[Name]:
    names = [Name(theirs, (ours,)) for theirs, ours in outside.items()]
    for theirs, ours in block.items():
        modules = tuple(f"context.blocks.{{}}.{module}" for module in ours.split())
        names.append(Name(f"{blocks}.{{}}.{theirs}", modules, transposed=".c_" in theirs))
    return names


LLAMA_NAMES = _names(
    {"model.embed_tokens": "embed", "model.norm": "context.norm", "lm_head": "unembed"},
    "model.layers",
    {
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "mlp_norm",
        **{f"self_attn.{x}_proj": f"attention.{x}" for x in "qkvo"},
        **{f"self_attn.{x}_norm": f"attention.{x}_norm" for x in "qk"},
        **{f"mlp.{x}_proj": f"mlp.{x}" for x in ("gate", "up", "down")},
    },
)
GPT2_NAMES = _names(
    {
        "transformer.wte": "embed",
        "transformer.wpe": "context.position_embed",
        "transformer.ln_f": "context.norm",
        "lm_head": "unembed",
    },
    "transformer.h",
    {
        "ln_1": "attention_norm",
        "attn.c_attn": "attention.q attention.k attention.v",
        "attn.c_proj": "attention.o",
        "ln_2": "mlp_norm",
        "mlp.c_fc": "mlp.up",
        "mlp.c_proj": "mlp.down",
    },
)


def _like_llama(name: str, keys: Keys, shape: Values, *parts: Part, **constants: Any) -> Layout:
    keys, shape = {**LLAMA_KEYS, **keys}, {**LLAMA_SHAPE, **shape}
    return Layout(f"{name}ForCausalLM", shape, keys, constants, (ROPE, SILU, *parts), LLAMA_NAMES)


LAYOUTS = {
    "qwen3": _like_llama(
        "Qwen3",
        {**QWEN_KEYS, "head_dim": ("head_dim", 128)},
        {"qk_norm": True},
        QWEN_WINDOW,
        attention_bias=(False,),
    ),
    "llama": _like_llama("Llama", {}, {}, LLAMA_BIASES),
    "mistral": _like_llama("Mistral", MISTRAL_KEYS, {}),
    "qwen2": _like_llama("Qwen2", QWEN_KEYS, {"qkv_bias": True}, QWEN_WINDOW),
    "gpt2": Layout(
        architecture="GPT2LMHeadModel",
        shape={
            **SHAPE,
            "positions": "learned",
            "norm": "layernorm",
            "bias": True,
            "qkv_bias": True,
        },
        keys=GPT2_KEYS,
        constants={
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "add_cross_attention": (False,),
        },
        parts=(GPT2_ACTIVATION, GPT2_DROPOUT),
        names=GPT2_NAMES,
    ),
}
