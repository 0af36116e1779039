"""A stage put together from its settings: the parts, wired to the one loop."""

import fcntl
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from foundling import __version__, checkpoint, durable, models, runtime
from foundling.checkpoint import Checkpoint, CheckpointSettings
from foundling.config import ConfigError, Section, dump_toml, flatten, load_toml
from foundling.data.store import TokenStore
from foundling.data.text import TextData, validation_batches
from foundling.evaluation.perplexity import measure
from foundling.evaluation.report import write_run_report
from foundling.generation.engine import Engine
from foundling.generation.sampling import Sampling
from foundling.models import interchange
from foundling.models.language_model import LanguageModel
from foundling.objectives import Pretrain
from foundling.observers import FollowerSettings, observers, require_followers
from foundling.run import Run
from foundling.tokenizer import Tokenizer
from foundling.training.amendments import Amendments
from foundling.training.guard.guard import Guard
from foundling.training.guard.settings import GuardSettings
from foundling.training.interrupt import Interrupted
from foundling.training.loop import Loop, Pace, Record, Seam, untouched
from foundling.training.optimizers import Optimizer, OptimizerSettings
from foundling.training.progress import ProgressLine
from foundling.training.rewind import Healer, TrainingStopped, acts_of, finish
from foundling.training.schedules import ScheduleSettings
from foundling.training.state import TrainingState


class TrainingSettings(Section):
    """How long, how precisely and on what the loop runs."""

    steps: int = Field(1000, gt=0)
    batch_size: int = Field(32, gt=0)
    """Rows of `context` tokens in one step."""
    micro_batch_size: int | None = Field(None, gt=0)
    """Rows worked at a time; None: the whole batch."""
    z_loss: float = Field(0.0, ge=0)
    """Weight of logsumexp² beside the cross-entropy."""
    device: str = "auto"
    precision: str = "auto"
    """auto: bf16 where the hardware multiplies it natively, else fp32."""
    compile: bool = False
    """Compile by torch.compile: a minute at the start, then faster steps."""
    threads: int | None = Field(None, gt=0)
    """CPU threads; None: as torch chooses."""


class ValidationSettings(Section):
    """When and on how much the model is validated, and what it writes then."""

    every: int = Field(200, gt=0)
    batch_size: int = Field(32, gt=0)
    max_tokens: int | None = Field(None, gt=1)
    """The validation split's first tokens; None: the whole split."""
    prompts: tuple[str, ...] = ("",)
    """Each is continued at every validation; an empty list writes no samples."""
    sample_tokens: int = Field(64, gt=0)
    sampling: Sampling = Sampling(temperature=0.8)


class PretrainConfig(Section):
    """Everything that a pretraining run is made of."""

    seed: int = Field(1, ge=0, lt=2**63)
    context: int = Field(256, gt=1)
    """Tokens in a row: the longest context that the model learns to use."""
    data: str | None = None
    """A folder that `foundling data prepare` wrote."""
    model: dict[str, Any] = Field(default_factory=dict)
    training: TrainingSettings = TrainingSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    guard: GuardSettings = GuardSettings()
    amendments: Amendments = Amendments()
    validation: ValidationSettings = ValidationSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    followers: FollowerSettings = FollowerSettings()

    def resolved(self) -> "PretrainConfig":
        """With the model's defaults written out."""
        settings = models.rung_settings(self.model)
        return self.model_copy(update={"model": settings.resolved().values()})


def pretrain(
    config: PretrainConfig, out: Path, *, resume: bool = False, seam: Seam = untouched
) -> Run:
    """Train from scratch, or go on where the run in `out` stopped.

    `seam` is where proofs and demonstrations put faults in.

    Raises:
        ConfigError: the settings or the data are at fault; nothing was changed.
        Interrupted: SIGINT or SIGTERM came; the state is saved.
        TrainingStopped: training stopped itself; the last good checkpoint is intact.
    """
    config = config.resolved()
    if config.data is None:
        raise ConfigError("data: give --data DIR, a folder that `foundling data prepare` wrote.")
    runtime.keep_memory()
    runtime.use_threads(config.training.threads)
    device = runtime.pick_device(config.training.device)
    precision = runtime.pick_precision(config.training.precision, device)
    runtime.use_deterministic_sums(device)
    store = TokenStore.open(Path(config.data))
    tokenizer = store.tokenizer()
    data = TextData(
        store.split("train"),
        context=config.context,
        batch_size=config.training.batch_size,
        seed=config.seed,
        decode=tokenizer.decode,
    )

    def build() -> LanguageModel:
        runtime.seed_everything(config.seed, "weights")
        return models.build(config.model, vocab_size=tokenizer.vocab_size, context=config.context)

    model = build()
    facts = _manifest(config, store, data, tokenizer, model)
    for prompt in config.validation.prompts:
        tokenizer.encode(prompt)  # one that cannot be encoded is an error now, not hours later
    require_followers(config.followers)
    settings = dump_toml(config.values())
    run = _continue(out, config, facts) if resume else Run.create(out, settings, facts)
    with _alone(run):
        found = None
        if resume:
            for message in finish(run, config.amendments):
                print(message, file=sys.stderr)
            found = _last_checkpoint(run)
            durable.replace(run.folder / "config.toml", settings.encode())
        model.to(device)
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
            save_model=lambda folder: _save(model, tokenizer, folder),
            load_model=lambda folder: interchange.load_weights(model, folder),
            restart_model=lambda: model.load_state_dict(build().state_dict()),
            guard=guard,
        )
        if found is not None:
            state.read(found)
        start, steps = state.progress.step, config.training.steps
        with observers(config.followers, run, start, steps) as (observe, progress):
            _announce(progress, config, model, device, precision, data)
            if found is not None:
                progress.message(f"resuming at step {start}")
            run.truncate_metrics(state.progress.metrics_bytes)
            healer = None
            if guard is not None:
                canary = _canary(data, model, device, precision)
                healer = Healer(guard, state, run, data, canary, observe, config.amendments)
            loop = Loop(
                state=state,
                objective=Pretrain(config.training.z_loss, compiled=config.training.compile),
                data=data,
                schedule=config.schedule,
                pace=Pace(steps, config.training.micro_batch_size, config.validation.every),
                checkpointing=config.checkpoint,
                run=run,
                seed=config.seed,
                device=device,
                precision=precision,
                validate=_validator(config, store, tokenizer, model, device, precision),
                healer=healer,
                initial_amendments=config.amendments,
                observe=observe,
                matrix_rate=runtime.matrix_rate(device, precision),
                seam=seam,
            )
            try:
                loop.train()
            except TrainingStopped:
                with suppress(OSError):  # a full disk is no reason to hide why it stopped
                    write_run_report(run.folder)
                raise
    write_run_report(run.folder)
    return run


def _last_checkpoint(run: Run) -> Checkpoint | None:
    return checkpoint.recover(
        run.checkpoints, lambda text: print(f"warning: {text}", file=sys.stderr)
    )


CANARY_ROWS = 8


def _canary(
    data: TextData, model: LanguageModel, device: torch.device, precision: torch.dtype
) -> Callable[[], float]:
    """The loss on the first rows of training text, which tells of the model, not of the data."""
    batch = data.batch(0).rows(0, CANARY_ROWS)

    def measured() -> float:
        result = measure(model, [batch], token_bytes=None, device=device, precision=precision)
        return result.loss_nats

    return measured


def _announce(
    progress: ProgressLine,
    config: PretrainConfig,
    model: LanguageModel,
    device: torch.device,
    precision: torch.dtype,
    data: TextData,
) -> None:
    training = config.training
    name = {torch.float32: "fp32", torch.bfloat16: "bf16"}[precision]
    why = " (auto)" if training.precision == "auto" else ""
    epochs = training.steps * training.batch_size / data.rows_per_epoch
    progress.message(
        f"{config.model['rung']}, {model.num_parameters():,} parameters, on {device}, {name}{why}, "
        f"{'compiled' if training.compile else 'not compiled'}, {torch.get_num_threads()} threads; "
        f"{training.steps:,} steps of {training.batch_size * config.context:,} tokens, "
        f"{epochs:.1f} epochs"
    )


def _save(model: LanguageModel, tokenizer: Tokenizer, folder: Path) -> None:
    marks = {
        "bos_token_id": tokenizer.begin_name,
        "eos_token_id": tokenizer.end_name,
        "pad_token_id": tokenizer.pad_name,
    }
    ids = {key: tokenizer.special(name) for key, name in marks.items() if name is not None}
    interchange.save(model, folder, ids)
    tokenizer.save(folder)


FREE = (
    "data",
    "training.steps",
    "training.threads",
    "training.device",
    "validation.",
    "checkpoint.",
    "followers.",
    "guard.max_skips",
    "guard.max_rewinds",
)
"""Settings that a resumed run may change: they leave the steps already made as they were."""


def _continue(out: Path, config: PretrainConfig, facts: Mapping[str, Any]) -> Run:
    """The run to resume, if it is the same run.

    Raises:
        ConfigError: its data, tokenizer, model or settings are others.
    """
    run = Run.open(out)
    saved = PretrainConfig.parse(load_toml(out / "config.toml")).resolved()
    before, now = dict(flatten(saved.values())), dict(flatten(config.values()))
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key) and not key.startswith(FREE):
            raise ConfigError(
                f"{key} = {now.get(key)}: the run in {out} was started with {before.get(key)}, and "
                f"a resumed run keeps its settings but for {', '.join(FREE)}"
            )
    manifest = run.manifest
    for name in ("data_fingerprint", "store_fingerprint", "tokenizer_fingerprint", "model"):
        if manifest.get(name) != facts[name]:
            raise ConfigError(
                f"{out}: the {name.replace('_', ' ')} is not the one the run was started with; "
                "resume with the same data and settings, or start a new run."
            )
    return run


def _manifest(
    config: PretrainConfig,
    store: TokenStore,
    data: TextData,
    tokenizer: Tokenizer,
    model: LanguageModel,
) -> dict[str, Any]:
    return {
        "stage": "pretrain",
        "parent": None,
        "seed": config.seed,
        "data": config.data,
        "amendments": config.amendments.values(),
        "data_fingerprint": data.fingerprint,
        "store_fingerprint": store.fingerprint,
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "model": model.spec,
        "num_parameters": model.num_parameters(),
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


def _validator(
    config: PretrainConfig,
    store: TokenStore,
    tokenizer: Tokenizer,
    model: LanguageModel,
    device: torch.device,
    precision: torch.dtype,
) -> Callable[[Callable[[], bool]], Iterable[Record]]:
    settings, split = config.validation, store.split("validation")
    token_bytes = torch.from_numpy(tokenizer.token_bytes) if store.manifest.lossless else None

    def validate(interrupted: Callable[[], bool]) -> Iterator[Record]:
        def check() -> None:
            if interrupted():
                raise Interrupted

        batches = validation_batches(
            split,
            context=config.context,
            batch_size=settings.batch_size,
            max_tokens=settings.max_tokens,
        )
        result = measure(
            model, batches, token_bytes=token_bytes, device=device, precision=precision, check=check
        )
        yield {
            "split": "validation",
            "loss_nats": result.loss_nats,
            "bits_per_byte": result.bits_per_byte,
            "num_targets": result.count,
            "loss_by_position": result.by_position,
        }
        if settings.prompts:
            check()
            yield {"split": "samples", "samples": write_samples(model, tokenizer, settings)}

    return validate


def write_samples(
    model: LanguageModel, tokenizer: Tokenizer, settings: ValidationSettings
) -> list[dict[str, str]]:
    """Each prompt with its continuation."""
    engine = Engine(model, tokenizer)
    return [
        {
            "prompt": prompt,
            "text": engine.generate(
                prompt, max_tokens=settings.sample_tokens, sampling=settings.sampling, slide=True
            ),
        }
        for prompt in settings.prompts
    ]


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
