"""Adapters of a run out to other tools, and adapters of other tools into plain models."""

from pathlib import Path

from safetensors.torch import load_file

from foundling.base.config import ConfigError, load_toml
from foundling.models import adapter_files, adapters, interchange
from foundling.models.adapters import AdapterSettings
from foundling.runs import checkpoint
from foundling.runs.run import Run, load_model
from foundling.stages.origin import ADAPTER
from foundling.stages.parent import Parent


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
    model = parent.load(vocab_size=manifest["model"]["vocab_size"])
    adapters.add_adapters(model, settings, manifest["seed"])
    adapters.load_adapter_state(model, load_file(best.model / ADAPTER))
    adapter_files.save_adapter(model, out, parent.facts["source"])


def merge_adapter(base: str, adapter: Path, out: Path) -> None:
    """Fold an adapter in the layout of `peft` into its base: a plain model folder.

    Raises:
        ConfigError: the adapter does not fit the base, or cannot be expressed.
    """
    model, tokenizer = load_model(base)
    adapter_files.load_adapter(model, adapter)
    adapters.merge(model)
    _require_empty(out)
    interchange.save(model, out, tokenizer.mark_ids())
    tokenizer.save(out)


def _require_empty(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: is not empty; give another --out.")
