"""How a GGUF file spells the settings and weights of Hugging Face's architectures.

Source: llama.cpp, `conversion/` (what its converter writes) and `src/models/` (what it reads).
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import gguf
from torch import Tensor

from foundling.base.config import ConfigError, suggest
from foundling.models.layouts import Name

Values = dict[str, Any]
RMS = {"attention.layer_norm_rms_epsilon": "rms_norm_eps"}
HEADS = {
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
}
SIZES = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
}
LLAMA = {**SIZES, **HEADS, **RMS, "attention.key_length": "head_dim"}
FACTORS = {"long_factor": "rope_factors_long.weight", "short_factor": "rope_factors_short.weight"}
FREQUENCIES = "rope_freqs.weight"


@dataclass(frozen=True)
class GgufLayout:
    """One architecture: its name in llama.cpp, and how it differs from Hugging Face's layout."""

    architecture: str
    keys: Mapping[str, str]
    """Keys of the file below its architecture, and those of config.json."""
    paired: bool = False
    """Rows of query and key stand as llama.cpp turns them: (0, 1), (2, 3), … are the pairs."""
    shifted: bool = False
    """Norms are stored as 1 + w."""
    has_head: bool = False
    """The head is stored though it is the embedding."""
    factors: Collection[str] = ()
    """Kinds of RoPE scaling that are stored as tensors."""
    windows: int = 0
    """Every how many layers one attends to everything; 0: llama.cpp uses no window."""
    fixed: Callable[[Values], Values] = field(default=lambda config: {})
    """What llama.cpp works out itself: the keys of config.json that must be so."""


def _query_scale(largest: int) -> Callable[[Values], Values]:
    """The scale of Gemma's attention, which llama.cpp knows by the number of layers."""

    def fixed(config: Values) -> Values:
        heads = config["num_attention_heads"]
        is_largest = config["num_hidden_layers"] == largest
        return {
            "query_pre_attn_scalar": config["hidden_size"] // heads
            if is_largest
            else config["head_dim"]
        }

    return fixed


def _every_fourth_without_rope(config: Values) -> Values:
    return {"no_rope_layers": [int((i + 1) % 4 != 0) for i in range(config["num_hidden_layers"])]}


SOFTCAPS = {key: key for key in ("attn_logit_softcapping", "final_logit_softcapping")}
GGUF_LAYOUTS = {
    "llama": GgufLayout("llama", LLAMA, paired=True, factors=("llama3", "longrope")),
    "mistral": GgufLayout("llama", LLAMA, paired=True, factors=("llama3", "longrope")),
    "qwen2": GgufLayout("qwen2", LLAMA),
    "qwen3": GgufLayout("qwen3", LLAMA),
    "smollm3": GgufLayout("smollm3", LLAMA, paired=True, fixed=_every_fourth_without_rope),
    "gpt2": GgufLayout(
        "gpt2",
        {
            "context_length": "n_positions",
            "embedding_length": "n_embd",
            "block_count": "n_layer",
            "feed_forward_length": "n_inner",
            "attention.head_count": "n_head",
            "attention.layer_norm_epsilon": "layer_norm_epsilon",
        },
        fixed=lambda config: {"activation_function": "gelu_new"},
    ),
    "gpt_neox": GgufLayout(
        "gptneox",
        {
            **SIZES,
            "attention.head_count": "num_attention_heads",
            "attention.layer_norm_epsilon": "layer_norm_eps",
            "use_parallel_residual": "use_parallel_residual",
        },
        has_head=True,
        fixed=lambda config: {"hidden_act": "gelu", "attention_bias": True},
    ),
    "gemma2": GgufLayout(
        "gemma2",
        {**LLAMA, **SOFTCAPS},
        shifted=True,
        windows=2,
        fixed=_query_scale(largest=46),
    ),
    "gemma3_text": GgufLayout(
        "gemma3", LLAMA, shifted=True, windows=6, fixed=_query_scale(largest=62)
    ),
    "phi3": GgufLayout(
        "phi3",
        {**LLAMA, "attention.sliding_window": "sliding_window"},  # which llama.cpp leaves out
        factors=("longrope",),
    ),
    "olmo2": GgufLayout("olmo2", LLAMA, has_head=True),
    "granite": GgufLayout(
        "granite",
        {
            **LLAMA,
            "attention.scale": "attention_multiplier",
            "embedding_scale": "embedding_multiplier",
            "residual_scale": "residual_multiplier",
            "logit_scale": "logits_scaling",
        },
        paired=True,
        factors=("llama3", "longrope"),
    ),
}


def layout_of(model_type: str | None) -> GgufLayout:
    """Raises ConfigError: llama.cpp has no such architecture, or Foundling cannot write it so."""
    if model_type not in GGUF_LAYOUTS:
        raise ConfigError(
            f"a model of type {model_type or 'foundling'} cannot be written to a GGUF file "
            f"({', '.join(GGUF_LAYOUTS)}); write it with --format hf."
        )
    return GGUF_LAYOUTS[model_type]


def type_of(architecture: str) -> str:
    """The `model_type` in which config.json tells a file of llama.cpp's architecture.

    Raises:
        ConfigError: there is none.
    """
    known = {layout.architecture: name for name, layout in reversed(GGUF_LAYOUTS.items())}
    if architecture not in known:
        raise ConfigError(
            f'general.architecture = "{architecture}": Foundling has no such model '
            f"{suggest(architecture, list(known))}"
        )
    return known[architecture]


def tensor_names(layout: GgufLayout, theirs: Collection[Name], num_layers: int) -> dict[Name, str]:
    """The names in the file of the tensors of Hugging Face's layout."""
    kind = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}[layout.architecture]
    table = gguf.get_tensor_name_map(kind, num_layers)
    found = {}
    for name in theirs:
        given = table.get_name(name.theirs, try_suffixes=(".weight", ".bias"))
        assert given is not None, name.theirs
        found[name] = given
    return found


def to_file(layout: GgufLayout, name: Name, tensor: Tensor, config: Values) -> Tensor:
    """A tensor of Hugging Face's layout as llama.cpp lays it out."""
    heads = _paired_heads(layout, name, config)
    if heads:  # head half pair → head pair half
        return _turned(tensor, (heads, 2), 1)
    if name.heads:  # head part row → part head row
        return _turned(tensor, (name.heads, 3), 0)
    if name.transposed:
        return tensor.T
    return tensor.float() + 1 if layout.shifted and _is_norm(name) else tensor


def from_file(layout: GgufLayout, name: Name, tensor: Tensor, config: Values) -> Tensor:
    """The reverse of `to_file`."""
    heads = _paired_heads(layout, name, config)
    if heads:
        return _turned(tensor, (heads, -1), 1, 2)
    if name.heads:
        return _turned(tensor, (3, name.heads), 0)
    if name.transposed:
        return tensor.T
    return tensor - 1 if layout.shifted and _is_norm(name) else tensor


def _paired_heads(layout: GgufLayout, name: Name, config: Values) -> int:
    part = name.theirs.split(".")[-2]
    if not layout.paired or part not in ("q_proj", "k_proj"):
        return 0
    return int(config["num_attention_heads" if part == "q_proj" else "num_key_value_heads"])


def _turned(tensor: Tensor, front: tuple[int, int], axis: int, inner: int = -1) -> Tensor:
    """The rows as a block of three axes, `axis` and the next one exchanged."""
    parts = tensor.reshape(*front, inner, *tensor.shape[1:])
    return parts.transpose(axis, axis + 1).reshape(tensor.shape)


def _is_norm(name: Name) -> bool:
    return name.theirs.endswith("norm.weight")
