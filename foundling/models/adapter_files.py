"""Adapters in and out of folders, in the layout of the `peft` library."""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from foundling.base.config import ConfigError, load_json
from foundling.models import layouts
from foundling.models.adapters import LoraLinear, adapters_of, attach, linears_of
from foundling.models.language_model import LanguageModel
from foundling.models.quantised import bits_of
from foundling.models.token_rows import learn_rows, rows_of

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
BASE = "foundling_base"
"""Where the file of the weights names, by a hash, the matrices that the adapters stand on."""
PREFIX = "base_model.model."
TOKENS = "trainable_token_indices"
ROWS = ".token_adapter.trainable_tokens_delta"
"""Of the name of a tensor that holds whole rows of these tokens, in place of the base's."""
FIXED = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "task_type": ("CAUSAL_LM", None),
    "init_lora_weights": (True, False, "gaussian", "orthogonal"),
}
"""Keys of which we express but these values; other ways to begin change the model's matrices."""
READ = {
    *("r", "lora_alpha", "lora_dropout", "use_rslora", "rank_pattern", "alpha_pattern"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
    TOKENS,
}
"""Keys that are read, or that say only what the tensors' names say again."""
HARMLESS = {
    *("auto_mapping", "base_model_name_or_path", "inference_mode", "revision", "peft_version"),
    *("loftq_config", "eva_config", "corda_config", "lora_ga_config", "runtime_config"),
    *("megatron_config", "megatron_core", "qalora_group_size", "ensure_weight_tying"),
}
"""Keys that change no logit of an adapter with the values of `FIXED`."""
ADAPTER_NAME = re.compile(re.escape(PREFIX) + r"(.+)\.lora_([AB])(?:\.default)?\.weight")


def save_adapter(model: LanguageModel, folder: Path, base: str | None = None) -> None:
    """Write the adapters of a model; `base` names the model that they stand on.

    Raises:
        ConfigError: the model has none, or is of an architecture that `peft` cannot adapt so.
    """
    adapters = adapters_of(model)
    if not adapters:
        raise ConfigError(f"{folder}: the model has no adapters to save.")
    names = {ours: theirs for theirs, ours in _modules(model).items()}
    common = {
        "r": Counter(module.rank for module in adapters.values()).most_common(1)[0][0],
        "lora_alpha": Counter(_alpha(module) for module in adapters.values()).most_common(1)[0][0],
    }
    first = next(iter(adapters.values()))
    if any(module.rslora != first.rslora for module in adapters.values()):
        raise ConfigError(f"{folder}: adapters with and without rslora do not go into one file.")
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "inference_mode": True,
        **common,
        "lora_dropout": first.dropout.p,
        "use_rslora": first.rslora,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "target_modules": _targets(adapters, names),
        "rank_pattern": {
            re.escape(names[ours]): module.rank
            for ours, module in adapters.items()
            if module.rank != common["r"]
        },
        "alpha_pattern": {
            re.escape(names[ours]): _alpha(module)
            for ours, module in adapters.items()
            if module.alpha != common["lora_alpha"]
        },
    }
    tensors = {}
    rows, matrices = rows_of(model), _lookups(model)
    if rows:
        ids = {name: learned.ids.tolist() for name, learned in rows.items()}
        each = {matrices[name].rpartition(".")[2]: found for name, found in ids.items()}
        config[TOKENS] = ids["embed"] if model.tied else each
    for name, learned in rows.items():
        tensors[f"{PREFIX}{matrices[name]}{ROWS}"] = learned.rows.detach().contiguous()
    for ours, module in adapters.items():
        tensors[f"{PREFIX}{names[ours]}.lora_A.weight"] = module.lora_a.detach().contiguous()
        tensors[f"{PREFIX}{names[ours]}.lora_B.weight"] = module.lora_b.detach().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"format": "pt"}
    if bits_of(model) is None:  # else it is not the parent's own matrices that could be hashed
        metadata[BASE] = base_fingerprint(model)
    save_file(tensors, folder / WEIGHTS, metadata=metadata)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def load_adapter(model: LanguageModel, folder: Path) -> None:
    """Put the adapters of a folder, ours or `peft`'s, on a plain model; only they train then.

    Raises:
        ConfigError: the folder holds none that this model can load exactly; the model is as it was.
    """
    config = _read_config(folder / CONFIG)
    modules, linears = _modules(model), linears_of(model)
    try:
        tensors: dict[str, Tensor] = load_file(folder / WEIGHTS)
        with safe_open(folder / WEIGHTS, framework="pt") as opened:
            base = (opened.metadata() or {}).get(BASE)
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{folder / WEIGHTS}: cannot be read: {error}; copy it again.") from None
    if base not in (None, base_fingerprint(model)):
        named = config["base"]
        raise ConfigError(
            f"{folder}: this adapter stands on other weights than this model's; give the model it "
            f"was trained from{f', {named}' if named else ''}."
        )
    rows = _read_rows(model, folder, config[TOKENS], tensors)
    pairs: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = ADAPTER_NAME.fullmatch(name)
        if match is None or modules.get(match[1]) not in linears:
            known = ", ".join(sorted({module.rpartition(".")[2] for module in modules}))
            raise ConfigError(
                f"{folder / WEIGHTS}: {name} is no adapter of a matrix of this model ({known})."
            )
        pairs.setdefault(match[1], {})[match[2]] = tensor
    if not pairs:
        raise ConfigError(f"{folder / WEIGHTS}: holds no adapter.")
    made: dict[str, LoraLinear] = {}
    for theirs, pair in pairs.items():
        linear = linears[modules[theirs]]
        rank = _of_pattern(config["rank_pattern"], theirs, config["r"])
        alpha = _of_pattern(config["alpha_pattern"], theirs, config["lora_alpha"])
        expected = {"A": [rank, linear.in_features], "B": [linear.out_features, rank]}
        found = {part: list(tensor.shape) for part, tensor in sorted(pair.items())}
        if found != expected:
            raise ConfigError(
                f"{folder / WEIGHTS}: {theirs} has {found}, and {CONFIG} and the model ask for "
                f"{expected}; they must be of the same adapter and model."
            )
        adapted = LoraLinear(
            linear,
            rank=rank,
            alpha=float(alpha),
            dropout=float(config["lora_dropout"]),
            rslora=config["use_rslora"],
        )
        with torch.no_grad():
            adapted.lora_a.copy_(pair["A"])
            adapted.lora_b.copy_(pair["B"])
        made[modules[theirs]] = adapted
    attach(model, made)
    if rows:
        learn_rows(model, rows[0], head="unembed" in rows[1])
        with torch.no_grad():
            for name, learned in rows_of(model).items():
                learned.rows.copy_(rows[1][name])


def _read_rows(
    model: LanguageModel, folder: Path, given: Any, tensors: dict[str, Tensor]
) -> tuple[list[int], dict[str, Tensor]] | None:
    """The tokens whose rows the adapter holds, and the rows by matrix, taken out of `tensors`."""
    names = {f"{PREFIX}{theirs}{ROWS}": ours for ours, theirs in _lookups(model).items()}
    rows = {names[name]: tensors.pop(name) for name in list(tensors) if name in names}
    ids = given if isinstance(given, dict) else {"embed_tokens": given} if given else {}
    lists = list(ids.values())
    first: list[int] = lists[0] if lists else []
    if not rows and not first:
        return None
    dim = model.embed.weight.shape[1]
    if (
        not all(isinstance(tokens, list) and sorted(tokens) == sorted(first) for tokens in lists)
        or not all(type(id) is int and 0 <= id < model.vocab_size for id in first)
        or "embed" not in rows
        or any(list(tensor.shape) != [len(first), dim] for tensor in rows.values())
    ):
        raise ConfigError(
            f"{folder / CONFIG}: {TOKENS} = {json.dumps(given)}: Foundling can load rows of {dim} "
            f"numbers, of the same tokens below {model.vocab_size:,} in embedding and head; the "
            f"adapter holds { {name: list(tensor.shape) for name, tensor in rows.items()} }."
        )
    order = sorted(range(len(first)), key=first.__getitem__)
    return sorted(first), {name: tensor[order] for name, tensor in rows.items()}


def base_fingerprint(model: LanguageModel) -> str:
    """A hash of all matrices that adapters may stand on, without the adapters."""
    digest = hashlib.sha256()
    for name, linear in sorted(linears_of(model).items()):
        digest.update(name.encode())
        digest.update(linear.weight.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _modules(model: LanguageModel) -> dict[str, str]:
    """Their names of the matrices of the context module, and ours."""
    model_type = layouts.layout_for(model.spec)
    advice = "save the merged model instead, which every tool opens."
    if model_type is None:
        raise ConfigError(f"`peft` knows no architecture like this {model.spec['rung']}; {advice}")
    weights = {f"{name}.weight": name for name in linears_of(model)}
    found = {}
    for name in layouts.tensor_names(model_type, list(weights), model.spec):
        if len(name.ours) > 1 or name.transposed:
            raise ConfigError(
                f"{model_type} joins or turns matrices ({name.theirs}), which an adapter's file "
                f"cannot follow; {advice}"
            )
        found[name.theirs.removesuffix(".weight")] = weights[name.ours[0]]
    return found


def _lookups(model: LanguageModel) -> dict[str, str]:
    """Embedding and head, by our names, as the architecture calls them."""
    model_type = layouts.layout_for(model.spec)
    assert model_type is not None, "checked by _modules"
    ours = {"embed.weight": "embed", "unembed.weight": "unembed"}
    names = layouts.tensor_names(model_type, list(ours), model.spec)
    return {ours[name.ours[0]]: name.theirs.removesuffix(".weight") for name in names}


def _alpha(module: LoraLinear) -> int | float:
    """A whole number as one: some tools read nothing else."""
    return int(module.alpha) if module.alpha == int(module.alpha) else module.alpha


def _targets(adapters: Mapping[str, LoraLinear], names: Mapping[str, str]) -> list[str]:
    """The last names (`q_proj`) where every matrix so called is adapted, else whole names."""
    partly = {names[ours].rpartition(".")[2] for ours in names if ours not in adapters}
    targets = set()
    for ours in adapters:
        last = names[ours].rpartition(".")[2]
        targets.add(names[ours] if last in partly else last)
    return sorted(targets)


def _of_pattern(patterns: Mapping[str, Any], name: str, default: Any) -> Any:
    """The value of the first pattern that ends a module's name, as `peft` looks it up."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return default


def _read_config(path: Path) -> dict[str, Any]:
    config = load_json(path)
    for key, allowed in FIXED.items():
        if config.get(key, allowed[0]) not in allowed:
            raise _refusal(path, key, config[key], " or ".join(map(json.dumps, allowed)))
    for key, value in config.items():
        if key not in {*FIXED, *READ, *HARMLESS} and value not in (None, False, [], {}):
            raise _refusal(path, key, value, "none of it; merge it with `peft` first")
    filled = {
        "base": config.get("base_model_name_or_path"),
        "r": config.get("r"),
        "lora_alpha": config.get("lora_alpha"),
        "lora_dropout": config.get("lora_dropout") or 0.0,
        "use_rslora": config.get("use_rslora") or False,
        "rank_pattern": config.get("rank_pattern") or {},
        "alpha_pattern": config.get("alpha_pattern") or {},
        TOKENS: config.get(TOKENS),
    }
    _check_numbers(path, filled)
    return filled


def _check_numbers(path: Path, config: Mapping[str, Any]) -> None:
    for key in ("rank_pattern", "alpha_pattern"):
        if not isinstance(config[key], dict):
            raise _refusal(path, key, config[key], "an object of patterns")
        for pattern in config[key]:
            try:
                re.compile(pattern)
            except re.error:
                raise _refusal(path, key, pattern, "regular expressions") from None
    for rank in (config["r"], *config["rank_pattern"].values()):
        if type(rank) is not int or rank < 1:
            raise _refusal(path, "r", rank, "whole numbers from 1")
    for alpha in (config["lora_alpha"], *config["alpha_pattern"].values()):
        if type(alpha) not in (int, float) or not (math.isfinite(alpha) and alpha > 0):
            raise _refusal(path, "lora_alpha", alpha, "numbers above 0")
    dropout = config["lora_dropout"]
    if type(dropout) not in (int, float) or not 0 <= dropout < 1:
        raise _refusal(path, "lora_dropout", dropout, "numbers from 0 to below 1")
    if type(config["use_rslora"]) is not bool:
        raise _refusal(path, "use_rslora", config["use_rslora"], "true or false")


def _refusal(path: Path, key: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(f"{path}: {key} = {json.dumps(value)}: Foundling can load {allowed}.")
