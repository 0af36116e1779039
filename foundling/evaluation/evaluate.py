"""Measures models by probes, one model in memory at a time, and lays them side by side."""

import gc
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from foundling import __version__
from foundling.base.config import ConfigError
from foundling.evaluation.findings import Findings
from foundling.evaluation.model_scorer import ModelScorer, load_scorer
from foundling.evaluation.probes import Probe, Setting
from foundling.evaluation.results import Subject, results
from foundling.evaluation.score_cache import Remembered, ScoreCache
from foundling.runs.run import find_model

CACHE = "answers.sqlite"
Watch = Callable[[str, int, int], None]
"""What is measured, and how many requests more there are and how many more are answered."""


@dataclass(frozen=True)
class Reading:
    """How models are read: the device, the precision, and whether questions are turns of a
    conversation (None: as each was tuned)."""

    device: str = "auto"
    precision: str = "fp32"
    chats: bool | None = None


def evaluate(
    sources: Sequence[str],
    probes: Sequence[Probe],
    setting: Setting,
    out: Path,
    *,
    reading: Reading = Reading(),
    watch: Watch = lambda what, asked, answered: None,
) -> dict[str, Any]:
    """All findings, as `results` has them; answers are kept in `out` and never asked again.

    Args:
        sources: runs, checkpoints, model folders or hub names; all different.

    Raises:
        ConfigError: there is no such model, or two are the same, or a file is broken.
    """
    twice = sorted({source for source in sources if sources.count(source) > 1})
    if twice or not sources:
        raise ConfigError(f"{twice[0]}: given twice." if twice else "no run to evaluate was given.")
    for path in setting.given:
        if not path.exists():
            raise ConfigError(f"{path}: no such file or folder.")
    for source in sources:  # hours before it is their turn
        find_model(source)
    out.mkdir(parents=True, exist_ok=True)
    subjects: list[Subject] = []
    found: dict[tuple[str, str], Findings] = {}
    with ScoreCache(out / CACHE) as cache:
        for source in sources:
            scorer = load_scorer(
                source, device=reading.device, chats=reading.chats, precision=reading.precision,
            )  # fmt: skip
            subjects.append(_subject(scorer))
            for probe in probes:
                what = f"{source}: {probe.title}"
                remembered = Remembered(scorer, cache, tell=partial(watch, what))
                watch(what, 0, 0)
                found[probe.name, source] = probe.run(remembered, setting)
            del scorer, remembered
            gc.collect()
    return results(subjects, probes, found, _values(setting, reading))


def _subject(scorer: ModelScorer) -> Subject:
    model = scorer.model
    return Subject(
        name=scorer.name,
        fingerprint=scorer.fingerprint,
        chats=scorer.chats,
        rung=str(model.spec["rung"]),
        num_parameters=sum(weight.numel() for weight in model.parameters()),
        max_context=model.max_context,
    )


def _values(setting: Setting, reading: Reading) -> Mapping[str, Any]:
    """What another evaluation needs to find the same: settings, files by content, version."""
    return {
        "version": __version__,
        "limit": setting.limit,
        "seed": setting.seed,
        "data_root": _spelled(setting.data_root),
        "shots": list(setting.shots),
        "draws": setting.draws,
        "num_samples": setting.num_samples,
        "classifier": _spelled(setting.classifier),
        "files": {str(path): _digest(path) for path in setting.given},
        "device": reading.device,
        "precision": reading.precision,
    }


def _spelled(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _digest(path: Path) -> str:
    """Of a file, or of all files of a folder."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(path.iterdir()):
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
