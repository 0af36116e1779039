"""How config.json spells rotary positions: `rope_parameters` of transformers 5, or older keys."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from foundling.base.config import ConfigError, Section
from foundling.models.layouts.parts import FULL, SLIDING, Part, Values, refusal
from foundling.models.rope import RopeScaling, yarn_magnitude

TYPES = ("linear", "dynamic", "llama3", "yarn", "longrope")
OURS = {"original_context": "original_max_position_embeddings"}
UNUSED = ("finetuned",)
"""Keys that `transformers` reads nothing from, in files made with YaRN's own code."""


def rope(
    types: Sequence[str] = TYPES,
    *,
    theta: float = 10_000.0,
    theta_key: str = "rope_theta",
    fraction: float | None = None,
    fraction_key: str = "partial_rotary_factor",
    original: int | None = None,
    alias: Sequence[str] = (),
) -> Part:
    """Rotary positions of a family: its types of scaling, and what holds where a key is missing.

    `fraction`: the share of a head that turns; None: all of it, always. `original`: what
    `original_max_position_embeddings` is at the top level. `alias`: other names of the last type.
    """

    def write(spec: Values) -> Values:
        theirs = write_scaling(spec)
        written: Values = {"rope_theta": spec["rope_theta"]}
        if fraction is not None:
            written[fraction_key] = theirs["partial_rotary_factor"] = spec["rope_fraction"]
        if theta_key != "rope_theta":
            written[theta_key] = spec["rope_theta"]
        if scaling := spec["rope_scaling"]:
            # For older tools, which do not know rope_parameters.
            written["rope_scaling"] = dict(theirs)
            if scaling["type"] == "dynamic":
                written["max_position_embeddings"] = scaling["original_context"]
        if original is not None:
            known = (scaling or {}).get("original_context", spec["context"])
            written["original_max_position_embeddings"] = known
        return {"rope_parameters": {**theirs, "rope_theta": spec["rope_theta"]}, **written}

    def read(config: Values) -> Values:
        given = {key: dict(value) for key, value in _shown(config).items()}
        found = _found("rope_theta", theta_key, theta, config, given)
        share = _found("partial_rotary_factor", fraction_key, fraction or 1.0, config, given)
        if fraction is None and share != 1.0:
            key = "partial_rotary_factor"
            key, value = (key, share) if config.get(key) else next(iter(_shown(config).items()))
            raise refusal(key, value, "models whose whole heads turn")
        top = config.get("original_max_position_embeddings", original)
        scalings = [read_scaling(key, one, config, top, types, alias) for key, one in given.items()]
        if len(scalings) == 2 and scalings[0] != scalings[1]:
            raise refusal("rope_scaling", config["rope_scaling"], "what rope_parameters says")
        scaling = scalings[0] if scalings else None
        read: Values = {
            "rope_theta": found,
            "rope_fraction": share,
            "rope_scaling": scaling,
        }
        if scaling and scaling["type"] == "dynamic":
            read["context"] = int(scaling["factor"] * scaling["original_context"])
        return read

    return write, read


def _write_nested(spec: Values) -> Values:
    theirs, local = write_scaling(spec), spec["window_rope_theta"] or 10_000.0
    written: Values = {
        "rope_parameters": {
            FULL: {**theirs, "rope_theta": spec["rope_theta"]},
            SLIDING: {"rope_type": "default", "rope_theta": local},
        },
        "rope_theta": spec["rope_theta"],
        "rope_local_base_freq": local,
    }
    if spec["rope_scaling"]:
        written["rope_scaling"] = theirs
    return written


def _read_nested(config: Values) -> Values:
    parameters: Values = config.get("rope_parameters") or {}
    if not parameters.keys() <= {FULL, SLIDING}:
        raise refusal("rope_parameters", parameters, f"{FULL} and {SLIDING}, each with its own")
    full, sliding = (dict(parameters.get(kind) or {}) for kind in (FULL, SLIDING))
    theta = _found("rope_theta", "rope_theta", 1_000_000.0, config, {FULL: full})
    local = _found("rope_theta", "rope_local_base_freq", 10_000.0, config, {SLIDING: sliding})
    kinds = {sliding.pop("rope_type", "default"), sliding.pop("type", "default")}
    if kinds != {"default"} or sliding:
        raise refusal("rope_parameters", parameters, f"{SLIDING} without a scaling")
    older: Values = config.get("rope_scaling") or {}
    key = "rope_scaling" if older else "rope_parameters"
    given: Values = {**full, **older}
    scaling = read_scaling(key, given, config, None, ("linear", "llama3")) if given else None
    return {"rope_theta": theta, "window_rope_theta": local, "rope_scaling": scaling}


NESTED_ROPE: Part = (_write_nested, _read_nested)
"""Gemma 3: layers with a window have a base of their own, and no scaling."""


def write_scaling(spec: Values) -> Values:
    """Our scaling as theirs, without the base."""
    scaling: Values = dict(spec["rope_scaling"] or {"type": "default"})
    kind = scaling.pop("type")
    theirs = {OURS.get(key, key): value for key, value in scaling.items() if value is not None}
    if kind == "dynamic":
        del theirs["original_max_position_embeddings"]  # that is max_position_embeddings
    if kind == "longrope":
        theirs["factor"] = spec["context"] / scaling["original_context"]
    if theirs.get("truncate") is True:
        del theirs["truncate"]
    return {"rope_type": kind, **theirs}


def read_scaling(
    key: str,
    given: Values,
    config: Values,
    original: int | None,
    types: Sequence[str],
    alias: Sequence[str] = (),
) -> Values | None:
    """Their scaling, without the base, as ours; None: there is none."""
    shown, given = _shown(config)[key], dict(given)
    for name in UNUSED:
        given.pop(name, None)
    named = {given.pop(name) for name in ("rope_type", "type") if name in given} or {"default"}
    kind = named.pop()
    if kind in alias:
        kind = types[-1]
    allowed = " or ".join(map(json.dumps, ("default", *types)))
    if named or kind not in ("default", *types):
        raise refusal(key, shown, f"rope_type {allowed}")
    context = config["max_position_embeddings"]
    inside = given.pop("original_max_position_embeddings", None)
    known = original or inside or context
    if kind == "default":
        if given or inside:
            raise refusal(key, shown, 'rope_type "default" with a rope_theta and nothing else')
        return None
    ours = {"type": kind, **given}
    if kind in ("llama3", "yarn", "longrope", "dynamic"):
        ours["original_context"] = context if kind == "dynamic" else known
    if kind in ("yarn", "longrope"):
        _explicit(ours, context)
    try:
        return _Scaled.parse({"rope_scaling": ours}).rope_scaling.values()
    except ConfigError as error:
        raise ConfigError(f"{key} = {json.dumps(shown)}: {error}") from None


def _explicit(ours: Values, context: int) -> None:
    """Put the factors that transformers derives from others in their place."""
    longest = context / ours["original_context"]
    if ours["type"] == "longrope":
        factor = ours.pop("factor", None) or longest
        derived = 1.0
        if factor > 1:
            derived = math.sqrt(1 + math.log(factor) / math.log(ours["original_context"]))
        ours["attention_factor"] = ours.get("attention_factor") or derived
        return
    ours["factor"] = ours.get("factor") or longest
    weights = [ours.pop(name, None) for name in ("mscale", "mscale_all_dim")]
    if ours.get("attention_factor") is None and all(weights):
        above, below = (yarn_magnitude(ours["factor"], weight) for weight in weights)
        ours["attention_factor"] = above / below
    for name in ("beta_fast", "beta_slow"):
        if ours.get(name) is None:
            ours.pop(name, None)


class _Scaled(Section):
    rope_scaling: RopeScaling


def _shown(config: Values) -> Values:
    """The two places where a file may give the scaling, as they stand; the last one wins."""
    return {key: config[key] for key in ("rope_parameters", "rope_scaling") if config.get(key)}


def _found(name: str, top: str, default: float, config: Values, given: Mapping[str, Values]) -> Any:
    """A number that stands in `given` or at the top level; taken out of `given`."""
    inside = [one.pop(name, None) for one in given.values()]
    value = next(v for v in (*inside[-1:], config.get(top), default) if v is not None)
    return _one(name, [value, config.get(top), *inside])


def _one(key: str, values: Sequence[Any]) -> Any:
    """The one value that is given, in one place or in several."""
    given = dict.fromkeys(value for value in values if value is not None)
    if len(given) > 1:
        raise refusal(key, sorted(given), "one value; leave the right one")
    return next(iter(given))
