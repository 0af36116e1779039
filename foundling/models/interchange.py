"""Models in and out of folders: `config.json` beside `model.safetensors`."""

import json
from pathlib import Path

from safetensors.torch import load_file, save_file

from foundling.config import ConfigError
from foundling.models import rebuild
from foundling.models.language_model import LanguageModel


def save(model: LanguageModel, folder: Path) -> None:
    """Write a model's weights and shape."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    if model.tied:
        del tensors["unembed.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {"model_type": "foundling", "foundling": model.spec}
    (folder / "config.json").write_text(json.dumps(config, indent=2), "utf-8")


def load(folder: Path) -> LanguageModel:
    """Read a model.

    Raises:
        ConfigError: the folder holds no model that Foundling knows.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder / 'config.json'}: cannot be read: {error}") from None
    model = rebuild(config["foundling"])
    load_weights(model, folder)
    return model


def load_weights(model: LanguageModel, folder: Path) -> None:
    """Fill a model of the same shape with the weights of `folder`."""
    tensors = load_file(folder / "model.safetensors")
    if model.tied:
        tensors["unembed.weight"] = tensors["embed.weight"]
    model.load_state_dict(tensors)
