"""The architectures of `transformers` that our transformer can be, in the order they are tried."""

from collections.abc import Mapping
from typing import Any

from foundling.models.layouts.parts import (
    ATTENTION_MULTIPLIER,
    BIASES,
    EMBED_BY_WIDTH,
    QUERY_SCALAR,
    QWEN_WINDOW,
    REQUIRED,
    SMOLLM_LAYERS,
    Keys,
    Layout,
    Name,
    Part,
    Values,
    activation,
    alternating,
    attention_bias,
)
from foundling.models.layouts.rope import NESTED_ROPE, rope

ALL = {"quantization_config": (None,), "is_causal": (True,)}
"""Constants of every architecture, which no file of ours needs to name."""

SILU = activation("hidden_act", {"silu": "swiglu", "swish": "swiglu"})
GPT2_ACTIVATION = activation(
    "activation_function",
    {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu2": "relu2"},
)
GPT2_DROPOUT: Part = (
    lambda spec: {"resid_pdrop": spec["dropout"], "embd_pdrop": spec["dropout"], "attn_pdrop": 0.0},
    lambda config: {},
)
GEMMA_ACTIVATION = activation(
    "hidden_activation",
    {
        "gelu_pytorch_tanh": "geglu_tanh",
        "gelu_new": "geglu_tanh",
        "gelu": "geglu",
        "silu": "swiglu",
    },
)

SHAPE = {"residual": True, "qk_norm": False, "bias": False, "qkv_bias": False}
LLAMA_SHAPE = {**SHAPE, "positions": "rope", "norm": "rmsnorm"}
ROPE = rope()
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
GEMMA_SHAPE = {"norm_unit_offset": True, "norm_placement": "both"}
GEMMA_KEYS = {
    "num_kv_heads": ("num_key_value_heads", 4),
    "head_dim": ("head_dim", 256),
    "tied": ("tie_word_embeddings", True),
}
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


NEOX_KEYS = {
    "vocab_size": ("vocab_size", REQUIRED),
    "context": ("max_position_embeddings", REQUIRED),
    "dim": ("hidden_size", REQUIRED),
    "num_layers": ("num_hidden_layers", REQUIRED),
    "num_heads": ("num_attention_heads", REQUIRED),
    "mlp_dim": ("intermediate_size", REQUIRED),
    "norm_eps": ("layer_norm_eps", 1e-5),
    "tied": ("tie_word_embeddings", False),
    "parallel": ("use_parallel_residual", True),
}


def _names(outside: Mapping[str, str], blocks: str, block: Mapping[str, str]) -> list[Name]:
    names = [Name(theirs, (ours,)) for theirs, ours in outside.items()]
    for theirs, ours in block.items():
        modules = tuple(f"context.blocks.{{}}.{module}" for module in ours.split())
        whole = f"{blocks}.{{}}.{theirs}"
        names.append(
            Name(whole, modules, ".c_" in theirs, heads=int(theirs.endswith("query_key_value")))
        )
    return names


LLAMA_OUTSIDE = {
    "model.embed_tokens": "embed",
    "model.norm": "context.norm",
    "lm_head": "unembed",
}
LLAMA_BLOCK = {"input_layernorm": "attention_norm", "post_attention_layernorm": "mlp_norm"}
LLAMA_MATRICES = {
    **{f"self_attn.{x}_proj": f"attention.{x}" for x in "qkvo"},
    **{f"self_attn.{x}_norm": f"attention.{x}_norm" for x in "qk"},
    **{f"mlp.{x}_proj": f"mlp.{x}" for x in ("gate", "up", "down")},
}
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


NEOX_NAMES = _names(
    {
        "gpt_neox.embed_in": "embed",
        "gpt_neox.final_layer_norm": "context.norm",
        "embed_out": "unembed",
    },
    "gpt_neox.layers",
    {
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "mlp_norm",
        "attention.query_key_value": "attention.q attention.k attention.v",
        "attention.dense": "attention.o",
        "mlp.dense_h_to_4h": "mlp.up",
        "mlp.dense_4h_to_h": "mlp.down",
    },
)
GEMMA_BLOCK = {
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "attention_post_norm",
    "pre_feedforward_layernorm": "mlp_norm",
    "post_feedforward_layernorm": "mlp_post_norm",
}


def _like_llama(
    name: str,
    keys: Keys,
    shape: Values,
    *parts: Part,
    act: Part = SILU,
    rope: Part = ROPE,
    block: Mapping[str, str] = LLAMA_BLOCK,
    matrices: Mapping[str, str] = LLAMA_MATRICES,
    **constants: Any,
) -> Layout:
    keys, shape = {**LLAMA_KEYS, **keys}, {**LLAMA_SHAPE, **shape}
    names = _names(LLAMA_OUTSIDE, "model.layers", {**block, **matrices})
    return Layout(f"{name}ForCausalLM", shape, keys, constants, (rope, act, *parts), names)


LAYOUTS = {
    "qwen3": _like_llama(
        "Qwen3",
        {**QWEN_KEYS, "head_dim": ("head_dim", 128)},
        {"qk_norm": True},
        attention_bias(),
        QWEN_WINDOW,
    ),
    "llama": _like_llama("Llama", {}, {}, BIASES),
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
    "gemma3_text": _like_llama(
        "Gemma3",
        GEMMA_KEYS,
        GEMMA_SHAPE | {"qk_norm": True},
        attention_bias(),
        alternating(6, "sliding_window_pattern"),
        QUERY_SCALAR,
        EMBED_BY_WIDTH,
        act=GEMMA_ACTIVATION,
        rope=NESTED_ROPE,
        block=GEMMA_BLOCK,
        final_logit_softcapping=(None,),
        attn_logit_softcapping=(None,),
        use_bidirectional_attention=(False, None),
    ),
    "gemma2": _like_llama(
        "Gemma2",
        {
            **GEMMA_KEYS,
            "attention_softcap": ("attn_logit_softcapping", 50.0),
            "logit_softcap": ("final_logit_softcapping", 30.0),
        },
        GEMMA_SHAPE,
        attention_bias(),
        alternating(2),
        QUERY_SCALAR,
        EMBED_BY_WIDTH,
        act=GEMMA_ACTIVATION,
        block=GEMMA_BLOCK,
        use_bidirectional_attention=(None, False),
    ),
    "smollm3": _like_llama(
        "SmolLM3",
        {
            "num_kv_heads": ("num_key_value_heads", 4),
            "tied": ("tie_word_embeddings", True),
        },
        {},
        BIASES,
        SMOLLM_LAYERS,
        rope=rope(theta=2_000_000.0),
    ),
    "olmo2": _like_llama(
        "Olmo2",
        {"norm_eps": ("rms_norm_eps", 1e-5)},
        {"norm_placement": "post", "qk_norm": True, "qk_norm_width": "whole"},
        attention_bias(),
        block={
            "post_attention_layernorm": "attention_post_norm",
            "post_feedforward_layernorm": "mlp_post_norm",
        },
    ),
    "granite": _like_llama(
        "Granite",
        {
            "embed_scale": ("embedding_multiplier", 1.0),
            "residual_scale": ("residual_multiplier", 1.0),
            "logit_divisor": ("logits_scaling", 1.0),
        },
        {},
        BIASES,
        ATTENTION_MULTIPLIER,
    ),
    "phi3": _like_llama(
        "Phi3",
        {"norm_eps": ("rms_norm_eps", 1e-5), "window": ("sliding_window", None)},
        {},
        rope=rope(("longrope",), fraction=1.0, original=4096, alias=("su", "yarn")),
        matrices={
            "self_attn.qkv_proj": "attention.q attention.k attention.v",
            "self_attn.o_proj": "attention.o",
            "mlp.gate_up_proj": "mlp.gate mlp.up",
            "mlp.down_proj": "mlp.down",
        },
    ),
    "gpt_neox": Layout(
        architecture="GPTNeoXForCausalLM",
        shape={**SHAPE, "positions": "rope", "norm": "layernorm", "bias": True},
        keys=NEOX_KEYS,
        constants={},
        parts=(
            rope(
                theta_key="rotary_emb_base",
                fraction=0.25,
                fraction_key="rotary_pct",
            ),
            activation(
                "hidden_act",
                {
                    "gelu": "gelu",
                    "gelu_new": "gelu_tanh",
                    "gelu_pytorch_tanh": "gelu_tanh",
                    "gelu_fast": "gelu_tanh",
                    "relu2": "relu2",
                },
            ),
            attention_bias(default=True),
        ),
        names=NEOX_NAMES,
    ),
}

REFUSED = {
    "gemma3": "a model of images and text; Foundling reads its text part where it is stored "
    'alone, as model_type "gemma3_text".',
}
"""Architectures that people will try, and why they are not read."""
