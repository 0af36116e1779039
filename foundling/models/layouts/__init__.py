"""How architectures of `transformers` spell the settings and weights of our transformer.

`parts` and `rope` are what the tables of `families` are made of.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any

from foundling.base.config import ConfigError, suggest
from foundling.models.layouts.families import ALL, LAYOUTS, REFUSED
from foundling.models.layouts.parts import REQUIRED, Layout, Name, Values, refusal
from foundling.models.transformer import TransformerSettings

__all__ = [
    "LAYOUTS",
    "Layout",
    "Name",
    "differences",
    "known_type",
    "layout_for",
    "read_config",
    "tensor_names",
    "write_config",
]


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
    spec = {**layout.shape, "family": model_type}
    for setting, (key, default) in layout.keys.items():
        spec[setting] = config.get(key, default)
        if spec[setting] is REQUIRED:
            raise ConfigError(f"{key}: missing, and a {model_type} model needs it.")
    for key, allowed in {**layout.constants, **ALL}.items():
        if config.get(key, allowed[0]) not in allowed:
            raise refusal(key, config[key], " or ".join(map(json.dumps, allowed)))
    for _, read in layout.parts:
        spec |= read(config)
    if spec.get("window") is None:  # then no layer uses it
        spec["window_rope_theta"] = None
    sizes = {name: spec.pop(name) for name in ("vocab_size", "context")}
    return {**TransformerSettings.parse(spec, "model").resolved().values(), **sizes}


def layout_for(spec: Mapping[str, Any]) -> str | None:
    """The first architecture whose config.json reads back as these settings.

    The `family` is tried before all others.
    """
    if spec["rung"] != "transformer":
        return None
    family: list[str] = [spec["family"]] if spec.get("family") in LAYOUTS else []
    for model_type in dict.fromkeys([*family, *LAYOUTS]):
        try:
            if not differences(spec, read_config(model_type, write_config(model_type, spec))):
                return model_type
        except ConfigError:
            continue
    return None


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The settings by which two models give different logits from the same weights."""
    free = ("dropout", "init", "family")
    one, other = _complete(one), _complete(other)
    return [k for k in {**one, **other} if k not in free and one.get(k) != other.get(k)]


def _complete(spec: Mapping[str, Any]) -> Values:
    """With the settings that it was written too early to name."""
    if spec.get("rung") != "transformer":
        return dict(spec)
    sizes = {name: spec.get(name) for name in ("vocab_size", "context")}
    settings = {name: value for name, value in spec.items() if name not in sizes}
    return {**TransformerSettings.parse(settings, "foundling").resolved().values(), **sizes}


def tensor_names(
    model_type: str | None, ours: Collection[str], spec: Mapping[str, Any]
) -> list[Name]:
    """Which tensor of a file holds which of our parameters; None: our own names."""
    found = []
    for theirs, modules, transposed, heads in LAYOUTS[model_type].names if model_type else ():
        for block in range(spec.get("num_layers", 0) if "{}" in theirs else 1):
            for leaf in ("weight", "bias"):
                parts = tuple(f"{module.format(block)}.{leaf}" for module in modules)
                if parts[0] in ours:
                    turned, groups = transposed and leaf == "weight", heads and spec["num_heads"]
                    found.append(Name(f"{theirs.format(block)}.{leaf}", parts, turned, groups))
    named = {part for name in found for part in name.ours}
    return found + [Name(name, (name,)) for name in ours if name not in named]


def known_type(config: Values) -> str | None:
    """The `model_type` of config.json if it is in the table; None: our own names.

    Raises:
        ConfigError: no such architecture.
    """
    name = str(config.get("model_type"))
    if name in REFUSED:
        raise ConfigError(f'model_type = "{name}": {REFUSED[name]}')
    if name not in LAYOUTS and name != "foundling":
        known = suggest(name, ["foundling", *LAYOUTS])
        raise ConfigError(f'model_type = "{name}": no such architecture {known}')
    return name if name in LAYOUTS else None
