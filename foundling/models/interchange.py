"""Models in and out of folders: `config.json` beside `model.safetensors`."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from foundling.base.config import ConfigError, load_json
from foundling.base.precision import hold
from foundling.base.sharded import like, whole
from foundling.models import layouts, materialise, skeleton, weight_files
from foundling.models.adapters import merged_weight, plain_weights
from foundling.models.language_model import LanguageModel
from foundling.models.quantised import bits_of
from foundling.models.stored import StoredModel
from foundling.models.weight_files import Stored

READABLE = ("F32", "F16", "BF16")
HEADS = ("lm_head.weight", "embed_out.weight")
NO_WEIGHTS = re.compile(
    r".*\.(attn\.(masked_)?bias|attention\.(masked_)?bias|rotary_emb\.inv_freq)"
)
"""GPT-2's and GPT-NeoX's masks and Llama's frequencies, which old files hold too."""


def save(
    model: LanguageModel,
    folder: Path,
    token_ids: Mapping[str, Any] | None = None,
    shard_bytes: int = weight_files.SHARD_BYTES,
) -> None:
    """Write a model in the layout of the first architecture that expresses it, else in our own.

    `token_ids`: `bos_token_id`, `eos_token_id` (one or a list), `pad_token_id`; null where missing.
    Adapters are folded into what is written, so that every tool opens it; the model keeps them.

    Raises:
        ConfigError: the matrices under the adapters are quantised, and not whole any more.
    """
    found = contents(model, token_ids, folder)
    folder.mkdir(parents=True, exist_ok=True)
    weight_files.write(folder, found.sizes, found.make, shard_bytes)
    found.write_config(folder)


@dataclass(frozen=True)
class Contents:
    """What the files of a model hold."""

    sizes: Mapping[str, int]
    """Bytes of each tensor by name."""
    make: Callable[[str], Tensor]
    """Gives the tensor of a name, whole; of a sharded model, to all processes that ask for it."""
    config: Mapping[str, Any]

    def write_config(self, folder: Path) -> None:
        content = json.dumps(self.config, indent=2) + "\n"
        (folder / "config.json").write_text(content, "utf-8")


def contents(model: LanguageModel, token_ids: Mapping[str, Any] | None, folder: Path) -> Contents:
    """What `save` writes.

    Raises:
        ConfigError: as `save`.
    """
    if bits := bits_of(model):
        raise ConfigError(
            f"{folder}: the model's matrices are kept in {bits}, too coarse to be written as its "
            "weights; save the adapter, and merge it into the model that it stands on."
        )
    model_type, ours = layouts.layout_for(model.spec), _parameters(model)
    names = {name.theirs: name for name in _names(model_type, model)}

    def made(theirs: str) -> Tensor:
        parts = names[theirs].ours
        return names[theirs].join([whole(merged_weight(model, part)) for part in parts])

    sizes = {theirs: sum(ours[part].nbytes for part in name.ours) for theirs, name in names.items()}
    config: dict[str, Any] = {"model_type": "foundling"}
    if model_type is not None:
        ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
        dtype = str(model.embed.weight.dtype).removeprefix("torch.")
        config = {**layouts.write_config(model_type, model.spec), **ids, "dtype": dtype}
    return Contents(sizes, made, config | {**(token_ids or {}), "foundling": model.spec})


def load(folder: Path, dtype: torch.dtype | None = torch.float32) -> LanguageModel:
    """Read a model that we or `transformers` wrote; the latter starts with dropout 0.

    Tensor by tensor: beside the model itself no more than one of them is in memory.

    Args:
        dtype: of the matrices; None: bf16 where the file's are, else fp32. Norms are fp32.

    Raises:
        ConfigError: the folder holds no model that Foundling can express exactly.
    """
    model = skeleton(read_config(folder)[1])
    load_weights(model, folder, dtype)
    return model


def open_stored(folder: Path) -> StoredModel:
    """The model that `load` reads in fp32, whose matrices stay in their files.

    Raises:
        ConfigError: the folder holds no model that Foundling can express exactly.
    """
    model_type, spec = read_config(folder)
    model = skeleton(spec)
    found, ours = find_weights(folder, model_type, model), _parameters(model)
    places = {part: (name, stored) for name, stored in found.items() for part in name.ours}

    def read(part: str) -> Tensor:
        name, stored = places[part]
        try:
            (tensor,) = weight_files.read([stored])
            rows = [len(ours[one]) for one in name.ours]
            return name.split(tensor, rows)[name.ours.index(part)].float()
        except (SafetensorError, OSError) as error:
            raise _unreadable(folder, error) from None

    for part in places:
        module = model.get_submodule(part.rpartition(".")[0])
        if not (isinstance(module, nn.Linear) and part.endswith(".weight")) and (
            module is not model.embed
        ):
            own = nn.Parameter(read(part).clone(), requires_grad=False)
            setattr(module, part.rpartition(".")[2], own)
    return StoredModel(model, read)


def load_weights(
    model: LanguageModel, folder: Path, dtype: torch.dtype | None = torch.float32
) -> None:
    """Fill a model of the same shape with the weights of `folder`.

    Adapters stay as they are: what is filled are the matrices under them. A `skeleton` gets its
    memory first, with matrices of `dtype` as in `load`.

    Raises:
        ConfigError: they are not all there, not of this shape, or not safetensors; the model is
            as it was.
    """
    model_type, _ = read_config(folder)
    found = find_weights(folder, model_type, model)
    if model.embed.weight.is_meta:
        kinds = {stored.dtype for stored in found.values() if len(stored.shape) > 1}
        hold(model, dtype or (torch.bfloat16 if kinds == {"BF16"} else torch.float32))
        materialise(model)
    ours = _parameters(model)
    names = sorted(found, key=lambda name: found[name].file)
    try:
        tensors = weight_files.read(found[name] for name in names)
        for name, tensor in zip(names, tensors, strict=True):
            rows = [len(ours[part]) for part in name.ours]
            for part, piece in zip(name.ours, name.split(tensor, rows), strict=True):
                ours[part].copy_(like(piece, ours[part]))
    except (SafetensorError, OSError) as error:
        raise _unreadable(folder, error) from None


def find_weights(
    folder: Path, model_type: str | None, model: LanguageModel
) -> dict[layouts.Name, Stored]:
    """Where the weights of a model of this shape lie; only the heads of the files are read.

    Raises:
        ConfigError: they are not all there, not of this shape, or not safetensors.
    """
    expected = shapes(model_type, model)
    try:
        found = weight_files.find(folder)
        prefix = next(iter(expected)).theirs.split(".")[0] + "."
        if model_type and not any(name.startswith(prefix) for name in found):
            # Saved without the head, as OpenAI's own GPT-2 is.
            found = {n if n in HEADS else prefix + n: found[n] for n in found}
        _check(folder, expected, found, model.tied)
    except (SafetensorError, OSError) as error:
        raise _unreadable(folder, error) from None
    return {name: found[name.theirs] for name in expected}


def shapes(model_type: str | None, model: LanguageModel) -> dict[layouts.Name, list[int]]:
    """The tensors that a folder of this model holds, and their shapes."""
    ours, found = _parameters(model), {}
    for name in _names(model_type, model):
        shape = [sum(len(ours[part]) for part in name.ours), *ours[name.ours[0]].shape[1:]]
        found[name] = shape[::-1] if name.transposed else shape
    return found


def _unreadable(folder: Path, error: Exception) -> ConfigError:
    return ConfigError(f"{folder}: its weights cannot be read: {error}; copy it again.")


def _parameters(model: LanguageModel) -> dict[str, Tensor]:
    """What is stored: all but a head that is the embedding."""
    state = plain_weights(model)
    return {k: v for k, v in state.items() if not (model.tied and k == "unembed.weight")}


def _names(model_type: str | None, model: LanguageModel) -> list[layouts.Name]:
    return layouts.tensor_names(model_type, list(_parameters(model)), model.spec)


def read_config(folder: Path) -> tuple[str | None, dict[str, Any]]:
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


def _check(
    folder: Path,
    expected: Mapping[layouts.Name, list[int]],
    found: Mapping[str, Stored],
    tied: bool,
) -> None:
    """All that the model needs is there, of the right shape and kind, and nothing else.

    A model that ties its head to its embedding may have both stored, if they are equal.
    """
    hint = "config.json and the weights must be of the same model, and whole."
    needed = {name.theirs: shape for name, shape in expected.items()}
    known, embed = set(needed), next(iter(needed))
    for head in HEADS:
        if tied and head in found and embed in found and _equal(found[head], found[embed]):
            known.add(head)
    missing = needed.keys() - found.keys()
    if missing and missing <= set(HEADS):
        hint = 'config.json says "tie_word_embeddings": false, so the head must be there.'
    surplus = [name for name in found if name not in known and not NO_WEIGHTS.fullmatch(name)]
    for what, which in (("lack", missing), ("have also", surplus)):
        if which:
            listed = ", ".join(sorted(which)[:3]) + ", …" * (len(which) > 3)
            raise ConfigError(
                f"{folder}: its weights {what} {listed} ({len(which)} in all); {hint}"
            )
    for theirs, shape in needed.items():
        stored = found[theirs]
        if stored.shape != shape:
            raise ConfigError(f"{folder}: {theirs} is {stored.shape}, not {shape}; {hint}")
        if stored.dtype not in READABLE:
            allowed = ", ".join(READABLE)
            raise ConfigError(f"{folder}: {theirs} is {stored.dtype}; save it as one of {allowed}.")


def _equal(one: Stored, other: Stored) -> bool:
    if one.shape != other.shape:
        return False
    parts = [torch.split(tensor, 4096) for tensor in weight_files.read([one, other])]
    return all(torch.equal(a.float(), b.float()) for a, b in zip(*parts, strict=True))
