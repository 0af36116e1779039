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
TERMS = ("license", "license_name", "license_link")
"""What a card says of the licence."""
LICENCES = (
    *("afl-3.0", "agpl-3.0", "apache-2.0", "apple-amlr", "apple-ascl", "artistic-2.0"),
    *("bigcode-openrail-m", "bigscience-bloom-rail-1.0", "bigscience-openrail-m", "bsd"),
    *("bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "bsl-1.0", "c-uda", "cc"),
    *("cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0"),
    *("cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0"),
    *("cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"),
    *("cc0-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0"),
    *("creativeml-openrail-m", "deepfloyd-if-license", "ecl-2.0", "epl-1.0", "epl-2.0"),
    *("etalab-2.0", "eupl-1.1", "eupl-1.2", "fair-noncommercial-research-license", "gemma"),
    *("gfdl", "gpl", "gpl-2.0", "gpl-3.0", "grok2-community", "h-research"),
    *("intel-research", "isc", "lgpl", "lgpl-2.1", "lgpl-3.0", "lgpl-lr", "llama2"),
    *("llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "lppl-1.3c", "mit", "mpl-2.0"),
    *("ms-pl", "ncsa", "odbl", "odc-by", "ofl-1.1", "openmdw-1.0", "openrail", "openrail++"),
    *("osl-3.0", "other", "pddl", "postgresql", "unknown", "unlicense", "wtfpl", "zlib"),
)
"""What the hub takes as `license`. Source: huggingface.co/docs/hub/repositories-licenses."""
SHOWN = {
    "loss_nats": "validation loss (nats a token)",
    "bits_per_byte": "validation loss (bits a byte)",
    "kl_nats": "KL from its parent (nats a token)",
    "pretraining_loss_nats": "loss on the pretraining data (nats a token)",
    "preference_accuracy": "share of held-out pairs ranked right",
}


def terms_of(folder: Path) -> dict[str, Any]:
    """What the card in a model folder says of the licence, as it says it."""
    data = _data(folder)
    return {key: data[key] for key in TERMS if data.get(key)}


def terms(licence: str) -> dict[str, Any]:
    """A licence as the front matter of a card names it; the hub knows others by name alone."""
    if not licence:
        return {}
    if licence in LICENCES:
        return {"license": licence}
    return {"license": "other", "license_name": licence}


def write_card(folder: Path, name: str, terms: Mapping[str, Any], facts: str, **data: Any) -> None:
    """Write README.md with front matter that the hub accepts."""
    front = ModelCardData(model_name=name, pipeline_tag="text-generation", **terms, **data)
    said = "" if terms else "Its licence is not known: none was given, and its parent names none.\n"
    ModelCard(f"---\n{front.to_yaml()}\n---\n\n# {name}\n\n{facts}{said}").save(folder / CARD)


def describe(source: Path) -> tuple[str, dict[str, Any]]:
    """What a run says of its model: a text, and data for the front matter."""
    run, step = _run_of(source)
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
    return "\n".join(lines) + "\n\n" + _figures(run, step), data


def known_terms(licence: str, source: Path | str, folder: Path) -> dict[str, Any]:
    """The licence that is given, else what the card of the model says, else that of its parent."""
    parent = _parent_folder(Path(source))
    return terms(licence) or terms_of(folder) or (terms_of(parent) if parent else {})


def _parent_folder(source: Path) -> Path | None:
    """Where the parent's card lies, if the parent is still where the run found it."""
    run, _ = _run_of(source)
    given = ((run.manifest["parent"] or {}).get("source", "") if run else "") or ""
    folder = Path(given)
    return folder if given and not given.startswith("hub:") and folder.is_dir() else None


def _figures(run: Run, step: int | None) -> str:
    """What was measured at a step; None: at the best."""
    records = run.records()["validation"]
    known = [record for record in records if step in (None, record["step"])]
    found: Mapping[str, Any] = best_validation(known) or {}
    rows = [(shown, found[key]) for key, shown in SHOWN.items() if found.get(key) is not None]
    if not rows:
        return ""
    table = "".join(f"| {shown} | {value:.4f} |\n" for shown, value in rows)
    return f"Figures of step {found['step']:,}:\n\n| figure | value |\n|---|---|\n{table}\n"


def _run_of(source: Path) -> tuple[Run | None, int | None]:
    """The run itself; or the one that a checkpoint is of, and the checkpoint's step."""
    source = source.absolute()
    if is_run(source):
        return Run.open(source), None
    folder = source.parent if source.name == "model" else source
    run, step = folder.parent.parent, folder.name.removeprefix("step-")
    if folder.parent == run / "checkpoints" and step.isdecimal() and is_run(run):
        return Run.open(run), int(step)
    return None, None


def _data(folder: Path) -> dict[str, Any]:
    file = folder / CARD
    return ModelCard.load(file).data.to_dict() if file.is_file() else {}
