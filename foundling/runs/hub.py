"""Models of the Hugging Face hub."""

import shutil
from pathlib import Path

from foundling.base import durable
from foundling.base.config import ConfigError, load_json
from foundling.models import interchange, weight_files
from foundling.runs.model_folder import ADAPTER_WEIGHTS, MODEL_FILES

FILES = (
    *(name for name in MODEL_FILES if name != "*.safetensors"),
    *("README.md", "LICENSE*"),
)
"""All but the weights: no code, and no pickles."""


def download(source: str) -> Path:
    """The folder of a model, `hub:owner/name[@revision]`, in the hub's cache.

    Raises:
        ConfigError: there is none, or the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = source.removeprefix("hub:").partition("@")

    def fetch(*files: str) -> Path:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(files)))

    try:
        index = fetch(weight_files.INDEX) / weight_files.INDEX
        weights = {weight_files.WEIGHTS}
        if index.is_file():
            weights = set(map(str, load_json(index).get("weight_map", {}).values()))
        return fetch(*FILES, ADAPTER_WEIGHTS, *weights)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        first_line = str(error).splitlines()[0]
        raise ConfigError(f"{source}: cannot be loaded from the hub: {first_line}") from None


def import_hub(source: str, out: Path) -> None:
    """Write a model of the hub as a model folder of its own, file by file as it is there.

    Raises:
        ConfigError: there is none, Foundling has no such model, or `out` exists.
    """
    with durable.fresh(out) as partial:
        folder = download(source)
        interchange.read_config(folder)
        copy(folder, partial)


def copy(folder: Path, out: Path) -> None:
    """Copy a model folder with its card and licence, and nothing else that lies there.

    Raises:
        ConfigError: its weights are not safetensors, or not whole.
    """
    out.mkdir()
    found = {path for pattern in FILES for path in folder.glob(pattern)}
    for file in sorted({*found, *weight_files.files(folder)}):
        target = out / file.relative_to(folder)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, target)
