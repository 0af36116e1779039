"""The weights that a model folder holds, or that its adapter amounts to."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from foundling.models import interchange
from foundling.runs.model_folder import open_model


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    if not (folder / "model.safetensors").is_file():
        interchange.save(open_model(folder), folder.parent / "merged")
        folder = folder.parent / "merged"
    return load_file(folder / "model.safetensors")
