"""Small models of every architecture that a GGUF file holds, and their tokenizers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import torch
from safetensors.torch import load_file
from tokenizers import AddedToken, decoders, models, normalizers, processors
from tokenizers import Tokenizer as Backend
from torch import Tensor

from foundling import cli
from foundling.models import gguf_files, interchange, layouts, rebuild
from foundling.models.gguf_files import GgufFile
from foundling.text.tokenizer import Tokenizer

TEXTS = [
    "The quick brown fox jumps over the lazy dog, doesn't it?",
    "In 2024 there were 1,234 of  them.\n\n\tAnd more.",
    "Grüße aus Köln – 日本語 🦊",
] * 3
SMALL = {
    "vocab_size": 300,
    "max_position_embeddings": 64,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 96,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "tie_word_embeddings": True},
    "llama untied with biases": {
        "model_type": "llama",
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
    },
    "mistral": {"model_type": "mistral", "sliding_window": None},
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3", "rms_norm_eps": 1e-6, "hidden_size": 48},
    "llama scaled": {"model_type": "llama", "rope_parameters": LLAMA3},
    "qwen2 scaled": {
        "model_type": "qwen2",
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 10_000.0,
            "factor": 2.0,
            "original_max_position_embeddings": 32,
        },
    },
    "gemma3": {
        "model_type": "gemma3_text",
        "sliding_window": 8,
        "num_hidden_layers": 7,
        "query_pre_attn_scalar": 16,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    },
    "gemma3 of other layers": {
        "model_type": "gemma3_text",
        "sliding_window": 8,
        "query_pre_attn_scalar": 16,
        "layer_types": ["full_attention", "sliding_attention"],
    },
    "gemma2": {
        "model_type": "gemma2",
        "sliding_window": 8,
        "query_pre_attn_scalar": 16,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
    "smollm3": {
        "model_type": "smollm3",
        "num_hidden_layers": 4,
        "no_rope_layers": [1, 1, 1, 0],
    },
    "olmo2": {"model_type": "olmo2"},
    "granite": {
        "model_type": "granite",
        "attention_multiplier": 0.2,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.5,
        "logits_scaling": 2.0,
    },
    "phi3": {
        "model_type": "phi3",
        "sliding_window": None,
        "max_position_embeddings": 64,
        "original_max_position_embeddings": 32,
        "rope_parameters": {
            "rope_type": "longrope",
            "rope_theta": 10_000.0,
            "partial_rotary_factor": 0.5,
            "short_factor": [1.0, 1.1, 1.2, 1.3],
            "long_factor": [1.0, 2.0, 3.0, 4.0],
        },
    },
    "gpt_neox": {"model_type": "gpt_neox"},
    "gpt2": {
        "model_type": "gpt2",
        "n_positions": 64,
        "n_embd": 64,
        "n_layer": 2,
        "n_head": 4,
        "n_inner": None,
    },
}


def make(folder: Path, config: dict[str, Any], tokenizer: Tokenizer | None = None) -> Path:
    """A model folder with random weights, none of them zero or one."""
    config = {**SMALL, **config}
    tokenizer = tokenizer or Tokenizer.train_bytes(TEXTS, 290)
    torch.manual_seed(1)
    model = rebuild(layouts.read_config(config["model_type"], config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    interchange.save(model, folder, tokenizer.mark_ids())
    tokenizer.save(folder)
    return folder


def sentencepiece() -> Tokenizer:
    """As Llama 2's: bytes to fall back on, a space before the text, merges by score."""
    marks = ["<unk>", "<s>", "</s>"]
    pieces = ["▁t", "he", "▁the", "in", "▁a", "er", "▁▁"]
    letters = sorted(set("▁abcdefghijklmnopqrstuvwxyz.,T"))
    names = [*marks, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces, *letters]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("i", "n"), ("▁", "a"), ("e", "r"), ("▁", "▁")]
    vocab = {name: id for id, name in enumerate(names)}
    model = models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    backend = Backend(model)
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])
    backend.add_special_tokens([AddedToken(name, special=True) for name in marks])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return Tokenizer(backend, "<s>", "</s>", None)


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "bytes": lambda: Tokenizer.train_bytes(TEXTS, 290),
    "characters": lambda: Tokenizer.characters([*TEXTS, " ~\n"]),
    "sentencepiece": sentencepiece,
}


def tensors(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def call(*arguments: object) -> int:
    return cli.exit_code(lambda: cli.app([str(argument) for argument in arguments]))


def rewrite(file: Path, out: Path, change: dict[str, Any]) -> None:
    """The same file with other metadata; None: without it."""
    given = GgufFile(file)
    fields = {**given.fields, **change}
    writer = gguf.GGUFWriter(out, fields["general.architecture"])
    for key, value in fields.items():
        if value is not None and not key.startswith(("GGUF.", "general.architecture")):
            gguf_files._add(writer, key, value)
    for tensor in given.tensors.values():
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
