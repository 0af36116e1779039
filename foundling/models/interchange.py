"""Models in and out of folders: `config.json` beside `model.safetensors`."""

import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from foundling.base.config import ConfigError, load_json
from foundling.models import layouts, rebuild
from foundling.models.adapters import merged_weights, plain_weights
from foundling.models.language_model import LanguageModel

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
READABLE = ("F32", "F16", "BF16")
NO_WEIGHTS = re.compile(r".*\.(attn\.(masked_)?bias|rotary_emb\.inv_freq)")
"""GPT-2's masks and Llama's frequencies, which old files hold too."""


def save(model: LanguageModel, folder: Path, token_ids: Mapping[str, int] | None = None) -> None:
    """Write a model in the layout of the first architecture that expresses it, else in our own.

    `token_ids`: `bos_token_id`, `eos_token_id`, `pad_token_id`; one that is not given is null.
    Adapters are folded into what is written, so that every tool opens it; the model keeps them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model_type, ours, tensors = layouts.layout_for(model.spec), merged_weights(model), {}
    for name, parts, transposed in _names(model_type, model):
        joined = torch.cat([ours[part] for part in parts]) if len(parts) > 1 else ours[parts[0]]
        tensors[name] = (joined.T if transposed else joined).contiguous()
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config: dict[str, Any] = {"model_type": "foundling"}
    if model_type is not None:
        ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
        dtype = str(model.embed.weight.dtype).removeprefix("torch.")
        config = {**layouts.write_config(model_type, model.spec), **ids, "dtype": dtype}
    config |= {**(token_ids or {}), "foundling": model.spec}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def load(folder: Path) -> LanguageModel:
    """Read a model that we or `transformers` wrote, in fp32; the latter starts with dropout 0.

    Raises:
        ConfigError: the folder holds no model that Foundling can express exactly.
    """
    model = rebuild(_read_config(folder)[1])
    load_weights(model, folder)
    return model


def load_weights(model: LanguageModel, folder: Path) -> None:
    """Fill a model of the same shape with the weights of `folder`.

    Adapters stay as they are: what is filled are the matrices under them.

    Raises:
        ConfigError: they are not all there, not of this shape, or not safetensors; the model is
            as it was.
    """
    model_type, _ = _read_config(folder)
    names, ours = _names(model_type, model), _parameters(model)
    try:
        with ExitStack() as stack:
            files = [stack.enter_context(safe_open(path, "pt")) for path in _weight_files(folder)]
            found = {name: file.get_slice(name) for file in files for name in file.keys()}  # noqa: SIM118
            prefix = names[0].theirs.split(".")[0] + "."
            if model_type and not any(name.startswith(prefix) for name in found):
                # Saved without the head, as OpenAI's own GPT-2 is.
                found = {n if n.startswith("lm_head.") else prefix + n: found[n] for n in found}
            _check(folder, names, found, ours, "lm_head.weight" if model.tied else "")
            for name in names:
                stored = found[name.theirs][:]
                rows = [len(ours[part]) for part in name.ours]
                pieces = (stored.T if name.transposed else stored).split(rows)
                for part, piece in zip(name.ours, pieces, strict=True):
                    ours[part].copy_(piece)
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{folder}: its weights cannot be read: {error}; copy it anew.") from None


def _parameters(model: LanguageModel) -> dict[str, Tensor]:
    """What is stored: all but a head that is the embedding."""
    state = plain_weights(model)
    return {k: v for k, v in state.items() if not (model.tied and k == "unembed.weight")}


def _names(model_type: str | None, model: LanguageModel) -> list[layouts.Name]:
    num_layers = model.spec.get("num_layers", 0)
    return layouts.tensor_names(model_type, list(_parameters(model)), num_layers)


def _read_config(folder: Path) -> tuple[str | None, dict[str, Any]]:
    """The architecture (None: our own names), and the `spec` of our model."""
    path = folder / "config.json"
    config = load_json(path)
    try:
        model_type = layouts.known_type(config)
        theirs = layouts.read_config(model_type, config) if model_type else None
        spec: Any = config.get("foundling", theirs)
        if any(type(spec[size]) is not int or spec[size] < 1 for size in ("vocab_size", "context")):
            raise ConfigError("the vocabulary and the context must be whole numbers from 1.")
        if theirs and (changed := layouts.differences(spec, theirs)):
            raise ConfigError(
                f'"foundling" says another {", ".join(changed)} than the rest of the file; '
                "if the rest is right, remove that entry."
            )
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ConfigError(f"{path}: a setting is missing or of a wrong kind: {error}") from None
    return model_type, spec


def _weight_files(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        index = load_json(folder / INDEX).get("weight_map")
        files = {str(file) for file in index.values()} if isinstance(index, dict) else set()
        for file in files or {"weight_map"}:
            if Path(file).name != file or not (folder / file).is_file():
                raise ConfigError(f"{folder / INDEX}: {file}: no such file here; copy it too.")
        return [folder / file for file in sorted(files)]
    if pickled := [
        p.name for p in folder.glob("*") if p.suffix in (".bin", ".pt", ".pth", ".ckpt")
    ]:
        raise ConfigError(
            f"{folder}: {pickled[0]} is pickled, and opening it could run any code; convert it to "
            f"{WEIGHTS}: open it in `transformers` and call save_pretrained."
        )
    raise ConfigError(f"{folder}: holds neither {WEIGHTS} nor {INDEX}.")


def _check(
    folder: Path,
    names: list[layouts.Name],
    found: dict[str, Any],
    ours: dict[str, Tensor],
    head: str,
) -> None:
    """All that the model needs is there, of the right shape and kind, and nothing else.

    `head` may be there if it is the embedding, to which the model ties it.
    """
    hint = "config.json and the weights must be of the same model, and whole."
    needed = {name.theirs for name in names}
    pair = [found[name][:].float() for name in (head, names[0].theirs) if name in found]
    tied = len(pair) == 2 and torch.equal(*pair)
    known = needed | ({head} if tied else set())
    surplus = [name for name in found if name not in known and not NO_WEIGHTS.fullmatch(name)]
    for what, which in (("lack", needed - found.keys()), ("have also", surplus)):
        if which:
            listed = ", ".join(sorted(which)[:3]) + ", …" * (len(which) > 3)
            raise ConfigError(
                f"{folder}: its weights {what} {listed} ({len(which)} in all); {hint}"
            )
    for name in names:
        shape, dtype = list(found[name.theirs].get_shape()), found[name.theirs].get_dtype()
        expected = [sum(len(ours[part]) for part in name.ours), *ours[name.ours[0]].shape[1:]]
        if name.transposed:
            expected.reverse()
        if shape != expected:
            raise ConfigError(f"{folder}: {name.theirs} is {shape}, not {expected}; {hint}")
        if dtype not in READABLE:
            allowed = ", ".join(READABLE)
            raise ConfigError(f"{folder}: {name.theirs} is {dtype}; save it as one of {allowed}.")
