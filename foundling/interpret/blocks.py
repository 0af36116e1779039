"""The word-to-word weights of one text, each layer packed small enough to stand in a page."""

import base64
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from foundling.interpret.weights import each_layer
from foundling.interpret.words import Reading
from foundling.models.language_model import LanguageModel

SCALE = 65535
"""What stands for a weight of 1; a weight is kept to half of 1/65535."""


@dataclass(frozen=True)
class Block:
    """One layer: `data` is base64 of zlib of `pack`; `error` is `LayerAttention.error`."""

    layer: int
    num_heads: int
    data: str
    error: float


def blocks(model: LanguageModel, reading: Reading) -> Iterator[Block]:
    """The layers of one text, one in memory at a time.

    Raises:
        ConfigError: no attention, no token, or more than the model reads.
    """
    for layer in each_layer(model, reading.tokens):
        packed = zlib.compress(pack(reading.by_word(layer.weights)), 1)
        data = base64.b64encode(packed).decode("ascii")
        yield Block(layer.layer, len(layer.weights), data, layer.error())


def pack(weights: Float[Tensor, "heads words words"]) -> bytes:
    """What no word attends to, the words behind it, left out; 16 bits a weight, little-endian.

    One head, two words, [[1, 0], [.5, .5]]: 65535, 32768, 32768.
    """
    rows, columns = torch.tril_indices(weights.shape[1], weights.shape[1])
    kept = weights[:, rows.to(weights.device), columns.to(weights.device)].cpu()
    levels = (kept.double() * SCALE).round().clamp(0, SCALE)
    return levels.numpy().astype("<u2").tobytes()
