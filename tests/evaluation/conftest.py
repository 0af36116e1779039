"""Models that are evaluated."""

import pytest
import torch

from foundling import hamlet, models
from foundling.models import interchange
from foundling.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Folders of two models with random weights, as they are exported."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = Tokenizer.train_bytes([hamlet.text(40_000, 1)], 500)
    for name in ("first", "second"):
        torch.manual_seed(len(name))
        model = models.build(
            {"rung": "transformer", "dim": 16, "num_layers": 1, "num_heads": 2},
            vocab_size=tokenizer.vocab_size, context=256,
        )  # fmt: skip
        (folder / name).mkdir()
        interchange.save(model, folder / name)
        tokenizer.save(folder / name)
    return [str(folder / "first"), str(folder / "second")]
