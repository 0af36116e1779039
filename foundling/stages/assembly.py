"""Puts a stage's parts together and runs the one loop over them."""

import logging
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from foundling import __version__
from foundling.base import durable, ranks, runtime
from foundling.base.config import ConfigError, dump_toml
from foundling.base.group import Group
from foundling.base.ranks import is_first, on_first
from foundling.models.adapters import learned_tokens
from foundling.runs import checkpoint
from foundling.runs.run import Run, WatchedRun, is_run
from foundling.stages.job import Batches, Config, Job, Stage
from foundling.stages.observers import observers, report, require_followers
from foundling.stages.resuming import check_steps, require_same, require_store, resumed, say_warmup
from foundling.training.guard.guard import Guard
from foundling.training.interrupt import Interrupted
from foundling.training.loop import Loop, Pace, Seam, untouched
from foundling.training.optimizers import Optimizer
from foundling.training.progress import ProgressLine
from foundling.training.rewind import Healer, TrainingStopped, acts_of, finish
from foundling.training.saving import Saver
from foundling.training.state import TrainingState
from foundling.training.watchdog import LONGEST, Watchdog

logger = logging.getLogger(__name__)


def run_stage(
    stage: Stage[Config, Batches],
    config: Config,
    out: Path,
    *,
    resume: bool = False,
    seam: Seam = untouched,
) -> Run:
    """Run a stage from its beginning, or from where the run in `out` stopped.

    `seam` is where proofs and demonstrations put faults in.

    Raises:
        ConfigError: the settings or the data are at fault; nothing was changed.
        Interrupted: SIGINT or SIGTERM came; the state is saved.
        TrainingStopped: training stopped itself; the last good checkpoint is intact.
    """
    ranks.start(LONGEST * config.distributed.timeout_seconds, config.training.device)
    on_first(lambda: require_store(config.checkpoint.store, out, resume=resume))
    if resume:
        require_same(Run.open(out), stage.name, config.parent)
    job = Job(stage, config, out, resume=resume)
    config, model, machine = job.config, job.model, job.machine
    facts = _manifest(job)
    require_followers(config.followers)
    settings = dump_toml(config.values())
    _require_alike(facts)
    job.sharding.require_fit(model)

    def opened() -> Run:
        return resumed(out, config, facts) if resume else Run.create(out, settings, facts, job.keep)

    run = on_first(opened)
    _require_seen(run)
    if not is_first():
        run = WatchedRun(run.folder)
    ranks.barrier()
    say_warmup(config.schedule, job.steps)
    with _alone(run):
        found, group = None, Group.of_all(LONGEST * config.distributed.timeout_seconds)
        if resume:
            for message in finish(run, config.amendments):
                logger.warning(message)
            found = checkpoint.recover(run.checkpoints, group)
            if found is not None:
                check_steps(run, config, found.step)
            if is_first():
                durable.replace(run.folder / "config.toml", settings.encode())
        if config.training.compile:
            # Models trained before in this process must not use up the number of graphs, and
            # continuing uncompiled would be a silent fallback.
            torch._dynamo.reset()
            torch._dynamo.config.fail_on_recompile_limit_hit = True
            model.compile(dynamic=False)
        job.sharding.shard(model)
        guard = Guard(config.guard, acts_of(run.events())) if config.guard.enabled else None
        state = TrainingState(
            model,
            Optimizer(
                model,
                config.optimizer,
                sums_gradients=config.training.micro_batch_size is not None,
            ),
            stage_model=lambda group, copy: job.origin.stage(group, copy=copy),
            load_model=job.origin.load,
            restart_model=job.origin.restart,
            guard=guard,
        )
        saver = Saver(state, run, config.checkpoint, group)
        if found is not None:
            state.read(found)
        with observers(config.followers, run, state.progress.step, job.steps) as told:
            observe, progress = told
            _announce(progress, job)
            if found is not None:
                progress.message(f"resuming at step {state.progress.step}")
            run.truncate_metrics(state.progress.metrics_bytes)
            healer = None
            if guard is not None:
                canary = job.canary()
                healer = Healer(
                    guard, state, run, job.data, canary, observe, config.amendments,
                    settle=saver.settle, group=group,
                )  # fmt: skip
            if not resume:
                stage.begin(job)
            loop = Loop(
                state=state,
                objective=job.objective,
                data=job.data,
                schedule=config.schedule,
                pace=Pace(
                    job.steps,
                    config.training.micro_batch_size,
                    config.validation.every,
                    validate_first=job.parent is not None,
                    patience=config.validation.patience,
                    stop_below=config.validation.stop_below,
                ),
                saver=saver,
                run=run,
                seed=config.seed,
                device=machine.device,
                precision=machine.precision,
                validate=job.validate,
                healer=healer,
                initial_amendments=config.amendments,
                observe=observe,
                matrix_rate=ranks.world()
                * on_first(lambda: runtime.matrix_rate(machine.device, machine.precision)),
                seam=seam,
                begin_pass=partial(job.sharding.begin_pass, model),
            )
            try:
                with Watchdog(loop.pulse, config.distributed.timeout_seconds):
                    loop.train()
                if loop.progress.step < job.steps:
                    best = loop.progress.best_loss_nats
                    is_low = best is not None and best < config.validation.stop_below
                    progress.message(
                        "ended early: the validation loss is below validation.stop_below"
                        if is_low
                        else f"ended early: no better validation since step "
                        f"{loop.progress.best_step}"
                    )
            except (TrainingStopped, Interrupted):
                # The others may have ended. And a full disk is no reason to hide why it stopped.
                with suppress(OSError):
                    if is_first():
                        report(config.followers, run.folder)
                raise

    def drawn() -> None:
        report(config.followers, run.folder)
        saver.store_drawings()

    on_first(drawn)
    return run


def _announce(progress: ProgressLine, job: Job[Any, Any]) -> None:
    training, model, machine = job.config.training, job.model, job.machine
    name = machine.values["precision"]
    why = " (auto)" if training.precision == "auto" else ""
    size, trained = model.num_parameters(), model.num_trained_parameters()
    share = "" if trained == size else f" of which {trained:,} learn,"
    progress.message(
        f"{model.spec['rung']}, {size:,} parameters,{share} on {machine.device}, {name}{why}, "
        f"{'compiled' if training.compile else 'not compiled'}, {torch.get_num_threads()} threads"
        f"{job.sharding.in_words()}; "
        f"{job.steps:,} steps of {job.stage.plan(job)}, {job.epochs:.1f} epochs"
    )


def _require_alike(facts: Mapping[str, Any]) -> None:
    """Raise ConfigError where processes have other data, or another model, than the first."""
    kept = {k: v for k, v in facts.items() if k == "model" or k.endswith("fingerprint")}
    first, *others = ranks.gathered(kept)
    for number, other in enumerate(others, 1):
        for name in kept:
            if other[name] != first[name]:
                raise ConfigError(
                    f"process {number} has another {name.replace('_', ' ')} than process 0: all "
                    "must read the same files; put them where every machine sees them."
                )


def _require_seen(run: Run) -> None:
    """Raise ConfigError where a process does not see the run's folder, which all write."""
    for number, seen in enumerate(ranks.gathered(is_run(run.folder))):
        if not seen:
            raise ConfigError(
                f"{run.folder}: process {number} does not see this folder; give an --out on a file "
                "system that all machines share."
            )


def _manifest(job: Job[Any, Any]) -> dict[str, Any]:
    return {
        "stage": job.stage.name,
        "seed": job.config.seed,
        "amendments": job.config.amendments.values(),
        "parent": None if job.parent is None else dict(job.parent.facts),
        "pretraining_data": job.config.forgetting.data,
        "data_fingerprint": job.data.fingerprint,
        **job.facts,
        **job.stage.facts(job),
        "tokenizer_fingerprint": job.tokenizer.fingerprint,
        "model": job.model.spec,
        "learned_tokens": learned_tokens(job.model),
        "num_parameters": job.model.num_parameters(),
        **job.machine.values,
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
    if not is_first():
        yield
        return
    with durable.locked(run.folder) as is_free:
        if not is_free:
            raise ConfigError(f"{run.folder}: another process is training this run.")
        yield
