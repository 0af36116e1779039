"""The five rungs trained alike on the same data, to see what each gains by remembering more."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median_high
from typing import Any

from foundling.base import durable
from foundling.base.config import ConfigError, load_json
from foundling.data.mixture import Mixture
from foundling.models import RUNGS, rung_settings
from foundling.reports.ladder_report import write_ladder_report
from foundling.runs.records import best_validation
from foundling.runs.run import Run, is_run
from foundling.stages.machine import Machine, with_precision
from foundling.stages.pretrain import PRETRAIN, PretrainConfig, pretrain
from foundling.stages.settings import overridden

logger = logging.getLogger(__name__)


def climb(
    config: PretrainConfig,
    out: Path,
    *,
    rungs: Sequence[str] = tuple(RUNGS),
    overrides: Mapping[str, Sequence[str]] | None = None,
    resume: bool = False,
) -> Path:
    """Train every rung with `config` on the same tokens in the same order; the report's path.

    `overrides[rung]` are `section.key=value` settings of that rung alone. Each rung has the width
    of `config.model` and else its own defaults; where the precision is `auto`, all compute in what
    is measured on the largest. A rung whose run is finished is not run again when
    `resume` is set.

    Raises:
        ConfigError: the settings are at fault, or `out` holds something already.
    """
    if out.exists() and any(out.iterdir()) and not resume:
        raise ConfigError(f"{out}: is not empty; give another --out, or continue with --resume.")
    configs = {rung: _config_of(rung, config, (overrides or {}).get(rung, ())) for rung in rungs}
    configs = _in_one_precision(configs, out)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for rung, of_rung in configs.items():
        folder = out / rung
        run = pretrain(of_rung, folder, resume=resume and is_run(folder))
        rows.append(_row(rung, run))
        _write(out, config, rows)
    return write_ladder_report(out)


def read_ladder(out: Path) -> dict[str, Any]:
    """What `climb` wrote."""
    return load_json(out / "ladder.json")


def _config_of(rung: str, config: PretrainConfig, overrides: Sequence[str]) -> PretrainConfig:
    settings = rung_settings(config.model)
    same = settings.values() if config.model.get("rung", "transformer") == rung else {}
    values = {**config.values(), "model": {**same, "rung": rung, "dim": settings.dim}}
    return PretrainConfig.parse(overridden(values, overrides)).resolved()


def _in_one_precision(
    configs: Mapping[str, PretrainConfig], out: Path
) -> dict[str, PretrainConfig]:
    """Where the precision is `auto`, that of the runs there are, or what suits the largest rung."""
    auto = {rung: of for rung, of in configs.items() if of.training.precision == "auto"}
    if not auto:
        return dict(configs)
    origins = {rung: PRETRAIN.origin(of, out / rung, False) for rung, of in auto.items()}
    largest = max(auto, key=lambda rung: origins[rung].model.num_parameters())
    begun = next((out / rung for rung in auto if is_run(out / rung)), None)
    origin = origins[largest]
    machine = Machine.of(auto[largest].training, origin.model, origin.context, begun)
    precision = machine.values["precision"]
    of = f"as {begun} began" if begun else f"as measured on the {largest}"
    logger.info(f"precision: {precision} for all rungs, {of}")
    return {rung: with_precision(of, precision) for rung, of in configs.items()}


def _row(rung: str, run: Run) -> dict[str, Any]:
    records = run.records()
    best, training = best_validation(records["validation"]), records["train"]
    assert best is not None, "a finished run is validated at its last step"
    return {
        "rung": rung,
        "run": rung,
        "parameters": run.manifest["num_parameters"],
        "steps": training[-1]["step"],
        "tokens": training[-1]["tokens"],
        "loss_nats": best["loss_nats"],
        "bits_per_byte": best["bits_per_byte"],
        "tokens_per_second": median_high(r["tokens_per_second"] for r in training),
        "seconds": training[-1]["seconds"],
        "loss_by_position": best["loss_by_position"],
    }


def _write(out: Path, config: PretrainConfig, rows: list[dict[str, Any]]) -> None:
    manifests = [store.manifest for store in Mixture.open(str(config.data)).stores.values()]
    data = {
        "name": Path(str(config.data)).name,
        "tokens": sum(manifest.train.num_tokens for manifest in manifests),
        "bytes": sum(manifest.train.num_bytes for manifest in manifests),
        "vocab_size": manifests[0].vocab_size,
    }
    content = json.dumps({"data": data, "rows": rows}, indent=2).encode()
    durable.replace(out / "ladder.json", content)
