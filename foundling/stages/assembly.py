"""Puts a stage's parts together and runs the one loop over them."""

import fcntl
import json
import logging
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from foundling import __version__
from foundling.base import durable, process, runtime
from foundling.base.config import ConfigError, dump_toml, flatten, load_toml
from foundling.base.precision import PRECISIONS, pick_precision
from foundling.metrics.perplexity import measure
from foundling.models import interchange
from foundling.models.batch import Batch, Data, TokenBatch
from foundling.models.language_model import LanguageModel
from foundling.objectives import Objective
from foundling.reports.run_report import write_run_report
from foundling.runs import checkpoint
from foundling.runs.checkpoint import Checkpoint
from foundling.runs.run import Run
from foundling.stages.observers import observers, require_followers
from foundling.stages.settings import StageConfig, TrainingSettings
from foundling.text.tokenizer import Tokenizer
from foundling.training.guard.guard import Guard
from foundling.training.interrupt import Interrupted
from foundling.training.loop import Loop, Pace, Record, Seam
from foundling.training.optimizers import Optimizer
from foundling.training.progress import ProgressLine
from foundling.training.rewind import Healer, TrainingStopped, acts_of, finish
from foundling.training.state import TrainingState

logger = logging.getLogger(__name__)

CANARY_ROWS = 8
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


@dataclass(frozen=True)
class Machine:
    """What a run computes on."""

    device: torch.device
    precision: torch.dtype

    @classmethod
    def of(
        cls, settings: TrainingSettings, model: nn.Module, context: int, run: Path | None = None
    ) -> Self:
        """Make the machine ready to train `model`.

        Where the precision is `auto`, a run that is resumed (`run`) keeps the one it began with.

        Raises:
            ConfigError: there is no such device here, or several processes were started.
        """
        process.require_single()
        runtime.keep_memory()
        runtime.use_threads(settings.threads)
        device = runtime.pick_device(settings.device)
        runtime.use_deterministic_sums(device)
        name = settings.precision
        if name == "auto" and run is not None:
            began = Run.open(run).manifest
            if began.get("device") == device.type:
                name = began["precision"]
        num_tokens = (settings.micro_batch_size or settings.batch_size) * context
        return cls(device, pick_precision(name, device, model, num_tokens))

    @property
    def values(self) -> dict[str, str]:
        """For the manifest."""
        (precision,) = (name for name, kind in PRECISIONS.items() if kind == self.precision)
        return {"device": self.device.type, "precision": precision}


@dataclass(frozen=True)
class Parts:
    """What a stage hands to the assembly: all in which stages differ."""

    stage: str
    model: LanguageModel
    tokenizer: Tokenizer
    data: Data
    objective: Callable[[], Objective]
    """Made once the model is on its device."""
    facts: Mapping[str, Any]
    """Of the manifest. The parent, and what ends in `fingerprint`, is the same when it resumes."""
    steps: int
    plan: str
    """What a step takes and how long it goes on, in words."""
    validate: Callable[[Callable[[], bool]], Iterable[Record]]
    load_model: Callable[[Path], None]
    """Fills the model from the `model` folder of one of the run's checkpoints."""
    restart_model: Callable[[], None]
    """Gives the model the weights that it began with."""
    save_more: Callable[[Path], None] = lambda folder: None
    """Writes what a checkpoint's `model` folder holds beside model and tokenizer."""
    begin: Callable[[Path], None] = lambda folder: None
    """Writes what a new run's folder holds beside settings and manifest."""
    validate_first: bool = False
    """Validate before the first step."""
    canary: Callable[[Batch], float] | None = None
    """The loss of the model as it is on some rows; None: their tokens' cross-entropy."""


def train(
    config: StageConfig, parts: Parts, machine: Machine, out: Path, *, resume: bool, seam: Seam
) -> Run:
    """Run a stage from its beginning, or from where the run in `out` stopped.

    Raises:
        ConfigError: the settings or the data are at fault; nothing was changed.
        Interrupted: SIGINT or SIGTERM came; the state is saved.
        TrainingStopped: training stopped itself; the last good checkpoint is intact.
    """
    model = parts.model
    facts = _manifest(config, parts, machine)
    require_followers(config.followers)
    settings = dump_toml(config.values())
    run = _continue(out, config, facts) if resume else Run.create(out, settings, facts, parts.begin)
    with _alone(run):
        found = None
        if resume:
            for message in finish(run, config.amendments):
                logger.warning(message)
            found = _last_checkpoint(run)
            durable.replace(run.folder / "config.toml", settings.encode())
        model.to(machine.device)
        if config.training.compile:
            # Models trained before in this process must not use up the number of graphs, and
            # going on uncompiled would be a silent fallback.
            torch._dynamo.reset()
            torch._dynamo.config.fail_on_recompile_limit_hit = True
            model.compile(dynamic=False)
        guard = Guard(config.guard, acts_of(run.events())) if config.guard.enabled else None
        state = TrainingState(
            model,
            Optimizer(model, config.optimizer),
            save_model=lambda folder: _save(parts, folder),
            load_model=parts.load_model,
            restart_model=parts.restart_model,
            guard=guard,
        )
        if found is not None:
            state.read(found)
        with observers(config.followers, run, state.progress.step, parts.steps) as told:
            observe, progress = told
            _announce(progress, config, parts, machine)
            if found is not None:
                progress.message(f"resuming at step {state.progress.step}")
            run.truncate_metrics(state.progress.metrics_bytes)
            healer = None
            if guard is not None:
                canary = _canary(parts, machine)
                healer = Healer(guard, state, run, parts.data, canary, observe, config.amendments)
            loop = Loop(
                state=state,
                objective=parts.objective(),
                data=parts.data,
                schedule=config.schedule,
                pace=Pace(
                    parts.steps,
                    config.training.micro_batch_size,
                    config.validation.every,
                    validate_first=parts.validate_first,
                    patience=config.validation.patience,
                ),
                checkpointing=config.checkpoint,
                run=run,
                seed=config.seed,
                device=machine.device,
                precision=machine.precision,
                validate=parts.validate,
                healer=healer,
                initial_amendments=config.amendments,
                observe=observe,
                matrix_rate=runtime.matrix_rate(machine.device, machine.precision),
                seam=seam,
            )
            try:
                loop.train()
                if loop.progress.step < parts.steps:
                    progress.message(
                        f"ended early: no better validation since step {loop.progress.best_step}"
                    )
            except (TrainingStopped, Interrupted):
                with suppress(OSError):  # a full disk is no reason to hide why it stopped
                    write_run_report(run.folder)
                raise
    write_run_report(run.folder)
    return run


def _last_checkpoint(run: Run) -> Checkpoint | None:
    return checkpoint.recover(run.checkpoints)


def _canary(parts: Parts, machine: Machine) -> Callable[[], float]:
    """The loss on the first rows of the data, which tells of the model, not of the data."""
    batch = parts.data.batch(0).rows(0, CANARY_ROWS)
    if (own := parts.canary) is not None:
        return lambda: own(batch)
    assert isinstance(batch, TokenBatch), "a stage of other batches brings its own canary"

    def measured() -> float:
        result = measure(
            parts.model,
            [batch],
            token_bytes=None,
            device=machine.device,
            precision=machine.precision,
        )
        return result.loss_nats

    return measured


def _announce(progress: ProgressLine, config: StageConfig, parts: Parts, machine: Machine) -> None:
    training, model = config.training, parts.model
    name = machine.values["precision"]
    why = " (auto)" if training.precision == "auto" else ""
    size, trained = model.num_parameters(), model.num_trained_parameters()
    share = "" if trained == size else f" of which {trained:,} learn,"
    progress.message(
        f"{model.spec['rung']}, {size:,} parameters,{share} on {machine.device}, {name}{why}, "
        f"{'compiled' if training.compile else 'not compiled'}, {torch.get_num_threads()} threads; "
        f"{parts.steps:,} steps of {parts.plan}"
    )


def _save(parts: Parts, folder: Path) -> None:
    interchange.save(parts.model, folder, parts.tokenizer.mark_ids())
    parts.tokenizer.save(folder)
    ends = {"eos_token_id": parts.tokenizer.stop_ids}
    (folder / "generation_config.json").write_text(json.dumps(ends, indent=2) + "\n", "utf-8")
    parts.save_more(folder)


def _continue(out: Path, config: StageConfig, facts: Mapping[str, Any]) -> Run:
    """The run to resume, if it is the same run.

    Raises:
        ConfigError: its stage, data, tokenizer, model or settings are others.
    """
    run = Run.open(out)
    manifest = run.manifest
    if manifest["stage"] != facts["stage"]:
        raise ConfigError(
            f"{out}: a run of the stage {manifest['stage']}; resume it with "
            f"`foundling {manifest['stage']} --resume --out {out}`."
        )
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


def _manifest(config: StageConfig, parts: Parts, machine: Machine) -> dict[str, Any]:
    return {
        "stage": parts.stage,
        "seed": config.seed,
        "amendments": config.amendments.values(),
        **parts.facts,
        "tokenizer_fingerprint": parts.tokenizer.fingerprint,
        "model": parts.model.spec,
        "num_parameters": parts.model.num_parameters(),
        **machine.values,
        "versions": {
            "foundling": __version__,
            "python": platform.python_version(),
            **{name: _version(name) for name in ("torch", "tokenizers", "safetensors")},
        },
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@contextmanager
def _alone(run: Run) -> Iterator[None]:
    """Hold the run, so that no second process trains it.

    Raises:
        ConfigError: another process does.
    """
    with (run.folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{run.folder}: another process is training this run.") from None
        yield
