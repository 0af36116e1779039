"""The same tuning under several values of one setting: answer loss against forgetting."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foundling.base import durable
from foundling.base.config import ConfigError, load_json
from foundling.reports.sweep_report import write_sweep_report
from foundling.runs.records import best_validation
from foundling.runs.run import Run, is_run
from foundling.stages.assembly import run_stage
from foundling.stages.job import Batches, Config, Stage
from foundling.stages.machine import with_precision
from foundling.stages.settings import overridden

logger = logging.getLogger(__name__)

SHORT = {"lambda": "anchor.strength"}
"""Names by which settings go in formulas."""


def parse_sweep(text: str) -> tuple[str, list[str]]:
    """The setting and its values in `KEY=VALUE,VALUE,...`.

    Raises:
        ConfigError: it is not of this form, or a value occurs twice.
    """
    key, equals, values = text.partition("=")
    listed = [value.strip() for value in values.split(",")]
    if not equals or not all(listed) or len(set(listed)) < len(listed):
        raise ConfigError(f"--sweep {text}: expected KEY=VALUE,VALUE,... with different values.")
    return key.strip(), listed


def sweep(
    stage: Stage[Config, Batches],
    config: Config,
    out: Path,
    key: str,
    values: Sequence[str],
    *,
    resume: bool = False,
) -> Path:
    """Tune once for each value of the setting `key` ("lambda" or a dotted name); the report's path.

    What the runs store of their parent they share, and where the precision is `auto`, that which
    the first one measures.

    Raises:
        ConfigError: the settings are at fault, or `out` holds something already.
    """
    if out.exists() and any(out.iterdir()) and not resume:
        raise ConfigError(f"{out}: is not empty; give another --out, or continue with --resume.")
    setting = SHORT.get(key, key)
    shared = config.with_shared_reference(str((out / "reference").resolve())).values()
    configs = [stage.config.parse(overridden(shared, [f"{setting}={value}"])) for value in values]
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    precision = "auto"
    for value, of_value in zip(values, configs, strict=True):
        of_value = with_precision(of_value, precision)
        folder = out / f"{key.rpartition('.')[2]}-{value}"
        run = run_stage(stage, of_value, folder, resume=resume and is_run(folder))
        if of_value.training.precision == "auto":
            precision = run.manifest["precision"]
            logger.info(f"precision: {precision} for all values, as in {folder.name}")
        rows.append(_row(value, run))
        content = json.dumps({"key": key, "rows": rows}, indent=2).encode()
        durable.replace(out / "sweep.json", content)
    return write_sweep_report(out)


def read_sweep(out: Path) -> dict[str, Any]:
    """What `sweep` wrote."""
    return load_json(out / "sweep.json")


def _row(value: str, run: Run) -> dict[str, Any]:
    validations = run.records()["validation"]
    best = best_validation(validations)
    assert best is not None, "a finished run is validated at its last step"
    names = (
        *("loss_nats", "kl_nats", "pretraining_loss_nats", "pretraining_bits_per_byte"),
        *("parent_answers_loss_nats", "parent_answers_kl_nats"),
    )
    return {
        "value": value,
        "run": run.folder.name,
        "step": best["step"],
        **{name: best.get(name) for name in names},
        "before": {name: validations[0].get(name) for name in names},
        "path": [{name: record.get(name) for name in names} for record in validations],
    }
