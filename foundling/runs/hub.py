"""Models of the Hugging Face hub."""

import shutil
from pathlib import Path

from foundling.base import durable
from foundling.base.config import ConfigError
from foundling.models import interchange
from foundling.runs.model_folder import MODEL_FILES

FILES = (*MODEL_FILES, "README.md", "LICENSE*")
"""No code, and no pickles."""


def download(source: str) -> Path:
    """The folder of a model, `hub:owner/name[@revision]`, in the hub's cache.

    Raises:
        ConfigError: there is none, or the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    name, _, revision = source.removeprefix("hub:").partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(FILES)))
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
        shutil.copytree(folder, partial)  # the cache holds links
