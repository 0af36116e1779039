"""Adapters of a run out to other tools, and adapters of other tools into plain models."""

import logging
from pathlib import Path

from foundling.base.config import ConfigError, load_toml
from foundling.models import adapter_files, adapters, widened
from foundling.models.adapters import AdapterSettings
from foundling.runs import checkpoint
from foundling.runs.model_folder import load_adapter_weights, save_model, token_ids
from foundling.runs.run import Run, find_model, load_model
from foundling.stages.parent import Parent
from foundling.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


def export_adapter(run: Run, out: Path) -> None:
    """Write the adapter of a run's best checkpoint in the layout of `peft`.

    Raises:
        ConfigError: the run trained no adapter, or `peft` knows no such architecture.
    """
    manifest = run.manifest
    values = load_toml(run.folder / "config.toml")
    if manifest["stage"] == "pretrain" or values.get("adapter") is None:
        raise ConfigError(f"{run.folder}: trained no adapter; its models are plain as they are.")
    best = checkpoint.best_whole(run.checkpoints)
    if best is None:
        raise ConfigError(f"{run.folder}: this run has no whole checkpoint yet.")
    _require_empty(out)
    settings = AdapterSettings.parse(values["adapter"], "adapter")
    parent = Parent.kept_by(run)
    tokenizer = Tokenizer.load(best.model)
    model, tokens = parent.load(tokenizer), manifest.get("learned_tokens", [])
    adapters.add_adapters(model, settings, manifest["seed"], tokens)
    load_adapter_weights(model, best.model)
    adapter_files.save_adapter(model, out, parent.facts["source"])
    tokenizer.save(out)
    if tokens:
        logger.info(
            f"the adapter holds the rows of {len(tokens)} tokens too ({adapter_files.TOKENS}): in "
            "`peft`, call resize_token_embeddings on a base that has fewer rows; a server that "
            "takes plain LoRA alone needs the merged model (foundling adapter merge)."
        )


def merge_adapter(base: str, adapter: Path, out: Path) -> None:
    """Fold an adapter in the layout of `peft` into its base: a plain model folder.

    A tokenizer that lies beside the adapter is the one it was trained with, and goes along.

    Raises:
        ConfigError: the adapter does not fit the base, or cannot be expressed.
    """
    _require_empty(out)
    model, tokenizer = load_model(base)
    if (adapter / "tokenizer.json").is_file():
        known, tokenizer = tokenizer.vocab_size, Tokenizer.load(adapter)
        if tokenizer.vocab_size > known:
            model = widened(model, tokenizer.vocab_size, known)
    adapter_files.load_adapter(model, adapter)
    adapters.merge(model)
    save_model(model, tokenizer, out, token_ids(find_model(base)))


def _require_empty(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: is not empty; give another --out.")
