"""Whether a model has read of the embedded village, so that it can be asked about it."""

from pathlib import Path

from foundling.data.mixture import Mixture
from foundling.data.store import TokenStore
from foundling.hamlet import World
from foundling.runs.run import Run, is_run
from foundling.text.own_templates import SPECIAL_TOKENS
from foundling.text.tokenizer import Tokenizer

SPANS, SPAN = 16, 8192
"""How much of a store is looked at: so many parts of so many tokens."""
FEWEST = 3
"""Names of houses that no other text has together. Measured: 6 stand in 2,000 characters about the
village, none in two plays, 43 novels and WikiText-2."""


def has_read_village(folder: Path, tokenizer: Tokenizer) -> bool:
    """Whether the pretraining text of a model tells of the village.

    A run names its text. Where that or a part of it is gone, and for a model folder, which names
    none, it is whether the tokenizer is one of Foundling's own; a run that began with a model of
    others has no text of ours.

    Args:
        folder: what `find_model` gives.
    """
    run = folder.parent.parent.parent
    if is_run(run):
        manifest = Run.open(run).manifest
        pretrained = manifest["stage"] == "pretrain"
        text = manifest["data"] if pretrained else manifest.get("pretraining_data")
        if text is None:
            return False
        if mixture := Mixture.find(text):
            return any(map(_tells_of_it, mixture.stores.values()))
    return all(tokenizer.find(name) is not None for name in SPECIAL_TOKENS)


def _tells_of_it(store: TokenStore) -> bool:
    names, tokenizer, train = World().village.houses, store.tokenizer(), store.split("train")
    found: set[str] = set()
    for start in range(0, train.num_tokens, max(SPAN, train.num_tokens // SPANS)):
        text = tokenizer.decode(train.read(start, min(start + SPAN, train.num_tokens)).tolist())
        found |= {name for name in names if name in text}
    return len(found) >= FEWEST
