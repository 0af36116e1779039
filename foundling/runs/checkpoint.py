"""Checkpoints on disk: committed whole, verified by hash, kept by a policy."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field
from safetensors import SafetensorError

from foundling.base import durable
from foundling.base.config import ConfigError, Section

logger = logging.getLogger(__name__)

MARKER = "checkpoint.json"


class CheckpointSettings(Section):
    """When checkpoints are written, and which are kept."""

    every: int = Field(200, gt=0)
    """Steps between checkpoints; one is always written at the end and when interrupted."""
    keep_last: int = Field(2, gt=0)
    keep_best: bool = True
    """Keep the one with the lowest validation loss."""
    keep_every: int | None = Field(None, gt=0)
    """Keep those whose step is a multiple of this for good; None: none."""


class BrokenCheckpoint(Exception):
    """A checkpoint does not hold what its hashes say."""


@dataclass(frozen=True)
class Checkpoint:
    """One committed checkpoint; `facts` is what was recorded when it was written."""

    path: Path
    step: int
    facts: dict[str, Any]

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def state(self) -> Path:
        return self.path / "state"

    @property
    def fingerprint(self) -> str:
        """A hash of the model's files, by which a reference model is named."""
        files = self.facts["files"]
        text = json.dumps(
            {k: v for k, v in files.items() if k.startswith("model/")}, sort_keys=True
        )
        return hashlib.sha256(text.encode()).hexdigest()

    def verify(self) -> None:
        """Read every file and compare it with its hash.

        Raises:
            BrokenCheckpoint: names the first file that is missing or differs.
        """
        for name, expected in self.facts["files"].items():
            try:
                found = _sha256(self.path / name)
            except OSError as error:
                raise BrokenCheckpoint(f"{self.path / name}: {error.strerror}") from None
            if found != expected:
                raise BrokenCheckpoint(f"{self.path / name}: its content does not match its hash")


def commit(
    folder: Path, step: int, write: Callable[[Path], None], facts: Mapping[str, Any]
) -> Checkpoint:
    """Write the checkpoint of `step` by `write(path)`, completely or not at all.

    Everything goes to a temporary name and onto the disk, the marker with the hashes last; then
    the folder gets its name. A failure leaves nothing behind and older checkpoints as they were.

    Raises:
        OSError: the disk is full or broken.
    """
    final = folder / _name(step)
    temporary = folder / f".{final.name}.tmp"
    _remove(temporary)
    try:
        temporary.mkdir(parents=True)
        try:
            write(temporary)
        except SafetensorError as error:  # how safetensors says that the disk is full
            raise OSError(str(error)) from error
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        for path in files:
            durable.sync(path)
        hashes = {path.relative_to(temporary).as_posix(): _sha256(path) for path in files}
        facts = {"step": step, **facts, "files": hashes}
        (temporary / MARKER).write_text(json.dumps(facts, indent=2), "utf-8")
        durable.sync(temporary / MARKER)
        for path in [*temporary.rglob("*"), temporary]:
            if path.is_dir():
                durable.sync(path)
        if final.exists():  # the broken or superseded one of the same step
            old = folder / f".{final.name}.old"
            _remove(old)
            final.rename(old)
        temporary.rename(final)
        durable.sync(folder)
        _remove(folder / f".{final.name}.old")
    except BaseException:
        _remove(temporary)
        raise
    return Checkpoint(final, step, dict(facts))


def committed(folder: Path) -> list[Checkpoint]:
    """The checkpoints whose commit was finished, oldest first; not verified."""
    found = [_read(path) for path in sorted(folder.glob("step-*"))]
    return [checkpoint for checkpoint in found if checkpoint is not None]


def newest_whole(folder: Path, up_to: int | None = None) -> Checkpoint | None:
    """The newest checkpoint (up to a step) that verifies; newer broken ones are logged."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        if up_to is not None and path.name > _name(up_to):
            continue
        try:
            return open_whole(path)
        except BrokenCheckpoint as error:
            logger.warning(f"broken checkpoint: {error}; going back to the one before it.")
    return None


def open_whole(path: Path) -> Checkpoint:
    """One checkpoint, verified.

    Raises:
        BrokenCheckpoint: it has no readable marker, or a file differs from its hash.
    """
    checkpoint = _read(path)
    if checkpoint is None:
        raise BrokenCheckpoint(f"{path / MARKER}: missing or not readable")
    checkpoint.verify()
    return checkpoint


def recover(folder: Path) -> Checkpoint | None:
    """Clean up after a crash and return the newest whole checkpoint, to resume from.

    What a crash left half done is finished or removed. A broken checkpoint is renamed
    `broken-step-N`, so that it does not count among those that are kept. None: there never was one.

    Raises:
        ConfigError: there are checkpoints, and none is whole.
    """
    for old in folder.glob(".step-*.old"):
        final = folder / old.name[1 : -len(".old")]
        if not final.exists():
            old.rename(final)
    for path in folder.glob(".step-*"):
        _remove(path)
    whole = newest_whole(folder)
    newer = [p for p in folder.glob("step-*") if whole is None or p.name > whole.path.name]
    if newer and whole is None:
        raise ConfigError(
            f"{folder}: every checkpoint is broken, so there is nothing to resume from; the "
            "metrics are untouched. Start a new run."
        )
    for path in newer:
        broken = folder / f"broken-{path.name}"
        _remove(broken)
        path.rename(broken)
    return whole


def best(checkpoints: Iterable[Checkpoint]) -> Checkpoint | None:
    """The one with the lowest validation loss, if any was validated."""
    scored = [c for c in checkpoints if c.facts.get("validation_loss_nats") is not None]
    return min(scored, key=lambda c: float(c.facts["validation_loss_nats"]), default=None)


def best_whole(folder: Path) -> Checkpoint | None:
    """The best checkpoint by validation loss if it verifies, else the newest that does."""
    top = best(committed(folder))
    if top is not None:
        try:
            top.verify()
        except BrokenCheckpoint as error:
            logger.warning(f"broken checkpoint: {error}; using another one.")
        else:
            return top
    return newest_whole(folder)


def drop_after(folder: Path, step: int) -> None:
    """Delete the checkpoints of later steps, which a run that went back has undone."""
    for checkpoint in committed(folder):
        if checkpoint.step > step:
            _delete(checkpoint)


def prune(folder: Path, settings: CheckpointSettings, healthy_step: int | None = None) -> None:
    """Delete the checkpoints that the policy does not keep.

    The newest one up to `healthy_step` is kept in any case.
    """
    found = committed(folder)
    kept = {c.step for c in found[-settings.keep_last :]}
    if healthy_step is not None:
        kept |= {c.step for c in [c for c in found if c.step <= healthy_step][-1:]}
    top = best(found)
    if settings.keep_best and top is not None:
        kept.add(top.step)
    if settings.keep_every is not None:
        kept |= {c.step for c in found if c.step % settings.keep_every == 0}
    for checkpoint in found:
        if checkpoint.step not in kept:
            _delete(checkpoint)


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _delete(checkpoint: Checkpoint) -> None:
    doomed = checkpoint.path.with_name(f".{checkpoint.path.name}.pruned")
    checkpoint.path.rename(doomed)  # gone at once: a crash leaves no half of it
    _remove(doomed)


def _read(path: Path) -> Checkpoint | None:
    try:
        facts = json.loads((path / MARKER).read_text("utf-8"))
        if isinstance(facts["files"], dict):
            return Checkpoint(path, int(facts["step"]), facts)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
