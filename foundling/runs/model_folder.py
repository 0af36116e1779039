"""Model folders: what they hold, how they are named, and those that hold an adapter alone."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from foundling.base import durable, sharded_files
from foundling.base.config import ConfigError, load_json
from foundling.base.group import ALONE, Group
from foundling.base.sharded import whole
from foundling.models import adapters, interchange, skeleton, weight_files, widened
from foundling.models.adapters import AdapterSettings
from foundling.models.language_model import LanguageModel
from foundling.models.stored import StoredModel
from foundling.text.tokenizer import Tokenizer
from foundling.text.tokenizer_files import CARRIED

MODEL_FILES = (
    *("config.json", "*.safetensors", "*.safetensors.index.json", "adapter.json"),
    *CARRIED,
)
"""What a model and its words are made of."""
ADAPTER, ADAPTER_WEIGHTS = "adapter.json", "adapter.safetensors"
Write = Callable[[Path], None]
"""Writes a folder."""
BASE = "base"
"""The key of `adapter.json` that names the folder of the base, from the adapter's own."""


def is_model(folder: Path) -> bool:
    """Whether a folder holds a model, or an adapter that names its base."""
    return (folder / "config.json").is_file() or is_adapter(folder)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter that names its base."""
    return (folder / ADAPTER).is_file()


def model_files(folder: Path) -> list[Path]:
    """The files of a model folder that make the model."""
    return sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)})


def fingerprint(folder: Path) -> str:
    """A hash of a model folder's files, by which the model is named.

    Of an adapter it covers the base by its fingerprint, wherever that lies.
    """
    hashes = {}
    for path in model_files(folder):
        name = path.relative_to(folder).as_posix()
        if name == ADAPTER:
            facts = {key: value for key, value in load_json(path).items() if key != BASE}
            hashes[name] = hashlib.sha256(_json(facts)).hexdigest()
        else:
            with path.open("rb") as file:
                hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def save_model(
    model: LanguageModel, tokenizer: Tokenizer, folder: Path, ids: Mapping[str, Any]
) -> None:
    """Write a plain model with its tokenizer.

    Args:
        ids: of the marks of a text as a parent's config.json names them; others are added.
    """
    interchange.save(model, folder, {**tokenizer.mark_ids(), **ids})
    tokenizer.save(folder)


def token_ids(folder: Path) -> dict[str, Any]:
    """The ids of the marks of a text, as the config.json of a model names them."""
    while is_adapter(folder):
        folder = _base_named(folder)  # no weights are read, so none are checked
    config = load_json(folder / "config.json")
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {name: config[name] for name in names if config.get(name) is not None}


def staged_model(
    model: LanguageModel, tokenizer: Tokenizer, ids: Mapping[str, Any], group: Group
) -> Write:
    """What `save_model` would write now: copied into memory, and written when it is called.

    The processes of a group share the files of the model, each of which holds whole tensors. All of
    them have to call this, and what it gives.
    """
    contents = interchange.contents(model, {**tokenizer.mark_ids(), **ids}, Path("model"))
    limit = min(weight_files.SHARD_BYTES, -(-sum(contents.sizes.values()) // group.size))
    files: dict[str, int] = {}
    mine: dict[str, Tensor] = {}
    for number, names in enumerate(weight_files.split(contents.sizes, limit), 1):
        for name in names:
            files[name] = number
            tensor = contents.make(name)
            if (number - 1) % group.size == group.rank:
                mine[name] = tensor.detach().to("cpu", copy=True)

    def write_rest(folder: Path) -> None:
        contents.write_config(folder)
        tokenizer.save(folder)

    def write(folder: Path) -> None:
        if group.size == 1:
            folder.mkdir()
            weight_files.write(folder, contents.sizes, mine.__getitem__, weight_files.SHARD_BYTES)
        else:
            sharded_files.write_whole(mine, folder, group, files)
        group.first(lambda: write_rest(folder))

    return write


def save_adapter(
    model: LanguageModel,
    tokenizer: Tokenizer,
    folder: Path,
    settings: AdapterSettings,
    base: Path,
    named: str,
) -> None:
    """Write the adapters and learned rows of a model with its tokenizer, but not its base.

    Args:
        base: the base's folder, as seen from `folder`.
        named: its fingerprint.
    """
    staged_adapter(model, tokenizer, settings, base, named, ALONE)(folder)


def staged_adapter(
    model: LanguageModel,
    tokenizer: Tokenizer,
    settings: AdapterSettings,
    base: Path,
    named: str,
    group: Group,
) -> Write:
    """What `save_adapter` would write now: copied into memory, and written when it is called.

    The first process of a group writes it; all of them have to call this, and what it gives.
    """
    facts = {
        BASE: base.as_posix(),
        "base_fingerprint": named,
        "adapter": settings.values(),
        "vocab_size": model.vocab_size,
        "tokens": adapters.learned_tokens(model),
    }
    state = {
        name: whole(tensor).to("cpu", copy=True).contiguous()
        for name, tensor in adapters.adapter_state(model).items()
    }

    def write(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(state, folder / ADAPTER_WEIGHTS)
        (folder / ADAPTER).write_bytes(_json(facts, indent=2))
        tokenizer.save(folder)

    return lambda folder: group.first(lambda: write(folder))


def load_adapter_weights(model: LanguageModel, folder: Path) -> None:
    """Fill the adapters of a model from what `save_adapter` wrote.

    Raises:
        ConfigError: they are not there, not whole, or of other adapters.
    """
    path = folder / ADAPTER_WEIGHTS
    try:
        adapters.load_adapter_state(model, load_file(path))
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; copy it again.") from None


def open_model(folder: Path, dtype: torch.dtype | None = torch.float32) -> LanguageModel:
    """The model of a folder; that of an adapter is its base with the adapter folded in, in fp32.

    Args:
        dtype: of the matrices, where they are the folder's own; None: as they are stored.

    Raises:
        ConfigError: there is none, or the base is gone or another.
    """
    if not is_adapter(folder):
        return interchange.load(folder, dtype)
    model = _adapted(folder, open_model(base_of(folder)))
    adapters.merge(model)
    return model


def open_stored(folder: Path) -> StoredModel:
    """The model of a folder in fp32, whose matrices stay in their files; adapters are read.

    Raises:
        ConfigError: there is none, or the base is gone or another.
    """
    if not is_adapter(folder):
        return interchange.open_stored(folder)
    base = base_of(folder)
    if is_adapter(base):  # two adapters do not stand on one matrix
        plain = open_model(base)
        return StoredModel(_adapted(folder, plain), plain.get_parameter)
    stored, facts = interchange.open_stored(base), load_json(folder / ADAPTER)
    if facts["tokens"] or stored.model.vocab_size < facts["vocab_size"]:
        stored.keep("embed.weight", *(() if stored.model.tied else ("unembed.weight",)))
    return StoredModel(_adapted(folder, stored.model), stored.read)


def _adapted(folder: Path, model: LanguageModel) -> LanguageModel:
    """The base with the adapter of a folder."""
    facts = load_json(folder / ADAPTER)
    if model.vocab_size < facts["vocab_size"]:
        model = widened(model, facts["vocab_size"])
    settings = AdapterSettings.parse(facts["adapter"], "adapter")
    adapters.add_adapters(model, settings, seed=0, tokens=facts["tokens"])
    load_adapter_weights(model, folder)
    return model


def max_context(folder: Path) -> int | None:
    """Tokens of the longest text that the model of a folder reads, whose weights stay unread.

    None: it reads texts of any length.

    Raises:
        ConfigError: there is no model, or the base of an adapter is gone.
    """
    while is_adapter(folder):
        folder = _base_named(folder)  # no weights are read, so none are checked
    return skeleton(interchange.read_config(folder)[1]).max_context


@contextmanager
def merged(folder: Path) -> Iterator[Path]:
    """The folder of a model; of an adapter, that of a plain model for as long as it is needed."""
    if not is_adapter(folder):
        yield folder
        return
    with TemporaryDirectory() as name:
        save_model(open_model(folder), Tokenizer.load(folder), Path(name), token_ids(folder))
        yield Path(name)


def base_of(folder: Path) -> Path:
    """The folder of the base that an adapter stands on.

    Raises:
        ConfigError: it is gone, or another.
    """
    base, named = _base_named(folder), load_json(folder / ADAPTER)["base_fingerprint"]
    if not base.is_dir() or fingerprint(base) != named:
        raise ConfigError(
            f"{folder}: holds an adapter alone, and {base} is not the model that it stands on; put "
            "that back, or export the model while both are there."
        )
    return base


def _base_named(folder: Path) -> Path:
    """Where the base of an adapter should be."""
    return Path(os.path.normpath(folder / load_json(folder / ADAPTER)[BASE]))


def copy_model(folder: Path, target: Path, *, link: bool) -> None:
    """Copy a model, with the base that an adapter stands on.

    Args:
        link: weights become second names of the same files, where the disk can: only of files that
            are replaced and never written into, as those of a run are.
    """
    target.mkdir(parents=True)
    for path in model_files(folder):
        copy = target / path.relative_to(folder)
        copy.parent.mkdir(exist_ok=True)
        if path.name == ADAPTER:
            copy.write_bytes(_json({**load_json(path), BASE: BASE}, indent=2))
        elif not (link and path.suffix == ".safetensors" and _linked(path, copy)):
            shutil.copyfile(path, copy)
        durable.sync(copy)
    if is_adapter(folder):
        copy_model(base_of(folder), target / BASE, link=link)


def _linked(path: Path, copy: Path) -> bool:
    try:
        os.link(path.resolve(), copy)
    except OSError:
        return False
    return True


def _json(value: Mapping[str, Any], indent: int | None = None) -> bytes:
    return json.dumps(value, indent=indent, sort_keys=True).encode()
