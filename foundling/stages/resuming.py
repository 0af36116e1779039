"""What may change when a run is resumed, and what must not."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foundling.base import ranks
from foundling.base.config import ConfigError, flatten, load_toml
from foundling.runs import checkpoint
from foundling.runs.checkpoint import CheckpointSettings
from foundling.runs.model_folder import fingerprint
from foundling.runs.run import Run, find_model, is_run
from foundling.runs.stored_run import StoredRun
from foundling.stages.settings import StageConfig
from foundling.training.schedules import ScheduleSettings, rate_share, warmup_steps
from foundling.training.sharding import DistributedSettings
from foundling.training.watchdog import LONGEST

logger = logging.getLogger(__name__)

FREE = (
    "data",
    "training.steps",
    "training.threads",
    "training.device",
    "training.micro_batch_size",
    "training.checkpoint_activations",
    "distributed.",
    "validation.",
    "forgetting.",
    "checkpoint.",
    "followers.",
    "guard.snapshots",
    "guard.snapshot_mb",
    "guard.max_skips",
    "guard.max_rewinds",
)
"""Settings that a resumed run may change: they leave the steps already made as they were.

How the work is divided may change sums in their last bits.
"""


JUMP = 2.0
"""A learning rate that grows by this factor when a run is resumed is worth a warning."""


def require_same(run: Run, stage: str, parent: str | None) -> None:
    """Raise ConfigError where a run is one of another stage, or of another parent.

    A parent that has moved is the same one.
    """
    found = run.manifest["stage"]
    if found != stage:
        raise ConfigError(
            f"{run.folder}: a run of the stage {found}; resume it with "
            f"`foundling {found} --resume --out {run.folder}`."
        )
    kept = run.manifest["parent"] or {"source": None, "fingerprint": None}
    if parent in (None, kept["source"]):
        return
    if fingerprint(find_model(parent)) != kept["fingerprint"]:
        raise ConfigError(
            f'parent = "{parent}": the run in {run.folder} was started from '
            f"{kept['source'] or 'scratch'}, and a resumed run keeps its parent; give none, or "
            "start a new run."
        )


def found_run(out: Path, values: Mapping[str, Any]) -> bool:
    """Whether there is a run to resume: in `out`, or in its store, from where it is fetched.

    Args:
        values: the settings that were given; of these, the store, the device and how long processes
            wait.

    Raises:
        ConfigError: they are wrong, nothing opens the store, or all its checkpoints are broken.
        OSError: the store cannot be reached.
    """
    store = CheckpointSettings.parse(values.get("checkpoint", {}), "checkpoint").store
    shared = DistributedSettings.parse(values.get("distributed", {}), "distributed")
    device = dict(values.get("training", {})).get("device", "auto")
    ranks.start(LONGEST * shared.timeout_seconds, device)

    def found() -> bool:
        if not is_run(out) and store is not None:
            stored = StoredRun(store)
            if stored.exists():
                logger.info(f"fetching the run from {store}")
                stored.fetch(out)
        return is_run(out)

    return ranks.on_first(found)


def require_store(store: str | None, out: Path, *, resume: bool) -> None:
    """Raise ConfigError where a store holds another run, or is ahead of the one that is resumed.

    What the store holds would be overwritten.
    """
    if store is None:
        return
    stored = StoredRun(store)
    if not resume:
        if stored.exists():
            raise ConfigError(
                f"checkpoint.store = {store}: holds a run; continue it with --resume or "
                "--resume-if-exists, or give another place."
            )
        return
    here = max((found.step for found in checkpoint.committed(out / "checkpoints")), default=0)
    there = max(stored.checkpoints(), default=0)
    if there > here:
        raise ConfigError(
            f"checkpoint.store = {store}: has done {there} steps, and the run in {out} {here}; "
            "move that away, and the run is fetched from the store."
        )


def resumed(out: Path, config: StageConfig, facts: Mapping[str, Any]) -> Run:
    """The run to resume, if it is the same run.

    Raises:
        ConfigError: its data, tokenizer, model or settings are others.
    """
    run = Run.open(out)
    manifest = run.manifest
    before = dict(flatten(type(config).parse(load_toml(out / "config.toml")).values()))
    now = dict(flatten(config.values()))
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key) and not key.startswith(FREE):
            raise ConfigError(
                f"{key} = {now.get(key)}: the run in {out} was started with {before.get(key)}, and "
                f"a resumed run keeps its settings but for {', '.join(FREE)}"
            )
    for name in facts:
        same = name in ("model", "parent") or name.endswith("fingerprint")
        if same and manifest.get(name) != facts[name]:
            raise ConfigError(
                f"{out}: the {name.replace('_', ' ')} is not the one the run was started with; "
                "resume with the same data and settings, or start a new run."
            )
    return run


def check_steps(run: Run, config: StageConfig, done: int) -> None:
    """Say how the learning rate changes where a run that has done some steps is given others.

    Raises:
        ConfigError: the run has done more steps than it is to have.
    """
    steps, before = config.training.steps, load_toml(run.folder / "config.toml")
    planned = before["training"]["steps"]
    assert steps is not None, "resolved"
    if steps < done:
        raise ConfigError(
            f"training.steps = {steps}: the run in {run.folder} has done {done}; give more steps, "
            "or start a new run --from one of its checkpoints."
        )
    if steps in (done, planned) or not done:
        return
    rate = config.optimizer.learning_rate
    last = rate * rate_share(config.schedule, done - 1, planned)
    following = rate * rate_share(config.schedule, done, steps)
    message = (
        f"the learning rate was {last:.3g} at step {done:,} and continues at {following:.3g}: the "
        f"schedule has {steps:,} steps now, and had {planned:,}."
    )
    if following < JUMP * last:
        logger.info(message)
        return
    decay = planned * (1 - config.schedule.decay_share) if config.schedule.kind == "wsd" else 0
    early = [found.path for found in checkpoint.committed(run.checkpoints) if found.step <= decay]
    place = early[-1] if early else "CHECKPOINT"
    logger.warning(
        f"{message} To choose the rate, start a new run with `foundling "
        f"{run.manifest['stage']} --from {place}`, best from a checkpoint before the rate fell."
    )


def say_warmup(schedule: ScheduleSettings, steps: int) -> None:
    """Warn of a warm-up that the run would not outlast."""
    if schedule.warmup_steps > steps:
        logger.warning(
            f"schedule.warmup_steps = {schedule.warmup_steps}: the run has only {steps} steps, so "
            f"the warm-up takes {warmup_steps(schedule, steps)}."
        )
