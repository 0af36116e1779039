"""Foundling from Python: what `import foundling` offers, with settings as keywords."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Self

from foundling.base.config import ConfigError, load_toml, override, suggest
from foundling.generation.engine import Engine
from foundling.generation.opening import open_engine
from foundling.generation.settings import EngineSettings
from foundling.runs.run import Run
from foundling.stages import find_stages
from foundling.stages.assembly import run_stage
from foundling.stages.settings import settings_of_run

if TYPE_CHECKING:
    from rich.table import Table

    from foundling.data.prepare import PrepareReport
    from foundling.evaluation.probes.contract import Probe
    from foundling.studio.comparison import CompareConfig

logger = logging.getLogger(__name__)

Place = str | os.PathLike[str]
Config = Place | Mapping[str, Any] | None
"""The path of a TOML file, the same as a dict, or None for the defaults."""


def load(source: Place, *, device: str = "auto", **settings: Any) -> Engine:
    """The model of a run, checkpoint or model folder, or of the hub (`hub:owner/name`).

    Args:
        settings: of the engine, by name, such as `precision="bf16"` and `quantize="int8"`.

    Raises:
        ConfigError: there is no such model or device, or no such setting.
    """
    _report_progress()
    return open_engine(os.fspath(source), device=device, settings=EngineSettings.parse(settings))


def prepare(inputs: Place | Sequence[Place], out: Place, **options: Any) -> "PrepareReport":
    """Write text as a folder of tokens to train on.

    Args:
        inputs: files, folders, globs, `hub:owner/name`.
        options: those of `foundling.data.prepare.prepare`, such as `vocab_size=4096`.

    Raises:
        ConfigError: the input or an option is at fault; `out` is untouched.
    """
    from foundling.data.prepare import prepare as write

    _report_progress()
    given = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
    return write([os.fspath(one) for one in given], os.fspath(out), **options)


class TrainedRun(Run):
    """A finished run: its folder, its figures, and its best model."""

    def __init__(self, folder: Place) -> None:
        super().__init__(Path(folder))

    @cached_property
    def _engine(self) -> Engine:
        return load(self.folder)

    def model(self) -> Engine:
        """The model of the best checkpoint, loaded once."""
        return self._engine

    def generate(self, prompt: str, **options: Any) -> str:
        """The continuation of `prompt`; the options are those of `Engine.stream`."""
        return self._engine.generate(prompt, **options)

    def chat(self, messages: Any, **options: Any) -> str:
        """The answer to a message or a conversation; see `Engine.chat`."""
        return self._engine.chat(messages, **options)

    @property
    def report(self) -> Path:
        """The page with curves and samples."""
        return self.folder / "report.html"

    def __repr__(self) -> str:
        return f"TrainedRun({str(self.folder)!r})"


def pretrain(
    config: Config = None, *, out: Place, data: Place | None = None, parent: Place | None = None,
    resume: bool = False, **settings: Any,
) -> TrainedRun:  # fmt: skip
    """Train a model on a folder of tokens, from scratch or from `parent`; see `train`."""
    return train("pretrain", config, data=data, parent=parent, out=out, resume=resume, **settings)


def sft(
    parent: Place, data: Place | Sequence[Place], out: Place, *,
    config: Config = None, resume: bool = False, **settings: Any,
) -> TrainedRun:  # fmt: skip
    """Tune a model on files of conversations; see `train`."""
    return train("sft", config, parent=parent, data=data, out=out, resume=resume, **settings)


def dpo(
    parent: Place, data: Place | Sequence[Place], out: Place, *,
    config: Config = None, resume: bool = False, **settings: Any,
) -> TrainedRun:  # fmt: skip
    """Tune a model on preferences: files, or databases of votes; see `train`."""
    return train("dpo", config, parent=parent, data=data, out=out, resume=resume, **settings)


def train(
    stage: str,
    config: Config = None,
    *,
    out: Place,
    parent: Place | None = None,
    data: Place | Sequence[Place] | None = None,
    resume: bool = False,
    **settings: Any,
) -> TrainedRun:
    """Run a stage: `pretrain`, `sft`, `dpo`, `kto`, or one of another package.

    Args:
        out: the folder of the run.
        parent: the model to start from: a run, checkpoint, model folder or `hub:owner/name`.
        resume: continue the run in `out`, which keeps its settings, parent and data.
        settings: what `--set` takes: sections as dicts (`training={"steps": 50}`), or dotted names
            (`**{"training.steps": 50}`).

    Raises:
        ConfigError: settings, parent or data are at fault; nothing was changed.
        Interrupted: SIGINT or SIGTERM came; the state is saved.
        TrainingStopped: training stopped itself; the last good checkpoint is intact.
    """
    _report_progress()
    stages = find_stages()
    if stage not in stages:
        raise ConfigError(f"{stage}: no such stage {suggest(stage, list(stages))}")
    entry, folder = stages[stage], Path(out)
    if resume and parent is not None:
        raise ConfigError("resume: the run keeps the parent that it has; give none.")
    if resume and config is not None:
        raise ConfigError("resume keeps the run's own settings; give no config.")
    given_config = Path(config) if isinstance(config, str | os.PathLike) else config
    given = {"--from": parent, "--data": data}
    flags: dict[str, Any] = {}
    for option in entry.options:
        if (value := given.get(option.flag)) is not None:
            flags |= option.settings(value)
    values = settings_of_run(given_config, folder, flags, _by_name(settings), resume=resume)
    kind = entry.load()
    return TrainedRun(run_stage(kind, kind.config.parse(values), folder, resume=resume).folder)


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found."""

    results: Mapping[str, Any]
    """All figures, as results.json has them."""
    report: Path

    @property
    def table(self) -> "Table":
        """The headline figures, which terminals and notebooks show."""
        from foundling.reports.evaluation_table import headlines

        return headlines(self.results)

    def figures(self) -> dict[str, dict[str, float | None]]:
        """Each metric by its key, of each model by its name."""
        return {
            metric["key"]: {
                name: None if found["value"] is None else float(found["value"])
                for name, found in metric["values"].items()
            }
            for probe in self.results["probes"]
            for metric in probe["metrics"]
        }


def evaluate(
    *models: Place,
    out: Place = "evaluation",
    probes: "str | Sequence[str | Probe | type[Probe]] | None" = None,
    config: Config = None,
    **settings: Any,
) -> Evaluation:
    """Measure models by probes, side by side; answers that `out` holds are not asked again.

    Args:
        probes: names, and probes of your own: classes, or objects with their settings; default:
            all that there are.
        settings: those of the TOML file, such as `limit=100`, `toxicity={"num_samples": 5}`.

    Raises:
        ConfigError: there is no such model, probe or setting, or a file is broken.
    """
    from foundling.evaluation.evaluate import evaluate as measure
    from foundling.evaluation.evaluate import parse_evaluation
    from foundling.reports.evaluation_report import write_evaluation_report

    _report_progress()

    told = set[str]()

    def watch(what: str, asked: int, answered: int) -> None:
        if what not in told:
            told.add(what)
            logger.info(f"{what} …")

    given = [probes] if isinstance(probes, str) else probes or ()
    own = [probe for probe in given if not isinstance(probe, str)]
    if probes is not None:
        settings["probes"] = [probe for probe in given if isinstance(probe, str)]
    parsed, chosen = parse_evaluation(override(_values(config), _by_name(settings)))
    chosen += [probe() if isinstance(probe, type) else probe for probe in own]
    found = measure([os.fspath(model) for model in models], chosen, parsed, Path(out), watch=watch)
    return Evaluation(found, write_evaluation_report(found, Path(out), "Evaluation"))


class Comparison:
    """A comparison page that is being served, from a thread of its own.

    `url` is the page's address, `links` each invited annotator's (None for one who has a link
    already), and `db` where the votes are.
    """

    def __init__(self, a: str | None, b: str | None, config: "CompareConfig") -> None:
        from foundling.studio.comparison import Opened
        from foundling.studio.comparison import compare as serve

        told = SimpleQueue[Opened | BaseException]()

        def work() -> None:
            try:
                serve(a, b, config, told.put)
            except BaseException as error:  # raised in the thread that waits for the page
                told.put(error)

        self.db = config.db
        self._thread = Thread(target=work, name="comparison", daemon=True)
        self._thread.start()
        opened = told.get()
        if isinstance(opened, BaseException):
            raise opened
        self.url, self.links, self._stop = opened.base, opened.links, opened.stop

    def wait(self) -> None:
        """Serve until Ctrl-C, or until another thread closes the page."""
        try:
            while self._thread.is_alive():
                self._thread.join(0.5)
        finally:
            self.close()

    def close(self) -> None:
        """End the page; every vote that was taken is kept."""
        self._stop()
        self._thread.join()

    def statistics(self) -> dict[str, Any]:
        """Who wins, how sure that is, and how far the votes can be trusted."""
        from foundling.preferences.statistics import statistics
        from foundling.preferences.store import PreferenceStore

        with PreferenceStore.open(self.db) as store:
            return statistics(store)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def compare(
    a: Place | None = None, b: Place | None = None, *, config: Config = None, **settings: Any
) -> Comparison:
    """Open a page on which people say, blindly, which of two models' answers is better.

    Args:
        a: a run, a model folder, an address (http://HOST/v1#MODEL) or a file of answers; None, as
            for `b`, continues with the pairs of the database.
        settings: such as `prompts="prompts.txt"`, `db="votes.db"`, `port=0`,
            `answers={"temperature": 0.7}`.

    Raises:
        ConfigError: the settings, a file or a model is at fault; no database is left behind.
    """
    from foundling.studio.comparison import CompareConfig

    _report_progress()
    parsed = CompareConfig.parse(override(_values(config), _by_name(settings)))
    first, second = (None if source is None else os.fspath(source) for source in (a, b))
    return Comparison(first, second, parsed)


def _values(config: Config) -> dict[str, Any]:
    if config is None or isinstance(config, Mapping):
        return dict(config or {})
    return load_toml(Path(config))


def _by_name(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of keywords by dotted name, in plain types; None leaves a setting as it is."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= _by_name(value, f"{prefix}{key}.")
        elif value is not None:
            found[prefix + key] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.tolist() if hasattr(value, "tolist") else value  # NumPy's and PyTorch's


def _report_progress() -> None:
    """Show what the library reports, unless the program has set up logging of its own."""
    reports = logging.getLogger("foundling")
    if not reports.hasHandlers():
        reports.addHandler(logging.StreamHandler())
        if reports.level == logging.NOTSET:
            reports.setLevel(logging.INFO)
