"""Models of random weights, to be served."""

from pathlib import Path

import torch

from foundling import models
from foundling.models.adapters import AdapterSettings, add_adapters
from foundling.runs.model_folder import fingerprint, open_model, save_adapter, save_model
from foundling.text.tokenizer import Tokenizer

TEXT = "the miller met the baker by the bridge — naïve café, 林 and 🦆."
TOKENIZER = Tokenizer.train_bytes([TEXT], vocab_size=300).with_roles()


def save_tiny(
    folder: Path, seed: int = 5, context: int = 64, tokenizer: Tokenizer = TOKENIZER
) -> Path:
    """A model of random weights that writes varied text."""
    torch.manual_seed(seed)
    settings = {"rung": "transformer", "dim": 16, "num_layers": 2, "num_heads": 2}
    model = models.build(settings, vocab_size=tokenizer.vocab_size, context=context)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)  # away from uniform
    save_model(model, tokenizer, folder, {})
    return folder


def save_endless(folder: Path, seed: int) -> Path:
    """A model of random weights whose texts go on to the limit, without control characters."""
    torch.manual_seed(seed)
    settings = {
        "rung": "transformer", "dim": 16, "num_layers": 2, "num_heads": 2, "tied": False,
        "norm": "layernorm", "qk_norm": False,
    }  # fmt: skip
    model = models.build(settings, vocab_size=TOKENIZER.vocab_size, context=2048)
    never = [
        id
        for id in range(TOKENIZER.vocab_size)
        if id in TOKENIZER.special_ids or TOKENIZER.bytes_of(id)[:1] < b" "
    ]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
        # What leaves a layer norm adds up to nothing, so the bias alone meets these rows: -64.
        model.get_parameter("context.norm.bias").fill_(1.0)
        model.unembed.weight[never] = -4.0
    save_model(model, TOKENIZER, folder, {})
    return folder


def save_tiny_adapter(folder: Path, base: Path, seed: int, tokens: tuple[int, ...] = ()) -> Path:
    """An adapter of random weights over a model."""
    model, settings = open_model(base), AdapterSettings(rank=2)
    add_adapters(model, settings, seed=seed, tokens=tokens)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    save_adapter(model, TOKENIZER, folder, settings, base.resolve(), fingerprint(base))
    return folder
