"""The settings that every stage has, and those of the stages that tune a parent."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from foundling.base.config import Assignments, ConfigError, Section, flatten, load_toml, override
from foundling.data.columns import Columns
from foundling.data.rendering import OnLong, SpecialTokens, Style
from foundling.data.repair import Repairs
from foundling.data.sources import OnError
from foundling.generation.sampling import Sampling
from foundling.models.adapters import AdapterSettings
from foundling.runs.checkpoint import CheckpointSettings
from foundling.stages.observers import FollowerSettings
from foundling.training.amendments import Amendments
from foundling.training.guard.settings import GuardSettings
from foundling.training.optimizers import OptimizerSettings
from foundling.training.schedules import ScheduleSettings
from foundling.training.sharding import DistributedSettings


class TrainingSettings(Section):
    """How long, how precisely and on what the loop runs, and how much it takes at a time."""

    default_epochs: ClassVar[float] = 1.0

    batch_size: int = Field(32, gt=0)
    """Rows in one step, of all processes together."""
    micro_batch_size: int | None = Field(None, gt=0)
    """Rows that a process works at a time; None: all of its share of the batch."""
    device: str = "auto"
    precision: str = "auto"
    """auto: bf16 where a measurement on the model's own shapes finds it faster, else fp32."""
    checkpoint_activations: bool = False
    """Keep only the input of each block and compute the rest anew in the backward pass: the same
    gradients from much less memory, for a third more work."""
    weights: Literal["fp32", "bf16"] = "fp32"
    """How the weights that learn are kept; bf16 needs that precision. What is frozen (a reference,
    the base under adapters) is always kept in the precision of the products."""
    compile: bool = False
    """Compile by torch.compile: a minute at the start, then faster steps."""
    threads: int | None = Field(None, gt=0)
    """CPU threads; None: as torch chooses."""
    steps: int | None = Field(None, gt=0)
    epochs: float | None = Field(None, gt=0)
    """Passes over the data in place of `steps`."""

    @model_validator(mode="after")
    def _one(self) -> "TrainingSettings":
        if self.steps is not None and self.epochs is not None:
            raise ValueError("give steps or epochs, not both")
        return self

    def num_steps(self, rows_per_epoch: int) -> int:
        """The steps of a run; `default_epochs` where nothing was said."""
        if self.steps is not None:
            return self.steps
        epochs = self.epochs or self.default_epochs
        return max(1, math.ceil(epochs * rows_per_epoch / self.batch_size))


class ValidationSettings(Section):
    """When and on how much the model is validated, and what it writes then."""

    every: int = Field(200, gt=0)
    batch_size: int = Field(32, gt=0)
    patience: int = Field(0, ge=0)
    """Validations without a new best after which the run ends early; 0: it never does."""
    stop_below: float = Field(0.0, ge=0)
    """The validation loss in nats below which the run ends early; 0: it never does."""
    prompts: tuple[str, ...] = ("",)
    """Each is continued or answered at every validation; an empty list writes no samples."""
    sample_tokens: int = Field(64, gt=0)
    sampling: Sampling = Sampling(temperature=0.8)


class ForgettingSettings(Section):
    """On what it is measured what the model forgets of its parent: text, and answers."""

    data: str | None = None
    """A token store, whose validation split is read; None: the one the parent learned from."""
    max_tokens: int = Field(50_000, gt=1)
    prompts: tuple[str, ...] = ()
    """Files of conversations. The parent answers their prompts before the first step, greedily, and
    it is measured how likely these answers stay. Best of other instructions than are learned."""
    num_prompts: int = Field(16, gt=0)
    """How many of them, the first ones."""
    answer_tokens: int = Field(48, gt=0)
    """Tokens of an answer at the most."""


class StageConfig(Section):
    """What a run of any stage needs to know."""

    seed: int = Field(1, ge=0, lt=2**63)
    parent: str | None = None
    """The run, checkpoint, model folder or hub:owner/name to start from."""
    context: int | None = Field(None, gt=1)
    """The longest text that the model learns to use, in tokens; None: what the parent reads."""
    training: TrainingSettings = TrainingSettings()
    distributed: DistributedSettings = DistributedSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    guard: GuardSettings = GuardSettings()
    amendments: Amendments = Amendments()
    validation: ValidationSettings = ValidationSettings()
    forgetting: ForgettingSettings = ForgettingSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    followers: FollowerSettings = FollowerSettings()

    @property
    def style(self) -> Style:
        """How the prompts of validation are given to the model."""
        return "plain"

    @property
    def special_tokens(self) -> SpecialTokens:
        """What they become where such a prompt spells them."""
        return "text"

    def with_shared_reference(self, store: str) -> "StageConfig":
        """The same for several runs of one parent, which may share what they store of it."""
        return self


class TunedData(Section):
    """The rows that are learned from, and how they become rows of tokens."""

    files: tuple[str, ...] = ()
    """.jsonl, .json, .csv, .tsv, .parquet, folders of them, globs, hub:owner/name; for preferences
    also a database of votes, a file or a URL, which is read once and kept in the run as a file."""
    format: str = "auto"
    """auto: identified by the columns and what they hold."""
    columns: Columns = Field(default_factory=dict)
    """The files' name of a column by the format's: {prompt = "question"}, or "prompt=question"."""
    on_error: OnError = "stop"
    repair: Repairs = ()
    """How turns that are out of order are repaired: merge, trim; none: they are faults."""
    style: Style = "chat"
    """chat: roles and turns; plain: a prompt and its answer as text."""
    special_tokens: SpecialTokens = "text"
    """What a text that spells a special token becomes: text, or that token (parse; with plain)."""
    template: str | None = None
    """The chat template: "chatml", "foundling", one of the parent's by its name, or a file of
    jinja; None: the parent's own, or Foundling's where it has none."""
    template_options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Values of variables that the template reads: {enable_thinking = false}; `today` fixes the
    date that it writes."""
    max_length: int | None = Field(None, gt=1)
    """Tokens of a prompt with one answer; None: as many as the context holds."""
    on_long: OnLong = "error"
    """What to do with a longer one: drop, truncate_prompt (never an answer) or error."""
    packing: bool = True
    """Several examples in a row, none of which sees another; false: one a row."""
    row_length: int | None = Field(None, gt=1)
    """Tokens in a row; None: the context, at most 1,024, or the longest example if that is more;
    less where an epoch would not fill one step."""
    validation: tuple[str, ...] = ()
    """Files of the validation split; none: a share of the prompts is held out."""
    validation_fraction: float = Field(0.05, gt=0, lt=1)


class TunedValidation(ValidationSettings):
    """When and on how much the model is validated, and what it answers then."""

    every: int = Field(50, gt=0)
    patience: int = Field(4, ge=0)
    prompts: tuple[str, ...] = ()


class TunedConfig(StageConfig):
    """What a run that tunes a parent needs to know."""

    dropout: float = Field(0.0, ge=0, lt=1)
    freeze: tuple[str, ...] = ()
    """Patterns of the names of parameters that do not learn."""
    data: TunedData = TunedData()
    adapter: AdapterSettings | None = None
    """Learn low-rank adapters in place of all weights."""
    optimizer: OptimizerSettings = OptimizerSettings(kind="adamw", learning_rate=2e-5)
    schedule: ScheduleSettings = ScheduleSettings(decay_share=1.0)
    validation: TunedValidation = TunedValidation()

    @model_validator(mode="after")
    def _kept(self) -> "TunedConfig":
        if self.adapter is not None and self.training.weights != "fp32":
            raise ValueError(
                "adapters learn in fp32, and what they stand on is kept in training.precision: "
                "leave out training.weights"
            )
        return self

    @property
    def style(self) -> Style:
        return self.data.style

    @property
    def special_tokens(self) -> SpecialTokens:
        return self.data.special_tokens


def overridden(values: Mapping[str, Any], assignments: Assignments) -> dict[str, Any]:
    """`override`, where steps that are set by hand take the place of epochs, and the reverse.

    Raises:
        ConfigError: as `override`.
    """
    by_hand = override({}, assignments).get("training")
    result = override(values, assignments)
    for one, other in (("steps", "epochs"), ("epochs", "steps")):
        if isinstance(by_hand, Mapping) and one in by_hand and other not in by_hand:
            result["training"].pop(other, None)
    return result


def settings_of_run(
    config: Path | Mapping[str, Any] | None,
    out: Path,
    flags: Mapping[str, Any],
    assignments: Assignments,
    *,
    resume: bool = False,
) -> dict[str, Any]:
    """The values of a config, then `flags`, then `assignments`.

    Args:
        resume: they are set over the settings of the run in `out`, the config's too.

    Raises:
        ConfigError: there is nothing to resume, or the file is missing or no TOML.
    """
    values = load_toml(config) if isinstance(config, Path) else config or {}
    if resume:
        if not (out / "config.toml").is_file():
            raise ConfigError(f"{out}: not a run, so there is nothing to resume.")
        kept = load_toml(out / "config.toml")
        if "epochs" in values.get("training", {}):
            kept.get("training", {}).pop("steps", None)  # which followed from them
        values = override(kept, dict(flatten(values)))
    return overridden(override(values, flags), assignments)
