"""The card of a model: README.md with what is known of it, and nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from foundling import __version__
from foundling.base.config import load_toml
from foundling.runs.records import best_validation
from foundling.runs.run import Run, is_run

CARD = "README.md"
LICENCES = (
    *("afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bigscience-openrail-m", "bsd"),
    *("bsd-2-clause", "bsd-3-clause", "bsl-1.0", "cc", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0"),
    *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-4.0"),
    *("cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "creativeml-openrail-m"),
    *("epl-2.0", "eupl-1.2", "gemma", "gpl", "gpl-2.0", "gpl-3.0", "isc", "lgpl", "lgpl-2.1"),
    *("lgpl-3.0", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "mit"),
    *("mpl-2.0", "openrail", "openrail++", "other", "unlicense", "wtfpl", "zlib"),
)
"""What the hub takes as `license`. Source: huggingface.co/docs/hub/repositories-licenses."""
SHOWN = {
    "loss_nats": "validation loss (nats a token)",
    "bits_per_byte": "validation loss (bits a byte)",
    "kl_nats": "KL from its parent (nats a token)",
    "pretraining_loss_nats": "loss on the pretraining data (nats a token)",
    "preference_accuracy": "share of held-out pairs ranked right",
}


def licence_of(folder: Path) -> str:
    """What the card in a model folder says; empty where it says nothing."""
    given = _data(folder).get("license_name") or _data(folder).get("license")
    return str(given) if isinstance(given, str) else ""


def write_card(folder: Path, name: str, licence: str, facts: str, **data: Any) -> None:
    """Write README.md with front matter that the hub accepts."""
    if licence and licence not in LICENCES:
        data |= {"license": "other", "license_name": licence}
    elif licence:
        data["license"] = licence
    front = ModelCardData(model_name=name, pipeline_tag="text-generation", **data)
    said = (
        "" if licence else "Its licence is not known: none was given, and its parent names none.\n"
    )
    ModelCard(f"---\n{front.to_yaml()}\n---\n\n# {name}\n\n{facts}{said}").save(folder / CARD)


def describe(source: Path) -> tuple[str, dict[str, Any]]:
    """What a run says of its model: a text, and data for the front matter."""
    run = _run_of(source)
    if run is None:
        return "", {"tags": ["foundling"]}
    manifest, settings = run.manifest, load_toml(run.folder / "config.toml")
    stage, parent = manifest["stage"], (manifest["parent"] or {}).get("source", "")
    data: dict[str, Any] = {"tags": ["foundling", stage]}
    lines = [f"Made by Foundling {__version__}, stage `{stage}`."]
    if parent.startswith("hub:"):
        data["base_model"] = parent.removeprefix("hub:").partition("@")[0]
    if parent:
        shown = parent.removeprefix("hub:") if parent.startswith("hub:") else Path(parent).name
        lines.append(f"Its parent is {shown} (`{manifest['parent']['fingerprint'][:12]}`).")
    files = manifest.get("data") or []
    names = [Path(file).name for file in ([files] if isinstance(files, str) else files)]
    if names:
        lines.append(f"It learned from {', '.join(names)} (`{manifest['data_fingerprint'][:12]}`).")
    lines.append(
        f"It has {manifest['num_parameters']:,} parameters and reads "
        f"{manifest['model']['context']:,} tokens; trained for {settings['training']['steps']:,} "
        f"steps from seed {manifest['seed']}."
    )
    return "\n".join(lines) + "\n\n" + _figures(run), data


def known_licence(source: Path | str, folder: Path) -> str:
    """What the card of a model says, or else that of its parent; empty where neither does."""
    parent = _parent_folder(Path(source))
    return licence_of(folder) or (licence_of(parent) if parent else "")


def _parent_folder(source: Path) -> Path | None:
    """Where the parent's card lies, if the parent is still where the run found it."""
    run = _run_of(source)
    given = ((run.manifest["parent"] or {}).get("source", "") if run else "") or ""
    folder = Path(given)
    return folder if given and not given.startswith("hub:") and folder.is_dir() else None


def _figures(run: Run) -> str:
    best: Mapping[str, Any] = best_validation(run.records()["validation"]) or {}
    rows = [(shown, best[key]) for key, shown in SHOWN.items() if best.get(key) is not None]
    if not rows:
        return ""
    table = "".join(f"| {shown} | {value:.4f} |\n" for shown, value in rows)
    return f"Figures of step {best['step']:,}:\n\n| figure | value |\n|---|---|\n{table}\n"


def _run_of(source: Path) -> Run | None:
    """The run itself, or the one that a checkpoint is of."""
    for folder in (source, *source.absolute().parents[:3]):
        if is_run(folder):
            return Run.open(folder)
    return None


def _data(folder: Path) -> dict[str, Any]:
    file = folder / CARD
    return ModelCard.load(file).data.to_dict() if file.is_file() else {}
