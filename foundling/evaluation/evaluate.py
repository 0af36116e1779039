"""Measures models by probes, one model in memory at a time, and lays them side by side."""

import gc
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import field_validator

from foundling import __version__
from foundling.base.config import ConfigError, Section, flatten
from foundling.evaluation.findings import Findings
from foundling.evaluation.item_rows import item_rows
from foundling.evaluation.model_scorer import ModelScorer, load_scorer
from foundling.evaluation.probes import Probe, Setting
from foundling.evaluation.probes.contract import Checked
from foundling.evaluation.probes.find import find_probes
from foundling.evaluation.results import Subject, results
from foundling.evaluation.score_cache import Remembered, ScoreCache
from foundling.evaluation.village import has_read_village
from foundling.hamlet.corpus import write_lines
from foundling.runs.run import find_model

CACHE = "answers.sqlite"
ITEMS = "items.jsonl"
"""What was asked, answered and judged, item by item; see `item_rows`."""
logger = logging.getLogger(__name__)
Watch = Callable[[str, int, int], None]
"""Called with what is measured, the number of new requests, and of new answers."""


class EvaluateConfig(Setting):
    """What all probes share, and how models are read; each probe has a section of its own."""

    probes: tuple[str, ...] | None = None
    """Names, and files of one's own; None: all."""
    device: str = "auto"
    precision: str = "fp32"
    chat: bool | None = None
    """Whether questions are turns of a conversation; None: as each model was tuned."""
    template: str | None = None
    """The chat template, by name or as a file; None: the model's own."""
    begin_mark: bool | None = None
    """Whether the begin mark stands before a text; None: as each tokenizer itself has it."""

    @field_validator("probes", mode="before")
    @classmethod
    def _is_a_list(cls, probes: Any) -> Any:
        if isinstance(probes, str):
            raise ValueError(f'expected a list, such as ["{probes}"]')
        return probes

    @field_validator("data_root")
    @classmethod
    def _is_there(cls, data_root: Path | None) -> Path | None:
        if data_root is not None and not data_root.is_dir():
            raise ValueError("no such folder")
        return data_root


def parse_evaluation(values: Mapping[str, Any]) -> tuple[EvaluateConfig, list[Probe]]:
    """The settings of a TOML file: those that all probes share, and the probes with their own.

    Raises:
        ConfigError: there is no such setting or probe, or a value is wrong.
    """
    shared = {key: value for key, value in values.items() if key in EvaluateConfig.model_fields}
    own = {key: value for key, value in values.items() if key not in shared}
    config = EvaluateConfig.parse(shared)
    return config, find_probes(config.probes, own, list(EvaluateConfig.model_fields))


def evaluate(
    sources: Sequence[str],
    probes: Sequence[Probe],
    config: EvaluateConfig,
    out: Path,
    *,
    watch: Watch = lambda what, asked, answered: None,
) -> dict[str, Any]:
    """Run all probes on all models; answers are cached in `out` and never computed twice.

    What was asked and answered is written to ITEMS in `out`, item by item.

    Args:
        sources: runs, checkpoints, model folders or hub names; all different.

    Raises:
        ConfigError: there is no such model, or two are the same, or a file is broken.
    """
    names = [probe.name for probe in probes]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f'there are two probes named "{name}".')
    twice = sorted({source for source in sources if sources.count(source) > 1})
    if twice or not sources:
        raise ConfigError(f"{twice[0]}: given twice." if twice else "no run was given.")
    for path in _files(probes):
        if not path.exists():
            raise ConfigError(f"{path}: no such file or folder.")
    for probe in probes:  # before hours of measuring, as with the models
        if isinstance(probe, Checked):
            probe.check(config)
    for source in sources:
        find_model(source)
    out.mkdir(parents=True, exist_ok=True)
    subjects: list[Subject] = []
    found: dict[tuple[str, str], Findings] = {}
    rows: list[dict[str, Any]] = []
    with ScoreCache(out / CACHE) as cache:
        for source in sources:
            scorer = load_scorer(
                source,
                device=config.device,
                chats=config.chat,
                precision=config.precision,
                begin_mark=config.begin_mark,
                template=config.template,
            )
            setting = _for_model(config, source, scorer)
            subjects.append(_subject(scorer, setting))
            for probe in probes:
                what = f"{source}: {probe.title}"
                remembered = Remembered(scorer, cache, tell=partial(watch, what))
                watch(what, 0, 0)
                found[probe.name, source] = probe.run(remembered, setting)
                rows += item_rows(source, probe.name, found[probe.name, source], scorer.shown)
            del scorer, remembered
            gc.collect()
    write_lines(out / ITEMS, rows)
    return results(subjects, probes, found, _settings(config, probes))


def _for_model(config: EvaluateConfig, source: str, scorer: ModelScorer) -> EvaluateConfig:
    """The settings with the village on or off, as this model has read of it or not."""
    if config.village is not None:
        return config
    has_read = has_read_village(find_model(source), scorer.tokenizer)
    if not has_read:
        logger.info(f"{source}: has not read of the village, so not asked about it; see --village")
    return config.model_copy(update={"village": has_read})


def _subject(scorer: ModelScorer, setting: EvaluateConfig) -> Subject:
    model = scorer.model
    return Subject(
        name=scorer.name,
        fingerprint=scorer.fingerprint,
        chats=scorer.chats,
        template=scorer.template_name,
        today=scorer.today,
        begin_mark=scorer.begin_mark,
        village=setting.asks_village,
        rung=str(model.spec["rung"]),
        num_parameters=sum(weight.numel() for weight in model.parameters()),
        max_context=model.max_context,
    )


def _settings(config: EvaluateConfig, probes: Sequence[Probe]) -> dict[str, Any]:
    """What it takes to reproduce the evaluation: version, settings, hashes of files."""
    own = {probe.name: probe.values() for probe in probes if isinstance(probe, Section)}
    files = {str(path): _digest(path) for path in _files(probes)}
    shared = {**config.values(), "probes": [probe.name for probe in probes]}
    return {"version": __version__, **shared, **dict(flatten(own)), "files": files}


def _files(probes: Sequence[Probe]) -> list[Path]:
    """All files and folders that the probes' settings name."""
    values = [value for probe in probes if isinstance(probe, Section) for _, value in probe]
    flat = [one for value in values for one in (value if isinstance(value, tuple) else (value,))]
    return [one for one in flat if isinstance(one, Path)]


def _digest(path: Path) -> str:
    """The hash of a file, or of all files of a folder."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(path.iterdir()):
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
