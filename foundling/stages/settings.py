"""The settings that every stage of training has."""

import math

from pydantic import Field, model_validator

from foundling.base.config import Section
from foundling.generation.sampling import Sampling
from foundling.runs.checkpoint import CheckpointSettings
from foundling.stages.observers import FollowerSettings
from foundling.training.amendments import Amendments
from foundling.training.guard.settings import GuardSettings
from foundling.training.optimizers import OptimizerSettings
from foundling.training.schedules import ScheduleSettings


class TrainingSettings(Section):
    """How precisely and on what the loop runs, and how much it takes at a time."""

    batch_size: int = Field(32, gt=0)
    """Rows of `context` tokens in one step."""
    micro_batch_size: int | None = Field(None, gt=0)
    """Rows worked at a time; None: the whole batch."""
    device: str = "auto"
    precision: str = "auto"
    """auto: bf16 where a measurement on the model's own shapes finds it faster, else fp32."""
    compile: bool = False
    """Compile by torch.compile: a minute at the start, then faster steps."""
    threads: int | None = Field(None, gt=0)
    """CPU threads; None: as torch chooses."""


class EpochSettings(TrainingSettings):
    """The same for a finite data set."""

    steps: int | None = Field(None, gt=0)
    epochs: float | None = Field(None, gt=0)
    """Passes over the data in place of `steps`."""

    @model_validator(mode="after")
    def _one(self) -> "EpochSettings":
        if self.steps is not None and self.epochs is not None:
            raise ValueError("give steps or epochs, not both")
        return self

    def steps_for(self, rows: int, epochs: float) -> int:
        """The steps over `rows` an epoch, `epochs` of them where nothing was said."""
        if self.steps is not None:
            return self.steps
        return max(1, math.ceil((self.epochs or epochs) * rows / self.batch_size))


class ValidationSettings(Section):
    """When and on how much the model is validated, and what it writes then."""

    every: int = Field(200, gt=0)
    batch_size: int = Field(32, gt=0)
    patience: int = Field(0, ge=0)
    """Validations without a new best after which the run ends early; 0: it never does."""
    prompts: tuple[str, ...] = ("",)
    """Each is continued or answered at every validation; an empty list writes no samples."""
    sample_tokens: int = Field(64, gt=0)
    sampling: Sampling = Sampling(temperature=0.8)


class StageConfig(Section):
    """What the assembly of any stage needs to know."""

    seed: int = Field(1, ge=0, lt=2**63)
    training: TrainingSettings = TrainingSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    guard: GuardSettings = GuardSettings()
    amendments: Amendments = Amendments()
    validation: ValidationSettings = ValidationSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    followers: FollowerSettings = FollowerSettings()
