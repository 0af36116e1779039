"""A checkpoint of llama2.c (version 0: a header and fp32 weights in one file) as our transformer.

Source: karpathy/llama2.c, `export.py` (`legacy_export`) and `run.c` (`memory_map_weights`).
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from foundling.base.config import ConfigError
from foundling.models import materialise, skeleton
from foundling.models.language_model import LanguageModel
from foundling.models.positions import rotary_angles
from foundling.models.transformer import TransformerSettings

FIELDS = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len")
HEADER_BYTES = 4 * len(FIELDS)
VERSIONED = 0x616B3432
"""What a file of version 1 or later begins with ("ak42")."""
NORM_EPS, THETA = 1e-5, 10_000.0
"""Fixed in `run.c`."""


def load(file: Path) -> LanguageModel:
    """Read a checkpoint, in fp32; its rotary pairs (2i, 2i + 1) become ours (i, i + head_dim/2).

    Raises:
        ConfigError: the file is not of this layout, not whole, or not what llama2.c can run.
    """
    spec = _read_header(file)
    half, context = spec["head_dim"] // 2, spec["context"]
    size, expected = file.stat().st_size, HEADER_BYTES + 4 * _num_values(spec)
    if size != expected:
        raise ConfigError(
            f"{file}: has {size:,} bytes where its header says {expected:,}: it is "
            f"{'cut short' if size < expected else 'too long'}, or not a checkpoint of llama2.c of "
            "version 0; copy or export it again."
        )
    model = skeleton(spec)
    materialise(model)  # only now: a wrong header may ask for any size
    parts = dict(model.named_parameters())
    weights, offset = np.memmap(file, "<f4", "r", offset=HEADER_BYTES), 0

    def take(shape: tuple[int, ...], name: str) -> Tensor:
        nonlocal offset
        offset, start = offset + math.prod(shape), offset
        values = torch.from_numpy(np.array(weights[start:offset], np.float32)).view(shape)
        if not values.isfinite().all():
            raise ConfigError(f"{file}: {name} holds values that are not finite; export it again.")
        return values

    with torch.no_grad():
        for name in _file_order(spec):
            if name == "unembed.weight":  # last in the file, behind the rotary table
                _check_table(file, take((2, context, half), "the rotary table"))
            values = take(parts[name].shape, name)
            if name.endswith(("attention.q.weight", "attention.k.weight")):
                values = halves_from_pairs(values, spec["head_dim"])
            parts[name].copy_(values)
    if model.tied:
        _check_table(file, take((2, context, half), "the rotary table"))
    return model


def halves_from_pairs(
    weight: Float[Tensor, "rows dim"], head_dim: int
) -> Float[Tensor, "rows dim"]:
    """Rows of each head in the order 0, 2, 4, …, 1, 3, 5, …: pairs as neighbours become halves."""
    heads = weight.view(-1, head_dim // 2, 2, weight.shape[1])  # heads half 2 dim
    return heads.transpose(1, 2).reshape(weight.shape)


def _read_header(file: Path) -> dict[str, Any]:
    """The `spec` of our model."""
    with file.open("rb") as opened:
        content = opened.read(HEADER_BYTES)
    if len(content) < HEADER_BYTES:
        raise ConfigError(
            f"{file}: has {len(content)} bytes, fewer than the header of a checkpoint of llama2.c."
        )
    numbers = [int(number) for number in np.frombuffer(content, "<i4")]
    if numbers[0] == VERSIONED:
        raise ConfigError(
            f"{file}: a checkpoint of llama2.c of version {numbers[1]}; Foundling reads version 0: "
            "export it with --version 0."
        )
    header = dict(zip(FIELDS, numbers, strict=True))
    tied, header["vocab_size"] = header["vocab_size"] > 0, abs(header["vocab_size"])
    for name, number in header.items():
        if number < 1:
            raise ConfigError(
                f"{file}: its header says {name} = {number}, which must be at least 1; "
                "it is not a checkpoint of llama2.c of version 0."
            )
    dim, heads, kv_heads = (header[name] for name in ("dim", "n_heads", "n_kv_heads"))
    if dim % (2 * heads) or heads % kv_heads:
        raise ConfigError(
            f"{file}: its header says dim = {dim}, n_heads = {heads}, n_kv_heads = {kv_heads}; "
            "dim must be a multiple of 2 · n_heads, and n_heads of n_kv_heads; "
            "it is not a checkpoint of llama2.c of version 0."
        )
    settings = TransformerSettings(
        dim=dim,
        num_layers=header["n_layers"],
        num_heads=heads,
        num_kv_heads=kv_heads,
        mlp_dim=header["hidden_dim"],
        norm_eps=NORM_EPS,
        rope_theta=THETA,
        qk_norm=False,
        tied=tied,
    )
    sizes = {"vocab_size": header["vocab_size"], "context": header["seq_len"]}
    return {**settings.resolved().values(), **sizes}


def _num_values(spec: dict[str, Any]) -> int:
    """How many numbers follow the header, those of the rotary table included."""
    dim, head_dim = spec["dim"], spec["head_dim"]
    attention = 2 * dim * head_dim * (spec["num_heads"] + spec["num_kv_heads"])
    block = attention + 3 * dim * spec["mlp_dim"] + 2 * dim
    embeddings = spec["vocab_size"] * dim * (1 if spec["tied"] else 2)
    return int(embeddings + spec["num_layers"] * block + dim + spec["context"] * head_dim)


def _file_order(spec: dict[str, Any]) -> Iterator[str]:
    """Our names of the weights in the order of the file, each kind for all blocks in turn."""
    attention = (f"attention.{name}" for name in "qkvo")
    mlp = ("mlp.gate", "mlp.down", "mlp.up")  # w1, w2, w3
    yield "embed.weight"
    for kind in ("attention_norm", *attention, "mlp_norm", *mlp):
        for block in range(spec["num_layers"]):
            yield f"context.blocks.{block}.{kind}.weight"
    yield "context.norm.weight"
    if not spec["tied"]:
        yield "unembed.weight"


def _check_table(file: Path, table: Float[Tensor, "2 time half"]) -> None:
    """The cosines and sines stored are those that `run.c` works out."""
    time, half = table.shape[1:]
    cos, sin = rotary_angles(torch.arange(time)[None], 2 * half, THETA)
    # 0.01: at position 30,000 fp32 angles are off by 0.004.
    if (table - torch.stack((cos[0, 0], sin[0, 0]))).abs().max() > 0.01:
        raise ConfigError(
            f"{file}: its rotary table is not that of theta = {THETA:,.0f}, "
            "the only one that llama2.c runs; export it again."
        )
