"""How well a model predicts the validation text of each source of a mixture."""

from collections.abc import Callable

import torch

from foundling.data.mixture import Mixture
from foundling.data.text import validation_batches
from foundling.metrics.perplexity import Perplexity, measure
from foundling.models.language_model import LanguageModel
from foundling.stages.machine import Machine
from foundling.text.tokenizer import Tokenizer


def loss_by_source(
    model: LanguageModel,
    text: Mixture,
    tokenizer: Tokenizer,
    *,
    context: int,
    batch_size: int,
    max_tokens: int | None,
    machine: Machine,
    check: Callable[[], None],
) -> dict[str, Perplexity]:
    """By the name of the source.

    Args:
        max_tokens: of each source, its first; None: all.
        check: is called between batches and may raise.
    """
    token_bytes = torch.from_numpy(tokenizer.token_bytes) if text.is_lossless else None
    return {
        name: measure(
            model,
            validation_batches(
                store.split("validation"),
                context=context,
                batch_size=batch_size,
                max_tokens=max_tokens,
            ),
            token_bytes=token_bytes,
            device=machine.device,
            precision=machine.precision,
            check=check,
        )
        for name, store in text.stores.items()
    }
