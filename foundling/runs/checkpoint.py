"""Checkpoints on disk: committed whole, verified by hash, kept by a policy."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field
from safetensors import SafetensorError

from foundling.base import durable
from foundling.base.config import ConfigError, Section
from foundling.base.group import ALONE, Group
from foundling.base.sharded_files import writer_of

logger = logging.getLogger(__name__)

MARKER = "checkpoint.json"


class CheckpointSettings(Section):
    """When checkpoints are written, and which are kept."""

    every: int = Field(200, gt=0)
    """Steps between checkpoints; one is always written at the end and when interrupted."""
    asynchronous: bool | None = None
    """Write from a copy in memory while training goes on; None: where several processes train."""
    keep_last: int = Field(2, gt=0)
    keep_best: bool = True
    """Keep the one with the lowest validation loss."""
    keep_every: int | None = Field(None, gt=0)
    """Keep those whose step is a multiple of this for good; None: none."""
    store: str | None = None
    """Keep a copy of the run below this URL (s3://bucket/folder, or another that fsspec opens):
    each checkpoint as soon as it is committed, by the same policy."""


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

    def verify(self, group: Group = ALONE) -> None:
        """Read every file, each process of a group its share, and compare it with its hash.

        Raises:
            BrokenCheckpoint: names the first file that is missing or differs.
        """
        files = sorted(self.facts["files"].items())
        for name, expected in files[group.rank :: group.size]:
            try:
                found = _sha256(self.path / name)
            except OSError as error:
                raise BrokenCheckpoint(f"{self.path / name}: {error.strerror}") from None
            if found != expected:
                raise BrokenCheckpoint(f"{self.path / name}: its content does not match its hash")


def commit(
    folder: Path,
    step: int,
    write: Callable[[Path], None],
    facts: Mapping[str, Any],
    group: Group = ALONE,
) -> Checkpoint:
    """Write the checkpoint of `step` by `write(path)`, completely or not at all.

    Everything goes to a temporary name and onto the disk, the marker with the hashes last; then
    the folder gets its name. A failure leaves nothing behind and older checkpoints as they were.
    Each process of a group writes and hashes its own files, and the first one commits them all.

    Raises:
        OSError: the disk is full or broken; on all processes, if it is so for one.
    """
    final = folder / _name(step)
    temporary = folder / f".{final.name}.tmp"

    def begin() -> None:
        _remove(temporary)
        temporary.mkdir(parents=True)

    def written() -> dict[str, str]:
        try:
            write(temporary)
        except SafetensorError as error:  # how safetensors says that the disk is full
            raise OSError(str(error)) from error
        return _hashed(temporary, group)

    try:
        group.first(begin)
        hashes: dict[str, str] = {}
        for part in group.gathered(group.together(written)):
            hashes |= part
        facts = {"step": step, **facts, "files": hashes}
        group.first(lambda: _publish(temporary, final, facts))
    except BaseException:
        if group.rank == 0:
            _remove(temporary)
        raise
    return Checkpoint(final, step, dict(facts))


def _hashed(folder: Path, group: Group) -> dict[str, str]:
    """Force the files that this process wrote onto the disk; their hashes by name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    mine = [path for path in files if writer_of(path.name, group.size) == group.rank]
    for path in mine:
        durable.sync(path)
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in mine}


def _publish(temporary: Path, final: Path, facts: Mapping[str, Any]) -> None:
    """Write the marker, and give the folder its name."""
    (temporary / MARKER).write_text(json.dumps(facts, indent=2), "utf-8")
    durable.sync(temporary / MARKER)
    for path in [*temporary.rglob("*"), temporary]:
        if path.is_dir():
            durable.sync(path)
    old = final.with_name(f".{final.name}.old")
    if final.exists():  # the broken or superseded one of the same step
        _remove(old)
        final.rename(old)
    temporary.rename(final)
    durable.sync(final.parent)
    _remove(old)


def committed(folder: Path) -> list[Checkpoint]:
    """The checkpoints whose commit was finished, oldest first; not verified."""
    found = [_read(path) for path in sorted(folder.glob("step-*"))]
    return [checkpoint for checkpoint in found if checkpoint is not None]


def newest_whole(folder: Path, up_to: int | None = None, group: Group = ALONE) -> Checkpoint | None:
    """The newest checkpoint (up to a step) that verifies; newer broken ones are logged.

    The processes of a group share the work and find the same one.
    """
    for name in group.gathered(sorted(path.name for path in folder.glob("step-*")))[0][::-1]:
        if up_to is not None and name > _name(up_to):
            continue
        try:
            return open_whole(folder / name, group)
        except BrokenCheckpoint as error:
            logger.warning(f"broken checkpoint: {error}; going back to the one before it.")
    return None


def open_whole(path: Path, group: Group = ALONE) -> Checkpoint:
    """One checkpoint, verified; by each process of a group in part.

    Raises:
        BrokenCheckpoint: it has no readable marker, or a file differs from its hash.
    """
    checkpoint, fault = _read(path), ""
    if checkpoint is None:
        fault = f"{path / MARKER}: missing or not readable"
    else:
        try:
            checkpoint.verify(group)
        except BrokenCheckpoint as error:
            fault = str(error)
    for found in group.gathered(fault):
        if found:
            raise BrokenCheckpoint(found)
    assert checkpoint is not None
    return checkpoint


def recover(folder: Path, group: Group = ALONE) -> Checkpoint | None:
    """Clean up after a crash and return the newest whole checkpoint, to resume from.

    What a crash left half done is finished or removed. A broken checkpoint is renamed
    `broken-step-N`, so that it does not count among those that are kept. None: there never was one.

    Raises:
        ConfigError: there are checkpoints, and none is whole.
    """
    group.first(lambda: _tidy(folder))
    whole = newest_whole(folder, group=group)
    found = [path for path in folder.glob("step-*") if whole is None or path.name > whole.path.name]
    newer = group.gathered(found)[0]
    if newer and whole is None:
        raise ConfigError(
            f"{folder}: every checkpoint is broken, so there is nothing to resume from; the "
            "metrics are untouched. Start a new run."
        )
    group.first(lambda: _put_aside(newer))
    return whole


def _tidy(folder: Path) -> None:
    """Finish or remove what a crash left half done."""
    for old in folder.glob(".step-*.old"):
        final = folder / old.name[1 : -len(".old")]
        if not final.exists():
            old.rename(final)
    for path in folder.glob(".step-*"):
        _remove(path)


def _put_aside(checkpoints: Iterable[Path]) -> None:
    for path in checkpoints:
        broken = path.with_name(f"broken-{path.name}")
        _remove(broken)
        path.rename(broken)


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
    """Delete the checkpoints that the policy does not keep."""
    found = committed(folder)
    kept = kept_steps(found, settings, healthy_step)
    for checkpoint in found:
        if checkpoint.step not in kept:
            _delete(checkpoint)


def kept_steps(
    found: Sequence[Checkpoint], settings: CheckpointSettings, healthy_step: int | None = None
) -> set[int]:
    """Which of some checkpoints, oldest first, the policy keeps.

    The newest one up to `healthy_step` is kept in any case.
    """
    kept = {c.step for c in found[-settings.keep_last :]}
    if healthy_step is not None:
        kept |= {c.step for c in [c for c in found if c.step <= healthy_step][-1:]}
    top = best(found)
    if settings.keep_best and top is not None:
        kept.add(top.step)
    if settings.keep_every is not None:
        kept |= {c.step for c in found if c.step % settings.keep_every == 0}
    return kept


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
