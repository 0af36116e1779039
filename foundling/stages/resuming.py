"""What may change when a run is resumed, and what must not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foundling.base.config import ConfigError, flatten, load_toml
from foundling.runs.run import Run
from foundling.stages.settings import StageConfig

FREE = (
    "data",
    "training.steps",
    "training.threads",
    "training.device",
    "validation.",
    "forgetting.",
    "checkpoint.",
    "followers.",
    "guard.max_skips",
    "guard.max_rewinds",
)
"""Settings that a resumed run may change: they leave the steps already made as they were."""


def require_stage(run: Run, stage: str) -> None:
    """Raise ConfigError where a run is one of another stage."""
    found = run.manifest["stage"]
    if found != stage:
        raise ConfigError(
            f"{run.folder}: a run of the stage {found}; resume it with "
            f"`foundling {found} --resume --out {run.folder}`."
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
