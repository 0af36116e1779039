"""What an architecture's table is made of: keys of config.json and names of weights."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from foundling.base.config import ConfigError

Values = dict[str, Any]
Part = tuple[Callable[[Values], Values], Callable[[Values], Values]]
"""Our settings → keys of config.json; and back, or ConfigError where no setting does the same."""
Keys = Mapping[str, tuple[str, Any]]
"""Our setting → its key in config.json, and what holds where the key is missing."""
REQUIRED = object()


class Name(NamedTuple):
    """A module or tensor of theirs, and ours that it holds, one's rows below the other's.

    In the tables `{}` stands for the number of the block. `heads`: the rows are grouped by head,
    each with its part of ours in turn (GPT-NeoX).
    """

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False
    heads: int = 0

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Our tensors as their one."""
        if self.heads:
            grouped = [part.view(self.heads, -1, *part.shape[1:]) for part in parts]
            return torch.cat(grouped, dim=1).flatten(0, 1)
        joined = torch.cat(list(parts)) if len(parts) > 1 else parts[0]
        return (joined.T if self.transposed else joined).contiguous()

    def split(self, stored: Tensor, rows: Sequence[int]) -> Sequence[Tensor]:
        """Their tensor as ours, which have so many rows."""
        if self.heads:
            grouped = stored.reshape(self.heads, -1, *stored.shape[1:])
            pieces = torch.split(grouped, [n // self.heads for n in rows], dim=1)
            return [piece.flatten(0, 1) for piece in pieces]
        return torch.split(stored.T if self.transposed else stored, list(rows))


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


def refusal(key: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(
        f"{key} = {json.dumps(value)}: Foundling has no such model; it can load {allowed}."
    )


def activation(key: str, names: Mapping[str, str]) -> Part:
    """`names`: theirs → ours, first what they take where the key is missing."""

    def write(spec: Values) -> Values:
        return {key: next((name for name, ours in names.items() if ours == spec["mlp"]), "none")}

    def read(config: Values) -> Values:
        name = config.get(key, next(iter(names)))
        if name not in names:
            raise refusal(key, name, " or ".join(map(json.dumps, names)))
        return {"mlp": names[name]}

    return write, read


def _divisible(config: Values) -> None:
    if config["hidden_size"] % config["num_attention_heads"]:
        raise refusal("num_attention_heads", config["num_attention_heads"], "divisors of the width")


def _read_biases(config: Values) -> Values:
    _divisible(config)
    attention = config.get("attention_bias", False)
    return {
        "qkv_bias": attention,
        "output_bias": attention,
        "bias": config.get("mlp_bias", False),
    }


BIASES: Part = (
    lambda spec: {"attention_bias": spec["qkv_bias"], "mlp_bias": spec["bias"]},
    _read_biases,
)
"""Of all four projections of the attention, and of the MLP."""


def attention_bias(default: bool = False) -> Part:
    """A bias of all four projections of the attention."""

    def read(config: Values) -> Values:
        there = config.get("attention_bias", default)
        return {"qkv_bias": there, "output_bias": there}

    return lambda spec: {"attention_bias": spec["qkv_bias"]}, read


FULL, SLIDING = "full_attention", "sliding_attention"


def _write_layers(spec: Values) -> Values:
    full = [spec["window"] is None or n in spec["full_layers"] for n in range(spec["num_layers"])]
    return {
        "sliding_window": spec["window"],
        "layer_types": [FULL if one else SLIDING for one in full],
    }


def layers(config: Values, kinds: Sequence[str], window: int | None) -> Values:
    """Our settings of layers that are `full_attention` or `sliding_attention`."""
    sliding = [kind == SLIDING for kind in kinds]
    known = all(kind in (FULL, SLIDING) for kind in kinds)
    if not known or len(kinds) != config["num_hidden_layers"] or (any(sliding) and window is None):
        allowed = f"one of {FULL} and {SLIDING} a layer, the latter by a window"
        raise refusal("layer_types", list(kinds), allowed)
    full = [number for number, slides in enumerate(sliding) if not slides]
    if not any(sliding):
        return {"window": None}
    return {"window": window, "full_layers": full}


def alternating(every: int, key: str = "") -> Part:
    """Each `every`-th layer attends to all, the others have a window (Gemma 2 and 3).

    `key`: where older files say how often.
    """

    def write(spec: Values) -> Values:
        written = _write_layers(spec)
        # transformers asks for a window though no layer has one.
        return {**written, "sliding_window": spec["window"] or 4096}

    def read(config: Values) -> Values:
        kinds, count = config.get("layer_types"), config["num_hidden_layers"]
        if kinds is None:
            step = config.get(key, every)
            kinds = [FULL if (n + 1) % step == 0 else SLIDING for n in range(count)]
        return layers(config, kinds, config.get("sliding_window", 4096))

    return write, read


def _write_qwen_window(spec: Values) -> Values:
    full = len(spec["full_layers"]) if spec["window"] else spec["num_layers"]
    return {
        "use_sliding_window": spec["window"] is not None,
        "max_window_layers": full,
        **_write_layers(spec),
    }


def _read_qwen_window(config: Values) -> Values:
    window = config.get("sliding_window", 4096) if config.get("use_sliding_window") else None
    count, first = config["num_hidden_layers"], config.get("max_window_layers", 28)
    kinds = config.get("layer_types")
    if kinds is None:
        slides = [window is not None and layer >= first for layer in range(count)]
        kinds = [SLIDING if slide else FULL for slide in slides]
    return layers(config, kinds, window)


QWEN_WINDOW: Part = (_write_qwen_window, _read_qwen_window)


def _write_smollm_layers(spec: Values) -> Values:
    return {
        "use_sliding_window": spec["window"] is not None,
        "no_rope_layers": [int(n not in spec["nope_layers"]) for n in range(spec["num_layers"])],
        **_write_layers(spec),
    }


def _read_smollm_layers(config: Values) -> Values:
    count = config["num_hidden_layers"]
    ropes, every = config.get("no_rope_layers"), config.get("no_rope_layer_interval", 4)
    if ropes is None:
        ropes = [int((n + 1) % every != 0) for n in range(count)]
    if len(ropes) < count or not set(ropes) <= {0, 1}:
        raise refusal("no_rope_layers", ropes, "a 0 or a 1 for each layer")
    window = config.get("sliding_window") if config.get("use_sliding_window") else None
    kinds = config.get("layer_types")
    if kinds is None:
        kinds = [SLIDING if window is not None and not rope else FULL for rope in ropes[:count]]
    nope = [n for n, rope in enumerate(ropes[:count]) if not rope]
    return {"nope_layers": nope, **layers(config, kinds, window)}


SMOLLM_LAYERS: Part = (_write_smollm_layers, _read_smollm_layers)


def _scale(spec: Values) -> float:
    return float(spec["attention_scale"] or spec["head_dim"] ** -0.5)


QUERY_SCALAR: Part = (
    lambda spec: {"query_pre_attn_scalar": round(_scale(spec) ** -2)},
    lambda config: {"attention_scale": config.get("query_pre_attn_scalar", 256) ** -0.5},
)
"""Gemma: the scores are q·k / √query_pre_attn_scalar."""

ATTENTION_MULTIPLIER: Part = (
    lambda spec: {"attention_multiplier": _scale(spec)},
    lambda config: {"attention_scale": config.get("attention_multiplier", 1.0)},
)
"""Granite: the scores are q·k times this."""

EMBED_BY_WIDTH: Part = (
    lambda spec: {},
    lambda config: {"embed_scale": config["hidden_size"] ** 0.5},
)
"""Gemma: embeddings are multiplied by √dim."""
