"""A run's copy on an object store, from which a machine that has nothing resumes it."""

import json
import logging
import os
import shutil
from collections.abc import Collection
from itertools import islice
from pathlib import Path

from foundling.base.config import ConfigError
from foundling.base.group import ALONE, Group
from foundling.base.object_store import ObjectStore
from foundling.runs import checkpoint as checkpoints
from foundling.runs.checkpoint import MARKER, Checkpoint, CheckpointSettings
from foundling.runs.records import merge_events
from foundling.runs.run import Run

logger = logging.getLogger(__name__)

MANIFEST, EVENTS, FOLDER = "manifest.json", "events.jsonl", "checkpoints"
GROWING = ("config.toml", MANIFEST, EVENTS, "metrics.jsonl")
DRAWN = ("plots", "report.html", "tensorboard")
"""What is made of the metrics while the run trains, and is stored at its end."""


class StoredRun:
    """The copy of one run below a URL; one process at a time may write it."""

    def __init__(self, url: str) -> None:
        self.store = ObjectStore(url)
        self._known: dict[int, Checkpoint] | None = None
        self._num_events = 0

    def exists(self) -> bool:
        """Whether a run is stored here. Raises OSError where the store cannot be reached."""
        return MANIFEST in self.store.sizes(MANIFEST)

    def checkpoints(self) -> dict[int, Checkpoint]:
        """Those that are stored completely, by step."""
        found = {}
        for name in self.store.sizes(FOLDER):
            if name.endswith(f"/{MARKER}"):
                facts = json.loads(self.store.read(name))
                found[facts["step"]] = Checkpoint(Path(name).parent, facts["step"], facts)
        return found

    def fetch(self, folder: Path) -> None:
        """Make `folder` the run as it is stored, with its newest whole checkpoints and its best.

        Two of the newest, so that the guard has one to go back to.

        Raises:
            ConfigError: checkpoints are stored, and none is whole.
            OSError: the store cannot be read, or the disk is full.
        """
        folder = folder.resolve()
        partial = folder.with_name(f".{folder.name}.tmp-{os.getpid()}")
        try:
            (partial / FOLDER).mkdir(parents=True)
            for name in self.store.sizes():
                if not name.startswith(f"{FOLDER}/"):
                    self.store.download(name, partial / name)
            stored = [found for _, found in sorted(self.checkpoints().items())]
            whole = list(islice((one for one in stored[::-1] if self._fetched(one, partial)), 2))
            if stored and not whole:
                raise ConfigError(f"{self.store}: every checkpoint is broken; start a new run.")
            best = checkpoints.best(stored)
            if best is not None and best not in whole:
                self._fetched(best, partial)
            if folder.is_dir():
                folder.rmdir()
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def _fetched(self, stored: Checkpoint, folder: Path) -> bool:
        """Whether a checkpoint was fetched whole."""
        place = folder / stored.path
        try:
            for name in [*stored.facts["files"], MARKER]:
                self.store.download(f"{stored.path.as_posix()}/{name}", place / name)
            checkpoints.open_whole(place)
        except (checkpoints.BrokenCheckpoint, OSError) as error:
            logger.warning(f"{self.store}: a broken checkpoint: {error}; fetching an older one.")
            shutil.rmtree(place, ignore_errors=True)
            return False
        return True

    def update(
        self,
        run: Run,
        settings: CheckpointSettings,
        healthy_step: int | None = None,
        group: Group = ALONE,
    ) -> None:
        """Store what the run has and the store has not, the markers last, and prune it.

        What could not be stored before is stored now. The processes of a group share the work.

        Raises:
            OSError: the store cannot be reached, or refuses.
        """
        group.first(lambda: self._forget_undone(run))
        group.first(lambda: self._store_files(run.folder, DRAWN))
        local = group.gathered(checkpoints.committed(run.checkpoints))[0]
        known = group.gathered(self._known)[0]
        assert known is not None, "read by the first process"
        for new in [one for one in local if one.step not in known]:
            group.together(lambda new=new: self._store_share(new, group))  # type: ignore[misc]
            group.first(lambda new=new: self._commit(new))  # type: ignore[misc]
        group.first(lambda: self._prune(settings, healthy_step))

    def finish(self, run: Run) -> None:
        """Store what was drawn at the end. Raises OSError as `update`."""
        self._store_files(run.folder, ())

    def _forget_undone(self, run: Run) -> None:
        """Delete the checkpoints that the run went back behind, and those made anew since.

        That comes before the events are stored that undid them: what is stored is always a state
        that the run was in.
        """
        if self._known is None:
            self._known = self.checkpoints()
            if EVENTS in self.store.sizes(EVENTS):
                lines = self.store.read(EVENTS).splitlines(keepends=True)
                whole = [json.loads(line) for line in lines if line.endswith(b"\n")]
                self._num_events = len(merge_events(whole))
        undone = [event["to"] for event in run.events()[self._num_events :] if "to" in event]
        local = {one.step: one.facts for one in checkpoints.committed(run.checkpoints)}
        for step, stored in list(self._known.items()):
            if step > min(undone, default=step) or local.get(step, stored.facts) != stored.facts:
                self._delete(stored)
        self._num_events = len(run.events())

    def _store_files(self, folder: Path, left_out: Collection[str]) -> None:
        """Store the files beside the checkpoints; the manifest, which makes it a run, last."""
        sizes = self.store.sizes()
        files = [path for path in folder.rglob("*") if path.is_file()]
        names = {path.relative_to(folder).as_posix(): path for path in files}
        for name in sorted(names, key=lambda name: (name == MANIFEST, name)):
            first = name.partition("/")[0]
            if first in (FOLDER, *left_out) or "/." in f"/{name}":
                continue
            if name in GROWING or sizes.get(name) != names[name].stat().st_size:
                self.store.upload(names[name], name)

    def _store_share(self, new: Checkpoint, group: Group) -> None:
        for name in sorted(new.facts["files"])[group.rank :: group.size]:
            self.store.upload(new.path / name, f"{FOLDER}/{new.path.name}/{name}")

    def _commit(self, new: Checkpoint) -> None:
        assert self._known is not None
        name = f"{FOLDER}/{new.path.name}"
        self.store.upload(new.path / MARKER, f"{name}/{MARKER}")
        self._known[new.step] = Checkpoint(Path(name), new.step, new.facts)

    def _prune(self, settings: CheckpointSettings, healthy_step: int | None) -> None:
        assert self._known is not None
        stored = [found for _, found in sorted(self._known.items())]
        kept = checkpoints.kept_steps(stored, settings, healthy_step)
        for one in stored:
            if one.step not in kept:
                self._delete(one)

    def _delete(self, stored: Checkpoint) -> None:
        """Delete a checkpoint, its marker first: half of one is none."""
        assert self._known is not None
        names = [MARKER, *stored.facts["files"]]
        self.store.delete(f"{stored.path.as_posix()}/{name}" for name in names)
        del self._known[stored.step]
