"""Models as engines read them: where our kernels run, each matrix is packed as it is read."""

from pathlib import Path

import torch

from foundling.generation.packed import PackedModel
from foundling.generation.settings import EngineSettings
from foundling.models.language_model import LanguageModel
from foundling.runs.model_folder import open_model, open_stored
from foundling.runs.run import tokenizer_of
from foundling.text.tokenizer import Tokenizer


def load_packed(
    folder: Path, device: torch.device, settings: EngineSettings
) -> tuple[LanguageModel | PackedModel, Tokenizer]:
    """The model and tokenizer of a folder, the model packed where the kernels support it.

    Then its weights are in memory once, and beside them one matrix at a time while it is packed.

    Raises:
        ConfigError: there is none, its weights are not whole, or the two do not belong together.
        NotFiniteError: a weight is NaN or infinite, which few bits cannot hold.
    """
    if device.type == "cpu":
        stored = open_stored(folder)
        if PackedModel.supports(stored.model):
            tokenizer = tokenizer_of(folder, stored.model)
            return PackedModel.pack(stored, settings.format), tokenizer
    model = open_model(folder).to(device)
    return model, tokenizer_of(folder, model)
