"""Token stores below a URL: fetched once into the user's cache, and verified by their hashes."""

import hashlib
import logging
import os
import shutil
from pathlib import Path

from foundling.base import durable
from foundling.base.object_store import ObjectStore
from foundling.data.manifest import MANIFEST, Manifest, StoreError, read_manifest

logger = logging.getLogger(__name__)


def fetched(url: str) -> Path:
    """The folder of the token store below a URL.

    A store that has changed is fetched anew. One process of a machine fetches it, and those that
    want it meanwhile wait.

    Raises:
        StoreError: there is no token store, or a file of it is damaged.
        OSError: it cannot be reached, or the disk is full.
    """
    remote = ObjectStore(url)
    if MANIFEST not in remote.sizes(MANIFEST):
        raise StoreError(f"{url}: no token store (no {MANIFEST}).")
    about = remote.read(MANIFEST)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "foundling", "stores")
    folder = home / hashlib.sha256(about).hexdigest()[:32]
    home.mkdir(parents=True, exist_ok=True)
    with durable.locked(home, wait=True):
        if not folder.is_dir():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
            partial.mkdir()
            (partial / MANIFEST).write_bytes(about)
            _download(remote, read_manifest(partial), partial)
            partial.rename(folder)
    return folder


def _download(remote: ObjectStore, manifest: Manifest, folder: Path) -> None:
    files = manifest.files
    logger.info(f"{remote}: fetching {sum(file.num_bytes for file in files) / 1e6:,.0f} MB")
    for file in files:
        remote.download(file.name, folder / file.name)
        with (folder / file.name).open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != file.sha256:
            raise StoreError(f"{remote}/{file.name}: damaged: its SHA-256 is not the manifest's.")
